//! Quotes words into a command line that a shell splits into exactly these words.

/// The shells that today's host names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// `bash`.
    Bash,
    /// The POSIX shell.
    Sh,
    /// PowerShell, of Windows guests.
    PowerShell,
}

/// The words and characters that a POSIX shell treats as grammar at the place of a command.
const RESERVED: [&str; 19] = [
    "case",
    "coproc",
    "do",
    "done",
    "elif",
    "else",
    "esac",
    "fi",
    "for",
    "function",
    "if",
    "in",
    "namespace",
    "select",
    "then",
    "time",
    "until",
    "while",
    "typeset",
];

impl Shell {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bash => "BASH",
            Self::Sh => "SH",
            Self::PowerShell => "POWERSHELL",
        }
    }

    /// One command line of which the shell makes these words again: nothing in them is expanded, split
    /// or taken for an operator.
    ///
    /// ```
    /// use infiniservice::host::Shell;
    /// assert_eq!(Shell::Sh.quote(&["ls", "-l", "it's; here"]), r"ls -l 'it'\''s; here'");
    /// assert_eq!(Shell::PowerShell.quote(&["dir", "it's"]), "& 'dir' 'it''s'");
    /// ```
    pub fn quote<S: AsRef<str>>(self, words: &[S]) -> String {
        let words = words.iter().map(AsRef::as_ref);
        match self {
            Self::Bash | Self::Sh => {
                let words: Vec<String> =
                    words.enumerate().map(|(at, word)| posix(word, at == 0)).collect();
                words.join(" ")
            }
            Self::PowerShell => words.fold("&".to_owned(), |line, word| {
                // PowerShell takes typographic quotes for quotes too; doubling any of them keeps it.
                let inside: String = word.chars().flat_map(|c| twice(c, is_quote(c))).collect();
                format!("{line} '{inside}'")
            }),
        }
    }
}

fn posix(word: &str, first: bool) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@:,./+-".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !(first && RESERVED.contains(&word)) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn is_quote(c: char) -> bool {
    matches!(c, '\'' | '\u{2018}'..='\u{201b}')
}

fn twice(c: char, twice: bool) -> impl Iterator<Item = char> {
    std::iter::repeat_n(c, 1 + usize::from(twice))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// The words that a real shell finds in the line: `printf` prints each with a NUL after it.
    fn through(shell: &str, kind: Shell, words: &[String]) -> Vec<String> {
        let line = [vec!["printf".to_owned(), "%s\\0".to_owned()], words.to_vec()].concat();
        let out = Command::new(shell).arg("-c").arg(kind.quote(&line)).output().unwrap();
        assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_real_shell_makes_the_same_words_again(
            words in prop::collection::vec("[^\0]{0,12}|[ '\"$`;|&<>()*?~#!\\\\\n=-]{0,8}", 1..6),
        ) {
            prop_assert_eq!(&through("sh", Shell::Sh, &words), &words);
            prop_assert_eq!(&through("bash", Shell::Bash, &words), &words);
        }
    }

    #[test]
    fn a_program_with_a_name_that_means_something_to_the_shell_is_still_a_program() {
        assert_eq!(Shell::Sh.quote(&["if", "if"]), "'if' if");
        assert_eq!(Shell::Sh.quote(&["A=b", ""]), "'A=b' ''");
        assert_eq!(Shell::Sh.quote(&["!", "{"]), "'!' '{'");
    }
}
