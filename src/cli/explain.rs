//! `explain`: what would become of a message of the host: allowed or not, by which rule, and what would
//! be run. Runs nothing of it.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::Utf8Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::Deserialize;
use serde_json::Number;
use thiserror::Error;
use tokio::time::Instant;

use super::{EXIT_CONFIG, StateOption, complain, load_or_report, refuse, say, unless};
use crate::commands::actions::plan::Value;
use crate::commands::authorize::dry_run::{DryRun, plan};
use crate::commands::authorize::{Authorization, Authorize, AuthorizedMessage, Permit};
use crate::commands::decode::Decode;
use crate::commands::request::{HostMessage, Request, RequestKind};
use crate::commands::secret::Secret;
use crate::commands::verify::Verified;
use crate::config::{Commands, Execute};
use crate::pipeline::{Output, Transform};
use crate::wire::envelope::{self, Refused};
use crate::wire::inbound::{self, Message, SCRIPTS_MAX, Unreadable};
use crate::wire::steers;

/// The message would be refused.
pub(super) const EXIT_DENIED: u8 = 1;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A message of the host as JSON, signed or not; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// A file with the policy, or a folder of files; may be repeated [default: as for run]
    #[arg(long, value_name = "DIR|FILE")]
    pipelines: Vec<PathBuf>,

    #[command(flatten)]
    state: StateOption,
}

impl Explain {
    pub(super) fn main(self) -> ExitCode {
        let mut loaded = match load_or_report(&self.pipelines) {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        self.state.apply(&mut loaded);
        let Some(commands) = loaded.commands else {
            return refuse(
                "no file with [receive] says what is allowed; name one with --pipelines",
            );
        };
        let shown = self.file.display();
        let line = match read(&self.file, commands.file.receive().max_line.bytes()) {
            Ok(line) => line,
            Err(error) => return refuse(format_args!("{shown}: {error}")),
        };
        let secret = match commands.file.verify.secret.as_ref().map(Secret::load).transpose() {
            Ok(secret) => secret.flatten(),
            Err(error) => return refuse(error),
        };
        match explain(&line, &commands, secret.as_ref()) {
            Ok(Explained { text, allowed }) => {
                unless(say(&text), if allowed { 0 } else { EXIT_DENIED })
            }
            Err(error) => {
                complain(&format!("{shown}: {error}"));
                ExitCode::from(EXIT_CONFIG)
            }
        }
    }
}

struct Explained {
    text: String,
    allowed: bool,
}

/// Why a message is not explained.
#[derive(Debug, Error)]
enum Unexplained {
    #[error("cannot read this file: {0}")]
    Unreadable(#[from] io::Error),
    /// It has more bytes than the agent takes.
    #[error("this is longer than {most} bytes, the most of max_line")]
    TooLong { most: u64 },
    #[error("this is no JSON object: {0}")]
    NotAnObject(serde_json::Error),
    #[error(transparent)]
    NotUtf8(#[from] Utf8Error),
    /// The agent would not answer it.
    #[error("this is no message that the host sends, and has no id to answer to")]
    NotOfTheHost,
}

/// Explains a message, which may be in an envelope.
fn explain(
    line: &[u8],
    commands: &Commands,
    secret: Option<&Secret>,
) -> Result<Explained, Unexplained> {
    let mut explained = Explained { text: String::new(), allowed: true };
    let payload = match serde_json::from_slice::<UncheckedEnvelope>(line) {
        Ok(UncheckedEnvelope { kind: Some(kind), payload: Some(payload) }) if kind == "signed" => {
            let (said, taken) =
                signature(line, secret, &commands.file.lock(&|name| std::env::var(name).ok()));
            explained.say("signature", &said);
            explained.allowed &= taken;
            payload
        }
        Ok(_) => {
            explained.say("signature", "none: this is taken for what was in an envelope");
            str::from_utf8(line)?.to_owned()
        }
        Err(error) => return Err(Unexplained::NotAnObject(error)),
    };
    let wanted = wanted(&payload);
    let (now, mut out) = (Instant::now(), Output::default());
    let verified = Verified { payload, sent_ms: 0, age: Duration::ZERO, received: now };
    Decode::default().apply(now, &verified, &mut out);
    let asked = out.drain().find(|asked| *asked != HostMessage::Understands);
    let asked = asked.ok_or(Unexplained::NotOfTheHost)?;

    let mut gate = Authorize::new(commands.policy());
    let mut out = Output::default();
    gate.apply(now, &asked, &mut out);
    let context = DecisionContext { wanted, gate: &gate, execute: &commands.file.execute };
    for enforced in out.drain() {
        match enforced {
            AuthorizedMessage::Command(authorization) => {
                explained.authorization(&authorization, &context, 0)
            }
            AuthorizedMessage::Scripts(authorizations) => {
                explained.say("scripts", &format!("{}", authorizations.len()));
                for (index, authorization) in authorizations.iter().enumerate() {
                    explained.text.push('\n');
                    explained.authorization(authorization, &context, index);
                }
            }
            AuthorizedMessage::KeepAlive(number) => {
                explained.say(
                    "answer",
                    &format!("a keep_alive of number {number}, at once; nothing is run"),
                );
            }
            AuthorizedMessage::KeepAliveAnswered(_) => {
                explained.say("answer", "none; nothing is run")
            }
            AuthorizedMessage::MetricsNow => explained.say("answer", "metrics; nothing is run"),
        }
    }
    Ok(explained)
}

/// The context of a decision.
struct DecisionContext<'a> {
    /// The timeout of the request, or of each script, in seconds.
    wanted: Vec<Option<Number>>,
    gate: &'a Authorize,
    execute: &'a Execute,
}

impl Explained {
    fn say(&mut self, what: &str, text: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.text, "{:12} {}", format!("{what}:"), plain(text));
    }

