//! Talks with the program that runs, over a socket that only its owner can open: requests, answers and streams as JSON-RPC lines. It knows
//! what a line is, and nothing of what is asked.
//!
//! ```
//! use std::{future, sync::Arc};
//!
//! use bespoke_control::{Client, Fault, Handler, Items, Peer, Server};
//! use serde_json::{Value, json};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     async fn call(&self, _peer: &Peer, method: &str, params: Value, items: &Items) -> Result<Value, Fault> {
//!         match method {
//!             "echo" => Ok(params),
//!             "count" => {
//!                 for n in 0..3 {
//!                     items.send(&json!(n)).await?;
//!                 }
//!                 Ok(Value::Null)
//!             }
//!             other => Err(Fault::no_method(other)),
//!         }
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("run/control.sock");
//! let server = Server::bind(&path)?;
//! tokio::spawn(server.serve(Arc::new(Echo), future::pending()));
//!
//! let mut client = Client::connect(&path).await?.expect("it runs");
//! assert_eq!(client.call("echo", json!({ "a": 1 })).await?, json!({ "a": 1 }));
//! let mut counted = client.stream("count", json!({})).await?;
//! while let Some(n) = counted.next().await? {
//!     println!("{n}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! On the wire: `{"jsonrpc":"2.0","id":1,"method":"…","params":{…}}` is answered with `result` or `error`; what a request streams comes before
//! its answer, as `{"jsonrpc":"2.0","method":"$/item","params":{"id":1,"item":…}}`; `$/cancel` with `{"id":1}` ends a request. There are no
//! batches. Requests of a connection run at once. Whoever closes the connection cancels what runs for it.
//!
//! **Invariants:** the folder is its owner's alone before the socket is in it, and a peer of somebody else is not heard. One server at a time:
//! it holds a lock that goes with the process, so that what a killed one left is replaced and a live one never is. A reader that does not
//! read keeps what is written for it waiting, and nobody else; what waits is bounded.

#[cfg(unix)]
mod client;
#[cfg(not(unix))]
#[path = "client_disabled.rs"]
mod client;
#[cfg(unix)]
mod connection;
#[cfg(unix)]
mod place;
#[cfg(unix)]
mod server;
#[cfg(not(unix))]
#[path = "server_disabled.rs"]
mod server;
mod wire;

use std::{io, path::PathBuf};

use serde_json::Value;

pub use client::{Client, Streaming};
pub use server::{Held, Server};
pub use wire::{Fault, Items};

/// The longest line that a server takes; a longer one ends its connection.
pub const LONGEST_REQUEST: usize = 1 << 20;
/// The longest line that a server writes; instead of a longer one there is an error.
pub const LONGEST_ANSWER: usize = 8 << 20;
/// Most connections at once; one more is told so and closed.
pub const MOST_CONNECTIONS: usize = 64;
/// Most requests of one connection at once; one more is answered by an error.
pub const MOST_REQUESTS: usize = 32;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Number of the connection, from 1, never used again by this server.
    pub number: u64,
    /// The process, where the system says it.
    pub pid: Option<i32>,
}

/// What a server answers with.
pub trait Handler: Send + Sync + 'static {
    /// A connection was made. An error closes it, and is what the client reads.
    fn connected(&self, peer: &Peer) -> impl Future<Output = Result<(), Fault>> + Send {
        let _ = peer;
        async { Ok(()) }
    }

    /// A connection that was let in is over.
    fn disconnected(&self, peer: &Peer) -> impl Future<Output = ()> + Send {
        let _ = peer;
        async {}
    }

    /// Answers a request, after whatever it puts into `items`. Dropped when the client is gone or cancels: what has to come to an end runs in a
    /// task of its own.
    fn call(&self, peer: &Peer, method: &str, params: Value, items: &Items) -> impl Future<Output = Result<Value, Fault>> + Send;
}

/// Why there is no server at a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another one runs.
    #[error("another one runs already{}", .pid.map_or(String::new(), |pid| format!(": process {pid}")))]
    Taken {
        /// Its process, as it said itself.
        pid: Option<u32>,
    },
    /// The folder, or what stands where the socket should, is not ours to use.
    #[error("{}: {why}", .path.display())]
    Unsafe {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system refuses.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder it is about.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

/// Why a client has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server says no.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// It went before it answered.
    #[error("the server ended before it answered")]
    Gone,
    /// What it says makes no sense.
    #[error("the server says what nobody understands: {0}")]
    Garbled(String),
    /// The system refuses.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}
