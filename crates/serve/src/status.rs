//! What can be said of a server at a moment.

use serde::Serialize;

/// How a server does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// How long it runs, in milliseconds.
    pub uptime_ms: u64,
    /// Whether it takes no more messages and is about to end.
    pub draining: bool,
    /// Its channels, by name.
    pub channels: Vec<ChannelStatus>,
    /// Chats that are being answered.
    pub at_work: u64,
    /// Messages that came in and are not answered yet, those at work among them.
    pub waiting: u64,
    /// Messages that are to leave.
    pub outbox: u64,
    /// Messages that could not be sent and are not tried any more.
    pub dead: u64,
    /// Messages that were answered since it started.
    pub turns: u64,
    /// Messages that were sent a second time since it started because nobody could tell whether they had left, over channels that cannot
    /// tell either: they may have arrived twice.
    pub repeated: u64,
}

/// How a channel does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ChannelStatus {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: ChannelState,
    /// Why it failed last, while it is not running again.
    pub error: Option<String>,
    /// What would help, where that is known.
    pub fix: Option<String>,
    /// How often it failed since it was started.
    pub failures: u64,
    /// When it is tried again, in milliseconds from now.
    pub again_in_ms: Option<u64>,
}

/// What a channel is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChannelState {
    /// Its plugin is not ready yet.
    Starting,
    /// It listens.
    Running,
    /// It failed, and is tried again after a pause.
    Failed,
    /// Its source has ended. It can send, and is asked now and then whether there is more.
    Ended,
    /// Its plugin is switched off.
    Disabled,
    /// It was told to stop.
    Stopped,
}
