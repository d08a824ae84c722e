//! `infiniservice host` and its library, against a guest whose part is spoken here, and against the real
//! agent.

#[path = "host/peer.rs"]
mod peer;

#[path = "host/cli.rs"]
mod cli;
#[path = "host/library.rs"]
mod library;
