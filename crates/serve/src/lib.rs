//! The running agent: messages come in over channels, are answered in order, and leave; none is lost, none is answered twice. It knows the
//! host, the agent and the store; no command line, no socket, no concrete channel.
//!
//! ```no_run
//! use bespoke_serve::{Parts, Server};
//! # async fn run(host: bespoke_host::Host, agent: bespoke_agent::Agent, state: bespoke_state::State) -> bespoke_plugin_api::Result<()> {
//! let server = Server::start(Parts::new(host, agent, state)).await?;
//! // Each channel that the configuration names listens by now, or is about to; one that cannot says why.
//! for channel in server.status().channels {
//!     println!("{} {:?} {}", channel.name, channel.state, channel.error.unwrap_or_default());
//! }
//! server.drain(std::time::Duration::from_secs(30)).await;
//! # Ok(()) }
//! ```
//!
//! # From a message to its answer
//!
//! 1. A channel hands a message over (`Inbox::accept`). It is in the database before that returns, and a message of the same channel, chat
//!    and id is taken once, for thirty days. The text of messages waits there, not in memory.
//! 2. As many chats as `chats` says are answered at once, each one message at a time, in order; a chat that has had its turn goes behind
//!    the others.
//! 3. Hooks see the message (`AfterMessageReceive`). Then a command runs, or the agent has its turn in the conversation of that chat. Hooks
//!    see the answer (`BeforeMessageSend`). Answers of commands and words about what went wrong pass there, too; only that a hook has said
//!    no is told without asking hooks again.
//! 4. One transaction takes the message out of the inbox, stores what was said, and puts the answer into the outbox.
//! 5. The answer leaves, in order in its chat, as often as it takes; what cannot be sent is a dead letter in the end.
//!
//! # When the program dies
//!
//! What was said in an answer is in no file before step 4, so a program that is killed has answered, or has not begun: then the next one
//! begins again. Tools that had run already run again; a command that was under way does not, its user is told. What was shown of the
//! answer while it was written is edited from then on, so nobody reads it twice. A message whose answer was begun
//! `turn_attempts` times and never finished is given up, and its user is told.
//! A row that cannot be read is a dead letter, and keeps nobody waiting.
//!
//! What is lost is nothing that was taken; what may arrive twice, over channels that are not `idempotent`, is an answer whose sending was
//! cut short, and it is counted (`post` has the reasons).
//!
//! # Conversations
//!
//! A chat has one conversation until somebody writes `/new` there or it is deleted. `OnSessionCreate` comes before its first message,
//! once, whatever becomes of that; `OnSessionEnd` with `/new`. A program that stops ends none, because the next one goes on with it.
//! `OnGatewayStart` comes when channels are about to listen, which do not wait for its handlers; `OnGatewayShutdown` before a drain, which
//! leaves handlers of the start behind that have not ended.
//!
//! **Invariant:** nothing that was said is logged.

mod config;
mod status;

mod server;

mod core;
mod desk;
mod inbox;
mod lines;
mod news;
mod post;

mod commands;
mod pause;
mod show;
mod turn;

pub use config::ServeConfig;
pub use server::{Parts, Server};
pub use status::{ChannelState, ChannelStatus, Status};

/// JSON Schema of the section `[serve]`.
pub const CONFIG_SCHEMA: &str = include_str!("../config.schema.json");
