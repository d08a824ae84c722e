//! systemd's manager over D-Bus (org.freedesktop.systemd1(5)). Does not decide what is reported of a unit.
//!
//! # Why a connection for each request
//! A connection is a task, buffers and a match in the bus; services are asked for seldom. An agent at
//! rest holds none, and a bus that was restarted is no case of its own.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;

use futures::StreamExt;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, Variant, connection};

const DESTINATION: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// Signals that wait while a job is watched; more than the jobs one operation starts at once.
const SIGNALS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// What to do with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceOperation {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start it.
    Restart,
    /// Start it at boot.
    Enable,
    /// Do not start it at boot.
    Disable,
    /// Tell how it is.
    Status,
}

impl ServiceOperation {
    /// Its name in rules and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Status => "status",
        }
    }
}

/// Whether systemd runs this machine: sd_booted(3).
pub(crate) fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// One unit, as `ListUnits` reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::commands) struct Unit {
    /// With its suffix.
    pub name: String,
    /// `loaded`, `not-found`, `masked`, `error`, ….
    pub load: String,
    /// `active`, `reloading`, `inactive`, `failed`, `activating`, `deactivating`.
    pub active: String,
    /// What active means for its kind, such as `running` or `exited`.
    pub sub: String,
    /// For people.
    pub description: String,
}

/// One unit file, as `ListUnitFiles` reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::commands) struct UnitFile {
    /// File name.
    pub name: String,
    /// `enabled`, `disabled`, `static`, `masked`, ….
    pub state: String,
}

/// Properties of a unit by name (org.freedesktop.systemd1(5)), each as its texts.
pub(in crate::commands) type Properties = HashMap<String, Vec<String>>;

/// Why systemd did not do, or tell, what it was asked for: the end of a sentence for the reply.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SystemdError {
    /// systemd does not run this machine.
    #[error(
        "this machine does not run systemd, and services of other init systems are not known here"
    )]
    NotRunning,
    /// The bus cannot be reached.
    #[error("cannot reach the system bus: {0}")]
    Bus(String),
    /// The bus does not answer, and `systemctl` is missing.
    #[error("{0}, and there is no systemctl")]
    NoWay(Box<SystemdError>),
    /// The bus does not answer.
    #[error("the system bus did not answer in time")]
    BusLate,
    /// The bus ended the connection.
    #[error("the system bus went away before the job ended")]
    BusGone,
    /// systemd does not answer.
    #[error("systemd did not answer in time")]
    Late,
    /// systemd refuses: its words.
    #[error("{0}")]
    Refused(String),
    /// The answer of a method has another type.
    #[error("{0}: {1}")]
    Type(String, String),
    /// A property has another type.
    #[error("systemd answered with another type")]
    OtherType,
    /// No such unit.
    #[error("systemd does not know {0}")]
    UnknownUnit(String),
    /// No such service.
    #[error("there is no service {0}; list the services")]
    NoService(String),
    /// More units than can be checked.
    #[error("{0} pulls in more units than can be held against the rules")]
    TooManyUnits(String),
    /// The job of this unit has not ended.
    #[error("{0} is still at it after the time-out; ask for its status later")]
    JobRuns(String),
    /// The unit failed.
    #[error("{0} failed; its log says why (journalctl -u {0})")]
    UnitFailed(String),
    /// The unit took too long.
    #[error("{0} did not get there in the time its unit file allows")]
    UnitLate(String),
    /// Another job replaced the one of this unit.
    #[error("the job for {0} was cancelled by another one")]
    JobCancelled(String),
    /// A unit that this one needs failed.
    #[error("something that {0} needs failed")]
    DependencyFailed(String),
    /// The job of this unit has a result of another name.
    #[error("the job for {0} ended as {1:?}")]
    JobEnded(String, String),
    /// The processes are not in their scope yet.
    #[error("systemd did not take it over in time")]
    ScopeLate,
    /// `systemctl` could not be run, for this reason.
    #[error("{0}")]
    NotRun(String),
    /// `systemctl` failed and did not say why.
    #[error("systemctl ended with code {0}")]
    Systemctl(i32),
    /// `systemctl` took too long.
    #[error("systemctl did not finish in time")]
    SystemctlLate,
    /// `systemctl` was ended.
    #[error("systemctl was ended")]
    SystemctlEnded,
}

/// Replies take texts.
impl From<SystemdError> for String {
    fn from(error: SystemdError) -> Self {
        error.to_string()
    }
}

