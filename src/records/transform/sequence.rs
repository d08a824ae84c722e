//! Expressions that are texts and repeated classes, one after the other, as most that read a line of a log are:
//! `^(?<what>[a-z ]+) path=(?<path>[^ ]+)`. What they match is found by going through the text once, and back only where a
//! class may have taken too much.

use regex_automata::PatternID;
use regex_automata::util::captures::Captures;
use regex_automata::util::primitives::NonMaxUsize;
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

/// The most pieces of an expression; each may be one call deep.
const PIECES_MAX: usize = 128;

/// Bytes that are looked at for each byte of the text, before it is given up. An expression whose classes overlap may go
/// back as often as the text is long, to the power of their number.
const LOOKS_MAX: usize = 32;

/// Such an expression, which matches at the start of a text only.
#[derive(Debug)]
pub(super) struct Sequence(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(Box<[u8]>),
    Class(Repeated),
    /// A group begins or ends.
    Slot(usize),
    /// The text ends.
    End,
}

#[derive(Debug)]
struct Repeated {
    set: Box<Set>,
    min: usize,
    max: usize,
    is_greedy: bool,
    /// All it can take is taken: what comes next begins with no byte of the set.
    is_sure: bool,
}

/// A class of bytes.
#[derive(Debug)]
struct Set {
    bytes: [bool; 256],
    /// The bytes that are not in it, where they are three or fewer.
    others: Option<Vec<u8>>,
}

/// The text was looked at too often.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GivenUp;

impl Sequence {
    /// The expression, if it is one.
    pub(super) fn new(expression: &Hir) -> Option<Self> {
        let (mut pieces, mut is_anchored) = (Vec::new(), false);
        add(expression, &mut pieces, &mut is_anchored)?;
        if !is_anchored || pieces.len() > PIECES_MAX {
            return None;
        }
        for index in 0..pieces.len() {
            let (before, after) = pieces.split_at_mut(index + 1);
            if let Some(Piece::Class(class)) = before.last_mut() {
                class.is_sure = is_sure(&class.set, after);
            }
        }
        Some(Self(pieces))
    }

    /// Puts the groups of the match into `groups`, if `text` matches.
    pub(super) fn find(&self, text: &[u8], groups: &mut Captures) -> Result<(), GivenUp> {
        groups.set_pattern(None);
        let mut run = Run { text, groups, looks: LOOKS_MAX * (text.len() + 16) };
        if let Some(end) = run.match_from(&self.0, 0)? {
            groups.set_pattern(Some(PatternID::ZERO));
            set(groups, 0, 0);
            set(groups, 1, end);
        }
        Ok(())
    }
}

fn set(groups: &mut Captures, slot: usize, at: usize) {
    if let Some(slot) = groups.slots_mut().get_mut(slot) {
        *slot = NonMaxUsize::new(at);
    }
}

/// One search.
struct Run<'a> {
    text: &'a [u8],
    groups: &'a mut Captures,
    looks: usize,
}

impl Run<'_> {
    /// Where the match of `pieces` from `at` on ends.
    fn match_from(&mut self, pieces: &[Piece], mut at: usize) -> Result<Option<usize>, GivenUp> {
        for (index, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Slot(slot) => set(self.groups, *slot, at),
                Piece::Text(text) => match self.text[at..].starts_with(text) {
                    true => at += text.len(),
                    false => return Ok(None),
                },
                Piece::End if at == self.text.len() => {}
                Piece::End => return Ok(None),
                Piece::Class(class) => {
                    let taken = class.taken(&self.text[at..]);
                    self.looks = self.looks.checked_sub(taken + 1).ok_or(GivenUp)?;
                    if taken < class.min {
                        return Ok(None);
                    }
                    if !class.is_sure {
                        let (least, most) = (at + class.min, at + taken);
                        return self.match_after(&pieces[index + 1..], class, least, most);
                    }
                    at += taken;
                }
            }
        }
        Ok(Some(at))
    }

    /// Where the match of `pieces` ends that begin at one of `least` to `most`: at the last that matches, or the first.
    fn match_after(
        &mut self,
        pieces: &[Piece],
        class: &Repeated,
        mut least: usize,
        mut most: usize,
    ) -> Result<Option<usize>, GivenUp> {
        let next = pieces.iter().find(|piece| !matches!(piece, Piece::Slot(_)));
        let first = match next {
            Some(Piece::Text(text)) => text.first().copied(),
            _ => None,
        };
        while least <= most {
            let places = &self.text[least..self.text.len().min(most + 1)];
            let found = match (first, class.is_greedy) {
                (Some(first), true) => memchr::memrchr(first, places),
                (Some(first), false) => memchr::memchr(first, places),
                (None, true) => Some(most - least),
                (None, false) => Some(0),
            };
            let Some(at) = found.map(|at| least + at) else { return Ok(None) };
            let looked = if class.is_greedy { most - at } else { at - least };
            self.looks = self.looks.checked_sub(looked + 1).ok_or(GivenUp)?;
            if let Some(end) = self.match_from(pieces, at)? {
                return Ok(Some(end));
            }
            match class.is_greedy {
                true if at == least => return Ok(None),
                true => most = at - 1,
                false => least = at + 1,
            }
        }
        Ok(None)
    }
}

