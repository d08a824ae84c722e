//! The `.deb` of the agent, by the list that `cargo deb` packs it by: `[package.metadata.deb]` of `Cargo.toml`. What `.ci/packages`
//! makes beside the executable (man pages, completions, schemas) is not in it.
#![expect(clippy::unwrap_used, reason = "a package that cannot be built ends the case")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use toml::Value;

/// What `.ci/packages` puts into the folder that the list names.
const MADE: &str = "target/package/";

/// The package with this executable. It is not compressed: the machine under test is slow.
pub fn deb(agent: &[u8]) -> Vec<u8> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: Value =
        toml::from_str(&fs::read_to_string(sources.join("Cargo.toml")).unwrap()).unwrap();
    let (package, deb) = (&manifest["package"], &manifest["package"]["metadata"]["deb"]);
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    for asset in deb["assets"].as_array().unwrap() {
        let words: Vec<&str> =
            asset.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let [from, to, mode] = words[..] else { panic!("{asset}") };
        let bytes = match from.strip_prefix(MADE) {
            Some("infiniservice") => agent.to_vec(),
            Some("infiniservice.service") => {
                super::unit::UNIT.replace("/opt/infiniservice/", "/usr/bin/").into_bytes()
            }
            Some(_) => continue,
            None if from.contains('*') => continue, // documents
            None => fs::read(sources.join(from)).unwrap(),
        };
        // A folder keeps the name; otherwise it is said.
        let name = from.rsplit('/').next().filter(|_| to.ends_with('/')).unwrap_or_default();
        let path = root.join(format!("{to}{name}"));
        put(&path, &bytes, u32::from_str_radix(mode, 8).unwrap());
    }
    let scripts = fs::read_dir(sources.join(deb["maintainer-scripts"].as_str().unwrap())).unwrap();
    for script in scripts.map(Result::unwrap) {
        put(
            &root.join("DEBIAN").join(script.file_name()),
            &fs::read(script.path()).unwrap(),
            0o755,
        );
    }
    let conffiles = deb["conf-files"].as_array().unwrap().iter();
    let conffiles: String = conffiles.map(|path| format!("{}\n", path.as_str().unwrap())).collect();
    put(&root.join("DEBIAN/conffiles"), conffiles.as_bytes(), 0o644);
    let of = |key: &str| package[key].as_str().unwrap();
    let control = format!(
        "Package: {}\nVersion: {}-1\nArchitecture: amd64\nMaintainer: {}\nDescription: {}\n",
        of("name"),
        of("version"),
        deb["maintainer"].as_str().unwrap(),
        of("description")
    );
    put(&root.join("DEBIAN/control"), control.as_bytes(), 0o644);
    let packed = scratch.path().join("agent.deb");
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Znone", "--build"]).arg(&root).arg(&packed);
    let built = build.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    fs::read(packed).unwrap()
}

fn put(path: &Path, bytes: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
