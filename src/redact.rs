//! Removes likely secrets from texts and command lines. A second line of defence: a known secret is never part of such a
//! text.

mod arguments;
mod here;
mod printed;
#[cfg(test)]
mod known_programs;

use std::borrow::Cow;
use std::ops::Range;

use arguments::Arguments;
use here::{here_documents, here_strings, shell_word};
use memchr::memmem;
use printed::printed;

/// Replaces a removed secret.
pub(crate) const REDACTED: &str = "[redacted]";

/// Removes likely secrets from `text`:
///
/// - the value behind a word that ends in `password`, `token`, `secret` or the like (`password=…`,
///   `"api_key": "…"`, `--token …`),
/// - the word behind `Bearer` or `Basic`,
/// - user and password in a URL,
/// - keys with a known beginning (`AKIA…`, `ghp_…`, `eyJ…`),
/// - everything from `-----BEGIN … KEY-----` to its end,
/// - in a command line the options and places by which a known program takes one (`mysql -p…`, `curl -u ann:…`,
///   `htpasswd -b FILE ann …`),
/// - what is printed into a program or file that takes a secret (`echo … | chpasswd`, `echo … > db_password`),
/// - what a shell gives to a program as its input (`<<< …`, `<(echo …)`, the lines behind `<<EOF`, and those of `@'…'@`),
/// - what stands in the place of a secret in SQL (`IDENTIFIED BY …`), expect (`send …`) and PowerShell
///   (`ConvertTo-SecureString …`).
///
/// Takes time in proportion to the text; copies it only if something was found.
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    let text = keys(text);
    let text = then(text, urls);
    let text = then(text, here_strings);
    let text = then(text, here_documents);
    let text = then(text, printed);
    let text = then(text, options);
    let text = then(text, phrases);
    then(text, words)
}

/// As [`redact`], each line by itself: for a log, in which no line goes on with what the one before has begun. A key of
/// several lines is removed all the same.
pub(crate) fn redact_lines(text: &str) -> Cow<'_, str> {
    let text = keys(text);
    then(text, |text| {
        let lines: Vec<_> = text.split_inclusive('\n').map(redact).collect();
        match lines.iter().all(|line| matches!(line, Cow::Borrowed(_))) {
            true => text.into(),
            false => lines.concat().into(),
        }
    })
}

/// The arguments of a process, with a space between them, without likely secrets: as [`redact`], and with
/// the limits of arguments known. Takes about 4 µs for each hundred bytes (2 cores, built for size): a fifth of what reading them costs.
pub(crate) fn redact_arguments<'a>(arguments: impl IntoIterator<Item = &'a str>) -> String {
    let (mut line, mut rules) = (String::new(), Arguments::new(true));
    for (number, argument) in arguments.into_iter().enumerate() {
        if number > 0 {
            line.push(' ');
        }
        match rules.secret(argument) {
            Some(start) => {
                line.push_str(&argument[..start]);
                line.push_str(REDACTED);
            }
            None if argument.contains(char::is_whitespace) || argument.contains("<<<") => {
                line.push_str(&redact(argument))
            }
            None => line.push_str(&then(urls(argument), words)),
        }
    }
    line
}

/// Removes user and password from the URLs in `text`, and nothing else: for the output of programs, whose words are data.
pub(crate) fn redact_urls(text: &str) -> Cow<'_, str> {
    urls(text)
}

fn then<'a>(text: Cow<'a, str>, next: fn(&str) -> Cow<'_, str>) -> Cow<'a, str> {
    match next(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(text) => text.into(),
    }
}

