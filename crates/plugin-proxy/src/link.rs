//! The way to a guest.

use bespoke_plugin_api::Result;
use bespoke_protocol::Lane;

/// The sending half of a driver. What comes back goes to the [`Receiver`](crate::Receiver).
pub trait Link: Send + Sync + 'static {
    /// Sends whole frames of one lane. Must not block: control frames are few and may queue without a bound, data frames are
    /// bounded by their credit. Control overtakes data; within a lane the order stays.
    ///
    /// A driver may answer from within this call, on the same thread.
    ///
    /// # Errors
    /// When the guest is gone: the error that calls end with. `RESOURCE_EXHAUSTED` when a frame is longer than the guest takes:
    /// nothing was sent then, and the guest is as it was.
    fn send(&self, lane: Lane, frames: &[u8]) -> Result<()>;

    /// The same for what nobody waits for: answers to the guest's own calls, word that somebody has gone, the question how it does.
    /// A driver whose guest runs within [`send`](Self::send), and may block there, leaves it to a thread of its own.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    fn post(&self, lane: Lane, frames: &[u8]) -> Result<()> {
        self.send(lane, frames)
    }
}
