//! A library by hand whose step lets a panic out, for tests: the end of the program. Not for use.

#![allow(unsafe_code, reason = "the C ABI, by hand")]

use std::ffi::c_void;

use bespoke_guest_dylib::abi::{HostV1, MAGIC, MAJOR, MINOR, OutV1, PluginV1, Text, status};

struct Shared(PluginV1);

// SAFETY: it is never written to.
unsafe impl Sync for Shared {}

static DESCRIPTOR: Shared = Shared(PluginV1 {
    magic: MAGIC,
    major: MAJOR,
    minor: MINOR,
    size: size_of::<PluginV1>() as u32,
    host_size: size_of::<HostV1>() as u32,
    out_size: size_of::<OutV1>() as u32,
    toolchain: Text::new(""),
    features: Text::new(""),
    id: Text::new("faults"),
    version: Text::new("1.0.0"),
    manifest: Text::new(""),
    open: Some(open),
    step: Some(step),
    close: Some(close),
});

#[unsafe(no_mangle)]
extern "C" fn bespoke_plugin_v1() -> *const PluginV1 {
    &raw const DESCRIPTOR.0
}

unsafe extern "C" fn open(_: *const HostV1, _: *const OutV1, instance: *mut *mut c_void) -> i32 {
    // SAFETY: the host gives a place for the instance, which is only not null.
    unsafe { instance.write((&raw const DESCRIPTOR).cast_mut().cast()) };
    status::DONE
}

unsafe extern "C" fn step(_: *mut c_void, _: *const u8, _: usize, _: *const OutV1) -> i32 {
    panic!("nobody stops this one")
}

unsafe extern "C" fn close(_: *mut c_void, _: *const OutV1) -> i32 {
    status::DONE
}
