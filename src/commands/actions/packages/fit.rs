//! Lists that fit into an answer. Knows nothing of what is in them.

use std::io::{self, Write};

use serde::Serialize;

/// The most bytes of a result's list, below the 500 KiB that the host keeps, with room for what
/// stands around it.
pub const DATA_MAX: usize = 480 * 1024;

/// Makes `items` fit into [`DATA_MAX`]: `shorten` is asked to cut the text of each item to 80 and then
/// to 0 characters, then the end of the list is left out. Returns the list and how many are left out.
pub fn fit<T: Serialize>(mut items: Vec<T>, shorten: impl Fn(&mut T, usize)) -> (Vec<T>, usize) {
    for longest in [80, 0] {
        if items.iter().map(weight).sum::<usize>() <= DATA_MAX {
            return (items, 0);
        }
        items.iter_mut().for_each(|item| shorten(item, longest));
    }
    let mut sum = 0;
    let fitting = items
        .iter()
        .take_while(|item| {
            sum += weight(item);
            sum <= DATA_MAX
        })
        .count();
    let cut = items.len() - fitting;
    items.truncate(fitting);
    (items, cut)
}

/// At least the bytes of `value` in JSON of ASCII letters only, with a comma: each byte of another
/// letter becomes at most three (`é`, two bytes, is `\u00e9`).
pub fn weight<T: Serialize>(value: &T) -> usize {
    struct Scale(usize);
    impl Write for Scale {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.iter().map(|byte| if byte.is_ascii() { 1 } else { 3 }).sum::<usize>();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut scale = Scale(1);
    match serde_json::to_writer(&mut scale, value) {
        Ok(()) => scale.0,
        Err(_) => usize::MAX / 1024, // what cannot be written cannot be sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shorten(text: &mut String, longest: usize) {
        *text = text.chars().take(longest.max(1)).collect();
    }

    #[test]
    fn a_list_that_fits_is_left_alone_and_a_long_one_loses_its_words_before_its_items() {
        let few = vec!["a".repeat(100); 10];
        assert_eq!(fit(few.clone(), shorten), (few, 0));

        let (wordy, cut) = fit(vec!["a".repeat(1000); 4000], shorten);
        assert_eq!((wordy.len(), cut, wordy[0].len()), (4000, 0, 80));

        let (many, cut) = fit(vec!["abc".to_owned(); 200_000], shorten);
        assert_eq!(many.len() + cut, 200_000);
        assert!(cut > 0 && serde_json::to_string(&many).unwrap().len() <= DATA_MAX + 2);
    }

    #[test]
    fn the_weight_is_never_less_than_the_line_with_escapes() {
        for text in ["a", "é", "日本", "🎉", "\u{1}", "\""] {
            let json = serde_json::to_string(text).unwrap();
            let escaped: usize =
                json.chars().map(|c| if c.is_ascii() { 1 } else { 6 * c.len_utf16() }).sum();
            assert!(weight(&text) > escaped, "{text:?}");
        }
    }
}
