//! Keeps the head and the tail of what a program says. Does not decide how long to listen.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Captured;

/// Bytes per read: half of what a Linux pipe holds (`pipe(7)`).
const CHUNK: usize = 32 * 1024;

/// What one stream has said so far: the first half of the limit, and a ring with the last.
///
/// It never holds more than the limit, and only what was really said.
#[derive(Debug)]
pub(super) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    head_max: usize,
    tail_max: usize,
    bytes: u64,
}

impl Capture {
    /// Keeps at most `limit` bytes, half of them from the start.
    pub(super) fn new(limit: usize) -> Self {
        let head_max = limit / 2;
        let tail_max = limit - head_max;
        Self { head: Vec::new(), tail: VecDeque::new(), head_max, tail_max, bytes: 0 }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_max - self.head.len()));
        self.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(self.tail_max)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(self.tail_max);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    /// What is kept, as text. Bytes that are no UTF-8 become U+FFFD; a character that the cut has
    /// split is left out.
    pub(super) fn finish(self) -> Captured {
        let Self { mut head, mut tail, bytes, .. } = self;
        let kept = (head.len() + tail.len()) as u64;
        let tail = tail.make_contiguous();
        if kept == bytes {
            head.extend_from_slice(tail);
            let text = String::from_utf8_lossy(&head).into_owned();
            return Captured { text, bytes, truncated: false };
        }
        let (head, tail) = (whole_end(&head), whole_start(tail));
        let out = bytes - (head.len() + tail.len()) as u64;
        let text = format!(
            "{}\n[... {out} bytes left out ...]\n{}",
            String::from_utf8_lossy(head),
            String::from_utf8_lossy(tail)
        );
        Captured { text, bytes, truncated: true }
    }
}

/// Reads a stream to its end into `capture`. An error of the pipe is its end.
pub(super) async fn drain(stream: Option<impl AsyncRead + Unpin>, capture: &mut Capture) {
    let Some(mut stream) = stream else { return };
    let mut chunk = vec![0; CHUNK];
    while let Ok(read) = stream.read(&mut chunk).await {
        if read == 0 {
            break;
        }
        capture.push(&chunk[..read]);
    }
}

/// Writes the input and closes the stream. A program that does not want (all of) it is no error.
pub(super) async fn feed(stream: Option<impl AsyncWrite + Unpin>, input: Vec<u8>) {
    if let Some(mut stream) = stream
        && let Err(error) = stream.write_all(&input).await
    {
        tracing::debug!(%error, "a program did not take all of its input");
    }
}

/// Without the beginning of a character at the end: at most 3 bytes.
fn whole_end(bytes: &[u8]) -> &[u8] {
    let last = bytes.iter().rev().take(4).position(|byte| byte & 0xC0 != 0x80);
    let Some(after) = last.map(|last| last + 1) else { return bytes };
    let start = bytes.len() - after;
    let long = match bytes[start] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    if after < long { &bytes[..start] } else { bytes }
}

/// Without the rest of a character at the start: at most 3 bytes.
fn whole_start(bytes: &[u8]) -> &[u8] {
    let rest = bytes.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
    &bytes[rest..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn captured(limit: usize, parts: &[&[u8]]) -> Captured {
        let mut capture = Capture::new(limit);
        for part in parts {
            capture.push(part);
        }
        capture.finish()
    }

    #[test]
    fn what_fits_is_kept_as_it_was_said() {
        let said = captured(8, &[b"abc", b"", b"defgh"]);
        assert_eq!(said, Captured { text: "abcdefgh".into(), bytes: 8, truncated: false });
        assert_eq!(captured(8, &[]), Captured::default());
    }

    #[test]
    fn what_does_not_fit_keeps_its_head_and_its_tail_and_its_true_size() {
        let said = captured(8, &[b"abcdef", b"ghijklmnopqrstu", b"vwxyz"]);
        assert_eq!(said.text, "abcd\n[... 18 bytes left out ...]\nwxyz");
        assert_eq!((said.bytes, said.truncated), (26, true));
    }

    #[test]
    fn a_character_is_never_cut_in_two() {
        let said = captured(8, &["aaé€€€€éa".as_bytes()]);
        assert_eq!(said.text, "aaé\n[... 12 bytes left out ...]\néa");
        let said = captured(10, &["aaaa€€€€€".as_bytes()]);
        assert_eq!(said.text, "aaaa\n[... 12 bytes left out ...]\n€");
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_counted() {
        let said = captured(8, &[b"a\xFFb"]);
        assert_eq!((said.text.as_str(), said.bytes), ("a\u{FFFD}b", 3));
        assert!(captured(8, &[&[0x80; 100]]).truncated);
    }

    proptest! {
        #[test]
        fn however_it_is_cut_into_parts_the_same_is_kept(
            said in proptest::collection::vec(any::<u8>(), 0..600), limit in 0_usize..64, part in 1_usize..97,
        ) {
            let parts: Vec<&[u8]> = said.chunks(part).collect();
            let whole = captured(limit, &[&said]);
            prop_assert_eq!(&captured(limit, &parts), &whole);
            prop_assert_eq!(whole.bytes, said.len() as u64);
            prop_assert_eq!(whole.truncated, said.len() > limit);
        }
    }
}
