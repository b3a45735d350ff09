//! Being sent messages: telling Telegram where to, and taking what comes.

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, Code, Error, HttpRequest, HttpResponse, Inbox, Level, Result,
    serde_json::{self, Value, json},
};
use subtle::ConstantTimeEq;

use crate::{
    albums,
    api::{Update, User},
    client::Body,
    config::Webhook,
    core::Core,
    failure::{Failure, Kind},
    receive::{self, Received},
};

/// The header that Telegram shows the secret in.
const HEADER: &str = "x-telegram-bot-api-secret-token";

/// Lets messages in until the caller goes. The webhook stays: what comes while the program is away, Telegram sends again.
pub(crate) async fn run(core: &Core, call: &CallCx, inbox: &Inbox, webhook: &Webhook) -> Result<(), Failure> {
    // Over several connections at once, as it is without `max_connections`, two messages of a chat could overtake each other.
    let body = json!({
        "url": webhook.url,
        "secret_token": webhook.secret_token,
        "max_connections": 1,
        "allowed_updates": ["message"],
    });
    *core.inbox() = Some(inbox.clone());
    let _closed = Closed(core);
    let mut tries = 0;
    loop {
        match core.client.call::<Value>(call, "setWebhook", Body::Json(body.clone())).await {
            Ok(_) => break,
            // Telegram does not like the address: asking again does not make it better.
            Err(failure) if matches!(failure.kind, Kind::Refused { .. }) => {
                let help = "is plugins.telegram.webhook.url the address of this machine's gateway as the internet sees it?";
                return Err(Failure::new(Kind::Final, failure.error.with_help(help)));
            }
            Err(failure) => core.wait_out(call, failure, &mut tries).await?,
        }
    }
    core.receiving(None);
    core.cx.log(Level::Info, "Telegram sends messages to the webhook");
    let bot = core.client.token().await.map_or(0, |(_, bot)| bot);
    albums::load(core, bot).await;
    while let Some(due) = core.albums.due_in(core.cx.now()) {
        core.pause(call, due).await?;
        albums::end_due(core, call, inbox, bot).await?;
    }
    call.cancelled().await;
    Err(Failure::cancelled())
}

/// Lets nothing in any more when it is dropped.
struct Closed<'a>(&'a Core);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        *self.0.inbox() = None;
    }
}

/// Answers a request of Telegram, or of somebody who would like to be it.
pub(crate) async fn handle(core: &Arc<Core>, call: &CallCx, request: &HttpRequest) -> Result<HttpResponse> {
    let Some(webhook) = &core.settings.webhook else {
        return Ok(says(404, "no webhook is configured"));
    };
    if !request.method.eq_ignore_ascii_case("POST") {
        return Ok(says(405, "only POST").header("allow", "POST"));
    }
    let shown = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(HEADER)).map_or("", |(_, value)| value.as_str());
    if !bool::from(shown.as_bytes().ct_eq(webhook.secret_token.as_bytes())) {
        return Ok(says(401, "the secret token is missing or wrong"));
    }
    let update: Update = match serde_json::from_slice(&request.body) {
        Ok(update) => update,
        // Taken, or Telegram would send it again and again; one that says what it is not is passed over.
        Err(_) if is_update(&request.body) => return Ok(says(200, "passed over")),
        Err(_) => return Ok(says(400, "no update")),
    };
    let (inbox, me) = (core.inbox().clone(), core.me());
    let (Some(inbox), Some(me)) = (inbox, me) else { return Ok(says(503, "not listening").header("retry-after", "5")) };
    match take(core, call, &inbox, &me, update).await {
        Ok(()) => Ok(says(200, "")),
        Err(failure) if failure.kind == Kind::Cancelled => Err(Error::cancelled()),
        Err(_) => Ok(says(503, "not now").header("retry-after", "5")),
    }
}

async fn take(core: &Arc<Core>, call: &CallCx, inbox: &Inbox, me: &User, update: Update) -> Result<(), Failure> {
    let (note, group) = match receive::received(core, call, me, update).await {
        Received::Nothing => return Ok(()),
        Received::Message(note) => (note, None),
        Received::Part(group, note) => (note, Some(group)),
    };
    // Telegram sends it again, after what is before it.
    let wait = || Failure::passing("an album of this chat is being handed over".to_owned());
    if core.albums.is_ending(&note.chat) {
        return Err(wait());
    }
    let note = match group {
        Some(group) => {
            let chat = note.chat.clone();
            let alone = albums::add(core, call, inbox, me.id, group, note).await?;
            watch(core, me.id, chat);
            match alone {
                Some(note) => note,
                None => return Ok(()),
            }
        }
        None => note,
    };
    albums::end(core, call, inbox, me.id, &note.chat).await?;
    let message = receive::fetched(core, call, note).await?;
    // Tried once: Telegram sends it again, and meanwhile keeps those that are behind it.
    match inbox.accept(message).await {
        Ok(()) => {
            core.receiving(None);
            Ok(())
        }
        Err(e) if e.code() == Code::INVALID_PARAMS => {
            core.cx.log(Level::Error, &format!("a message is refused and lost: {}", e.message()));
            Ok(())
        }
        Err(e) => {
            core.receiving(Some(&e));
            Err(Failure::new(Kind::Passing, e))
        }
    }
}

/// Hands an album over when nothing more of it comes: the request that brought the last of it has been answered by then.
fn watch(core: &Arc<Core>, bot: i64, chat: String) {
    let (task, call) = (core.clone(), CallCx::new());
    core.cx.spawn(async move {
        while let Some(due) = task.albums.due_of(&chat, task.cx.now()) {
            task.cx.sleep(due).await;
            let Some(inbox) = task.inbox().clone() else { return };
            if albums::end_due(&task, &call, &inbox, bot).await.is_err() {
                return;
            }
        }
    });
}

fn is_update(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|value| value["update_id"].is_i64())
}

fn says(status: u16, text: &'static str) -> HttpResponse {
    HttpResponse::new(status).header("content-type", "text/plain").body(text.into())
}