/// Words that a secret follows, in any case, as the end of a longer word too (`DB_PASSWORD`), and with `-` or `_` between
/// their parts or not (`api-key`).
const NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pass",
    "pwd",
    "pw",
    "psk",
    "secret",
    "token",
    "api key",
    "access key",
    "private key",
    "secret key",
    "secret key base",
    "signing key",
    "master key",
    "shared key",
    "hmac key",
    "unseal key",
    "app key",
    "auth key",
    "account key",
    "encryption key",
    "credential",
    "credentials",
    "authorization",
    "_auth",
    "x-auth",
    "masterauth",
    "_pat",
    "-pin",
    "_pin",
    "-otp",
    "_otp",
    "totp",
    "-puk",
    "cookie",
    "signature",
];

/// Words of a language behind which a secret stands, and words of which one stands before (none: anything).
const PHRASES: &[(&str, &[&str], Extent)] = &[
    ("by", &["identified"], Extent::Argument),
    ("for", &["set password"], Extent::Call),
    ("key", &["pragma"], Extent::Call),
    ("send", &["expect", "spawn"], Extent::Argument),
    ("exp_send", &[], Extent::Argument),
    ("sendline", &[], Extent::Argument),
    ("ConvertTo-SecureString", &[], Extent::Call),
    ("PSCredential", &[], Extent::Call),
    ("NetworkCredential", &[], Extent::Call),
];
/// How far back the other word may stand.
const PHRASE_MAX: usize = 1_024;

/// How much behind such a word is the secret.
#[derive(Clone, Copy)]
enum Extent {
    /// The next argument that is no option.
    Argument,
    /// All arguments.
    Call,
}

/// Prefixes of known keys, and the fewest characters that follow.
const BEGINNINGS: &[(&str, usize)] = &[
    ("AKIA", 12),
    ("ASIA", 12),
    ("AIza", 16),
    ("dop_v1_", 16),
    ("ghp_", 16),
    ("gho_", 16),
    ("ghr_", 16),
    ("ghs_", 16),
    ("ghu_", 16),
    ("github_pat_", 16),
    ("glpat-", 16),
    ("glrt-", 16),
    ("npm_", 16),
    ("pypi-", 16),
    ("xapp-", 10),
    ("xoxa-", 10),
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("xoxs-", 10),
    ("sk-", 16),
    ("sk_live_", 10),
    ("eyJ", 16),
];

/// Blocks of a PEM file (RFC 7468) that hold a key.
fn keys(text: &str) -> Cow<'_, str> {
    const BEGIN: &str = "-----BEGIN ";
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = memmem::find(rest.as_bytes(), BEGIN.as_bytes()) {
        let label = &rest[start + BEGIN.len()..];
        let end = label.find("-----").unwrap_or(label.len());
        if !label[..end].ends_with("KEY") {
            out.push_str(&rest[..start + BEGIN.len()]);
            rest = label;
            continue;
        }
        out.push_str(&rest[..start]);
        out.push_str(REDACTED);
        // Without its end, everything to the end of the text may be the key.
        let closing = format!("-----END {}-----", &label[..end]);
        rest = label.find(&closing).map_or("", |at| &label[at + closing.len()..]);
    }
    if rest.len() == text.len() { text.into() } else { (out + rest).into() }
}

/// `scheme://user:password@host`.
fn urls(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return text.into();
    }
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = memmem::find(rest.as_bytes(), b":/") {
        // One slash where the other was tidied away, as in a path.
        let slashes = rest[at + 1..].len() - rest[at + 1..].trim_start_matches('/').len();
        let (before, after) = rest.split_at(at + 1 + slashes);
        out.push_str(before);
        let ends =
            |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>');
        let authority = &after[..after.find(ends).unwrap_or(after.len())];
        // A password may hold a slash that should have been escaped.
        let word = &after[..after.find(char::is_whitespace).unwrap_or(after.len())];
        let end = match (authority.rfind('@'), word.rfind('@')) {
            (Some(at), _) => Some(at),
            (None, Some(at)) if authority.contains(':') => Some(at),
            _ => None,
        };
        rest = match end {
            Some(at) => {
                out.push_str(REDACTED);
                &after[at..]
            }
            None => after,
        };
    }
    if rest.len() == text.len() || out.len() + rest.len() == text.len() && !out.contains(REDACTED) {
        return text.into();
    }
    (out + rest).into()
}

