//! What became of a request that failed: what may be done about it, and how it is told.

use std::time::Duration;

use bespoke_plugin_api::{
    Code, Error,
    serde_json::{Value, json},
};

use crate::api::Answer;

/// In the data of an error: whether what was sent may have arrived, where its code does not say so.
const ARRIVED: &str = "may_have_arrived";

/// A request that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// In words, without the token.
    pub(crate) error: Error,
}

/// What may be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The caller has gone.
    Cancelled,
    /// Nothing: the token is wrong, or the host does not let the plugin.
    Final,
    /// To wait as long as Telegram asks for.
    Flood(Duration),
    /// Somebody else asks for the messages: another program, or a webhook.
    Taken { webhook: bool },
    /// To ask for something else: Telegram does not take this. The chat may have another id now.
    Refused { moved: Option<i64> },
    /// To try again. What was asked for may have been done all the same.
    Passing,
    /// To try again: it certainly has not got there.
    Unsent,
    /// To ask for less: the answer is too long, or no JSON. The first update in it, as far as that can be seen.
    Unreadable { first: Option<i64> },
}

impl Failure {
    pub(crate) fn new(kind: Kind, error: Error) -> Self {
        Failure { kind, error }
    }

    pub(crate) fn cancelled() -> Self {
        Failure::new(Kind::Cancelled, Error::cancelled())
    }

    pub(crate) fn passing(message: String) -> Self {
        Failure::new(Kind::Passing, Error::new(Code::NETWORK_FAILED, message).retryable())
    }

    /// What the host says of a request that has no answer.
    pub(crate) fn unreachable(server: &str, method: &str, error: &Error) -> Self {
        let code = error.code();
        let message = match error.message() {
            // The client of the host names the server itself.
            message if server.split('/').nth(2).is_some_and(|host| message.contains(host)) => format!("{method}: {message}"),
            message => format!("{method}: {server}: {message}"),
        };
        match code {
            Code::CANCELLED => Failure::cancelled(),
            Code::PERMISSION_DENIED | Code::INVALID_PARAMS | Code::METHOD_NOT_FOUND => {
                let told = Error::new(code, message);
                Failure::new(Kind::Final, error.help().map_or(told.clone(), |help| told.with_help(help)))
            }
            // The client of the host says so of what it found no connection for.
            _ if error.data().and_then(|data| data.get(ARRIVED)).and_then(Value::as_bool) == Some(false) => {
                let told = Error::new(code, message).retryable().with_data(json!({ ARRIVED: false }));
                Failure::new(Kind::Unsent, error.help().map_or(told.clone(), |help| told.with_help(help)))
            }
            _ => Failure::new(Kind::Passing, Error::new(code, message).retryable()).perhaps_there(),
        }
    }

    /// What Telegram says of a request that it does not take. `status` is that of the HTTP answer.
    pub(crate) fn refused(server: &str, method: &str, status: u16, answer: &Answer) -> Self {
        let code = answer.error_code.unwrap_or(status.into());
        let said = answer.description.as_deref().unwrap_or("no reason is given");
        let message = format!("{method}: {server} says {code}: {said}");
        let asked = answer.parameters.as_ref().and_then(|p| p.retry_after);
        if code == 429 || asked.is_some() {
            // One that does not say how long is given the time of a short burst.
            let wait = asked.and_then(|wait| Duration::try_from_secs_f64(wait).ok()).unwrap_or(Duration::from_secs(3));
            return Failure::flood(message, wait);
        }
        match code {
            401 => Failure::new(Kind::Final, Error::invalid_params(message).with_help(WRONG_TOKEN)),
            404 => Failure::new(Kind::Final, Error::invalid_params(message).with_help(WRONG_TOKEN_OR_SERVER)),
            409 => {
                let webhook = said.contains("webhook");
                let help = if webhook {
                    "a webhook is set; plugins.telegram.webhook says where to"
                } else {
                    "only one program may ask for the messages of a bot: stop the other one, or make another bot for it"
                };
                Failure::new(Kind::Taken { webhook }, Error::new(Code::CONFLICT, message).retryable().with_help(help))
            }
            500.. => Failure::passing(message),
            403 => {
                let help = "the person has to write to the bot first, or to unblock it; a group has to let it in";
                Failure::new(Kind::Refused { moved: None }, Error::new(Code::PERMISSION_DENIED, message).with_help(help))
            }
            _ => {
                let moved = answer.parameters.as_ref().and_then(|p| p.migrate_to_chat_id);
                Failure::new(Kind::Refused { moved }, Error::invalid_params(message))
            }
        }
    }

    pub(crate) fn flood(message: String, wait: Duration) -> Self {
        let error = Error::new(Code::RESOURCE_EXHAUSTED, message).retryable();
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Failure::new(Kind::Flood(wait), error.with_data(json!({ "retry_after_ms": wait_ms })))
    }

    /// A file that is not fetched.
    pub(crate) fn too_large(message: String) -> Self {
        Failure::new(Kind::Refused { moved: None }, Error::new(Code::RESOURCE_EXHAUSTED, message))
    }

    /// Tells the host that what was sent, or some of it, may have arrived.
    pub(crate) fn perhaps_there(self) -> Self {
        let mut data = self.error.data().cloned().unwrap_or_else(|| json!({}));
        data[ARRIVED] = json!(true);
        Failure { error: self.error.with_data(data), ..self }
    }

    /// Whether Telegram said this of what it does not take.
    pub(crate) fn says(&self, words: &str) -> bool {
        matches!(self.kind, Kind::Refused { .. }) && self.error.message().to_ascii_lowercase().contains(words)
    }
}

const WRONG_TOKEN: &str = "the token is not that of a bot (any more): @BotFather shows it with /mybots; then export TELEGRAM_TOKEN=…";
const WRONG_TOKEN_OR_SERVER: &str = "either the token is wrong (@BotFather shows it with /mybots; then export TELEGRAM_TOKEN=…), or bespoke config set plugins.telegram.base_url URL";
