//! Sorts lists that are sorted seldom, or short, with one copy of the algorithm for all of them.
//!
//! # Why
//! `slice::sort_by` is compiled anew for each order: 5 KiB of the executable every time. These functions sort the places
//! of the items, which are numbers, so the algorithm is there once. They cost a list of places and a call through a
//! pointer for each comparison. What runs for each record or process sorts with the standard library.

use std::cmp::Ordering;

/// Sorts by `order`, as [`slice::sort_by`] does: items that are equal stay as they stand.
pub(crate) fn by<T>(items: &mut [T], order: impl Fn(&T, &T) -> Ordering) {
    let mut places: Vec<usize> = (0..items.len()).collect();
    sort_places(&mut places, &|one, other| order(&items[one], &items[other]));
    // The item at `places[at]` belongs at `at`. Each circle of moves is followed once around.
    for start in 0..items.len() {
        let mut at = start;
        loop {
            let from = std::mem::replace(&mut places[at], at);
            if from == start {
                break;
            }
            items.swap(at, from);
            at = from;
        }
    }
}

/// Sorts by what `key` gives, as [`slice::sort_by_key`] does: items that are equal stay as they stand.
pub(crate) fn by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    by(items, |one, other| key(one).cmp(&key(other)));
}

fn sort_places(places: &mut [usize], order: &dyn Fn(usize, usize) -> Ordering) {
    places.sort_by(|one, other| order(*one, *other));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_list_is_sorted_as_the_standard_library_sorts_it(keys in prop::collection::vec(0_u8..20, 0..100)) {
            let mut sorted: Vec<(u8, usize)> = keys.into_iter().zip(0..).collect();
            let mut expected = sorted.clone();
            super::by_key(&mut sorted, |(key, _)| *key);
            expected.sort_by_key(|(key, _)| *key);
            prop_assert_eq!(&sorted, &expected);
            super::by(&mut sorted, |one, other| other.0.cmp(&one.0));
            expected.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
            prop_assert_eq!(sorted, expected);
        }
    }
}
