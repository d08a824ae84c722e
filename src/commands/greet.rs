//! What is said to a host that has come, before it asks: who speaks, and whether scripts are pending.
//! Does not know when metrics go.

use futures::{Stream, stream};
use tokio::sync::watch;

use super::reply::Told;
use crate::pipeline::{Fault, Source};
use crate::wire::outbound::{AgentEvent, Severity};

/// Greets each host once.
///
/// # Why first
/// The host learns this machine's clock from the first line with a time in it, and stamps what it
/// signs with that; until then a machine whose clock differs would refuse everything.
pub struct Greet {
    vm_id: Option<String>,
    /// Counts the hosts that have come.
    hosts: watch::Receiver<u64>,
    greeted: u64,
    /// What is left to say to the host that has come, last first.
    next: Vec<Told>,
}

impl Greet {
    /// Greets whenever `hosts` has counted another.
    pub fn new(vm_id: Option<String>, hosts: watch::Receiver<u64>) -> Self {
        Self { vm_id, hosts, greeted: 0, next: Vec::new() }
    }

    async fn say(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.next.pop() {
                return Some(told);
            }
            let greeted = self.greeted;
            // The end of the port is the end of the greetings.
            let hosts = *self.hosts.wait_for(|hosts| *hosts != greeted).await.ok()?;
            self.greeted = hosts;
            let vm_id = self.vm_id.clone().unwrap_or_default();
            self.next = vec![Told::ScriptsPlease { vm_id }, Told::Event(started())];
        }
    }
}

impl Source for Greet {
    type Out = Told;

    fn detail(&self) -> String {
        "who speaks, and a question for pending scripts".to_owned()
    }

    fn open(&mut self) -> impl Stream<Item = Result<Told, Fault>> + Send + '_ {
        stream::unfold(self, |this| async move { this.say().await.map(|told| (Ok(told), this)) })
    }
}

fn started() -> AgentEvent {
    AgentEvent {
        severity: Severity::Info,
        source: "infiniservice",
        message: format!("agent {} speaks", env!("CARGO_PKG_VERSION")),
        execution_id: None,
        context: None,
    }
}
