//! Messages that come in: believed when they are signed and new, and acknowledged when they are durably taken.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use bespoke_plugin_api::{Code, HttpRequest, HttpResponse, Level, serde_json::json};
use bespoke_signed::{SIGNATURE, TIMESTAMP, verify};

use crate::{plugin::Core, wire};

/// How far the clocks of both sides, and the way of a message, may be apart.
const WINDOW: Duration = Duration::from_secs(300);
/// Ids that are remembered. The host knows all that it ever took; these only spare it the question.
const MOST_RECENT: usize = 4096;

/// Messages that were taken lately, by chat and id.
#[derive(Default)]
pub(crate) struct Recent {
    known: HashSet<(String, String)>,
    order: VecDeque<(String, String)>,
}

impl Recent {
    fn has(&self, chat: &str, id: &str) -> bool {
        self.known.contains(&(chat.to_owned(), id.to_owned()))
    }

    fn add(&mut self, chat: String, id: String) {
        if self.known.insert((chat.clone(), id.clone())) {
            self.order.push_back((chat, id));
        }
        if self.order.len() > MOST_RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Answers a request.
pub(crate) async fn receive(core: &Core, request: &HttpRequest) -> HttpResponse {
    if request.method != "POST" {
        return refusal(405, "POST only").header("allow", "POST");
    }
    let Some(inbox) = core.inbox() else {
        return refusal(503, "nobody listens now").header("retry-after", "5");
    };
    let key = match core.key().await {
        Ok(key) => key,
        Err(error) => {
            core.cx.log(Level::Error, &format!("a message was refused: {error}"));
            return refusal(503, "nobody listens now").header("retry-after", "60");
        }
    };
    // One of each: of two, another on the way may have believed the other one.
    let (Some(timestamp), Some(signature)) = (only(request, TIMESTAMP), only(request, SIGNATURE)) else {
        return refusal(401, "x-bespoke-timestamp and x-bespoke-signature have to be there, once each");
    };
    if let Err(refused) = verify(key.as_bytes(), timestamp, signature, &request.body, core.second(), WINDOW) {
        core.cx.log(Level::Warn, &format!("a message was refused: {refused}"));
        return refusal(401, &refused.to_string());
    }
    let message = match wire::message(&request.body) {
        Ok(message) => message,
        Err(why) => return refusal(400, &why),
    };
    let (chat, id) = (message.chat.clone(), message.id.clone());
    if core.recent().has(&chat, &id) {
        return said(200, "duplicate", &id);
    }
    match inbox.accept(message).await {
        Ok(()) => {
            core.recent().add(chat, id.clone());
            said(202, "accepted", &id)
        }
        Err(error) => {
            core.cx.log(Level::Warn, &format!("a message could not be taken: {error}"));
            // It will be no better the next time.
            if error.code() == Code::INVALID_PARAMS {
                return refusal(400, error.message());
            }
            refusal(503, "the message could not be taken; send it again").header("retry-after", "5")
        }
    }
}

/// The value of a header that is there once.
fn only<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    let mut all = request.headers.iter().filter(|(n, _)| n == name);
    let one = all.next()?;
    if all.next().is_none() { Some(&one.1) } else { None }
}

fn said(status: u16, word: &str, id: &str) -> HttpResponse {
    let body = json!({ "status": word, "id": id }).to_string();
    HttpResponse::new(status).header("content-type", "application/json").body(body.into())
}

fn refusal(status: u16, message: &str) -> HttpResponse {
    let code = match status {
        400 => "BAD_REQUEST",
        401 => "UNAUTHORIZED",
        405 => "METHOD_NOT_ALLOWED",
        _ => "SERVICE_UNAVAILABLE",
    };
    let body = json!({ "error": { "code": code, "message": message } }).to_string();
    HttpResponse::new(status).header("content-type", "application/json").body(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_has_a_bound_and_the_oldest_goes() {
        let mut recent = Recent::default();
        for n in 0..MOST_RECENT + 10 {
            recent.add("chat".into(), n.to_string());
            recent.add("chat".into(), n.to_string());
        }
        assert_eq!((recent.known.len(), recent.order.len()), (MOST_RECENT, MOST_RECENT));
        assert!(!recent.has("chat", "9") && recent.has("chat", "10") && recent.has("chat", &(MOST_RECENT + 9).to_string()));
        assert!(!recent.has("other", "10"));
    }
}