impl Repeated {
    /// How many bytes at the start of `text` it can take.
    fn taken(&self, text: &[u8]) -> usize {
        let text = &text[..text.len().min(self.max)];
        let end = match self.set.others.as_deref() {
            Some([]) => None,
            Some([one]) => memchr::memchr(*one, text),
            Some([one, two]) => memchr::memchr2(*one, *two, text),
            Some([one, two, three]) => memchr::memchr3(*one, *two, *three, text),
            _ => text.iter().position(|byte| !self.set.bytes[usize::from(*byte)]),
        };
        end.unwrap_or(text.len())
    }
}

impl Set {
    fn new(bytes: [bool; 256]) -> Box<Self> {
        let others = (0..=u8::MAX).filter(|byte| !bytes[usize::from(*byte)]);
        let others: Vec<u8> = others.take(4).collect();
        Box::new(Self { bytes, others: Some(others).filter(|others| others.len() <= 3) })
    }

    fn has(&self, byte: u8) -> bool {
        self.bytes[usize::from(byte)]
    }
}

/// Whether `after` can begin with no byte of `set`, and has to begin with one.
fn is_sure(set: &Set, after: &[Piece]) -> bool {
    match after.iter().find(|piece| !matches!(piece, Piece::Slot(_))) {
        Some(Piece::End) => true,
        Some(Piece::Text(text)) => text.first().is_some_and(|first| !set.has(*first)),
        Some(Piece::Class(next)) => {
            next.min > 0 && (0..=u8::MAX).all(|byte| !(set.has(byte) && next.set.has(byte)))
        }
        _ => false,
    }
}

/// Adds what `expression` is made of; nothing, where it is no sequence.
fn add(expression: &Hir, pieces: &mut Vec<Piece>, is_anchored: &mut bool) -> Option<()> {
    match expression.kind() {
        HirKind::Empty => {}
        HirKind::Literal(text) => pieces.push(Piece::Text(text.0.clone())),
        HirKind::Class(class) => pieces.push(repeated(bytes_of(class)?, 1, Some(1), true)),
        HirKind::Look(Look::Start) => {
            if !pieces.iter().all(|piece| matches!(piece, Piece::Slot(_))) {
                return None;
            }
            *is_anchored = true;
        }
        HirKind::Look(Look::End) => pieces.push(Piece::End),
        HirKind::Repetition(Repetition { min, max, greedy, sub }) => {
            let set = match sub.kind() {
                HirKind::Class(class) => bytes_of(class)?,
                HirKind::Literal(text) => match *text.0 {
                    [byte] => std::array::from_fn(|other| other == usize::from(byte)),
                    _ => return None,
                },
                _ => return None,
            };
            pieces.push(repeated(set, *min, *max, *greedy));
        }
        HirKind::Capture(group) => {
            let slot = usize::try_from(group.index).ok()? * 2;
            pieces.push(Piece::Slot(slot));
            add(&group.sub, pieces, is_anchored)?;
            pieces.push(Piece::Slot(slot + 1));
        }
        HirKind::Concat(parts) => {
            parts.iter().try_for_each(|part| add(part, pieces, is_anchored))?;
        }
        HirKind::Look(_) | HirKind::Alternation(_) => return None,
    }
    Some(())
}

fn repeated(bytes: [bool; 256], min: u32, max: Option<u32>, is_greedy: bool) -> Piece {
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    Piece::Class(Repeated {
        set: Set::new(bytes),
        min: count(min),
        max: max.map_or(usize::MAX, count),
        is_greedy,
        is_sure: false,
    })
}