impl SystemdError {
    fn refused(error: zbus::Error) -> Self {
        Self::Refused(reason(&error))
    }
}

/// A connection to systemd, closed when it is dropped.
pub(in crate::commands) struct Bus {
    connection: Connection,
    deadline: Instant,
}

/// A row of `ListUnits`: name, description, load, active, sub, followed unit, path, job, job's kind and path.
type UnitRow =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

impl Bus {
    /// Connects to the system bus.
    ///
    /// # Errors
    /// The end of a sentence: no bus, or no answer by the deadline.
    pub(in crate::commands) async fn connect(deadline: Instant) -> Result<Self, SystemdError> {
        Self::build(connection::Builder::system(), deadline).await
    }

    async fn build(
        builder: connection::Builder<'_>,
        deadline: Instant,
    ) -> Result<Self, SystemdError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let connection = timeout_at(deadline, builder.method_timeout(left).build())
            .await
            .map_err(|_| SystemdError::BusLate)?
            .map_err(|error| SystemdError::Bus(reason(&error)))?;
        Ok(Self { connection, deadline })
    }

    /// The units whose names match one of the patterns, in one of the states; none means any.
    pub(in crate::commands) async fn units(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> Result<Vec<Unit>, SystemdError> {
        let rows: Vec<UnitRow> = self.ask("ListUnitsByPatterns", &(states, patterns)).await?;
        Ok(rows.into_iter().map(unit).collect())
    }

    /// One unit, loaded for the question where it is not.
    pub(in crate::commands) async fn unit(&self, name: &str) -> Result<Unit, SystemdError> {
        let rows: Vec<UnitRow> = self.ask("ListUnitsByNames", &(&[name][..],)).await?;
        let unit = rows.into_iter().map(unit).next();
        unit.ok_or_else(|| SystemdError::UnknownUnit(name.to_owned()))
    }

    /// What systemd knows of one unit, loaded for the question where it is not: those of its properties that are a
    /// text or a list of texts.
    pub(in crate::commands) async fn properties(
        &self,
        name: &str,
    ) -> Result<Properties, SystemdError> {
        let path: OwnedObjectPath = self.ask("LoadUnit", &(name,)).await?;
        let message = self.within(self.connection.call_method(
            Some(DESTINATION),
            path.as_str(),
            Some("org.freedesktop.DBus.Properties"),
            "GetAll",
            &("org.freedesktop.systemd1.Unit",),
        ));
        let message = message.await?;
        let all: HashMap<String, zbus::OwnedVariant> =
            message.body().deserialize().map_err(SystemdError::refused)?;
        let texts = all.into_iter().filter_map(|(name, value)| {
            let texts = match String::try_from(value.clone()) {
                Ok(text) => vec![text],
                Err(_) => Vec::<String>::try_from(value).ok()?,
            };
            Some((name, texts))
        });
        Ok(texts.collect())
    }

    /// The files of all services.
    pub(in crate::commands) async fn unit_files(&self) -> Result<Vec<UnitFile>, SystemdError> {
        let none: &[&str] = &[];
        let rows: Vec<(String, String)> =
            self.ask("ListUnitFilesByPatterns", &(none, &["*.service"][..])).await?;
        Ok(rows.into_iter().map(unit_file).collect())
    }

    /// The state of one unit's file; empty for a unit that has none.
    pub(in crate::commands) async fn file_state(&self, name: &str) -> String {
        self.ask("GetUnitFileState", &(name,)).await.unwrap_or_default()
    }

    /// Does one operation, and waits until systemd says that it is done.
    pub(in crate::commands) async fn control(
        &self,
        name: &str,
        operation: ServiceOperation,
    ) -> Result<(), SystemdError> {
        let (runtime, force) = (false, false);
        match operation {
            ServiceOperation::Start => self.job("StartUnit", name).await,
            ServiceOperation::Stop => self.job("StopUnit", name).await,
            ServiceOperation::Restart => self.job("RestartUnit", name).await,
            ServiceOperation::Enable => {
                self.call("EnableUnitFiles", &(&[name][..], runtime, force)).await?;
                self.call("Reload", &()).await.map(|_| ())
            }
            ServiceOperation::Disable => {
                self.call("DisableUnitFiles", &(&[name][..], runtime)).await?;
                self.call("Reload", &()).await.map(|_| ())
            }
            ServiceOperation::Status => Ok(()),
        }
    }

    /// Starts a job and waits for the signal that ends it.
    async fn job(&self, method: &str, name: &str) -> Result<(), SystemdError> {
        // Listening first: a job can end before its path is known here.
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .interface(MANAGER)
            .member("JobRemoved")
            .path(PATH)
            .build()
            .map_err(SystemdError::refused)?;
        let mut removed = self
            .within(MessageStream::for_match_rule(rule, &self.connection, Some(SIGNALS)))
            .await?;
        self.call("Subscribe", &()).await?;
        let job: OwnedObjectPath = self.ask(method, &(name, "replace")).await?;
        let ended = async {
            while let Some(signal) = removed.next().await {
                let Ok(signal) = signal else { continue };
                let body = signal.body();
                let row: zbus::Result<(u32, OwnedObjectPath, String, String)> = body.deserialize();
                if let Ok((_, path, _, result)) = row
                    && path == job
                {
                    return finished(name, &result);
                }
            }
            Err(SystemdError::BusGone)
        };
        timeout_at(self.deadline, ended)
            .await
            .unwrap_or_else(|_| Err(SystemdError::JobRuns(name.to_owned())))
    }

    /// Whether the clock is synchronised: `NTPSynchronized` of org.freedesktop.timedate1(5), which is
    /// what the kernel says (adjtimex(2)), by any time service.
    pub(in crate::commands) async fn clock_is_synchronised(&self) -> Result<bool, SystemdError> {
        let message = self.within(self.connection.call_method(
            Some("org.freedesktop.timedate1"),
            "/org/freedesktop/timedate1",
            Some("org.freedesktop.DBus.Properties"),
            "Get",
            &("org.freedesktop.timedate1", "NTPSynchronized"),
        ));
        property(&message.await?)
    }

    /// How long the boot took after the kernel had started, in microseconds: `FinishTimestampMonotonic`.
    /// 0 while it is not finished.
    pub(in crate::commands) async fn boot_took(&self) -> Result<u64, SystemdError> {
        let message = self.within(self.connection.call_method(
            Some(DESTINATION),
            PATH,
            Some("org.freedesktop.DBus.Properties"),
            "Get",
            &(MANAGER, "FinishTimestampMonotonic"),
        ));
        property(&message.await?)
    }

    async fn ask<B, T>(&self, method: &str, body: &B) -> Result<T, SystemdError>
    where
        B: serde::Serialize + zbus::DynamicType,
        T: DeserializeOwned + zbus::Type,
    {
        let message = self.call(method, body).await?;
        message
            .body()
            .deserialize::<T>()
            .map_err(|error| SystemdError::Type(method.to_owned(), reason(&error)))
    }

    async fn call<B>(&self, method: &str, body: &B) -> Result<Message, SystemdError>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.within(self.connection.call_method(
            Some(DESTINATION),
            PATH,
            Some(MANAGER),
            method,
            body,
        ))
        .await
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = zbus::Result<T>>,
    ) -> Result<T, SystemdError> {
        match timeout_at(self.deadline, work).await {
            Ok(answer) => answer.map_err(SystemdError::refused),
            Err(_) => Err(SystemdError::Late),
        }
    }
}

