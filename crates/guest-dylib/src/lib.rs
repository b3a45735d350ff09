//! Serves a plugin from a dynamic library: the C ABI that the host calls. The driver only: what is said is the guest core's.
//!
//! A plugin as a library is a crate of one line, of the crate type `cdylib`; `bespoke plugin build --tier dylib` writes it:
//!
//! ```text
//! bespoke_guest_dylib::export!(my_plugin::BESPOKE_PLUGIN);
//! ```
//!
//! The interface itself is [`bespoke_protocol::abi`], and `include/bespoke_plugin.h` for those who write in C.
//!
//! * The host steps an instance on whatever thread has something to say to it, one at a time. Nothing here has a thread of its own but
//!   work that blocks; time and randomness are the host's.
//! * No panic leaves the library: the plugin's own are errors of the calls that they happened in; one beside them ends the instance, and is
//!   told. A library that was built with `panic = "abort"` ends the program instead, and says so in its descriptor.
//! * What the plugin says with `tracing` are lines of the host's log, and so are its panics: the library has a panic hook and a subscriber
//!   of its own, and the host's stay the host's.
//!
//! **Invariant:** what crosses are numbers, pointers with a length, and functions: no allocator, no trait object, no type of `std`.

mod entry;
mod guest;
mod host;
mod logs;

#[doc(hidden)]
pub use bespoke_protocol::abi;

pub use crate::entry::Exported;
#[doc(hidden)]
pub use crate::entry::open;

/// Exports a plugin: the one symbol that the host looks for. Once in a library.
#[macro_export]
macro_rules! export {
    ($descriptor:path) => {
        const _: () = {
            #[allow(unsafe_code, reason = "the C ABI")]
            unsafe extern "C" fn open(
                host: *const $crate::abi::HostV1,
                out: *const $crate::abi::OutV1,
                instance: *mut *mut ::core::ffi::c_void,
            ) -> i32 {
                // SAFETY: whoever calls this promises what `open` asks for.
                unsafe { $crate::open(&$descriptor, host, out, instance) }
            }

            static EXPORTED: $crate::Exported = $crate::Exported::new(&$descriptor, open);

            #[allow(unsafe_code, reason = "the one symbol of a library")]
            #[unsafe(no_mangle)]
            extern "C" fn bespoke_plugin_v1() -> *const $crate::abi::PluginV1 {
                EXPORTED.descriptor()
            }
        };
    };
}
