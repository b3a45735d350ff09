//! The same answers compiled in and behind the wire.

use bespoke_channel_webhook::BESPOKE_PLUGIN;
use bespoke_plugin_api::{HttpResponse, serde_json::json};
use bespoke_plugin_testkit::{Clock, Conformance};

use crate::world::KEY;

#[test]
fn behaves_the_same_in_every_tier() {
    Conformance::new(&BESPOKE_PLUGIN)
        .config(json!({ "url": "http://127.0.0.1:9/" }))
        .clock(Clock::Manual)
        .host(|host| {
            host.set_secret("signing_key", KEY);
            host.on_http(|_| Ok(HttpResponse::new(200).body(r#"{"id":"m-1"}"#.into())));
        })
        .check();
}

#[test]
fn behaves_the_same_without_a_configuration() {
    Conformance::new(&BESPOKE_PLUGIN).check();
}
