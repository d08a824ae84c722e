//! What goes over the wire, byte for byte, and what no reading can make of it.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

#[path = "golden/file.rs"]
mod golden;
mod sample;

#[path = "wire/rig.rs"]
mod rig;
#[path = "wire/infinibay.rs"]
mod infinibay;
#[path = "wire/bounds.rs"]
mod bounds;
#[path = "wire/formats.rs"]
mod formats;
#[path = "wire/influx.rs"]
mod influx;
#[path = "wire/readings.rs"]
mod readings;
#[path = "wire/any.rs"]
mod any;
