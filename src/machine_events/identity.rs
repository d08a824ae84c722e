//! Which machine this is, as a word that says nothing about it. Reads no file.

use sha2::{Digest, Sha256};

use crate::values::hex;

/// Keeps our digest of an id from being anybody else's digest of it.
const PURPOSE: &str = "infiniservice machine identity 1";
/// Stands for a part that is not known.
const UNKNOWN: &str = "0";

/// The word for a machine with this `machine-id` and this DMI `product_uuid`: `1.DIGEST.DIGEST`, with `0`
/// for what is not known. The same machine has the same word after every reboot.
pub(super) fn identity_of_ids(machine_id: Option<&str>, product_uuid: Option<&str>) -> String {
    let machine_id = machine_id.map(str::trim).filter(|id| is_machine_id(id));
    let product_uuid = product_uuid.map(str::trim).filter(|uuid| is_uuid(uuid));
    let machine = machine_id.map_or(UNKNOWN.to_owned(), |id| digest("machine-id", id));
    let product = product_uuid.map_or(UNKNOWN.to_owned(), |uuid| digest("product_uuid", uuid));
    format!("1.{machine}.{product}")
}

/// A digest of `value` that cannot be traced back to it, nor be compared with another program's.
pub(super) fn digest(what: &str, value: &str) -> String {
    let mut hash = Sha256::new();
    for part in [PURPOSE, what, &value.to_ascii_lowercase()] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hex(&hash.finalize()[..16])
}

/// Whether two words can be of one machine: no part that both know differs.
///
/// A part that only one of them knows decides nothing: the first boot of an image writes the machine id, and
/// an agent that is not root cannot read the other part.
pub(crate) fn is_same_machine(one: &str, other: &str) -> bool {
    match (parts(one), parts(other)) {
        (Some(one), Some(other)) => {
            one.iter().zip(&other).all(|(a, b)| a == b || [*a, *b].contains(&UNKNOWN))
        }
        // Of another version, or broken.
        _ => one == other,
    }
}

/// `next`, with the parts that it does not know taken from `before`.
pub(super) fn completed(before: &str, next: &str) -> String {
    match (parts(before), parts(next)) {
        (Some(before), Some(next)) => {
            let part = |at: usize| if next[at] == UNKNOWN { before[at] } else { next[at] };
            format!("1.{}.{}", part(0), part(1))
        }
        _ => next.to_owned(),
    }
}

fn parts(word: &str) -> Option<[&str; 2]> {
    let mut parts = word.strip_prefix("1.")?.split('.');
    let both = [parts.next()?, parts.next()?];
    (parts.next().is_none() && both.iter().all(|part| !part.is_empty())).then_some(both)
}

/// 32 hexadecimal digits (machine-id(5)); an image may have an empty one, or `uninitialized`.
fn is_machine_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && is_set(id)
}

/// A UUID that was set: SMBIOS 7.2.1 has all zeros for "not present" and all ones for "not set".
fn is_uuid(uuid: &str) -> bool {
    uuid.len() == 36
        && uuid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        && is_set(uuid)
}

fn is_set(digits: &str) -> bool {
    ![b"0-", b"Ff", b"f-", b"F-"].iter().any(|none| digits.bytes().all(|byte| none.contains(&byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3d1219c7c4c5404aaa1f6d2a48adfda4";
    const UUID: &str = "8f3c2d10-6f0e-4b0e-9a55-0c6a3f1d2b11";

    #[test]
    fn a_machine_has_one_word_however_its_ids_are_written_and_the_word_tells_neither() {
        let word = identity_of_ids(Some(ID), Some(UUID));
        assert_eq!(word, identity_of_ids(Some("3D1219C7C4C5404AAA1F6D2A48ADFDA4\n"), Some(UUID)));
        assert_eq!(word.len(), 2 + 32 + 1 + 32);
        assert!(!word.contains(&ID[..8]) && !word.contains(&UUID[..8]));
        assert_ne!(digest("a", "bc"), digest("ab", "c"));
    }

    #[test]
    fn ids_that_were_never_set_are_not_known() {
        let none = "1.0.0";
        for id in ["", "uninitialized", "00000000000000000000000000000000", &ID[1..]] {
            assert_eq!(identity_of_ids(Some(id), None), none, "{id}");
        }
        for uuid in [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "Not Settable",
        ] {
            assert_eq!(identity_of_ids(None, Some(uuid)), none, "{uuid}");
        }
    }

    #[test]
    fn a_copy_of_the_disk_is_another_machine_though_its_machine_id_is_the_same() {
        let origin = identity_of_ids(Some(ID), Some(UUID));
        let copy = identity_of_ids(Some(ID), Some("11111111-2222-4333-8444-555555555555"));
        let prepared = identity_of_ids(Some("aa1219c7c4c5404aaa1f6d2a48adfda4"), None);
        assert!(is_same_machine(&origin, &origin));
        assert!(!is_same_machine(&origin, &copy));
        assert!(!is_same_machine(&origin, &prepared));
    }

    #[test]
    fn a_part_that_only_one_knows_decides_nothing_and_is_not_forgotten() {
        let (whole, half) =
            (identity_of_ids(Some(ID), Some(UUID)), identity_of_ids(Some(ID), None));
        let none = identity_of_ids(None, None);
        for known in [&whole, &half, &none] {
            assert!(is_same_machine(&whole, known) && is_same_machine(known, &whole));
            assert_eq!(completed(&whole, known), whole);
        }
        assert_eq!(completed(&half, &whole), whole);
    }

    #[test]
    fn what_is_no_word_of_ours_is_compared_as_it_is() {
        for word in ["", "1.", "1.a", "1.a.b.c", "2.a.b", "1..b"] {
            assert!(is_same_machine(word, word), "{word}");
            assert!(!is_same_machine(word, "1.0.0"), "{word}");
        }
    }
}
