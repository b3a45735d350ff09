//! Serves a plugin from a wasm component: the world that the host calls. The driver only: what is said is the guest core's.
//!
//! A plugin as a component is a crate of one line, of the crate type `cdylib`; `bespoke plugin build --tier wasm` writes it:
//!
//! ```text
//! bespoke_guest_wasm::export!(my_plugin::BESPOKE_PLUGIN);
//! ```
//!
//! The world itself is `wit/bespoke.wit`, for those who write in other languages.
//!
//! * There is one thread, and the host's call is the only time that anything runs. `blocking` works in place.
//! * A call that computes for long hears of its cancellation by asking: `CallCx::is_cancelled` and `check` look into the mailbox.
//! * What the plugin says with `tracing` are lines of the host's log, and so is its panic, which is said before the instance aborts.
//! * `std::time`, files, sockets and threads do not exist: `Instant::now` ends the instance. Time, HTTP, storage and secrets are the
//!   context's.

#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated from the world")]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "plugin",
        pub_export_macro: true,
        runtime_path: "::bespoke_guest_wasm::wit_bindgen::rt",
    });
}
mod guest;
mod machine;
mod pulled;

#[doc(hidden)]
pub use crate::guest::{start, step};
#[doc(hidden)]
pub use wit_bindgen;

#[doc(hidden)]
extern crate self as bespoke_guest_wasm;

/// Exports a plugin: what the host's world asks for. Once in a component.
#[macro_export]
macro_rules! export {
    ($descriptor:path) => {
        struct BespokeGuest;

        impl $crate::bindings::exports::bespoke::plugin::guest::Guest for BespokeGuest {
            fn start() -> ::core::result::Result<(), ::std::string::String> {
                $crate::start(&$descriptor)
            }

            fn step(
                inbound: ::std::vec::Vec<u8>,
            ) -> ::core::result::Result<$crate::bindings::exports::bespoke::plugin::guest::Outbound, ::std::string::String> {
                $crate::step(&inbound)
            }
        }

        $crate::bindings::export!(BespokeGuest with_types_in $crate::bindings);
    };
}