/// The secrets in the options of known programs in shell lines.
fn options(text: &str) -> Cow<'_, str> {
    let (mut out, mut copied) = (String::new(), 0);
    let mut rules = Arguments::new(false);
    let mut at = 0;
    while at < text.len() {
        let blank = text[at..].find(|c: char| !c.is_whitespace()).unwrap_or(text.len() - at);
        if text[at..at + blank].contains('\n') {
            rules.another();
        }
        at += blank;
        let rest = &text[at..];
        let word = &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())];
        if matches!(word, "|" | "||" | "&&" | "&" | ";") || word.starts_with(['<', '>']) {
            rules.another();
        }
        let quotes: &[char] = &['"', '\'', '(', '`', '$'];
        let open = word.len() - word.trim_start_matches(quotes).len();
        let quote = word[..open].chars().next_back().filter(|c| matches!(c, '"' | '\''));
        let end = at + word.len();
        if let Some(start) = rules.secret(&word[open..]) {
            let from = at + open + start;
            let rest = &text[from..];
            // A quoted one may have spaces in it.
            let to = match (quote, rest.starts_with(['"', '\''])) {
                (Some(quote), _) => from + rest.find(quote).unwrap_or(rest.len()),
                (None, true) => from + extent(rest).min(rest.len()),
                (None, false) => at + word.trim_end_matches([';', '"', '\'', ')', '`']).len(),
            };
            out.push_str(&text[copied..from]);
            out.push_str(REDACTED);
            copied = to.max(from);
            at = end.max(copied);
        } else {
            at = end;
        }
        if word.ends_with(';') {
            rules.another();
        }
    }
    if out.is_empty() { text.into() } else { (out + &text[copied..]).into() }
}

/// The values of telling names, and words that are keys by themselves.
fn words(text: &str) -> Cow<'_, str> {
    each_word(text, |text, word| {
        let (before, name, after) = (&text[..word.start], &text[word.clone()], &text[word.end..]);
        if is_key(name) {
            return Some(word);
        }
        let is_query = before.ends_with(['?', '&']);
        let (start, end) = if names_secret(name) || is_query && matches!(name, "key" | "sig") {
            if before.ends_with('<') { element(after) } else { value(after, name) }
        } else {
            scheme(name, after)
        }?;
        Some(word.end + start..word.end + end)
    })
}

/// The secrets behind [`PHRASES`].
fn phrases(text: &str) -> Cow<'_, str> {
    each_word(text, |text, word| {
        let (name, after) = (&text[word.clone()], &text[word.end..]);
        let (_, needed, extent) =
            PHRASES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name))?;
        let before = &text.as_bytes()[word.start.saturating_sub(PHRASE_MAX)..word.start];
        let is_there =
            |needed: &&str| memmem::find(&before.to_ascii_lowercase(), needed.as_bytes()).is_some();
        if !needed.is_empty() && !needed.iter().any(is_there) {
            return None;
        }
        let (start, length) = match extent {
            Extent::Argument => argument(after)?,
            Extent::Call => (0, call(after)),
        };
        let blank = after[start..].len() - after[start..].trim_start().len();
        (length > blank).then_some(word.end + start + blank..word.end + start + length)
    })
}

/// Replaces the part of `text` that `secret` finds at a word, for each word that is not in such a part.
fn each_word(
    text: &str,
    secret: impl Fn(&str, Range<usize>) -> Option<Range<usize>>,
) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut at, mut copied) = (0, 0);
    while at < text.len() {
        let length = text[at..].bytes().position(|byte| !is_word(byte)).unwrap_or(text.len() - at);
        let word = at..at + length;
        at = word.end.max(at + 1);
        if length > 0
            && let Some(part) = secret(text, word)
        {
            out.push_str(&text[copied..part.start]);
            out.push_str(REDACTED);
            (at, copied) = (part.end, part.end);
        }
    }
    if copied == 0 { text.into() } else { (out + &text[copied..]).into() }
}

