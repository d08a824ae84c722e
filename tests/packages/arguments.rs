//! What is run is a list of words, each as it was given.

use infiniservice::internals::commands::actions::cleanup::DiskCleanup;
use infiniservice::internals::commands::actions::packages::{
    Manager, Operation, PackageInstall, PackageList, PackageRemove, PackageSearch, PackageUpdate,
    Root, change_in,
};
use infiniservice::internals::commands::actions::system::SystemInfo;
use infiniservice::internals::commands::actions::updates::UpdateSystemSoftware;
use infiniservice::internals::commands::actions::{Action as _, ActionRequest};
use infiniservice::internals::commands::argument::{PackageName, Query};
use proptest::prelude::*;

use super::write;

/// Trees with a database of each manager that is driven.
fn places() -> Vec<(tempfile::TempDir, Root)> {
    let trees: [&[&str]; 4] = [
        &["var/lib/dpkg/status"],
        &["var/lib/rpm/rpmdb.sqlite"],
        &["var/lib/rpm/rpmdb.sqlite", "etc/zypp/repos.d/oss.repo"],
        &["var/lib/pacman/local/ALPM_DB_VERSION"],
    ];
    let place = |files: &[&str]| {
        let root = tempfile::tempdir().unwrap();
        files.iter().for_each(|file| write(&root.path().join(file), "x"));
        let place = Root::at(root.path());
        (root, place)
    };
    let driven = |place: &Root| !matches!(place.manager(), Err(_) | Ok(Manager::Yum));
    trees.into_iter().map(place).filter(|(_, place)| driven(place)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_name_is_one_word_and_the_last_and_everything_before_it_is_fixed(text in "[A-Za-z0-9._+:][A-Za-z0-9._+:-]{0,40}") {
        let name = PackageName::new(&text).unwrap();
        for (_root, place) in places() {
            for (action, other) in changes(&name).into_iter().zip(changes(&super::name("other-name"))) {
                let Some(steps) = action.programs(&place) else { continue };
                let last = steps.last().unwrap();
                prop_assert_eq!(&last[last.len() - 2..], ["--", &*text]);
                // But for the name, the words are those for another name.
                let argv = |steps: Vec<Vec<String>>| steps.concat().into_iter();
                let plain = argv(other.programs(&place).unwrap());
                let named = argv(steps).map(|word| if word == text { "other-name".to_owned() } else { word });
                prop_assert_eq!(named.collect::<Vec<_>>(), plain.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_query_is_quoted_words_after_the_options(text in "[A-Za-z0-9._+:][A-Za-z0-9._+: -]{0,40}") {
        let query = Query::new(&text).unwrap();
        for (_root, place) in places() {
            let steps = PackageSearch(query.clone()).programs(&place).unwrap();
            // zypper is asked for each word by itself, the others for all at once.
            let asked = if matches!(place.manager(), Ok(Manager::Zypper)) { &steps[..steps.len() - 1] } else { &steps[..1] };
            let words = asked.iter().flat_map(|step| {
                let at = step.iter().position(|word| word == "--").unwrap();
                &step[at + 1..]
            });
            let plain: Vec<String> = words.map(|word| word.replace(['[', ']'], "")).collect();
            prop_assert_eq!(plain, text.split_ascii_whitespace().collect::<Vec<_>>());
        }
    }
}

/// What changes a package.
fn changes(name: &PackageName) -> [ActionRequest; 4] {
    [
        PackageInstall(name.clone()).into(),
        PackageRemove(name.clone()).into(),
        PackageUpdate(name.clone()).into(),
        UpdateSystemSoftware(Some(name.clone())).into(),
    ]
}

#[test]
fn what_apt_would_run_is_told_word_by_word() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("var/lib/dpkg/status"), "x");
    let at = root.path().display();
    let place = Root::at(root.path());
    let steps = PackageInstall(PackageName::new("g++").unwrap()).programs(&place).unwrap();
    let tree = format!(
        "-o Dir={at} -o Dir::State::status={at}/var/lib/dpkg/status -o DPkg::Options::=--root={at}"
    );
    assert_eq!(steps[0].join(" "), format!("apt-cache {tree} policy -- g++"));
    assert_eq!(
        steps[1].join(" "),
        format!(
            "apt-get {tree} --assume-yes --quiet -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
             -o Dpkg::Use-Pty=0 -o APT::Cmd::Pattern-Only=true -o DPkg::Lock::Timeout=30 install -- g++"
        )
    );
    assert_eq!(SystemInfo.programs(&place), None);
    let clean = DiskCleanup { targets: vec!["temp_files".into()] };
    assert_eq!(clean.programs(&place), Some(Vec::new()));
}

#[tokio::test]
async fn a_manager_that_is_not_driven_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("lib/apk/db/installed"), "P:musl\nV:1\n");
    let place = Root::at(root.path());
    assert_eq!(PackageInstall(PackageName::new("jq").unwrap()).programs(&place), None);
    assert_eq!(PackageList.programs(&place), Some(Vec::new()), "read from the file");
    let why = super::refused(change_in(&place, &super::minutes(), Operation::UpgradeAll).await);
    assert!(why.starts_with("cannot update the system with apk"), "{why}");
}
