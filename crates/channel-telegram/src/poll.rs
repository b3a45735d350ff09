//! Asking Telegram for messages, one long request after the other.

use std::{pin::pin, time::Duration};

use bespoke_plugin_api::{
    CallCx, Inbound, Inbox, Level,
    serde_json::{Value, json},
};
use futures_util::{
    StreamExt,
    future::{Either, pending, select},
    stream,
};

use crate::{
    albums,
    api::{Update, User},
    client::Body,
    core::Core,
    failure::{Failure, Kind},
    receive::{self, Note, Received},
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
    albums::load(core, bot).await;
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
        match updates(core, call, inbox, bot, ask).await? {
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

/// Asks for messages, and hands over albums meanwhile.
///
/// # Errors
/// When the caller goes.
async fn updates(core: &Core, call: &CallCx, inbox: &Inbox, bot: i64, ask: Value) -> Result<Result<Updates, Failure>, Failure> {
    let mut asking = pin!(core.client.updates(call, ask, core.settings.poll));
    loop {
        let due = core.albums.due_in(core.cx.now());
        let due = async {
            match due {
                Some(due) => core.cx.sleep(due).await,
                None => pending().await,
            }
        };
        match select(asking.as_mut(), pin!(due)).await {
            Either::Left((updates, _)) => {
                if updates.is_err() {
                    // Before what may be a long wait.
                    albums::end_due(core, call, inbox, bot).await?;
                }
                return Ok(updates);
            }
            Either::Right(_) => albums::end_due(core, call, inbox, bot).await?,
        }
    }
}

/// Those of one answer: each, or the number of one that is none as we know it.
type Updates = Vec<Result<Update, i64>>;

/// An update that was read.
enum Read {
    Nothing,
    Message(Inbound),
    Part(String, Note),
}

/// Hands messages over in their order; each is passed once it was taken.
async fn deliver(core: &Core, call: &CallCx, inbox: &Inbox, me: &User, updates: Updates) -> Result<(), Failure> {
    let read = |update: Result<Update, i64>| async {
        match update {
            Ok(update) => (update.update_id, read(core, call, me, update).await),
            Err(number) => {
                core.cx.log(Level::Warn, &format!("update {number} is not one that is known here; it is passed over"));
                (number, Ok(Read::Nothing))
            }
        }
    };
    let mut messages = pin!(stream::iter(updates).map(read).buffered(AT_ONCE));
    while let Some((number, read)) = messages.next().await {
        let message = match read? {
            Read::Nothing => None,
            Read::Message(message) => Some(message),
            Read::Part(group, note) => match albums::add(core, call, inbox, me.id, group, note).await? {
                Some(note) => Some(receive::fetched(core, call, note).await?),
                None => None,
            },
        };
        if let Some(message) = message {
            // What is said after an album comes after it.
            albums::end(core, call, inbox, me.id, &message.chat).await?;
            receive::hand_over(core, call, inbox, message).await?;
            core.receiving(None);
        }
        core.passed(me.id, number);
    }
    Ok(())
}

async fn read(core: &Core, call: &CallCx, me: &User, update: Update) -> Result<Read, Failure> {
    Ok(match receive::received(core, call, me, update).await {
        Received::Nothing => Read::Nothing,
        Received::Message(note) => Read::Message(receive::fetched(core, call, note).await?),
        Received::Part(group, note) => Read::Part(group, note),
    })
}

/// Takes the webhook away; what it was not sent waits for whoever asks.
async fn unhook(core: &Core, call: &CallCx, tries: &mut u32) -> Result<(), Failure> {
    let body = Body::Json(json!({ "drop_pending_updates": false }));
    match core.client.call::<bespoke_plugin_api::serde_json::Value>(call, "deleteWebhook", body).await {
        Ok(_) => Ok(()),
        Err(failure) => core.wait_out(call, failure, tries).await,
    }
}