/// Where the first argument that is no option stands, and its length: in quotes, in braces, or a word.
fn argument(after: &str) -> Option<(usize, usize)> {
    let mut text = after.trim_start_matches([' ', '\t', '(', '\\']);
    while text.starts_with('-') {
        text = text[text.find([' ', '\t'])?..].trim_start_matches([' ', '\t', '\\']);
    }
    let length = match text.chars().next()? {
        '"' | '\'' => extent(text),
        '{' => text.find('}').map_or(text.len(), |end| end + 1),
        _ => shell_word(text),
    };
    // `IDENTIFIED BY PASSWORD '…'`.
    (!names_secret(&text[..length])).then_some((after.len() - text.len(), length))
}

/// The length of the arguments of a call: to the bracket that closes it, or to the end of the command.
fn call(after: &str) -> usize {
    let (mut depth, mut quote) = (0_usize, None);
    for (at, c) in after.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') if depth > 0 => depth -= 1,
            (None, ')' | ';' | '|' | '\n') => return at,
            _ => {}
        }
    }
    after.len()
}

/// Whether a byte belongs to a word; all of a character above ASCII does.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || !byte.is_ascii()
}

/// Whether a secret follows this word.
fn names_secret(word: &str) -> bool {
    // `--password1`, `TOKEN_2`.
    let word = word.trim_end_matches(|c: char| c.is_ascii_digit()).as_bytes();
    let Some(last) = word.last().map(u8::to_ascii_lowercase) else { return false };
    NAMES.iter().map(|name| name.as_bytes()).any(|name| {
        // The last letter first: it is another for most words.
        name.last() == Some(&last) && ends_with_name(word, name)
    })
}

/// Whether `word` ends with one of [`NAMES`].
fn ends_with_name(word: &[u8], name: &[u8]) -> bool {
    let mut rest = word.iter().rev().peekable();
    name.iter().rev().all(|letter| match letter {
        b' ' => {
            rest.next_if(|byte| matches!(byte, b'-' | b'_'));
            true
        }
        letter => rest.next().is_some_and(|byte| byte.eq_ignore_ascii_case(letter)),
    })
}

/// Whether this word is a key by itself.
fn is_key(word: &str) -> bool {
    word.len() > 12
        && BEGINNINGS
            .iter()
            .any(|(begin, more)| word.strip_prefix(begin).is_some_and(|rest| rest.len() >= *more))
}

/// Where the value of an XML element stands: `<password>…</password>`.
fn element(after: &str) -> Option<(usize, usize)> {
    let start = after.find('>')? + 1;
    let length = after[start..].find('<').unwrap_or(after.len() - start);
    (length > 0).then_some((start, start + length))
}

/// Where the value stands in what follows a telling name: behind `=` or `:`, or behind a space where the
/// name is an option.
fn value(after: &str, name: &str) -> Option<(usize, usize)> {
    let option = name.starts_with('-');
    let spaces: &[char] = &[' ', '\t'];
    let skip = |text: &str, over: &[char]| text.len() - text.trim_start_matches(over).len();
    // The name may stand in quotes, which may be escaped.
    let mut start = skip(after, &[' ', '\t', '"', '\'', '\\']);
    match after[start..].chars().next() {
        Some('=' | ':') => start += skip(&after[start..], &[' ', '\t', '=', ':', '>', '\\']),
        _ if option && skip(after, spaces) > 0 => start = skip(after, spaces),
        // `PASSWORD 'x'` and `PASSWORD('x')` of SQL.
        _ => {
            start = skip(after, &[' ', '\t', '(', '\\']);
            return (start > 0 && starts_quoted(&after[start..]))
                .then(|| (start, start + extent(&after[start..])));
        }
    }
    let value = &after[start..];
    // `Authorization: Bearer …`, `Cookie: a=b; c=d`: whatever stands there, the rest of the line.
    let name = name.to_ascii_lowercase();
    let is_header = ["authorization", "cookie"].iter().any(|header| name.ends_with(header));
    let length = match value.find(['"', '\'', '\n', '\r']) {
        Some(0) => extent(value),
        Some(end) if is_header => end,
        None if is_header => value.len(),
        _ if option => listed(value),
        _ => extent(value),
    };
    (length > 0).then_some((start, start + length))
}

