//! Asking Telegram for messages, one long request after the other.

use std::time::Duration;

use bespoke_plugin_api::{CallCx, Inbox, Level, serde_json::json};
use futures_util::{StreamExt, stream};

use crate::{
    api::{Update, User},
    client::Body,
    core::Core,
    failure::{Failure, Kind},
    receive,
};

/// Messages of one answer, and how many of them are fetched with their files at once.
const MOST: u32 = 100;
const AT_ONCE: usize = 4;
/// How long to wait for a program that asks for the same messages to go away.
const TAKEN_PAUSE: Duration = Duration::from_secs(10);
/// A server that has nothing and says so at once is asked again after this.
const EMPTY_PAUSE: Duration = Duration::from_millis(300);
/// How often an answer that cannot be read is asked for, before what is first in it is left out.
const UNREADABLE: u32 = 3;

/// Asks until the caller goes.
pub(crate) async fn run(core: &Core, call: &CallCx, inbox: &Inbox, me: &User) -> Result<(), Failure> {
    let bot = me.id;
    core.load_offset(bot).await;
    let mut tries = 0;
    let mut unreadable = 0;
    loop {
        // After an answer that could not be read one message at a time, so that only that one is lost if it must be.
        let limit = if unreadable > 0 { 1 } else { MOST };
        let mut ask = json!({ "limit": limit, "timeout": core.settings.poll.as_secs(), "allowed_updates": ["message"] });
        if let Some(offset) = core.asked() {
            ask["offset"] = json!(offset);
        }
        let begun = core.cx.now();
        match core.client.updates(call, ask, core.settings.poll).await {
            Ok(updates) => {
                (tries, unreadable) = (0, 0);
                core.receiving(None);
                if updates.is_empty() {
                    if begun.until(core.cx.now()) < EMPTY_PAUSE {
                        core.pause(call, EMPTY_PAUSE).await?;
                    }
                    continue;
                }
                let delivered = deliver(core, call, inbox, me, updates).await;
                core.store_offset().await;
                delivered?;
            }
            Err(failure) => match failure.kind {
                Kind::Taken { webhook: true } => {
                    core.cx.log(Level::Warn, "a webhook is set for this bot; it is removed, as plugins.telegram.webhook names none");
                    unhook(core, call, &mut tries).await?;
                }
                Kind::Taken { webhook: false } => {
                    core.receiving(Some(&failure.error));
                    core.pause(call, TAKEN_PAUSE).await?;
                }
                Kind::Unreadable { first } => {
                    unreadable += 1;
                    if let Some(first) = first.filter(|_| unreadable > UNREADABLE) {
                        core.cx.log(Level::Error, &format!("update {first} cannot be read and is left out: {}", failure.error.message()));
                        core.passed(bot, first);
                        core.store_offset().await;
                        unreadable = 1;
                        continue;
                    }
                    core.wait_out(call, failure, &mut tries).await?;
                }
                _ => core.wait_out(call, failure, &mut tries).await?,
            },
        }
    }
}

/// Hands messages over in their order; each is passed once it was taken.
async fn deliver(core: &Core, call: &CallCx, inbox: &Inbox, me: &User, updates: Vec<Result<Update, i64>>) -> Result<(), Failure> {
    let read = |update: Result<Update, i64>| async {
        match update {
            Ok(update) => (update.update_id, receive::inbound(core, call, me, update).await),
            Err(number) => {
                core.cx.log(Level::Warn, &format!("update {number} is not one that is known here; it is passed over"));
                (number, Ok(None))
            }
        }
    };
    let mut messages = std::pin::pin!(stream::iter(updates).map(read).buffered(AT_ONCE));
    while let Some((number, message)) = messages.next().await {
        if let Some(message) = message? {
            receive::hand_over(core, call, inbox, message).await?;
            core.receiving(None);
        }
        core.passed(me.id, number);
    }
    Ok(())
}

/// Takes the webhook away; what it was not sent waits for whoever asks.
async fn unhook(core: &Core, call: &CallCx, tries: &mut u32) -> Result<(), Failure> {
    let body = Body::Json(json!({ "drop_pending_updates": false }));
    match core.client.call::<bespoke_plugin_api::serde_json::Value>(call, "deleteWebhook", body).await {
        Ok(_) => Ok(()),
        Err(failure) => core.wait_out(call, failure, tries).await,
    }
}
