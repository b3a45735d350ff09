//! Equal bytes compiled in and behind the wire, for messages that come and for what is refused.

use bespoke_channel_telegram::BESPOKE_PLUGIN;
use bespoke_plugin_api::serde_json::json;
use bespoke_plugin_testkit::{Clock, Conformance};

use crate::kit::{Seen, TOKEN, serve, telegram, update};

#[test]
fn behaves_the_same_in_every_tier() {
    Conformance::new(&BESPOKE_PLUGIN)
        .config(json!({ "allowed_users": [7], "webhook": null }))
        .clock(Clock::Manual)
        .host(|host| {
            host.set_secret("token", TOKEN);
            let mut voice = update(3, 3, "");
            voice["message"]["voice"] = json!({ "file_id": "v" });
            let bot = telegram(vec![update(1, 1, "one"), json!({ "update_id": 2, "x": 1 }), voice, update(4, 4, "/help@bespoke_bot")]);
            serve(host, Seen::new(), move |asked| match asked.method.as_str() {
                "getFile" => crate::kit::ok(json!({ "file_path": "voice/1.oga" })),
                "file voice/1.oga" => crate::kit::whole(200, vec![0, 255, 3]),
                _ => bot(asked),
            });
        })
        .channel_messages(3)
        .check();
}

#[test]
fn behaves_the_same_while_nothing_is_configured() {
    Conformance::new(&BESPOKE_PLUGIN).check();
}
