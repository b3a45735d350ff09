//! The text turn: what a user says goes to a model with the session's history and the tools at hand, and the answer streams
//! back. It knows contracts and the host; no channel, no audio, no command line.
//!
//! ```no_run
//! use bespoke_agent::{Agent, AgentConfig, Session, TurnEvent};
//! use bespoke_plugin_api::CallCx;
//!
//! # async fn run(host: bespoke_host::Host) -> bespoke_plugin_api::Result<()> {
//! let agent = Agent::new(host, AgentConfig::default())?;
//! let mut session = Session::new("demo");
//! let turn = agent.turn(&CallCx::new(), &mut session, "What time is it?", |event| {
//!     if let TurnEvent::Text(text) = event { print!("{text}") }
//! }).await?;
//! assert_eq!(session.messages().last().map(|m| &m.text), Some(&turn.text));
//! agent.end(&CallCx::new(), session).await;
//! # Ok(()) }
//! ```

mod agent;
mod ask;
mod config;
mod led;
mod limit;
mod session;
mod tools;
mod turn;

pub use agent::{Agent, Turn, TurnEvent};
pub use config::AgentConfig;
pub use session::{Journal, Session};

/// JSON Schema of the section `[agent]`.
pub const CONFIG_SCHEMA: &str = include_str!("../config.schema.json");
