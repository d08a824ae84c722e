//! The host client: plays the Infinibay host on a guest's socket, for people and tests without one.
//!
//! It connects to QEMU's socket (or listens for an agent itself), signs its requests, tracks the guest's clock, sends and
//! answers keep-alives, answers `request_pending_scripts` and splits lines as the Infinibay host does. The content of
//! messages is not trusted, and nothing is stored.
//!
//! ```no_run
//! use infiniservice::host::{Host, Secret, Settings, action};
//! use std::{path::Path, time::Duration};
//!
//! # async fn info() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = Secret::load(&"file:/run/web-1.secret".parse()?)?;
//! let settings = Settings { secret, keep_alive: None };
//! let host = Host::connect(Path::new("/run/web-1.socket"), settings).await?;
//! let answer = host.command(&action("SystemInfo", &[])?, Duration::from_secs(30)).await?;
//! println!("{}", answer.data["hostname"]);
//! # Ok(())
//! # }
//! ```
//!
//! # Every bound
//! | what | bound | when full |
//! |---|---|---|
//! | payloads to sign | mpsc, [`ASKS_WAITING`] | the sender waits |
//! | lines to write | 64 KiB and one line | no payload is accepted; automatic messages are left out |
//! | a line to the guest | [`LINE_BYTES_MAX`](crate::wire::LINE_BYTES_MAX) | refused |
//! | a line of the guest | [`GUEST_LINE_BYTES_MAX`] | dropped and reported |
//! | bytes without a newline | [`GUEST_BUFFER_BYTES_MAX`] | the connection ends |
//! | unread messages | [`INBOX_BYTES_MAX`] of lines | the oldest are dropped and counted |
//! | pending requests | [`WAITING_MAX`] | refused |

mod socket;
mod error;
mod handle;
mod settings;
pub mod payload;
mod action;
mod shell;
mod uuid;
mod link;
mod clock;
mod keep_alive;
mod message;
mod inbox;
mod reading;

pub use action::{ActionError, action, action_help, is_known_action, known_actions, meant_action};
pub use clock::Clock;
pub use error::{Gone, HostError, SocketError};
pub use handle::{ASKS_WAITING, GRACE, Host};
pub use inbox::INBOX_BYTES_MAX;
pub use keep_alive::KeepAlive;
pub use link::{GUEST_BUFFER_BYTES_MAX, GUEST_LINE_BYTES_MAX, WAITING_MAX};
pub use message::{Kind, Message, Response, ScriptCompletion};
pub use payload::{RawCommand, Script};
pub use reading::{Interface, Mount, Process, Reading};
pub use settings::{Settings, Status};
pub use shell::Shell;
pub use socket::Listener;
pub use uuid::{connection_number, uuid};

pub use crate::commands::secret::{Secret, SecretSource};
