//! The plugin: what it contributes, and what its two directions share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bespoke_plugin_api::{
    CallCx, Channel, ChannelSpec, EndpointSpec, Error, Facts, Health, HttpEndpoint, HttpRequest, HttpResponse, Inbox, MessageRef, Outbound,
    Plugin, PluginApi, PluginContext, Result, async_trait,
};

use crate::{
    config::Config,
    receive::{self, Recent},
    send,
};

/// Bytes of a message: its text and its files. It is read before anybody knows whose it is.
const MOST_BODY: u64 = 4 << 20;
/// Shorter keys can be tried out.
const SHORTEST_KEY: usize = 16;
/// How a user makes a key.
const KEY_HELP: &str = "openssl rand -hex 32 | bespoke config set-secret plugins.webhook.secrets.signing_key";

/// One instance.
pub struct Webhook(Arc<Core>);

/// What the plugin, its channel and its endpoint hold.
pub(crate) struct Core {
    pub(crate) cx: PluginContext,
    pub(crate) config: Config,
    /// Where messages go, while the channel runs.
    inbox: Mutex<Option<Inbox>>,
    recent: Mutex<Recent>,
}

impl Plugin for Webhook {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.channel(ChannelSpec::new("webhook").idempotent(true).attachments(true), |plugin| Arc::new(Line(plugin.0.clone())));
        api.http(EndpointSpec::new("messages").body_limit(MOST_BODY), |plugin| Arc::new(Door(plugin.0.clone())));
    }

    fn check(config: &Config) -> Result<()> {
        config.check()
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        Ok(Webhook(Arc::new(Core { cx, config, inbox: Mutex::default(), recent: Mutex::default() })))
    }

    fn health(&self) -> Health {
        if self.0.config.url.is_some() { Health::Ok } else { Health::Degraded(NO_URL.into()) }
    }

    fn facts(&self) -> Facts {
        Facts::from([("messages come in at".to_owned(), "/hooks/webhook/messages".to_owned())])
    }
}

/// What a user reads while answers have nowhere to go.
pub(crate) const NO_URL: &str = "answers have nowhere to go: bespoke config set plugins.webhook.url https://example.com/answers";

impl Core {
    pub(crate) fn inbox(&self) -> Option<Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn listens(&self, inbox: Option<Inbox>) {
        *self.inbox.lock().unwrap_or_else(PoisonError::into_inner) = inbox;
    }

    pub(crate) fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time in whole seconds since 1970.
    pub(crate) fn second(&self) -> u64 {
        self.cx.now().0 / 1_000_000
    }

    /// The key of both sides.
    pub(crate) async fn key(&self) -> Result<String> {
        let key = match self.cx.secret("signing_key").await {
            Ok(key) => key,
            Err(error) if error.data().is_some_and(|data| data.get("unset").is_some()) => {
                return Err(Error::invalid_params("there is no signing key for the webhook").with_help(KEY_HELP));
            }
            Err(error) => return Err(error),
        };
        if key.len() < SHORTEST_KEY {
            let message = format!("the signing key of the webhook has {} bytes; it needs {SHORTEST_KEY}", key.len());
            return Err(Error::invalid_params(message).with_help(KEY_HELP));
        }
        Ok(key)
    }
}

struct Line(Arc<Core>);

/// Takes the inbox back however the channel ends.
struct Listening<'a>(&'a Core);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.listens(None);
    }
}

#[async_trait]
impl Channel for Line {
    async fn run(&self, cx: &CallCx, inbox: Inbox) -> Result<()> {
        // Without a key nobody would be believed: said now, not to the first who writes.
        self.0.key().await?;
        let _listening = Listening(&self.0);
        self.0.listens(Some(inbox));
        cx.cancelled().await;
        Ok(())
    }

    async fn send(&self, cx: &CallCx, message: Outbound) -> Result<MessageRef> {
        cx.check()?;
        send::send(&self.0, message).await
    }
}

struct Door(Arc<Core>);

#[async_trait]
impl HttpEndpoint for Door {
    async fn handle(&self, _cx: &CallCx, request: HttpRequest) -> Result<HttpResponse> {
        Ok(receive::receive(&self.0, &request).await)
    }
}
