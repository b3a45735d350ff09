//! The C interface of a plugin as a dynamic library: one symbol, one descriptor, three functions, frames in and out. Shapes only: the
//! host's side of it is `tier-dylib`, the plugin's is `guest-dylib`, or what somebody writes in C against `bespoke_plugin.h`, which says
//! what each part means.
//!
//! **Frozen.** The first 16 bytes of [`PluginV1`] never change, and nothing of the structs is ever moved, resized or removed: a later minor
//! version appends, and each struct says how long it is.

use std::ffi::c_void;

/// The one symbol that a library exports: an [`Entry`].
pub const SYMBOL: &str = "bespoke_plugin_v1";

/// What a descriptor begins with: `BESPOKE` and a one.
pub const MAGIC: u64 = u64::from_le_bytes(*b"BESPOKE\x01");

/// Another major version is another interface.
pub const MAJOR: u16 = 1;

/// What was appended since.
pub const MINOR: u16 = 0;

/// Gives the descriptor, which lives as long as the program. It does nothing else, as it is called before anything is checked.
pub type Entry = unsafe extern "C" fn() -> *const PluginV1;

/// Makes an instance.
pub type Open = unsafe extern "C" fn(host: *const HostV1, out: *const OutV1, instance: *mut *mut c_void) -> i32;

/// Takes what the host says, works until there is nothing left to do, and says what it has to say.
pub type Step = unsafe extern "C" fn(instance: *mut c_void, bytes: *const u8, len: usize, out: *const OutV1) -> i32;

/// Ends an instance, whatever became of it.
pub type Close = unsafe extern "C" fn(instance: *mut c_void, out: *const OutV1) -> i32;

/// What a function returns. Anything else is an end, too.
pub mod status {
    /// It waits for the host, or to be stepped after a wake.
    pub const DONE: i32 = 0;
    /// Of a step: it has more to do at once.
    pub const MORE: i32 = 1;
    /// It panicked, or whatever that is where it was written. The instance is dead: it is only closed.
    pub const PANICKED: i32 = -1;
    /// It cannot go on, and has said why. The instance is dead.
    pub const FAILED: i32 = -2;
}

/// Bytes of UTF-8 that belong to the library and live as long as it does.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// Where they begin; anything, for none.
    pub ptr: *const u8,
    /// How many.
    pub len: usize,
}

impl Text {
    /// A text of the program.
    pub const fn new(text: &'static str) -> Self {
        Text { ptr: text.as_ptr(), len: text.len() }
    }
}

/// What a library says of itself, and its functions.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PluginV1 {
    /// [`MAGIC`].
    pub magic: u64,
    /// The [`MAJOR`] that it was written for.
    pub major: u16,
    /// The [`MINOR`] that it was written for.
    pub minor: u16,
    /// Bytes of this struct, as the library knows it.
    pub size: u32,
    /// Bytes of [`HostV1`], as the library knows it.
    pub host_size: u32,
    /// Bytes of [`OutV1`], as the library knows it.
    pub out_size: u32,
    /// What built it, in words, for people. Two compilers understand each other over this interface, so nothing depends on it.
    pub toolchain: Text,
    /// What has to be the same at both sides, as `name=value` between spaces; see [`canary`].
    pub features: Text,
    /// The plugin's id.
    pub id: Text,
    /// Its version.
    pub version: Text,
    /// Its manifest, if it carries one.
    pub manifest: Text,
    /// Not null.
    pub open: Option<Open>,
    /// Not null.
    pub step: Option<Step>,
    /// Not null.
    pub close: Option<Close>,
}

/// Names in [`PluginV1::features`]. A library that lacks one has promised nothing of it, and a host passes over those that it does not know.
pub mod canary {
    /// The protocol of the frames: the host must speak it.
    pub const PROTOCOL: &str = "protocol";
    /// What a panic of the plugin does: `unwind`, or `abort`, which ends the program. Told to the user.
    pub const PANIC: &str = "panic";
}

/// What the host gives an instance. It lives as long as the program, and its functions may be called at any time, from any thread: before
/// `open` has returned, in the midst of a step, after `close`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct HostV1 {
    /// Bytes of this struct, as the host knows it.
    pub size: u32,
    /// Nothing yet.
    pub reserved: u32,
    /// The first argument of its functions.
    pub context: *mut c_void,
    /// Has the instance stepped soon.
    pub wake: unsafe extern "C" fn(context: *mut c_void),
    /// The host's clock: microseconds since 1970, UTC.
    pub now: unsafe extern "C" fn(context: *mut c_void) -> u64,
    /// Fills a buffer with random bytes fit for keys. Zero when it did.
    pub random: unsafe extern "C" fn(context: *mut c_void, bytes: *mut u8, len: usize) -> i32,
}

/// Where a function leaves what it says. It lives until that function returns, and is for the thread that runs it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OutV1 {
    /// Bytes of this struct, as the host knows it.
    pub size: u32,
    /// Nothing yet.
    pub reserved: u32,
    /// The first argument of its functions.
    pub context: *mut c_void,
    /// Appends frames, cut anywhere; a function ends where a frame ends. The bytes are copied.
    pub frames: unsafe extern "C" fn(context: *mut c_void, bytes: *const u8, len: usize),
    /// Says why the function is going to return less than [`status::DONE`], in UTF-8. The bytes are copied.
    pub failure: unsafe extern "C" fn(context: *mut c_void, text: *const u8, len: usize),
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use std::mem::{align_of, offset_of, size_of};

    use super::*;

    /// Frozen: a change here is another major version.
    #[test]
    fn the_structs_are_what_they_were() {
        assert_eq!((size_of::<Text>(), size_of::<PluginV1>(), size_of::<HostV1>(), size_of::<OutV1>()), (16, 128, 40, 32));
        assert_eq!((align_of::<PluginV1>(), align_of::<HostV1>(), align_of::<OutV1>()), (8, 8, 8));
        let header = [offset_of!(PluginV1, magic), offset_of!(PluginV1, major), offset_of!(PluginV1, minor), offset_of!(PluginV1, size)];
        assert_eq!(header, [0, 8, 10, 12]);
    }
}
