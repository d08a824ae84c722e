//! The messages, byte for byte. Pure: no I/O, no clock.
