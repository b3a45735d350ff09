//! The host, as a library sees it: a wake, a clock, random bytes.

#![allow(unsafe_code, reason = "the C ABI: functions of the host")]

use std::ffi::c_void;

use bespoke_plugin_api::{Error, Result, Timestamp};
use bespoke_protocol::abi::HostV1;

/// Functions of the host that hold for ever.
pub(crate) struct Host(HostV1);

// SAFETY: the host promises that they may be called from any thread, at any time, and that what they are given is nobody else's to use.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Host {
    /// # Safety
    /// It is what the host gave to `open`.
    pub(crate) unsafe fn new(host: *const HostV1) -> Self {
        // SAFETY: as the caller promises; a newer host has a longer one, which begins with this.
        Host(unsafe { host.read() })
    }

    fn context(&self) -> *mut c_void {
        self.0.context
    }

    pub(crate) fn wake(&self) {
        // SAFETY: the host's function and context.
        unsafe { (self.0.wake)(self.context()) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        // SAFETY: as above.
        Timestamp(unsafe { (self.0.now)(self.context()) })
    }

    pub(crate) fn random(&self, buffer: &mut [u8]) -> Result<()> {
        // SAFETY: as above; the buffer is this long, and nobody else's.
        match unsafe { (self.0.random)(self.context(), buffer.as_mut_ptr(), buffer.len()) } {
            0 => Ok(()),
            _ => Err(Error::internal("the host has no random bytes")),
        }
    }
}
