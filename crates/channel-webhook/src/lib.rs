//! A channel for a service of one's own: its messages come in by POST, answers go out by POST, both signed with one key.
//!
//! ```toml
//! [plugins.webhook]
//! url = "https://example.com/answers"
//! ```
//!
//! In: `POST /hooks/webhook/messages` at the gateway, with the headers that `bespoke-signed` describes and a body of
//! `{"chat","sender","id","text"}`; 202 says that the message is durably taken, 200 that it was before, 503 that it has to be sent again.
//! Out: the same headers, `Idempotency-Key`, and a body of `{"chat","text","idempotency_key","reply_to"}`; any 2xx is a delivery. Files
//! go with both as `attachments`, their bytes in base64. docs/webhook.md has it all, with an example.
//!
//! **Invariant:** nothing of a body is read before its signature fits. **Invariant:** the key is in no log, error or fact.

mod config;
mod plugin;
mod receive;
mod send;
mod wire;

pub use crate::{config::Config, plugin::Webhook};

bespoke_plugin_api::plugin!("webhook", Webhook);
