//! Keeps the head and the tail of a program's output, which can be read while it runs. Does not decide how long to listen.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::{Captured, Exit, Finished};
use crate::sync::IgnorePoison;

/// Bytes per read: half of what a Linux pipe holds (`pipe(7)`).
const CHUNK: usize = 32 * 1024;

/// The output of one program, from its start. Clones share it, so that one who stops waiting for the program still has
/// what it wrote until then.
///
/// It holds at most the limit that [`begin`](Self::begin) sets for each stream, and nothing before that.
#[derive(Debug, Clone, Default)]
pub struct ProgramOutput(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    streams: Mutex<[Capture; 2]>,
    grown: Notify,
}

/// One of the two streams of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl ProgramOutput {
    /// Forgets everything, and keeps at most `limit` bytes of each stream from now on.
    pub fn begin(&self, limit: usize) {
        *self.0.streams.lock().ignore_poison() = [Capture::new(limit), Capture::new(limit)];
    }

    /// Adds the next bytes of a stream, after `skipped` ones that were not kept where they come from.
    pub fn push(&self, stream: OutputStream, skipped: u64, bytes: &[u8]) {
        let mut streams = self.0.streams.lock().ignore_poison();
        let capture = &mut streams[stream as usize];
        capture.skip(skipped);
        capture.push(bytes);
        drop(streams);
        self.0.grown.notify_one();
    }

    /// Returns when there may be more than at the last call. For one waiter.
    pub async fn grown(&self) {
        self.0.grown.notified().await;
    }

    /// What a stream has beyond its first `position` bytes, at most half the limit: how many bytes are not kept any more,
    /// and those that follow them. For [`push`](Self::push) into another output with the same limit.
    pub fn since(&self, stream: OutputStream, position: u64) -> Option<(u64, Vec<u8>)> {
        self.0.streams.lock().ignore_poison()[stream as usize].since(position)
    }

    /// The end of the program, with its output. What is added later is ignored.
    pub fn finish(&self, exit: Exit) -> Finished {
        let streams = std::mem::take(&mut *self.0.streams.lock().ignore_poison());
        let [stdout, stderr] = streams.map(Capture::finish);
        Finished { exit, stdout, stderr }
    }
}

/// What one stream has said so far: the first half of the limit, and a ring with the last.
///
/// It never holds more than the limit, and only what was really said.
#[derive(Debug, Default)]
struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    head_max: usize,
    tail_max: usize,
    bytes: u64,
}

impl Capture {
    /// Keeps at most `limit` bytes, half of them from the start.
    fn new(limit: usize) -> Self {
        let head_max = limit / 2;
        let tail_max = limit - head_max;
        Self { head: Vec::new(), tail: VecDeque::new(), head_max, tail_max, bytes: 0 }
    }

    /// Takes the next bytes.
    fn push(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_max - self.head.len()));
        self.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(self.tail_max)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(self.tail_max);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    /// Counts bytes that are not kept, nor what is kept before them at the end.
    fn skip(&mut self, bytes: u64) {
        if bytes > 0 {
            self.bytes = self.bytes.saturating_add(bytes);
            self.tail.clear();
        }
    }

    /// See [`ProgramOutput::since`].
    fn since(&self, position: u64) -> Option<(u64, Vec<u8>)> {
        let head = self.head.len() as u64;
        if position >= self.bytes {
            return None;
        }
        if position < head {
            return Some((0, self.head[position as usize..].to_vec()));
        }
        let kept = self.bytes - self.tail.len() as u64;
        let from = position.max(kept);
        let bytes = self.tail.iter().skip((from - kept) as usize).copied().collect();
        Some((from - position, bytes))
    }

    /// What is kept, as text. Bytes that are no UTF-8 become U+FFFD; a character that the cut has
    /// split is left out.
    fn finish(self) -> Captured {
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

/// Reads a stream to its end. An error of the pipe is its end.
pub(super) async fn drain(
    pipe: Option<impl AsyncRead + Unpin>,
    stream: OutputStream,
    output: &ProgramOutput,
) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = vec![0; CHUNK];
    while let Ok(read) = pipe.read(&mut chunk).await {
        if read == 0 {
            break;
        }
        output.push(stream, 0, &chunk[..read]);
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

        /// As between the process of a unit and the agent, which gets what is new when it has time for it.
        #[test]
        fn a_copy_that_gets_what_is_new_now_and_then_keeps_the_same(
            parts in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..60), any::<bool>()), 0..20),
            limit in 0_usize..64,
        ) {
            let (own, copy) = (ProgramOutput::default(), ProgramOutput::default());
            own.begin(limit);
            copy.begin(limit);
            let mut sent = 0;
            let update = |sent: &mut u64| {
                while let Some((skipped, bytes)) = own.since(OutputStream::Stderr, *sent) {
                    assert!(bytes.len() <= limit.div_ceil(2));
                    copy.push(OutputStream::Stderr, skipped, &bytes);
                    *sent += skipped + bytes.len() as u64;
                }
            };
            for (part, is_read) in &parts {
                own.push(OutputStream::Stderr, 0, part);
                if *is_read {
                    update(&mut sent);
                }
            }
            update(&mut sent);
            prop_assert_eq!(copy.finish(Exit::Code(0)), own.finish(Exit::Code(0)));
        }
    }
}
