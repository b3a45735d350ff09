//! Frames as lines of JSON-RPC, for a pipe: one codec for both ends. No I/O, and no knowledge of what stands inside a head.
//!
//! A frame is a line, its bulk stands raw behind it (docs/protocol.md, "Over a pipe"):
//!
//! ```text
//! {"jsonrpc":"2.0","id":7,"method":"tool.call","params":{"name":"clock","args":{}}}⏎
//! {"jsonrpc":"2.0","method":"stream/data","params":{"id":8},"blob":640}⏎ 640 bytes ⏎
//! ```
//!
//! [`LineWriter`] writes what one side says, [`LineReader`] reads it at the other. Heads pass through as they are: both ends of
//! a line hold the same frame, byte for byte.
//!
//! **Invariant:** no bytes at all make a reader panic, wait for what was not announced, or hold more than its limit and one
//! feed. A line that is no message costs itself and nothing else.

mod reader;
mod scan;
mod writer;

use bespoke_plugin_api::{Code, Error};

use crate::{
    frame::{Kind, flag, put_plain},
    head::{put_end, put_reply},
};

pub use reader::{Incoming, LineReader, STRAY_LIMIT, TooLong};
pub use writer::LineWriter;

/// Who says a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The host.
    Host,
    /// The guest: the plugin's process.
    Guest,
}

/// The feature of a hello that says: bulk may stand raw behind its line.
pub const BLOB: &str = "blob";

/// What a line begins with that is a message of ours, and how one is found behind a `print` without a line end.
const BEGIN: &[u8] = b"{\"jsonrpc\":\"2.0\",";

/// What the data lane begins with.
const DATA: &[u8] = b"{\"jsonrpc\":\"2.0\",\"method\":\"stream/data\",\"params\":{\"id\":";

/// Names of notifications, and the kinds that they are.
const NOTIFICATIONS: [(&str, Kind); 15] = [
    ("stream/data", Kind::DATA),
    ("stream/event", Kind::EVENT),
    ("stream/credit", Kind::CREDIT),
    ("stream/end", Kind::END),
    ("stream/open", Kind::OPEN),
    ("stream/finish", Kind::FINISH),
    ("stream/reset", Kind::RESET),
    ("$/cancel", Kind::CANCEL),
    ("$/progress", Kind::PROGRESS),
    ("$/output", Kind::OUTPUT),
    ("$/log", Kind::LOG),
    ("$/vitals", Kind::VITALS),
    ("$/ping", Kind::PING),
    ("$/pong", Kind::PONG),
    ("$/goodbye", Kind::GOODBYE),
];

/// Tells both ends of a message that it was not delivered: frames for whoever said it and for whom it was meant. It is the same
/// whether the sender refused it or the receiver had to skip it.
pub fn undelivered(said_by: Side, kind: Kind, id: u32, error: &Error, to_sender: &mut Vec<u8>, to_receiver: &mut Vec<u8>) {
    match kind {
        Kind::CALL => put_reply::<()>(to_sender, Kind::REPLY, id, &Err(error.clone())),
        Kind::HOST_CALL => put_reply::<()>(to_sender, Kind::HOST_REPLY, id, &Err(error.clone())),
        Kind::REPLY | Kind::HOST_REPLY => put_reply::<()>(to_receiver, kind, id, &Err(error.clone())),
        Kind::OPEN => put_end(to_sender, id, &Err(error.clone())),
        Kind::DATA => {
            put_end(to_sender, id, &Err(error.clone()));
            put_plain(to_receiver, Kind::RESET, 0, id);
        }
        Kind::EVENT => {
            put_end(to_receiver, id, &Err(error.clone()));
            match said_by {
                Side::Guest => put_plain(to_sender, Kind::RESET, 0, id),
                Side::Host => put_plain(to_sender, Kind::CANCEL, flag::ABANDONED, id),
            }
        }
        Kind::END => put_end(to_receiver, id, &Err(error.clone())),
        // There will be no HELLO.
        Kind::HELLO if said_by == Side::Guest => put_reply::<()>(to_receiver, Kind::REPLY, 0, &Err(error.clone())),
        // Nobody waits for the rest: a line of a log, progress.
        _ => {}
    }
}

fn too_long(kind: Option<Kind>, bytes: usize, limit: usize, whose: &str) -> Error {
    let what = kind.map_or("message", Kind::name);
    Error::new(Code::RESOURCE_EXHAUSTED, format!("a {what} of {bytes} bytes is over the {limit} bytes of one message that {whose}"))
        .with_help("send less at once, or raise max_payload where the plugin is configured")
}
