//! Host calls that answer with a head and then with items: which there are, and how many items may be on their way.
//!
//! ```text
//! guest: HOST_CALL id            CREDIT id n …             CANCEL id, or nothing when it has ended
//! host:       HOST_REPLY id (head)   EVENT id (item) …   END id
//! ```
//!
//! A HOST_REPLY that is an error is the end of it. Else the host sends items while it has credit: [`Streamed::WINDOW`] at first,
//! and what the guest gives it as it takes them. END needs none.

use bespoke_plugin_api::{Event, HttpRequest};
use bytes::Bytes;

use crate::{Body, EVENT_WINDOW, HttpHead, method};

/// Most bytes of one piece of an HTTP body on the wire. A longer one is split.
pub const BODY_PIECE: usize = 64 << 10;

/// Pieces of an HTTP body that may be on their way: 1 MiB at most.
pub const BODY_WINDOW: u32 = 16;

/// A kind of host call that answers with a head and then with items. Both ends are written once, over this.
pub trait Streamed: 'static {
    /// Its name.
    const METHOD: &'static str;
    /// Items that may be on their way, at least two.
    const WINDOW: u32;
    /// What the guest sends.
    type Args: Body;
    /// What is there first.
    type Head: Body;
    /// What follows.
    type Item: Body;
}

/// `HostApi::subscribe`: a prefix of topics, and the events that match it.
#[derive(Debug)]
pub enum Subscribe {}

impl Streamed for Subscribe {
    const METHOD: &'static str = method::HOST_SUBSCRIBE;
    const WINDOW: u32 = EVENT_WINDOW;
    type Args = String;
    type Head = ();
    type Item = Event;
}

/// `HostApi::http`: a request, and the head and the body of its answer. Pieces are not empty and not longer than [`BODY_PIECE`].
#[derive(Debug)]
pub enum Http {}

impl Streamed for Http {
    const METHOD: &'static str = method::HOST_HTTP;
    const WINDOW: u32 = BODY_WINDOW;
    type Args = HttpRequest;
    type Head = HttpHead;
    type Item = Bytes;
}
