//! The plugin around the bot: what it contributes, how it does, and what it hands to the next instance.

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, Channel, ChannelSpec, EndpointSpec, Error, Facts, Health, HttpEndpoint, HttpRequest, HttpResponse, Inbox, MessageRef, Outbound,
    Plugin, PluginApi, PluginContext, Reload, Result, State, async_trait,
    serde::{self, Deserialize, Serialize},
    serde_json,
};

use crate::{
    config::{Access, Config, Settings},
    core::{Core, Offset},
    failure::Kind,
    poll, send,
    sent::Sent,
    webhook,
};

/// The layout of what is handed over.
const STATE: u32 = 1;

/// One instance.
pub struct Telegram {
    core: Arc<Core>,
}

/// What the next instance needs to go on.
#[derive(Serialize, Deserialize)]
#[serde(crate = "serde")]
struct Kept {
    offset: Option<Offset>,
    sent: Sent,
}

impl Plugin for Telegram {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        let spec = ChannelSpec::new("telegram").edits(true).typing(true).attachments(true);
        api.channel(spec, |plugin| Arc::new(Bot(plugin.core.clone())));
        api.http(EndpointSpec::new("updates"), |plugin| Arc::new(Hook(plugin.core.clone())));
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        Ok(Telegram { core: Arc::new(Core::new(cx, Settings::new(&config)?, Access::of(&config))) })
    }

    async fn reconfigure(&self, new: Config) -> Result<Reload> {
        Settings::new(&new)?;
        *self.core.access() = Access::of(&new);
        Ok(Reload::Applied)
    }

    fn health(&self) -> Health {
        if let Some(trouble) = self.core.trouble() {
            return Health::Degraded(trouble);
        }
        if self.core.access().is_empty() {
            let how = "write to the bot, and it says the command that lets you in";
            return Health::Degraded(format!("nobody may write to the bot: allowed_users and allowed_chats are empty; {how}"));
        }
        Health::Ok
    }

    fn facts(&self) -> Facts {
        let mode = if self.core.settings.webhook.is_some() { "webhook" } else { "polling" };
        let mut facts = Facts::from([("server".to_owned(), self.core.client.server().to_owned()), ("mode".to_owned(), mode.to_owned())]);
        facts.extend(self.core.me().and_then(|me| me.username).map(|name| ("bot".to_owned(), format!("@{name}"))));
        facts
    }

    async fn capture_state(&self) -> Result<Option<State>> {
        let kept = Kept { offset: self.core.offset(), sent: self.core.sent().clone() };
        Ok(Some(State::new(STATE, serde_json::to_vec(&kept)?)))
    }

    async fn restore_state(&self, state: State) -> Result<()> {
        if state.version != STATE {
            return Err(Error::invalid_params(format!("a state of layout {}; this is layout {STATE}", state.version)));
        }
        let kept: Kept = serde_json::from_slice(&state.bytes)?;
        self.core.resume(kept.offset);
        *self.core.sent() = kept.sent;
        Ok(())
    }
}

bespoke_plugin_api::plugin!("telegram", Telegram);

struct Bot(Arc<Core>);

#[async_trait]
impl Channel for Bot {
    async fn run(&self, cx: &CallCx, inbox: Inbox) -> Result<()> {
        let core = &*self.0;
        let ended = async {
            let me = core.introduce(cx).await?;
            match &core.settings.webhook {
                Some(webhook) => webhook::run(core, cx, &inbox, webhook).await,
                None => poll::run(core, cx, &inbox, &me).await,
            }
        };
        match ended.await {
            Err(failure) if failure.kind != Kind::Cancelled => {
                core.receiving(Some(&failure.error));
                Err(failure.error)
            }
            _ => Ok(()),
        }
    }

    async fn send(&self, cx: &CallCx, message: Outbound) -> Result<MessageRef> {
        send::send(&self.0, cx, &message).await
    }

    async fn edit(&self, cx: &CallCx, message: MessageRef, new: Outbound) -> Result<()> {
        send::edit(&self.0, cx, &message, &new).await
    }

    async fn typing(&self, cx: &CallCx, chat: &str) -> Result<()> {
        send::typing(&self.0, cx, chat).await
    }
}

struct Hook(Arc<Core>);

#[async_trait]
impl HttpEndpoint for Hook {
    async fn handle(&self, cx: &CallCx, request: HttpRequest) -> Result<HttpResponse> {
        webhook::handle(&self.0, cx, &request).await
    }
}
