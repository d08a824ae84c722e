//! Lays the functions that run in every agent side by side in the executable, where `.ci/order` has found them.
//!
//! # Why
//! A page of code that runs counts as memory, and the kernel maps the fifteen around it too (`fault_around_bytes`).
//! An agent as shipped runs a quarter of its code, spread over nearly all of it: 4.7 MiB of code were resident.
//! `packaging/order.txt` names what was seen to run. `.ci/order` writes it from a release, for the next build of the
//! same sources by the same compiler; it is not committed, since both change the names. A name that is not found does
//! nothing, so a file that is out of date costs memory and no more.
//!
//! Only where the linker is known to read such a file: rustc's own on this target is LLD.

fn main() {
    const ORDER: &str = "packaging/order.txt";
    // The folder, too: a file that is not there yet would run this at each build.
    println!("cargo:rerun-if-changed=packaging");
    if !std::path::Path::new(ORDER).exists() {
        return;
    }
    println!("cargo:rerun-if-changed={ORDER}");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("TARGET", "x86_64-unknown-linux-gnu") {
        // Cargo links in the folder of the package; a whole path would not move with it.
        println!("cargo:rustc-link-arg-bins=-Wl,--symbol-ordering-file={ORDER}");
        println!("cargo:rustc-link-arg-bins=-Wl,--no-warn-symbol-ordering");
    }
}
