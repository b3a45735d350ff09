//! The wire between host and guest: the envelope, its frames and their typed bodies. No I/O, no threads, no clock.
//!
//! The same frames travel over a C function, a wasm export, a pipe and the loopback of the test kit. A frame is a 16-byte
//! header (little endian), a JSON head and a raw blob; either may be empty:
//!
//! ```text
//! 0     1      2         4    8          12         16
//! kind  flags  reserved  id   head_len   blob_len   head … blob …
//! u8    u8     u16 = 0   u32  u32        u32
//! ```
//!
//! **Two lanes.** Control frames (calls, replies, cancellation, credit) go first; data frames (audio, text, stream events)
//! keep their order among themselves. [`Kind::lane`] says which is which. Nothing on the data lane carries JSON on its way
//! to the guest: [`Kind::DATA`] is f32 samples or UTF-8 text, as the method of its [`Kind::OPEN`] says.
//!
//! **Two id spaces.** Calls and streams are numbered by the host, host calls by the guest. A frame that
//! could mean either says so with [`flag::HOST_CALL`].
//!
//! **Bodies are the types of `plugin-api`**, serialised as JSON; what is bulk in them ([`Body`]) is empty in the head and
//! raw in the blob. Golden tests pin both. Tolerant where a peer may be newer: unknown kinds of frames, fields, kinds of
//! contributions and error codes are passed over.
//!
//! | frame | from | id | head | blob |
//! |---|---|---|---|---|
//! | `HELLO` | both, host first | 0 | [`HostHello`], [`GuestHello`] | |
//! | `CALL` | host | call | [`CallHead`] | bulk of the arguments |
//! | `REPLY` | guest | call | [`ReplyHead`] | bulk of the answer |
//! | `CANCEL` | both | call, host call | | |
//! | `PROGRESS` | guest | call | any JSON | |
//! | `OUTPUT` | guest | call of `command.run` | [`OutputHead`] | |
//! | `OPEN` | host | stream | [`CallHead`] | |
//! | `RESET` | host | stream | | |
//! | `CREDIT` | both | stream, host call | | u32: bytes of input (guest), events (host), items of a [`Streamed`] host call (guest) |
//! | `HOST_CALL` | guest | host call | [`CallHead`] | bulk of the arguments |
//! | `HOST_REPLY` | host | host call | [`ReplyHead`] | bulk of the answer |
//! | `LOG` | guest | 0 | [`LogHead`] | |
//! | `VITALS` | guest | 0 | [`Vitals`] | |
//! | `DATA` | host | stream | | samples or text |
//! | `FINISH` | host | stream | | |
//! | `EVENT` | guest; host under a [`Streamed`] host call | stream, host call | the event or item | its bulk |
//! | `END` | as `EVENT` | as `EVENT` | empty, or the error | |
//! | `PING`, `PONG` | both | chosen by who asks | | |
//! | `GOODBYE` | both | 0 | [`GoodbyeHead`] | |

pub mod abi;
mod body;
mod data;
mod frame;
mod head;
pub mod line;
pub mod method;
mod streamed;

pub use body::{Body, ChannelEdit, ChatArgs, HttpHead, Nothing, StoreArgs};
pub use data::{put_samples, read_samples};
pub use frame::{
    Frame, FrameError, HEADER_LEN, Kind, Lane, MAX_FRAME, Reassembler, flag, parse, put_bytes_frame, put_credit, put_frame, put_plain,
    put_samples_frame,
};
pub use head::{
    AcceptArgs, CallHead, CallRef, CxHead, EmitArgs, GoodbyeHead, GuestHello, HostCallArgs, HostHello, InvokeArgs, LogHead, Lookup,
    OutputHead, PublishArgs, ReplyHead, Route, Setup, SleepArgs, Vitals, agree, panicked, put_answer, put_body, put_call, put_end,
    put_json, put_reply, read_args, read_body, read_end, read_reply,
};
pub use streamed::{BODY_PIECE, BODY_WINDOW, Http, Streamed, Subscribe};

/// The protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;

/// The oldest protocol that it still understands.
pub const OLDEST_PROTOCOL: u32 = 1;

/// Bytes of input that a stream may have on its way: about a minute of speech at 16 kHz. One frame may overshoot it.
pub const INPUT_WINDOW: u32 = 4 << 20;

/// Events that a stream may have on its way.
pub const EVENT_WINDOW: u32 = 256;

/// Longest message of a peer that has not said another one in its hello.
pub const DEFAULT_PAYLOAD: u64 = MAX_FRAME as u64;
