//! What the host calls: the descriptor, and the three functions that it names. Each stops panics, and does nothing else that is unsafe
//! but to believe the host's pointers.

#![allow(unsafe_code, reason = "the C ABI: pointers of the host")]

use std::{
    any::Any,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
    slice,
};

use bespoke_plugin_api::{Descriptor, Result};
use bespoke_protocol::abi::{HostV1, MAGIC, MAJOR, MINOR, Open, OutV1, PluginV1, Text, status};

use crate::{guest::Guest, host::Host};

/// What the library says of itself to a C program: the descriptor of the ABI, made of a plugin's own.
#[repr(transparent)]
#[derive(Debug)]
pub struct Exported(PluginV1);

// SAFETY: it is never written, and its pointers lead to texts of the program, which are not either.
unsafe impl Sync for Exported {}

impl Exported {
    /// That of a plugin, with the function that makes an instance of it.
    pub const fn new(plugin: &'static Descriptor, open: Open) -> Self {
        let package = plugin.package();
        let features = if cfg!(panic = "abort") { "protocol=1 panic=abort" } else { "protocol=1 panic=unwind" };
        Exported(PluginV1 {
            magic: MAGIC,
            major: MAJOR,
            minor: MINOR,
            size: size_of::<PluginV1>() as u32,
            host_size: size_of::<HostV1>() as u32,
            out_size: size_of::<OutV1>() as u32,
            toolchain: Text::new(env!("BESPOKE_TOOLCHAIN")),
            features: Text::new(features),
            id: Text::new(plugin.id()),
            version: Text::new(package.version),
            manifest: Text::new(package.manifest),
            open: Some(open),
            step: Some(step),
            close: Some(close),
        })
    }

    /// Where it lies.
    pub const fn descriptor(&self) -> *const PluginV1 {
        &self.0
    }
}

/// Makes an instance of a plugin. For [`export!`](crate::export).
///
/// # Safety
/// The pointers are what [`abi`](bespoke_protocol::abi) says: `host` for ever, `out` and `instance` until this returns.
pub unsafe fn open(plugin: &'static Descriptor, host: *const HostV1, out: *const OutV1, instance: *mut *mut c_void) -> i32 {
    // SAFETY: as the caller promises.
    let out = unsafe { Out::new(out) };
    guarded(out, || {
        // SAFETY: as the caller promises.
        let host = unsafe { Host::new(host) };
        let made = Box::into_raw(Box::new(Guest::new(plugin, host)));
        // SAFETY: as the caller promises; nobody else has it yet.
        unsafe { instance.write(made.cast()) };
        Ok(status::DONE)
    })
}

unsafe extern "C" fn step(instance: *mut c_void, bytes: *const u8, len: usize, out: *const OutV1) -> i32 {
    // SAFETY: the host gives what `open` has made and `close` has not had, and steps it on one thread at a time.
    let (Some(guest), out) = (unsafe { (instance.cast::<Guest>().as_mut(), Out::new(out)) }) else { return status::FAILED };
    let bytes = match len {
        0 => &[][..],
        // SAFETY: the host gives as many bytes, which it leaves alone until this returns.
        _ => unsafe { slice::from_raw_parts(bytes, len) },
    };
    guarded(out, || Ok(if guest.step(bytes, |said| out.frames(said))? { status::MORE } else { status::DONE }))
}

unsafe extern "C" fn close(instance: *mut c_void, out: *const OutV1) -> i32 {
    // SAFETY: as for `step`; the host does not use it any more.
    let (Some(guest), out) = (unsafe { (NonNull::new(instance.cast::<Guest>()), Out::new(out)) }) else { return status::FAILED };
    guarded(out, || {
        // SAFETY: `open` has made it of a box, and nobody else has it.
        let guest = unsafe { Box::from_raw(guest.as_ptr()) };
        guest.close();
        Ok(status::DONE)
    })
}

/// Where a function leaves what it says.
#[derive(Clone, Copy)]
struct Out<'o>(&'o OutV1);

impl Out<'_> {
    /// # Safety
    /// It is what the host gave, and the host has not taken it back for as long as this lives.
    unsafe fn new(out: *const OutV1) -> Self {
        // SAFETY: as the caller promises.
        Out(unsafe { &*out })
    }

    fn frames(self, bytes: &[u8]) {
        // SAFETY: the host's own function and context, in the call that they were given for.
        unsafe { (self.0.frames)(self.0.context, bytes.as_ptr(), bytes.len()) }
    }

    fn failure(self, text: &str) {
        // SAFETY: as for `frames`.
        unsafe { (self.0.failure)(self.0.context, text.as_ptr(), text.len()) }
    }
}

/// Stops panics, and tells what went wrong.
fn guarded(out: Out<'_>, work: impl FnOnce() -> Result<i32>) -> i32 {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            out.failure(error.message());
            status::FAILED
        }
        Err(panic) => {
            out.failure(words(&*panic));
            // What was thrown may throw when it is dropped.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
                std::mem::forget(again);
            }
            status::PANICKED
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bespoke_plugin_api::{Code, Error};

    unsafe extern "C" fn frames(_: *mut c_void, _: *const u8, _: usize) {}

    unsafe extern "C" fn failure(context: *mut c_void, text: *const u8, len: usize) {
        // SAFETY: what `told` gives.
        unsafe { context.cast::<Vec<u8>>().as_mut().unwrap().extend_from_slice(slice::from_raw_parts(text, len)) }
    }

    fn told(work: impl FnOnce() -> Result<i32>) -> (i32, String) {
        let mut said = Vec::<u8>::new();
        let out = OutV1 { size: size_of::<OutV1>() as u32, reserved: 0, context: (&raw mut said).cast(), frames, failure };
        let status = guarded(Out(&out), work);
        (status, String::from_utf8(said).unwrap())
    }

    struct Twice;

    impl Drop for Twice {
        fn drop(&mut self) {
            panic!("again");
        }
    }

    #[test]
    fn nothing_that_is_thrown_leaves() {
        assert_eq!(told(|| Ok(status::MORE)), (status::MORE, String::new()));
        assert_eq!(told(|| Err(Error::new(Code::PARSE_ERROR, "no frames"))), (status::FAILED, "no frames".to_owned()));
        assert_eq!(told(|| panic!("a text")), (status::PANICKED, "a text".to_owned()));
        assert_eq!(told(|| panic!("{}", 7)), (status::PANICKED, "7".to_owned()));
        assert_eq!(told(|| std::panic::panic_any(Twice)), (status::PANICKED, "without a message".to_owned()));
    }
}
