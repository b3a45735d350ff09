//! Servers of the user as hooks: asked before something happens, or told after, by a POST of the event.
//!
//! ```toml
//! [plugins.post]
//! hooks = [
//!   { name = "guard", hook = "before_tool_execute", url = "http://127.0.0.1:9000/guard", on_failure = "closed" },
//!   { name = "steps", topics = ["step_*"], url = "https://example.com/steps", observer = true },
//! ]
//! ```
//!
//! Portable: a request is the host's to make, to the hosts of these addresses and to no others. The body is the event as JSON; with the
//! secret `signing_key`, it is signed as `bespoke-signed` says. What the server answers:
//!
//! * any 2xx without a body: go on;
//! * any 2xx with JSON: `{"reply":"continue"}`, `{"reply":"veto","reason":"…"}`, or `{"reply":"replace","event":{…}}` with the whole
//!   event as it is to be;
//! * 403 with `{"reason":"…"}`: a veto;
//! * anything else, redirects too, is a failure, and `on_failure` says what that means.

use std::time::Duration;

use bespoke_configured_hooks::{Ask, MOST_ANSWER, subscription};
use bespoke_plugin_api::{
    CallCx, Code, Error, Facts, Health, HookEvent, HookReply, HttpRequest, Plugin, PluginApi, PluginContext, Result, async_trait,
    serde_json,
};
use bespoke_signed::{SIGNATURE, TIMESTAMP, sign};

mod config;
mod reply;

pub use crate::config::{Config, Entry};

/// One instance.
pub struct Post {
    /// What there is, for people.
    hooks: Vec<String>,
}

impl Plugin for Post {
    type Config = Config;

    /// Nothing that is always there: what is asked is the user's to say.
    fn register(_api: &mut PluginApi<Self>) {}

    fn check(config: &Config) -> Result<()> {
        config.specs().map(drop)
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        let specs = config.specs()?;
        let hooks = specs.iter().map(|spec| format!("{} ({})", spec.name, spec.hook.name())).collect();
        let published = specs.into_iter().zip(&config.hooks).map(|(spec, entry)| {
            let asked = Asked { cx: cx.clone(), name: entry.name.clone(), url: entry.url.clone() };
            subscription(&cx, spec, entry, asked)
        });
        let published: Vec<_> = published.collect();
        if !published.is_empty() {
            cx.host().publish(published)?;
        }
        Ok(Post { hooks })
    }

    fn health(&self) -> Health {
        if self.hooks.is_empty() { Health::Degraded(OFF.into()) } else { Health::Ok }
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        facts.insert("hooks".into(), self.hooks.join(", "));
        facts
    }
}

bespoke_plugin_api::plugin!("post", Post);

/// What a user reads while no address is named.
const OFF: &str = "no server is asked until plugins.post.hooks names one; docs/hooks.md has examples";

/// One address, and who asks there.
struct Asked {
    cx: PluginContext,
    name: String,
    url: String,
}

#[async_trait]
impl Ask for Asked {
    async fn ask(&self, cx: &CallCx, event: &HookEvent, limit: Duration) -> Result<HookReply> {
        let late = || Error::new(Code::EXECUTION_TIMEOUT, format!("`{}` did not answer within {} ms", self.name, limit.as_millis()));
        self.cx.within(cx, limit, self.send(event, limit)).await?.ok_or_else(late)?
    }
}

impl Asked {
    async fn send(&self, event: &HookEvent, limit: Duration) -> Result<HookReply> {
        let body = serde_json::to_vec(event).map_err(|e| Error::internal(format!("the event is no JSON: {e}")))?;
        let mut request = HttpRequest::new("POST", &self.url).header("content-type", "application/json").timeout(limit);
        if let Some(key) = self.key().await? {
            let second = self.cx.now().0 / 1_000_000;
            request = request.header(TIMESTAMP, second.to_string()).header(SIGNATURE, sign(key.as_bytes(), second, &body));
        }
        let mut answer = self.cx.http(request.body(body.into())).await?;
        let body = answer.read(MOST_ANSWER).await;
        reply::read(&self.name, answer.status, body)
    }

    /// The key that signs, if the user has set one.
    async fn key(&self) -> Result<Option<String>> {
        match self.cx.secret("signing_key").await {
            Ok(key) => Ok(Some(key).filter(|key| !key.is_empty())),
            Err(error) if error.data().is_some_and(|data| data.get("unset").is_some()) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
