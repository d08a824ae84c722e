//! The host that talks: the library's own, with its connection on a thread of its own. The plain socket of
//! [`host`](super::host) is for cases that must stop reading, or read byte by byte.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use infiniservice::host::Secret;
use infiniservice::host::{
    Host, HostError, Kind, Message, RawCommand, Response, Settings, Shell, action,
};
use tokio::runtime::{Builder, Runtime};

/// The secret of every guest that takes commands.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// How long a host waits for the guest's first word, which tells it the guest's clock.
const FIRST_WORD: Duration = Duration::from_secs(60);

/// A connected host that signs.
pub struct Talk {
    runtime: Runtime,
    pub host: Host,
}

impl Talk {
    /// Connects, and waits for the guest's first word.
    pub fn connect(socket: &Path) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let secret = Secret::new(SECRET.as_bytes().to_vec());
        let host = runtime
            .block_on(Host::connect(socket, Settings { secret, keep_alive: None }))
            .expect("QEMU listens on the port's socket");
        let talk = Self { runtime, host };
        talk.wait(talk.host.clock_known(FIRST_WORD)).expect("the agent greets");
        talk
    }

    /// Waits here for what is done there.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Asks for an action by its name, and gives the answer.
    pub fn ask(&self, name: &str, parameters: &[(&str, &str)], limit: Duration) -> Response {
        self.try_ask(name, parameters, limit).unwrap_or_else(|why| panic!("{name}: {why}"))
    }

    /// The same where the answer may not come.
    pub fn try_ask(
        &self,
        name: &str,
        parameters: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Response, HostError> {
        let parameters: Vec<(String, String)> =
            parameters.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let action = action(name, &parameters).expect("the action is known");
        self.wait(self.host.command(&action, limit))
    }

    /// Takes messages until `is_last` says so of one, which it gives too.
    ///
    /// # Panics
    /// Where that takes longer than `limit`.
    pub fn hear(&self, limit: Duration, mut is_last: impl FnMut(&Message) -> bool) -> Vec<Message> {
        let mut heard = Vec::new();
        let hear = async {
            loop {
                let message = self.host.next().await.expect("the port stays");
                let ends = is_last(&message);
                heard.push(message);
                if ends {
                    return;
                }
            }
        };
        let done = self.wait(async { tokio::time::timeout(limit, hear).await });
        assert!(done.is_ok(), "not heard within {limit:?}: {:?}", kinds(&heard));
        heard
    }

    /// Takes all that is said until the port's other end closes.
    pub fn hear_to_the_end(self) -> Vec<Message> {
        let mut heard = Vec::new();
        let hear = async {
            while let Ok(message) = self.host.next().await {
                heard.push(message);
            }
        };
        let done = self.wait(async { tokio::time::timeout(FIRST_WORD, hear).await });
        assert!(done.is_ok(), "the port was not closed: {:?}", kinds(&heard));
        heard
    }

    /// Has a shell of the guest run a line.
    pub fn exec(&self, line: &str, limit: Duration) -> Response {
        self.wait(self.host.exec(&raw(line), limit)).unwrap_or_else(|why| panic!("{line}: {why}"))
    }
}

/// A line for the guest's `/bin/sh`.
pub fn raw(line: &str) -> RawCommand {
    RawCommand {
        raw_command: line.to_owned(),
        shell: Some(Shell::Sh),
        working_dir: None,
        env_vars: std::collections::BTreeMap::new(),
        run_as: None,
    }
}

fn kinds(messages: &[Message]) -> Vec<&Kind> {
    messages.iter().map(|message| &message.kind).collect()
}
