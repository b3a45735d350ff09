//! What a driver's machine does for a guest directly, without a message to the host.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bespoke_plugin_api::{BoxFuture, Error, Result, Timestamp};

/// The driver's side of a [`Core`](crate::Core).
pub trait Platform: Send + Sync + 'static {
    /// The time on the host's clock.
    fn now(&self) -> Timestamp;

    /// Fills a buffer with random bytes fit for keys.
    fn random(&self, _buffer: &mut [u8]) -> Result<()> {
        Err(Error::unsupported("host.random"))
    }

    /// Runs work that may block or compute, starting at once. In place where there are no threads, which is the default.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        // A panic shows as a missing result: `PluginContext::blocking` turns it into PLUGIN_EXCEPTION.
        let _ = catch_unwind(AssertUnwindSafe(work));
        Box::pin(std::future::ready(()))
    }

    /// There is something to do: call [`Core::poll`](crate::Core::poll) and [`Core::drain`](crate::Core::drain) soon. Comes from any thread, also
    /// from within the core itself, so it must only leave a note.
    fn wake(&self) {}
}