/// `Bearer …`, `Basic …`.
fn scheme(word: &str, after: &str) -> Option<(usize, usize)> {
    let known = ["bearer", "basic"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
    if !known {
        return None;
    }
    let gap = after.len() - after.trim_start_matches(' ').len();
    let length = extent(&after[gap..]);
    // "Basic tests" is no secret; a token has digits, or is long.
    let token = &after[gap..gap + length];
    let likely =
        token.len() >= 16 || token.len() >= 6 && token.contains(|c: char| c.is_ascii_digit());
    (gap > 0 && likely).then_some((gap, gap + length))
}

/// Whether `text` begins with a quote, or with a mark of what kind of text is in it and a quote.
fn starts_quoted(text: &str) -> bool {
    text.strip_prefix(['N', 'E', '$', '@']).unwrap_or(text).starts_with(['"', '\''])
}

/// How long the value of an option is, which ends where the argument does: `--verify-pin=PIN1,1234`.
fn listed(value: &str) -> usize {
    let mut length = extent(value);
    while let Some(rest) = value[length..].strip_prefix(',') {
        match extent(rest) {
            0 => break,
            more => length += 1 + more,
        }
    }
    length
}

/// How long a value is: to its closing quote, or to the next space or separator.
fn extent(value: &str) -> usize {
    match value.chars().next() {
        // `N'…'`, `@"…"`.
        Some(mark) if !matches!(mark, '"' | '\'') && starts_quoted(value) => {
            1 + extent(&value[1..])
        }
        Some('(') => (call(&value[1..]) + 2).min(value.len()),
        Some(quote @ ('"' | '\'')) => {
            let inner = &value[1..];
            let mut escaped = false;
            let end = inner.find(|c| {
                let ends = c == quote && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(value.len(), |end| end + 2)
        }
        _ => value
            .find(|c: char| c.is_whitespace() || matches!(c, '&' | ';' | ',' | '"' | '\''))
            .unwrap_or(value.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CANARY: &str = "h7Ntr2xx";

    #[test]
    fn a_text_that_looks_like_a_secret_is_removed() {
        for text in [
            "password=h7Ntr2xx",
            "PASSWORD: h7Ntr2xx",
            "DB_PASSWORD='h7Ntr2xx x'",
            "{\"api_key\": \"h7Ntr2xx\", \"a\": 1}",
            "{\\\"token\\\":\\\"h7Ntr2xx\\\"}",
            "x --token h7Ntr2xx y",
            "x --password \"a h7Ntr2xx\"",
            "curl -H 'Authorization: Bearer h7Ntr2xx' u",
            "Bearer h7Ntr2xx",
            "authorization: basic h7Ntr2xx==",
            "https://ann:h7Ntr2xx@git.lab/x",
            "https://h7Ntr2xx@git.lab/x",
            "/srv/https:/ann:h7Ntr2xx@git.lab",
            "postgres://ann:a/h7Ntr2xx@db",
            "AKIAh7Ntr2xxABCDEFGH",
            "ghp_h7Ntr2xxABCDEFGHIJ",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nh7Ntr2xx\n-----END OPENSSH PRIVATE KEY-----",
            "a -----BEGIN CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\nh7Ntr2xx cut",
            "passphrase => h7Ntr2xx",
            "secret = \"a\\\"h7Ntr2xx\"",
            "mysql -u root -ph7Ntr2xx db",
            "cd /x; mysqldump -p'h7Ntr2xx x' db | gzip",
            "mysqldump \"-ph7Ntr2xx x\" db",
            "curl -su \"root:h7Ntr2xx x\" host",
            "sshpass -p h7Ntr2xx ssh -p 22 host",
            "redis-cli -h x -a h7Ntr2xx",
            "backup -ph7Ntr2xx",
        ] {
            let shown = redact(text);
            assert!(shown.contains(REDACTED) && !shown.contains(CANARY), "{text} → {shown}");
        }
    }

    #[test]
    fn each_form_removes_the_secret_and_leaves_the_rest() {
        assert_eq!(redact("mysql --password=hunter2 db"), "mysql --password=[redacted] db");
        let url = "https://ann:hunter2@git.lab/x";
        assert_eq!(redact(url), "https://[redacted]@git.lab/x");

        let log = "cat <<EOF\ntoken=hunter2\nit has ended\n";
        assert_eq!(redact_lines(log), "cat <<EOF\ntoken=[redacted]\nit has ended\n");

        let shown = redact_arguments(["mysql", "-u", "ann", "-phunter 2", "db"]);
        assert_eq!(shown, "mysql -u ann -p[redacted] db");

        let output = "E: Failed to fetch https://ann:hunter2@mirror.lab/x  401";
        assert_eq!(redact_urls(output), "E: Failed to fetch https://[redacted]@mirror.lab/x  401");
        assert_eq!(redact_urls("libsecret: 1.2"), "libsecret: 1.2");
    }

    #[test]
    fn other_text_stays() {
        for text in [
            "",
            "nginx",
            "systemd-resolved.service",
            "/srv/passwords/x",
            "the token is expired",
            "Basic tests",
            "sk-x",
            "https://git.lab/x?y=1",
            "ann@lab",
            "a: b",
            "-----BEGIN CERTIFICATE-----\nMIIB",
        ] {
            assert_eq!(redact(text), text);
        }
        assert_eq!(redact("a=1 password=x&b=2"), "a=1 password=[redacted]&b=2");
        let shell = "mysql -px; ssh -p 22 a && mysql \"-pa b\" c | curl -u \"a:b c\" d";
        let shown = "mysql -p[redacted]; ssh -p 22 a && mysql \"-p[redacted]\" c | curl -u \"a:[redacted]\" d";
        assert_eq!(redact(shell), shown);
    }

    fn shown(line: &str) -> String {
        redact_arguments(line.split('|'))
    }

    #[test]
    fn secret_arguments_are_removed_by_their_options() {
        for line in [
            "x|--password|h7Ntr2xx y",
            "x|--password=h7Ntr2xx, y;z",
            "x|--token=h7Ntr2xx",
            "x|-token|h7Ntr2xx",
            "env|PGPASSWORD=h7Ntr2xx|psql",
            "env|A_PWD=a h7Ntr2xx|psql",
            "git|clone|https://ann:h7Ntr2xx@git.lab/x",
            "postgres://ann:h7Ntr2xx@db",
            "any|-u|root:h7Ntr2xx",
            "any|--user=root:h7Ntr2xx",
            "any|-uroot:h7Ntr2xx",
            "/usr/bin/mysql|-uroot|-ph7Ntr2xx",
            "mariadb-dump|-p7h7Ntr2xx",
            "sudo|-u|db|mysql|-ph7Ntr2xx",
            "sh|-c|mysql -ph7Ntr2xx x; ls",
            "bash|-c|echo h; PGPASSWORD='a h7Ntr2xx' psql",
            "sshpass|-p|h7Ntr2xx|ssh|-p|22|a",
            "sshpass|-ph7Ntr2xx|ssh|a",
            "ldapsearch|-x|-D|cn=a|-w|h7Ntr2xx",
            "ldapsearch|-xw|h7Ntr2xx",
            "curl|-sSu|1:h7Ntr2xx|https://x",
            "curl|-U|1:h7Ntr2xx",
            "curl|-H|X-Auth-Token: h7Ntr2xx",
            "curl|-H|Authorization: Basic h7Ntr2xx",
            "redis-cli|-a|h7Ntr2xx",
            "smbclient|//a/b|-U|ann%h7Ntr2xx",
            "smbclient|//a/b|-Uann%h7Ntr2xx",
            "mongosh|-u|a|-p|h7Ntr2xx",
            "openssl|rsa|-passin|pass:h7Ntr2xx",
            "openssl|enc|-k|h7Ntr2xx",
            "java|-Djavax.net.ssl.keyStorePassword=h7Ntr2xx|-jar|a",
            "keytool|-storepass|h7Ntr2xx",
            "7z|a|-ph7Ntr2xx|b.7z",
            "zip|-P|h7Ntr2xx|a",
            "docker|login|-u|a|-p|h7Ntr2xx",
            "nmcli|dev|wifi|connect|a|password|h7Ntr2xx",
            "plink|-pw|h7Ntr2xx|a",
            "lftp|-u|a,h7Ntr2xx|b",
            "sqlplus|ann/h7Ntr2xx@db",
            "xfreerdp|/u:a|/p:h7Ntr2xx",
            "mount|-o|username=a,password=h7Ntr2xx",
            "any|-ph7Ntr2xx",
            "tailscale|up|--authkey=h7Ntr2xx",
            "x|--password|-u|root:h7Ntr2xx",
        ] {
            let shown = shown(line);
            assert!(shown.contains(REDACTED) && !shown.contains(CANARY), "{line} → {shown}");
        }
    }

    #[test]
    fn arguments_that_are_none_stay() {
        for line in [
            "sshd: ann [priv]",
            "ssh|-p|22|host",
            "ssh|-p2222|host",
            "mkdir|-p|a/b/c1",
            "docker|run|-p|8080:80|--user|1000:1000|nginx",
            "mysql|-u|root|-p|shop",
            "mysqld|--port=3306",
            "find|/|-user|root|-print0",
            "gcc|-pthread|-pedantic",
            "ps|-p|4711",
            "tar|-pxzf|a.tgz",
            "openssl|req|-keyout|a|-key|b",
            "curl|-u|ann|http://host:8080/x",
            "psql|--no-password|shop",
            "/usr/bin/passwd|ann",
            "ansible|--ask-pass|all",
            "mongod|--port|27017",
            "java|-Xmx2g|-cp|a:b:c|Main",
            "",
        ] {
            assert_eq!(shown(line), line.replace('|', " "));
        }
        assert_eq!(shown("sshpass|-p|x|ssh|-p|22|a"), "sshpass -p [redacted] ssh -p 22 a");
        assert_eq!(shown("curl|-u|root:x|b"), "curl -u root:[redacted] b");
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in any::<String>()) {
            redact(&text);
            redact_arguments(text.split(' '));
        }

        #[test]
        fn no_arrangement_of_the_parts_breaks_it(
            parts in proptest::collection::vec(0..34_usize, 0..12),
        ) {
            const PARTS: [&str; 34] = [
                "password", "=", ":", " ", "\"", "'", "\\", "://", "@", "/", "é", "Bearer ", "AKIA", "--",
                "-----BEGIN ", "KEY", "-----", "-----END ", "ABCDEFGH12345678", "\n", "&", "token", "中", "x",
                "mysql ", "-p", "-u", "curl ", ";", "%", "echo ", " | chpasswd", "<<", "<<-'EOF'\n",
            ];
            let text: String = parts.into_iter().map(|part| PARTS[part]).collect();
            redact(&text);
            redact_arguments(text.split(' '));
        }
    }
}
