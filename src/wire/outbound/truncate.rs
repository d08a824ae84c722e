//! Texts cut to the room that is left of a line. Knows no message.

use std::borrow::Cow;

/// The longest note in place of what was cut.
pub(super) const NOTE_MAX: usize = 64;

/// `text` in at most `room` bytes as it will be spelled: whole, or its head and tail and a note of how
/// much is gone. Nothing at all where there is not even room for the note.
pub(crate) fn fit(text: &str, room: usize) -> Cow<'_, str> {
    if spelled(text) <= room {
        return Cow::Borrowed(text);
    }
    let Some(room) = room.checked_sub(NOTE_MAX) else { return Cow::Borrowed("") };
    let head = within(text.chars(), room / 2);
    let tail = text.len() - within(text[head..].chars().rev(), room / 2);
    let gone = tail - head;
    Cow::Owned(format!("{}\n[{gone} bytes left out]\n{}", &text[..head], &text[tail..]))
}

/// How many bytes of text, character by character, are spelled in at most `room`.
fn within(characters: impl Iterator<Item = char>, room: usize) -> usize {
    let (mut bytes, mut used) = (0, 0);
    for character in characters {
        used += cost(character);
        if used > room {
            break;
        }
        bytes += character.len_utf8();
    }
    bytes
}

/// Bytes that a text takes between its quotes.
pub(crate) fn spelled(text: &str) -> usize {
    text.chars().map(cost).sum()
}

/// Bytes that the writer takes for one character.
fn cost(character: char) -> usize {
    match character {
        '\0' => 0,
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        ' '..='\x7f' => 1,
        other => 6 * other.len_utf16(),
    }
}
