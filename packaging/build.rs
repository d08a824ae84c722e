//! Keeps the code that an agent runs together in the executable, apart from the code that it does not run.
//!
//! # Why
//! A page of code that runs counts as memory, and the kernel maps the fifteen around it too (`fault_around_bytes`).
//! An agent as shipped runs a quarter of its code; spread over all of it, nearly all of it is resident.
//!
//! `packaging/cold.ld` puts what an idle agent does not need behind the rest, by the names of crates and modules.
//! `packaging/order.txt` names each function that was seen to run, and takes its place where it exists. `.ci/order`
//! writes it from a release, for the next build of the same sources by the same compiler; it is not committed, since
//! both change the names. A name that is not found does nothing, so a file that is out of date costs memory and no more.
//!
//! Only where the linker is known to read such files: rustc's own on this target is LLD.

fn main() {
    const COLD: &str = "packaging/cold.ld";
    const ORDER: &str = "packaging/order.txt";
    // The folder, too: a file that is not there yet would run this at each build.
    println!("cargo:rerun-if-changed=packaging");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if !(is("PROFILE", "release") && is("TARGET", "x86_64-unknown-linux-gnu")) {
        return;
    }
    // Cargo links in the folder of the package; a whole path would not move with it.
    if std::path::Path::new(ORDER).exists() {
        println!("cargo:rerun-if-changed={ORDER}");
        println!("cargo:rustc-link-arg-bins=-Wl,--symbol-ordering-file={ORDER}");
        println!("cargo:rustc-link-arg-bins=-Wl,--no-warn-symbol-ordering");
    } else {
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{COLD}");
    }
    if packs_relocations() {
        println!("cargo:rustc-link-arg-bins=-Wl,--pack-dyn-relocs=relr");
    }
}

/// Whether the C library that is linked in reads packed relocations (DT_RELR): glibc does from 2.36 on. They take
/// 5 KiB instead of 280, in the file and, since each is read at the start, in memory.
fn packs_relocations() -> bool {
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let version = std::process::Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let minor = version.unwrap_or_default().trim().strip_prefix("glibc 2.").map(str::parse);
    features.split(',').any(|feature| feature == "crt-static")
        && minor.is_some_and(|minor| minor.is_ok_and(|minor: u32| minor >= 36))
}