/// Which bytes are in the class, if it has no characters of several bytes.
fn bytes_of(class: &Class) -> Option<[bool; 256]> {
    let class = match class {
        Class::Bytes(class) => class.clone(),
        Class::Unicode(class) => class.to_byte_class()?,
    };
    let is_in = |byte: usize| {
        class
            .ranges()
            .iter()
            .any(|range| (usize::from(range.start())..=usize::from(range.end())).contains(&byte))
    };
    Some(std::array::from_fn(is_in))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_automata::nfa::thompson::pikevm::PikeVM;
    use regex_automata::util::syntax;

    use super::*;

    fn sequence(expression: &str) -> Option<Sequence> {
        let bytes = syntax::Config::new().unicode(false).utf8(false);
        Sequence::new(&syntax::parse_with(expression, &bytes).unwrap())
    }

    fn slow(expression: &str) -> PikeVM {
        PikeVM::builder()
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .thompson(regex_automata::nfa::thompson::Config::new().utf8(false))
            .build(expression)
            .unwrap()
    }

    /// The groups by both, as text.
    fn both(expression: &str, text: &[u8]) -> Option<[String; 2]> {
        let (fast, slow) = (sequence(expression)?, slow(expression));
        let (mut one, mut other) = (slow.create_captures(), slow.create_captures());
        fast.find(text, &mut one).ok()?;
        slow.captures(&mut slow.create_cache(), text, &mut other);
        Some([&one, &other].map(|groups| {
            let all: Vec<_> = groups.iter().collect();
            format!("{} {all:?}", groups.is_match())
        }))
    }

    #[test]
    fn lines_of_logs_are_sequences_and_what_has_a_choice_is_none() {
        for expression in [
            "^(?<what>[a-z ]+) path=(?<path>[^ ]+) status=(?<code>[0-9]+)$",
            r#"^(?<ip>\S+) \S+ \S+ \[(?<at>[^\]]+)\] "(?<verb>[A-Z]+) (?<path>[^ "]+)[^"]*" (?<code>\d{3})"#,
            "^(?<key>.*?)=(?<value>.*)$",
        ] {
            assert!(sequence(expression).is_some(), "{expression}");
        }
        for expression in ["a+", "^(a|bc)", "^(ab)+", "^a$|b", "^(a)?b", r"^a\b", "(?m)^a"] {
            assert!(sequence(expression).is_none(), "{expression}");
        }
    }

    #[test]
    fn a_text_that_takes_too_long_is_given_up() {
        let expression = "^[a-z]*[a-z]*[a-z]*[a-z]*[a-z]*!";
        let (fast, text) = (sequence(expression).unwrap(), "x".repeat(1_000));
        let mut groups = slow(expression).create_captures();
        assert_eq!(fast.find(text.as_bytes(), &mut groups), Err(GivenUp));

        // Also a short one, where every piece can take all of it.
        let expression = "^.*.*.*.*.*[^abc ]$";
        assert!(both(expression, b"aaaaaaaaaaaa").is_none());
    }

    fn expressions() -> impl Strategy<Value = String> {
        let atom = prop::sample::select(vec![
            "a", "b", "[ab]", "[^a]", "[^ab]", ".", r"\w", "ab", "[^abc ]",
        ]);
        let count =
            prop::sample::select(vec!["", "", "?", "*", "+", "*?", "+?", "{2}", "{1,2}", "{0,3}?"]);
        let piece = (atom, count, any::<bool>()).prop_map(|(atom, count, is_group)| {
            let repeated = match atom.len() {
                2 if !atom.starts_with('\\') => atom.to_owned(),
                _ => format!("{atom}{count}"),
            };
            if is_group { format!("({repeated})") } else { repeated }
        });
        let pieces = prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat());
        (pieces, any::<bool>())
            .prop_map(|(pieces, ends)| format!("^{pieces}{}", if ends { "$" } else { "" }))
    }

    proptest! {
        #![proptest_config(crate::records::any_of(3_000))]

        #[test]
        fn the_groups_are_those_that_the_slow_way_finds(
            expression in expressions(),
            text in "[abc \n]{0,12}",
        ) {
            prop_assert!(sequence(&expression).is_some(), "{expression}");
            // One in tens of thousands takes more steps than are allowed, and is left to the slow way.
            let Some([fast, slow]) = both(&expression, text.as_bytes()) else { return Ok(()) };
            prop_assert_eq!(fast, slow, "{} in {:?}", expression, text);
        }
    }
}
