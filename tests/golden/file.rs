//! Files with exact bytes.

/// The golden file; written anew first, from what the code makes now, by `GOLDEN=write cargo test`.
pub fn golden(name: &str, now: &str) -> String {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("GOLDEN").is_some() {
        std::fs::write(&path, now).unwrap();
    }
    std::fs::read_to_string(path).unwrap()
}
