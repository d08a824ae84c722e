//! Text of others for a person: what a terminal would obey, and what shows nothing, is replaced. Prints nothing.

/// `text` without what [`steers`], so that no text of a guest or of a program can pass for another.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Control characters, those that break a line or turn the direction of text, and those that show nothing.
///
/// The last are Unicode's `Default_Ignorable_Code_Point` (DerivedCoreProperties.txt), among which are those that
/// turn the direction; with them the anchors of annotations, which show nothing either. That takes the joiners out
/// of some scripts and pictures, too: a name is to be told from another here, not to be beautiful.
pub(crate) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_turns_hides_or_moves_and_all_that_shows_stays() {
        let hostile = "a\u{1b}[2J\u{9b}\u{202e}b\u{2067}\u{200f}\u{61c}\u{200b}\u{feff}\u{ad}\u{2029}\u{e0041}c\n";
        let shown = plain(hostile);
        assert_eq!(shown.chars().filter(|c| *c != '\u{fffd}').collect::<String>(), "a[2Jbc");
        assert_eq!(shown.chars().count(), hostile.chars().count(), "each leaves its mark");
        for text in ["plain é", "日本語 ﬁ", "עברית العربية", "a\u{a0}b", "e\u{301}", "😀"]
        {
            assert_eq!(plain(text), text);
        }
    }
}
