//! What apk's database says is installed. Runs nothing; the format is that of apk-tools 2,
//! `/lib/apk/db/installed`: one letter, a colon, the value; paragraphs end with an empty line.

use futures::FutureExt;
use tokio::time::Instant;

use super::super::Context;
use super::PackageError;
use super::deb822::{Stanza, read_stanzas};
use super::manager::{Answer, PackageManager};
use super::{Package, Root};

/// `apk`: listed, not driven; no test could run it for real.
pub(super) struct Apk;

impl PackageManager for Apk {
    fn tool(&self) -> &'static str {
        "apk"
    }

    fn installed<'a>(&self, place: &'a Root, cx: &'a Context) -> Answer<'a, Vec<Package>> {
        installed(place, cx.deadline).boxed()
    }
}

/// The installed packages.
async fn installed(place: &Root, deadline: Instant) -> Result<Vec<Package>, PackageError> {
    let mut packages = Vec::new();
    read_stanzas(&place.path("lib/apk/db/installed"), deadline, |stanza| {
        packages.extend(package(stanza));
    })
    .await?;
    Ok(packages)
}

/// One package: `P` name, `V` version, `A` architecture, `T` description, `m` maintainer, `I` bytes.
/// Letters differ by case (`M:` is a directory's mode), so the first line that fits exactly is taken.
pub(super) fn package(stanza: Stanza<'_>) -> Option<Package> {
    let text = |field| stanza.exact(field).unwrap_or_default().to_owned();
    Some(Package {
        name: stanza.exact("P")?.to_owned(),
        version: text("V"),
        description: text("T"),
        installed: true,
        publisher: stanza.exact("m").map(str::to_owned),
        source: "apk",
        architecture: text("A"),
        size_bytes: stanza.exact("I").and_then(|bytes| bytes.parse().ok()),
        ..Package::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_another_case_are_other_fields() {
        let text = "C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\nS:383304\nI:622592\nT:the musl c library\n\
                    m:Someone <someone@example.org>\nF:lib\nM:0:0:755\na:0:0:755\np:so:libc.musl=1";
        let musl = package(Stanza::of(text)).unwrap();
        assert_eq!((musl.name.as_str(), musl.version.as_str()), ("musl", "1.2.4-r2"));
        assert_eq!((musl.architecture.as_str(), musl.size_bytes), ("x86_64", Some(622_592)));
        assert_eq!(musl.publisher.as_deref(), Some("Someone <someone@example.org>"));
    }
}
