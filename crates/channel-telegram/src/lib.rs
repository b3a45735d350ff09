//! Telegram: the agent as a bot that people write to, in private and in groups. Portable: it has no network of its own, every
//! request goes through the host.
//!
//! `poll` asks Telegram for messages, or `webhook` is sent them; `receive` says which of them are for the agent, and `files` fetches
//! what came with them. `markdown` and `split` turn an answer into messages that Telegram takes, `send` sends and edits them, at the
//! pace of `pace`. `client` makes the requests and `failure` explains what was refused. Pure, and without time or network, are
//! `markdown`, `split`, `pace`, and the judgement of `receive`.
//!
//! # What is promised
//!
//! * A message is acknowledged to Telegram after [`Inbox::accept`](bespoke_plugin_api::Inbox::accept) took it, never before. One that
//!   comes again has the id that it had.
//! * An answer is sent at least once. Telegram knows no idempotency key, so a message may arrive twice when the program, or the
//!   connection, broke off between its arrival there and the answer here. While the program runs, a key is sent once: what was cut
//!   short goes on at the part that was not sent, also in the next instance of the plugin.
//! * Edited messages, posts of channels, reactions and whatever else Telegram has are passed over: an agent that has answered a
//!   message does not answer it again.
//! * The token stands in no error, no log and no fact.
//!
//! # Why an own client
//!
//! Requests go through the host, which teloxide and its like cannot do: they bring an HTTP client and tokio with them. Types alone
//! would come from frankenstein (0.52, without its clients). Reading updates with them makes a program of 338 kB one of 2 329 kB, with
//! 35 crates and three minutes of compilation on two cores, because every type of the Bot API comes along; this plugin reads eleven of
//! them. So the types stand in `api`, and an update that they do not fit is passed over instead of stopping all that are behind it.

mod albums;
mod api;
mod client;
mod config;
mod core;
mod failure;
mod files;
mod markdown;
mod pace;
mod plugin;
mod poll;
mod receive;
mod retry;
mod send;
mod sent;
mod split;
mod table;
mod webhook;

pub use config::{Config, Webhook};
pub use plugin::{BESPOKE_PLUGIN, Telegram};