    fn authorization(
        &mut self,
        authorization: &Authorization,
        context: &DecisionContext<'_>,
        index: usize,
    ) {
        match authorization {
            Authorization::Malformed(refusal) => {
                self.say("id", &refusal.id);
                self.say("asks for", &refusal.action);
                self.say(
                    "decision",
                    &format!("refused before any rule is asked: {}", refusal.error),
                );
                self.allowed = false;
            }
            Authorization::Denied(denial) => {
                self.request(&denial.request);
                self.say("decision", &denial.why);
                self.allowed = false;
            }
            Authorization::Permitted(permit) => {
                self.request(permit.request());
                let rule = permit.rule();
                let quote = context.gate.quote(rule).unwrap_or_default();
                self.say("decision", &format!("allowed by {rule}: {quote}"));
                self.permit(permit, context, index);
            }
        }
    }

    fn request(&mut self, request: &Request) {
        self.say("id", &request.id);
        let arguments = request.kind.arguments().into_iter().map(|(argument, value)| {
            let value = match value {
                Value::Is(text) => format!("{text:?}"),
                Value::Everything => "everything".to_owned(),
            };
            format!("{} = {value}", argument.name())
        });
        let arguments: Vec<String> = arguments.collect();
        let mut asked = request.kind.name().to_owned();
        if let Some(name) = request.kind.alias_of() {
            asked = format!("{asked}, which is {name}");
        }
        if !arguments.is_empty() {
            asked = format!("{asked} {{ {} }}", arguments.join(", "));
        }
        self.say("asks for", &asked);
    }

    fn permit(&mut self, permit: &Permit, context: &DecisionContext<'_>, index: usize) {
        let (request, Execute { output, parallel, waiting, .. }) =
            (permit.request(), context.execute);
        let wanted = context.wanted.get(index).and_then(Option::as_ref);
        self.say("time", &time(request.timeout, wanted));
        self.say(
            "limits",
            &format!("{parallel} at once, {waiting} waiting; {output} of each stream kept"),
        );
        match plan(request) {
            Err(why) => self.say("would fail", &why.to_string()),
            Ok(programs) => programs.iter().for_each(|program| self.program(program, request)),
        }
    }

