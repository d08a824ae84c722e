//! The device: finding the port, opening it, and moving bytes both ways. Does not know what the bytes mean.
