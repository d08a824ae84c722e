//! The ports that the files name: one writer each, however many pipelines share it. Opens nothing.

use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use tokio_util::sync::CancellationToken;

use crate::model::Frame;
use crate::pipeline::{Fault, Health, Task};
use crate::port::{End, Port, Target, check};

/// The ports, each made when it is first named.
pub struct Ports {
    /// Takes the place of every port that a file names.
    instead: Option<Target>,
    health: Health,
    closing: CancellationToken,
    /// Whether a device that is there must be the right kind of thing.
    checks: bool,
    ports: Vec<(Target, Port)>,
}

impl Ports {
    /// No port yet. `instead` stands for every port that a file names; `closing` ends them all once
    /// their lanes have ended.
    pub fn new(instead: Option<Target>, health: &Health, closing: &CancellationToken) -> Self {
        let (health, closing) = (health.clone(), closing.clone());
        Self { instead, health, closing, checks: true, ports: Vec::new() }
    }

    /// Does not look at the devices of this machine: for a picture.
    pub fn unchecked(mut self) -> Self {
        self.checks = false;
        self
    }

    /// Whether it is for a picture: nothing of this machine is looked at or made.
    pub(super) fn is_picture(&self) -> bool {
        !self.checks
    }

    /// Which port is meant by the name in a file.
    pub fn resolve(&self, name: &str) -> Result<Target, String> {
        let target = match &self.instead {
            Some(target) => target.clone(),
            None => name.parse().map_err(|error| format!("cannot use the port: {error}"))?,
        };
        if self.checks {
            check(&target)?;
        }
        Ok(target)
    }

    /// Adds a lane of telemetry to the port at `target`.
    pub fn telemetry(&mut self, target: Target, lane: impl Stream<Item = Frame> + Send + 'static) {
        self.at(target).telemetry(lane);
    }

    /// The port at `target`.
    pub fn at(&mut self, target: Target) -> &mut Port {
        let known = self.ports.iter().position(|(known, _)| *known == target);
        let index = known.unwrap_or_else(|| {
            let node = self.health.node(format!("port {target}"));
            let port = Port::new(target.clone(), node, self.closing.clone());
            self.ports.push((target, port));
            self.ports.len() - 1
        });
        &mut self.ports[index].1
    }

    /// Whether no pipeline writes to a port.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// The task of each port.
    pub fn into_tasks(self) -> Vec<Box<dyn Task>> {
        self.ports.into_iter().map(|(_, port)| Box::new(port) as Box<dyn Task>).collect()
    }
}

impl Task for Port {
    fn run(&mut self) -> BoxFuture<'_, Result<(), Fault>> {
        let over = || Fault::last("nobody will ever read it again");
        Port::run(self)
            .map(move |summary| if summary.end == End::Over { Err(over()) } else { Ok(()) })
            .boxed()
    }

    fn faulted(&mut self) -> String {
        let node = self.node();
        node.faulted();
        node.name().to_owned()
    }
}
