//! The host's side of the wire: turns frames back into the contract traits. No I/O and no threads: a tier's driver has those.
//!
//! A tier gives a [`Link`] that sends bytes and moves what comes back into a [`Receiver`]; [`Proxy::start`] gives the same
//! [`Instance`](bespoke_plugin_api::Instance) that a compiled-in plugin gives:
//!
//! ```text
//! let (proxy, receiver) = Proxy::new(host, link);     // the driver keeps the receiver and feeds it
//! let instance = proxy.start(StartOptions::new("clock", config)).await?;
//! ```
//!
//! A guest in memory, which is stepped and not talked to over a pipe, is driven by [`Inline`]: its tier gives it a [`Step`].
//!
//! What differs from a compiled-in plugin, because messages take time:
//!
//! * `open` of a stream cannot wait: what it would have refused comes as the first item of the stream.
//! * An error of `push` comes late, as an item or at the next push; the stream is over then.
//! * A stream takes [`INPUT_WINDOW`](bespoke_protocol::INPUT_WINDOW) bytes of input beyond what the plugin has taken; after
//!   that `poll_ready` waits and `push` is an error. It is given at most
//!   [`EVENT_WINDOW`](bespoke_protocol::EVENT_WINDOW) events ahead of its reader.
//! * Dropping the future of a call cancels it, dropping a stream resets it: at once, without waiting.
//! * `health` and `facts` are what the plugin said last; it says so with the reply that changed them.
//!
//! When the [`Receiver`] is dropped or [`lost`](Receiver::lost), every call and stream ends with `PLUGIN_CRASHED`, retryable.
//!
//! **Invariant:** nothing that a guest sends panics the host, and no lock is held while a [`Link`] or host code runs.

mod bell;
mod call;
mod contracts;
mod inline;
mod inner;
mod life;
mod link;
mod mailbox;
mod receiver;
mod server;
mod start;
mod stream;

pub use crate::{
    inline::{Inline, Step},
    link::Link,
    mailbox::{MOST_WAITING, Mailbox},
    receiver::Receiver,
    start::{Proxy, StartOptions},
};