/// Has systemd move processes into a scope of its own, which goes when the last of them has ended. It has
/// begun when this comes back: the processes are moved a little later.
///
/// # Errors
/// No bus, or systemd refuses.
pub(in crate::commands) async fn make_scope(
    name: &str,
    pids: &[u32],
    deadline: Instant,
) -> Result<(), SystemdError> {
    let none: &[(&str, &[(&str, Variant<'_>)])] = &[];
    let properties = [
        ("Description", Variant::from("Left running by a command of the host")),
        ("PIDs", Variant::from(pids)),
        ("CollectMode", Variant::from("inactive-or-failed")),
    ];
    let bus = Bus::connect(deadline).await?;
    bus.call("StartTransientUnit", &(name, "fail", &properties[..], none)).await.map(|_| ())
}

fn unit((name, description, load, active, sub, ..): UnitRow) -> Unit {
    let text = |text: String| text.replace('\0', "");
    Unit { name, load, active, sub, description: text(description) }
}

fn unit_file((path, state): (String, String)) -> UnitFile {
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    UnitFile { name, state }
}

/// What the result of a job means: the words of `JobRemoved` in org.freedesktop.systemd1(5).
fn finished(name: &str, result: &str) -> Result<(), SystemdError> {
    let name = name.to_owned();
    Err(match result {
        "done" | "skipped" => return Ok(()),
        "failed" => SystemdError::UnitFailed(name),
        "timeout" => SystemdError::UnitLate(name),
        "canceled" => SystemdError::JobCancelled(name),
        "dependency" => SystemdError::DependencyFailed(name),
        other => SystemdError::JobEnded(name, other.to_owned()),
    })
}

fn property<T: TryFrom<zbus::OwnedVariant>>(message: &Message) -> Result<T, SystemdError> {
    let value: zbus::OwnedVariant = message.body().deserialize().map_err(SystemdError::refused)?;
    T::try_from(value).map_err(|_| SystemdError::OtherType)
}

/// What the other side said, without the name of the error.
fn reason(error: &zbus::Error) -> String {
    match error {
        zbus::Error::MethodError(name, None, _) => name.as_str().to_owned(),
        zbus::Error::MethodError(_, Some(text), _) => text.clone(),
        // The errors that D-Bus itself names print with that name in front.
        other => {
            let text = other.to_string();
            match text.split_once(": ") {
                Some((name, said)) if name.starts_with("org.freedesktop.DBus.Error.") => {
                    said.to_owned()
                }
                _ => text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;
    use zbus::Type as _;

    /// A real bus of its own, on which there is no systemd.
    struct Daemon {
        process: Child,
        address: String,
    }

    impl Daemon {
        fn start() -> Option<Self> {
            let mut process = Command::new("dbus-daemon")
                .args(["--session", "--nofork", "--nopidfile", "--print-address=1"])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .ok()?;
            let mut address = String::new();
            BufReader::new(process.stdout.take()?).read_line(&mut address).ok()?;
            Some(Self { process, address: address.trim().to_owned() })
        }
    }

    impl Drop for Daemon {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn a_bus_without_systemd_says_so_for_every_question() {
        let Some(daemon) = Daemon::start() else {
            eprintln!("skipped: there is no dbus-daemon");
            return;
        };
        let builder = connection::Builder::address(daemon.address.as_str());
        let bus = Bus::build(builder, soon()).await.unwrap();
        let answers = [
            bus.units(&[], &["*.service"]).await.unwrap_err(),
            bus.unit_files().await.unwrap_err(),
            bus.unit("cron.service").await.unwrap_err(),
            bus.control("cron.service", ServiceOperation::Start).await.unwrap_err(),
            bus.control("cron.service", ServiceOperation::Enable).await.unwrap_err(),
            bus.boot_took().await.unwrap_err(),
        ];
        for answer in answers.map(|answer| answer.to_string()) {
            // The session bus may try to start it, and tell how that failed.
            assert!(answer.contains("systemd1"), "{answer}");
            assert!(!answer.contains("DBus.Error"), "{answer}");
        }
        assert_eq!(bus.file_state("cron.service").await, "");
    }

    #[tokio::test]
    async fn a_bus_that_is_not_there_or_does_not_speak_is_told_by_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}/none", folder.path().display());
        let Err(error) = Bus::build(connection::Builder::address(address.as_str()), soon()).await
        else {
            unreachable!("nobody listens there")
        };
        assert!(matches!(error, SystemdError::Bus(_)), "{error}");

        let silent = folder.path().join("silent");
        let _listener = std::os::unix::net::UnixListener::bind(&silent).unwrap();
        let address = format!("unix:path={}", silent.display());
        let near = Instant::now() + Duration::from_millis(50);
        let built = Bus::build(connection::Builder::address(address.as_str()), near).await;
        assert!(matches!(built.err(), Some(SystemdError::BusLate)));
    }

    #[test]
    fn the_rows_have_the_types_of_the_manual_page() {
        // org.freedesktop.systemd1(5): ListUnits, ListUnitFiles, JobRemoved.
        assert_eq!(Vec::<UnitRow>::SIGNATURE.to_string(), "a(ssssssouso)");
        assert_eq!(Vec::<(String, String)>::SIGNATURE.to_string(), "a(ss)");
        let removed = <(u32, OwnedObjectPath, String, String)>::SIGNATURE;
        assert_eq!(removed.to_string(), "(uoss)");
    }

    #[test]
    fn every_end_of_a_job_is_told_apart_and_only_one_is_good() {
        assert!(finished("x.service", "done").is_ok());
        for bad in ["failed", "timeout", "canceled", "dependency", "collected"] {
            assert!(finished("x.service", bad).is_err(), "{bad}");
        }
        let file = unit_file(("/lib/systemd/system/cron.service".into(), "enabled".into()));
        assert_eq!(file.name, "cron.service");
    }
}
