//! A plugin with a handler for every hook, open and closed, which does what it is told, and a tool that answers beside it. It is built
//! into every tier; what becomes of what it does is the rule of [`hooks`](super::hooks).

use std::{sync::Arc, time::Duration};

use bespoke_plugin_api::{
    CallCx, Hook, HookEvent, HookHandler, HookReply, HookSpec, OnFailure, Plugin, PluginApi, PluginContext, Result, Tool, ToolOutput,
    ToolRequest, ToolSpec, async_trait,
    serde_json::{Map, Value, json},
};

/// The longest that a handler may take: far more than an answer needs on a busy machine, as each that hangs is waited for so long.
pub(crate) const LIMIT: Duration = Duration::from_secs(8);

/// Hooks at which something is asked before it happens, or is over.
pub(crate) fn places() -> impl Iterator<Item = Hook> {
    Hook::ALL.iter().copied().filter(|hook| *hook != Hook::OnEvent)
}

/// What the topics begin with of the events that are heard.
pub(crate) const HEARD: &str = "custom.matrix";

pub(crate) fn name(hook: Hook, failure: OnFailure) -> String {
    format!("{}_{}", hook.name(), word(failure))
}

pub(crate) fn word(failure: OnFailure) -> &'static str {
    if failure == OnFailure::Closed { "closed" } else { "open" }
}

/// The same event, changed where a handler may change it.
pub(crate) fn modified(event: &HookEvent) -> HookEvent {
    let mut event = event.clone();
    match &mut event {
        HookEvent::BeforeAgentRun { input, .. } => *input += "!",
        HookEvent::AfterAgentRun { output, .. } => *output += "!",
        HookEvent::BeforeMessageSend { message, .. } => message.text += "!",
        HookEvent::AfterMessageReceive { message, .. } => message.text += "!",
        HookEvent::BeforeToolExecute { call, .. } | HookEvent::AfterToolExecute { call, .. } => call.name += "!",
        HookEvent::OnSessionCreate { session, .. } | HookEvent::OnSessionEnd { session, .. } => *session += "!",
        HookEvent::OnClientConnect { client, .. } | HookEvent::OnClientDisconnect { client, .. } => *client += "!",
        // Nothing of it can be changed.
        _ => {}
    }
    event
}

/// The plugin, in Rust.
pub(crate) struct Actor(PluginContext);

struct Acts(OnFailure);

#[async_trait]
impl HookHandler for Acts {
    async fn on(&self, cx: &CallCx, event: &HookEvent) -> Result<HookReply> {
        let told = cx.session().and_then(|told| told.split_once(':'));
        behave(told.filter(|(_, failure)| *failure == word(self.0)).map_or("observe", |(behaviour, _)| behaviour), event).await
    }
}

/// Tells that it has heard an event, and does as that says.
struct Hears(PluginContext, OnFailure);

#[async_trait]
impl HookHandler for Hears {
    async fn on(&self, _: &CallCx, event: &HookEvent) -> Result<HookReply> {
        let HookEvent::OnEvent { event: heard, .. } = event else { panic!("{event:?}") };
        let behaviour = heard.payload["do"].as_str().unwrap_or_default();
        self.0.emit("heard", json!({ "by": word(self.1), "do": behaviour }))?;
        behave(behaviour, event).await
    }
}

async fn behave(behaviour: &str, event: &HookEvent) -> Result<HookReply> {
    match behaviour {
        "modify" => Ok(HookReply::replace(modified(event))),
        "veto" => Ok(HookReply::veto("says no")),
        "panic" => panic!("on purpose"),
        "hang" => std::future::pending().await,
        "slow" => {
            slowly().await;
            Ok(HookReply::Continue)
        }
        _ => Ok(HookReply::Continue),
    }
}

/// Takes many turns of its executor, in every tier and on every clock.
async fn slowly() {
    for _ in 0..200 {
        let mut first = true;
        std::future::poll_fn(|cx| {
            if std::mem::take(&mut first) {
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(())
        })
        .await;
    }
}

impl Plugin for Actor {
    type Config = Map<String, Value>;

    fn register(api: &mut PluginApi<Self>) {
        api.tool(ToolSpec::new("actor", "Says what it is told, after a while."), |p| Arc::new(Says(p.0.clone())));
        for hook in places() {
            let spec = |failure| HookSpec::new(name(hook, failure), hook).timeout(LIMIT);
            api.hook(spec(OnFailure::Open), |_| Arc::new(Acts(OnFailure::Open)));
            api.hook(spec(OnFailure::Closed).fail_closed(), |_| Arc::new(Acts(OnFailure::Closed)));
        }
        let spec = |failure| HookSpec::new(name(Hook::OnEvent, failure), Hook::OnEvent).timeout(LIMIT).topics([HEARD]);
        api.hook(spec(OnFailure::Open), |p| Arc::new(Hears(p.0.clone(), OnFailure::Open)));
        api.hook(spec(OnFailure::Closed).fail_closed(), |p| Arc::new(Hears(p.0.clone(), OnFailure::Closed)));
    }

    async fn start(cx: PluginContext, _: Self::Config) -> Result<Self> {
        Ok(Actor(cx))
    }
}

/// Answers `value` after `ms`.
struct Says(PluginContext);

#[async_trait]
impl Tool for Says {
    async fn call(&self, _: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        if let Some(ms) = request.args["ms"].as_u64() {
            self.0.sleep(Duration::from_millis(ms)).await;
        }
        Ok(ToolOutput::text(request.args["value"].to_string()))
    }
}
