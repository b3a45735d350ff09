//! A library by hand that stops its own panic, where its compiler lets it: built with `panic = "abort"`, the panic is the end of the program.
//! Its test compiles it, both ways.

#[path = "../../../protocol/src/abi.rs"]
#[allow(dead_code)]
mod abi;

use std::{ffi::c_void, panic::catch_unwind};

use abi::{HostV1, MAGIC, MAJOR, MINOR, OutV1, PluginV1, Text, status};

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
    features: Text::new(if cfg!(panic = "abort") { "protocol=1 panic=abort" } else { "protocol=1 panic=unwind" }),
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
    match catch_unwind(|| panic!("stopped at the border")) {
        Ok(()) => status::DONE,
        Err(_) => status::PANICKED,
    }
}

unsafe extern "C" fn close(_: *mut c_void, _: *const OutV1) -> i32 {
    status::DONE
}
