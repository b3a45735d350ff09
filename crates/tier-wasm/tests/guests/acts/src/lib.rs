//! The plugin that does what its test tells it, as a component that may also say what no plugin can: bytes beside its frames.

#[path = "../../../../../tier/tests/every/acts.rs"]
mod acts;

use bespoke_guest_wasm::bindings::exports::bespoke::plugin::guest::{Guest, Outbound};

bespoke_plugin_api::plugin!("acts", acts::Acts);

struct Component;

impl Guest for Component {
    fn start() -> Result<(), String> {
        bespoke_guest_wasm::start(&BESPOKE_PLUGIN)
    }

    fn step(inbound: Vec<u8>) -> Result<Outbound, String> {
        let mut said = bespoke_guest_wasm::step(&inbound)?;
        let raw = acts::raw();
        if !raw.is_empty() {
            said.frames.splice(..0, raw);
        }
        Ok(said)
    }
}

bespoke_guest_wasm::bindings::export!(Component with_types_in bespoke_guest_wasm::bindings);