    fn program(&mut self, program: &DryRun, request: &Request) {
        if program.argv.is_empty() {
            return self.say("would do", &program.note);
        }
        self.say("would run", &format!("{:?}", program.argv));
        if let RequestKind::Script(script) = &request.kind {
            self.say("script", &format!("{:?}", script.content));
        }
        for (index, (name, value)) in program.environment.iter().enumerate() {
            let what = if index == 0 { "environment:" } else { "" };
            let _ = writeln!(self.text, "{what:12} {}={value:?}", name.escape_debug());
        }
        self.say("user", program.user.as_deref().unwrap_or("the agent's own"));
        self.say("directory", &program.directory.display().to_string());
        if !program.note.is_empty() {
            self.say("note", &program.note);
        }
    }
}

/// As far as an envelope is looked at without its key.
#[derive(Deserialize)]
struct UncheckedEnvelope {
    #[serde(rename = "type")]
    kind: Option<String>,
    payload: Option<String>,
}

/// What the signature is worth, and whether the agent would take the envelope. Its age is reported
/// and does not count: what is explained was mostly written down some time ago.
fn signature(line: &[u8], secret: Option<&Secret>, lock: &str) -> (String, bool) {
    let Some(secret) = secret else { return (format!("cannot be checked; {lock}"), true) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    match envelope::open(secret.expose(), line, now) {
        Ok(_) => ("right".to_owned(), true),
        Err(Refused::Stale) => {
            ("right, but too old by now, or ahead; the agent would drop it".to_owned(), true)
        }
        Err(Refused::Signature) => {
            ("wrong: it was not signed with this secret; the agent would drop it".to_owned(), false)
        }
        Err(refused) => (format!("the agent would drop it as {}", refused.reason()), false),
    }
}

/// The seconds that a message asks for: of a command, or of each script that is answered.
fn wanted(payload: &str) -> Vec<Option<Number>> {
    match inbound::parse(payload, SCRIPTS_MAX) {
        Ok(Message::Safe(command)) => vec![command.timeout],
        Ok(Message::Unsafe(command)) => vec![command.timeout],
        Ok(Message::PendingScripts(scripts)) => {
            let read = scripts.scripts.into_iter();
            let answered =
                read.filter(|script| !matches!(script, Err(Unreadable { id: None, .. })));
            let answered = answered.map(|script| script.ok()?.timeout_seconds);
            answered.chain(scripts.too_many.iter().map(|_| None)).collect()
        }
        _ => Vec::new(),
    }
}

/// The time that is granted, and why it is another than the one that was asked for.
fn time(granted: Duration, wanted: Option<&Number>) -> String {
    let shown = humantime::format_duration(granted);
    let Some(wanted) = wanted else { return format!("{shown}, because it asks for none") };
    let seconds = wanted.as_f64().unwrap_or_default();
    let asked = match Duration::try_from_secs_f64(seconds) {
        Ok(asked) => humantime::format_duration(asked).to_string(),
        Err(_) => format!("{wanted} s"),
    };
    match seconds.total_cmp(&granted.as_secs_f64()) {
        Ordering::Less => format!("{shown}: the least that is granted; it asked for {asked}"),
        Ordering::Equal => format!("{shown}, as it asked"),
        Ordering::Greater => format!("{shown}: the most that is granted; it asked for {asked}"),
    }
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, Unexplained> {
    let from: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(File::open(path)?),
    };
    let mut line = Vec::new();
    from.take(most + 1).read_to_end(&mut line)?;
    if line.len() as u64 > most {
        return Err(Unexplained::TooLong { most });
    }
    Ok(line)
}

/// A text without what a terminal would obey, and with what shows nothing.
fn plain(text: &str) -> String {
    let plain = |c: char| match steers(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(plain).collect()
}
