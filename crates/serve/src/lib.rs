//! The running agent: messages come in over channels, are answered in order, and leave; none is lost, none is answered twice. It knows the
//! host, the agent and the store; no command line, no socket, no concrete channel.

mod config;
mod server;
mod status;

pub use bespoke_state::DeadLetter;
pub use config::ServeConfig;
pub use server::{Parts, Server};
pub use status::{ChannelState, ChannelStatus, Status};

/// JSON Schema of the section `[serve]`.
pub const CONFIG_SCHEMA: &str = include_str!("../config.schema.json");
