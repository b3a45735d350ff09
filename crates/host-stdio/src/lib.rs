//! The host for other programs: JSON-RPC 2.0, a line each way, over whatever can be read and written. It loads, swaps and calls
//! plugins for a program that knows nothing of Bespoke. No transport, no command line, and no plugin of its own.
//!
//! | method | params | answer |
//! |---|---|---|
//! | `ping` | | `"pong"` |
//! | `status` | | version, counters, what is loaded, every method that can be called |
//! | `plugin/list` | | a row a plugin, as `plugin list --json` has it, and App Factory's `name`, `contract`, `path`, `valid`, `loaded`, `errors` |
//! | `plugin/load` | `name` or `path`, `config`? | the plugin; one that is loaded takes the new `config`, or says −32005 |
//! | `plugin/unload` | `name` | `{success, plugin}` |
//! | `plugin/swap` | `old`, `new`, `config`? | `{success, old_plugin, new_plugin, rollback_performed, errors, swap_duration_ms}` |
//! | `plugin/health` | `name`? | `{plugin, status, message, details, latency_ms, memory_mb, …}`, or an object of them by name |
//! | `plugin/get_config_schema` | `plugin_id` or `name` | `{plugin_id, config_schema}` |
//! | `plugin/call` | `plugin`, `method`, `args`? | what the method returns; bytes as `{"base64": "…"}` |
//! | `<contract>/<method>` | the arguments; `plugin`? says whose | the same; without `plugin`, of the one that was loaded first |
//! | `$/cancel` | `id` | the request answers −32800 |
//! | `shutdown` | `reason`? | `{status, reason, timestamp, pending}`; calls under way have time to end, then it is over |
//!
//! Requests run at once and are answered as they are done; only a request about a plugin that is being loaded, unloaded or swapped
//! waits for that. Batches are answered together, notifications are not.
//!
//! **Invariants:** a request with an id is answered exactly once, whatever a plugin does. No line, however long or deep, ends the
//! session or takes more memory than the limit. A name from the other side is compared with names that are known, and never
//! becomes part of a path.

mod lines;
mod methods;
mod rpc;
mod scan;
mod session;
mod seven;
mod turns;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use bespoke_host::{Candidate, Host};
use bespoke_plugin_api::{CancelToken, Result};
use tokio::io::{AsyncRead, AsyncWrite};

/// The longest line in either direction, unless configured otherwise.
pub const LONGEST_LINE: usize = 64 << 20;

/// Where plugins come from that can be loaded. Its methods may block.
pub trait Source: Send + Sync {
    /// All that there are now, the broken ones too.
    fn all(&self) -> Vec<Candidate>;
    /// The plugin in a folder that the other program names.
    ///
    /// # Errors
    /// `MANIFEST_MISSING`, `MANIFEST_INVALID`, and whatever else keeps it from being read.
    fn open(&self, folder: &Path) -> Result<Candidate>;
}

/// How a session goes.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// What `status` says.
    pub version: String,
    /// Where plugins come from.
    pub source: Arc<dyn Source>,
    /// Ends the session when it is cancelled, as `shutdown` does.
    pub stop: CancelToken,
    /// The longest line in either direction, in bytes.
    pub longest_line: usize,
    /// Most requests at once; what comes beyond is refused. `ping`, `status`, `$/cancel` and `shutdown` always go through.
    pub most_requests: usize,
    /// How long requests may go on when the session ends; then they are cancelled.
    pub drain: Duration,
}

impl Options {
    /// With the limits of the crate.
    pub fn new(version: impl Into<String>, source: Arc<dyn Source>) -> Self {
        Options {
            version: version.into(),
            source,
            stop: CancelToken::new(),
            longest_line: LONGEST_LINE,
            most_requests: 1024,
            drain: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("version", &self.version).field("longest_line", &self.longest_line).finish_non_exhaustive()
    }
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The other side asked for it.
    Shutdown,
    /// Nothing more comes in.
    EndOfInput,
    /// [`Options::stop`] was cancelled.
    Stopped,
    /// The input cannot be read, or nobody reads the output.
    Broken(String),
}

/// Serves a host until somebody ends it. Every request that was read is answered before; plugins still run afterwards, and are the
/// caller's to stop.
pub async fn serve<R, W>(host: Host, input: R, output: W, options: Options) -> Ended
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    session::run(host, input, output, options).await
}
