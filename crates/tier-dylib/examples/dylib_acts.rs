//! The plugin that does what its test tells it, as a library that may also say what no plugin can: bytes beside its frames. Not for use.

#![allow(unsafe_code, reason = "the C ABI, around that of a guest")]

#[path = "../../tier/tests/every/acts.rs"]
mod acts;

use std::{ffi::c_void, slice, sync::LazyLock};

use bespoke_guest_dylib::{
    Exported,
    abi::{HostV1, OutV1, PluginV1, status},
};
use bespoke_plugin_api::{Descriptor, Package};

static ACTS: Descriptor = Descriptor::of::<acts::Acts>(
    "acts",
    Package { name: "acts", version: "1.0.0", license: "Apache-2.0", manifest: "", config_schema: "{}" },
);

static GUEST: Exported = Exported::new(&ACTS, open);

struct Shared(PluginV1);

// SAFETY: it is written once, before anybody sees it.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// That of the guest, with another `step`.
static DESCRIPTOR: LazyLock<Shared> = LazyLock::new(|| {
    // SAFETY: it is a static of this library.
    let guest = unsafe { GUEST.descriptor().read() };
    Shared(PluginV1 { step: Some(step), ..guest })
});

#[unsafe(no_mangle)]
extern "C" fn bespoke_plugin_v1() -> *const PluginV1 {
    &raw const DESCRIPTOR.0
}

unsafe extern "C" fn open(host: *const HostV1, out: *const OutV1, instance: *mut *mut c_void) -> i32 {
    // SAFETY: the host promises what `open` asks for.
    unsafe { bespoke_guest_dylib::open(&ACTS, host, out, instance) }
}

/// Keeps what the guest says until the step is over, and says the rest before it.
unsafe extern "C" fn step(instance: *mut c_void, bytes: *const u8, len: usize, out: *const OutV1) -> i32 {
    // SAFETY: the guest's own descriptor, and what the host gave.
    let (Some(of_guest), Some(out)) = (unsafe { ((*GUEST.descriptor()).step, out.as_ref()) }) else { return status::FAILED };
    let mut said: Vec<u8> = Vec::new();
    let keeps = OutV1 { context: (&raw mut said).cast(), frames: keep, failure: forget, ..*out };
    // SAFETY: as the host promises; what stands in for `out` lives until this returns.
    let status = unsafe { of_guest(instance, bytes, len, &raw const keeps) };
    said.splice(..0, acts::raw());
    // SAFETY: the host's own function and context, in the call that they were given for.
    unsafe { (out.frames)(out.context, said.as_ptr(), said.len()) };
    status
}

unsafe extern "C" fn keep(said: *mut c_void, bytes: *const u8, len: usize) {
    // SAFETY: `step` gave it, and does not touch it meanwhile.
    if let Some(said) = unsafe { said.cast::<Vec<u8>>().as_mut() }
        && len > 0
    {
        // SAFETY: the guest says that so many bytes lie there.
        said.extend_from_slice(unsafe { slice::from_raw_parts(bytes, len) });
    }
}

unsafe extern "C" fn forget(_: *mut c_void, _: *const u8, _: usize) {}
