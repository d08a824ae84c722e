//! The other end: plays today's host on a guest's socket, for people and tests without one.
//!
//! It connects where QEMU listens (or listens for an agent itself), signs what it sends, keeps the guest's
//! clock, asks for and answers keep-alive, answers `request_pending_scripts` and cuts lines as today's
//! host does. This module does not print, does not judge what the guest says, and stores nothing.
//!
//! ```no_run
//! use infiniservice::commands::verify::secret::Secret;
//! use infiniservice::host::{Host, Settings, action};
//! use std::{path::Path, time::Duration};
//!
//! # async fn ask() -> Result<(), Box<dyn std::error::Error>> {
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
//! | payloads to sign | mpsc, [`ASKS_WAITING`] | whoever sends waits |
//! | lines to write | 64 KiB and one line | no payload is taken; what the host says by itself is left out |
//! | a line to the guest | [`LINE_BYTES_MAX`](crate::wire::LINE_BYTES_MAX) | refused |
//! | a line of the guest | [`GUEST_LINE_BYTES_MAX`] | dropped and told |
//! | bytes without a newline | [`GUEST_BUFFER_BYTES_MAX`] | the connection ends |
//! | messages nobody takes | [`INBOX_BYTES_MAX`] of lines | the oldest are lost and counted |
//! | answers waited for | [`WAITING_MAX`] | refused |

mod action;
mod clock;
mod handle;
mod inbox;
mod keep_alive;
mod link;
mod message;
pub mod payload;
mod reading;
mod shell;
mod socket;
mod uuid;

pub use action::{action, action_help, is_known_action, known_actions, meant_action};
pub use clock::Clock;
pub use handle::{ASKS_WAITING, GRACE, Host, HostError, Settings, Status};
pub use inbox::INBOX_BYTES_MAX;
pub use keep_alive::KeepAlive;
pub use link::{GUEST_BUFFER_BYTES_MAX, GUEST_LINE_BYTES_MAX, WAITING_MAX};
pub use message::{Kind, Message, Response, ScriptCompletion};
pub use payload::{RawCommand, Script};
pub use reading::{Interface, Mount, Process, Reading};
pub use shell::Shell;
pub use socket::Listener;
pub use uuid::uuid;
