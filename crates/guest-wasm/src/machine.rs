//! What the host does for a component at once: its log, a clock, random bytes.

use bespoke_plugin_api::{Error, Level, Result, Timestamp};
use bespoke_plugin_guest::Platform;

use crate::bindings::bespoke::plugin::host;

/// Bytes that are asked for at once.
const RANDOM: usize = 65536;

/// Everything runs on one thread, within a step, so that a wake is seen before the step ends, and work that blocks runs in place.
pub(crate) struct Machine;

impl Platform for Machine {
    fn now(&self) -> Timestamp {
        Timestamp(host::now())
    }

    fn random(&self, buffer: &mut [u8]) -> Result<()> {
        for piece in buffer.chunks_mut(RANDOM) {
            // A piece fits 32 bits.
            let bytes = host::random(piece.len() as u32);
            if bytes.len() != piece.len() {
                return Err(Error::internal("the host has no random bytes"));
            }
            piece.copy_from_slice(&bytes);
        }
        Ok(())
    }
}

/// A line of the host's log.
pub(crate) fn log(level: Level, line: &str) {
    let level = match level {
        Level::Debug => host::Level::Debug,
        Level::Info => host::Level::Info,
        Level::Warn => host::Level::Warn,
        _ => host::Level::Error,
    };
    host::log(level, line);
}
