//! Scripted plugins, an agent over them, and what happened as text.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bespoke_agent::{Agent, AgentConfig, Session, Turn, TurnEvent};
use bespoke_host::{Artifact, Candidate, Config, Host, Selection, Terms, Tier};
use bespoke_manifest::{Inherited, Manifest};
use bespoke_plugin_api::{
    BoxFuture, BoxStream, CallCx, ChatDelta, ChatRequest, Code, Contribution, Error, FinishReason, HookEvent, HookHandler, HookReply,
    HookSpec, Instance, Message, ModelInfo, Plugin, PluginApi, PluginContext, Provider, ProviderSpec, Result, Role, Spec, Tool, ToolCall,
    ToolOutput, ToolRequest, ToolSpec, Usage, async_trait,
    serde_json::{self, Value, json},
};
use futures_util::{StreamExt, stream};

/// On a clock that stands still while anything can run: passed only by what would wait for ever.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// What a provider does next. An answer that does not end otherwise ends as it should.
#[derive(Clone)]
pub(crate) enum Step {
    Say(&'static str),
    Call(&'static str, &'static str, Value),
    /// The end, with these tokens read and written.
    Count(u32, u32),
    Fail(Code, &'static str),
    Panic(&'static str),
    /// The stream ends without an end of the answer.
    BreakOff,
    /// Nothing more comes.
    Stall,
    /// The test does something in the middle of the answer.
    Do(Arc<dyn Fn() + Send + Sync>),
    /// Waits for others that wait.
    Meet(Arc<tokio::sync::Barrier>),
    /// Text without end, always at hand.
    Babble,
}

pub(crate) fn act(f: impl Fn() + Send + Sync + 'static) -> Step {
    Step::Do(Arc::new(f))
}

type Models = dyn Fn() -> BoxFuture<'static, Result<Vec<ModelInfo>>> + Send + Sync;

/// A provider that answers by script; after the last answer it says "Ok.".
pub(crate) struct Brain {
    name: &'static str,
    script: Mutex<VecDeque<Vec<Step>>>,
    requests: Mutex<Vec<ChatRequest>>,
    contexts: Mutex<Vec<CallCx>>,
    models: Mutex<Arc<Models>>,
    /// Held by every answer that is still open.
    open: Arc<()>,
}

impl Brain {
    pub(crate) fn new<const N: usize>(name: &'static str, answers: [&[Step]; N]) -> Arc<Self> {
        let brain = Brain {
            name,
            script: Mutex::new(answers.iter().map(|steps| steps.to_vec()).collect()),
            requests: Mutex::default(),
            contexts: Mutex::default(),
            models: Mutex::new(Arc::new(|| Box::pin(async { Ok(vec![ModelInfo::new("large", 8_192).tools(true)]) }))),
            open: Arc::default(),
        };
        Arc::new(brain)
    }

    pub(crate) fn models<F: Future<Output = Result<Vec<ModelInfo>>> + Send + 'static>(
        self: Arc<Self>,
        models: impl Fn() -> F + Send + Sync + 'static,
    ) -> Arc<Self> {
        *self.models.lock().unwrap() = Arc::new(move || Box::pin(models()));
        self
    }

    /// The plugin of it, whose id is its name.
    pub(crate) fn plug(self: &Arc<Self>) -> Candidate {
        plug(self.name, [Contribution::Provider(ProviderSpec::new(self.name), self.clone())])
    }

    pub(crate) fn requests(&self) -> Vec<ChatRequest> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn contexts(&self) -> Vec<CallCx> {
        self.contexts.lock().unwrap().clone()
    }

    /// The messages of the last request.
    pub(crate) fn read(&self) -> String {
        self.requests.lock().unwrap().last().map(|request| lines(&request.messages)).unwrap_or_default()
    }

    /// How many answers are being listened to.
    pub(crate) fn open(&self) -> usize {
        Arc::strong_count(&self.open) - 1
    }
}

#[async_trait]
impl Provider for Brain {
    async fn models(&self, _: &CallCx) -> Result<Vec<ModelInfo>> {
        let models = self.models.lock().unwrap().clone();
        models().await
    }

    async fn chat(&self, cx: &CallCx, request: ChatRequest) -> Result<BoxStream<ChatDelta>> {
        self.requests.lock().unwrap().push(request);
        self.contexts.lock().unwrap().push(cx.clone());
        let steps = self.script.lock().unwrap().pop_front().unwrap_or_else(|| vec![Step::Say("Ok.")]);
        let has_end = steps.iter().any(|step| matches!(step, Step::Count(..) | Step::BreakOff));
        let end = (!has_end).then_some(Ok(ChatDelta::finish(FinishReason::Stop, None)));
        let open = self.open.clone();
        let deltas = stream::iter(steps).filter_map(move |step| {
            let _open = &open;
            delta(step)
        });
        let deltas = deltas.flat_map(|delta| match delta {
            Some(delta) => stream::once(async { delta }).left_stream(),
            None => stream::repeat_with(|| Ok(ChatDelta::text("blah "))).right_stream(),
        });
        Ok(Box::pin(deltas.chain(stream::iter(end))))
    }
}

/// The outer option says whether there is one; the inner `None` is one that never ends.
async fn delta(step: Step) -> Option<Option<Result<ChatDelta>>> {
    let delta = match step {
        Step::Say(text) => Ok(ChatDelta::text(text)),
        Step::Call(id, name, args) => Ok(ChatDelta::tool_call(ToolCall::new(id, name, args))),
        Step::Count(read, written) => Ok(ChatDelta::finish(FinishReason::Length, Usage::new(read, written))),
        Step::Fail(code, message) => Err(Error::new(code, message)),
        Step::Panic(message) => panic!("{message}"),
        Step::BreakOff => return None,
        Step::Stall => pending().await,
        Step::Do(f) => {
            f();
            return None;
        }
        Step::Meet(others) => {
            others.wait().await;
            return None;
        }
        Step::Babble => return Some(None),
    };
    Some(Some(delta))
}

/// A plugin of these contributions.
pub(crate) fn plug(id: &str, contributions: impl IntoIterator<Item = Contribution>) -> Candidate {
    let contributions: Vec<_> = contributions.into_iter().collect();
    let provides = contributions.iter().map(|c| format!("[[provides]]\nkind = \"{}\"\nname = \"{}\"\n", c.kind(), c.name()));
    let head = "description = \"A test.\"\nauthor = \"The example authors\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n";
    let text = format!("id = \"{id}\"\n{head}{}", provides.collect::<String>());
    let inherited = Inherited { version: "1.0.0", license: "MIT" };
    Candidate {
        id: id.into(),
        tier: Tier::Compiled,
        origin: format!("test-{id}"),
        manifest: Manifest::parse("plugin.toml", &text, Some(inherited)).map(Arc::new).map_err(Error::from),
        config_schema: "{}".into(),
        artifact: Arc::new(Plug { contributions, fails: None }),
    }
}

/// That plugin as a stand-in for tests.
pub(crate) fn stand_in(mut plugin: Candidate) -> Candidate {
    Arc::make_mut(plugin.manifest.as_mut().unwrap()).categories = vec!["testing".into()];
    plugin
}

/// A plugin that declares a contribution and does not come up.
pub(crate) fn broken(id: &str, contribution: Contribution, why: Error) -> Candidate {
    let plugin = plug(id, [contribution.clone()]);
    Candidate { artifact: Arc::new(Plug { contributions: vec![contribution], fails: Some(why) }), ..plugin }
}

struct Plug {
    contributions: Vec<Contribution>,
    fails: Option<Error>,
}

impl Artifact for Plug {
    fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
        Ok(self.contributions.iter().map(Contribution::spec).collect())
    }

    fn check(&self, _: &Value) -> Result<()> {
        Ok(())
    }

    fn start(&self, _: PluginContext, _: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
        let result = match &self.fails {
            Some(error) => Err(error.clone()),
            None => Ok(Instance { life: Arc::new(Alive), contributions: self.contributions.clone() }),
        };
        Box::pin(async move { result })
    }
}

/// A life without events.
struct Alive;

impl Plugin for Alive {
    type Config = Value;

    fn register(_: &mut PluginApi<Self>) {}

    async fn start(_: PluginContext, _: Value) -> Result<Self> {
        Ok(Alive)
    }
}

struct FnTool<C>(C);

#[async_trait]
impl<F: Future<Output = Result<ToolOutput>> + Send + 'static, C: Fn(CallCx, Value) -> F + Send + Sync> Tool for FnTool<C> {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        (self.0)(cx.clone(), request.args).await
    }
}

pub(crate) fn tool<F: Future<Output = Result<ToolOutput>> + Send + 'static>(
    name: &str,
    call: impl Fn(CallCx, Value) -> F + Send + Sync + 'static,
) -> Contribution {
    with_spec(ToolSpec::new(name, "A test.").input(json!({ "type": "object" })), call)
}

pub(crate) fn with_spec<F: Future<Output = Result<ToolOutput>> + Send + 'static>(
    spec: ToolSpec,
    call: impl Fn(CallCx, Value) -> F + Send + Sync + 'static,
) -> Contribution {
    Contribution::Tool(spec, Arc::new(FnTool(call)))
}

/// A tool that answers a text.
pub(crate) fn says(name: &str, text: &'static str) -> Contribution {
    tool(name, move |_, _| async move { Ok(ToolOutput::text(text)) })
}

struct FnHook<C>(C);

#[async_trait]
impl<F: Future<Output = Result<HookReply>> + Send + 'static, C: Fn(CallCx, HookEvent) -> F + Send + Sync> HookHandler for FnHook<C> {
    async fn on(&self, cx: &CallCx, event: &HookEvent) -> Result<HookReply> {
        (self.0)(cx.clone(), event.clone()).await
    }
}

pub(crate) fn hook<F: Future<Output = Result<HookReply>> + Send + 'static>(
    spec: HookSpec,
    on: impl Fn(CallCx, HookEvent) -> F + Send + Sync + 'static,
) -> Contribution {
    Contribution::Hook(spec, Arc::new(FnHook(on)))
}

pub(crate) fn config(keys: Value) -> AgentConfig {
    serde_json::from_value(keys).unwrap()
}

/// A configuration whose requests are short to read.
pub(crate) fn plain() -> AgentConfig {
    config(json!({ "system": "Be brief." }))
}

/// An agent over these plugins. The clock of every test stands still while anything can run, and leaps when nothing can.
pub(crate) async fn agent(config: AgentConfig, plugins: impl IntoIterator<Item = Candidate>) -> Agent {
    agent_over(Host::builder().config(Config::empty()).plugins(plugins).build().unwrap(), config).await
}

/// An agent over a host that is not started yet.
pub(crate) async fn agent_over(host: Host, config: AgentConfig) -> Agent {
    // Plugins start on threads of their own, which the clock does not see; it waits for blocking work.
    let (started, starting) = std::sync::mpsc::channel::<()>();
    let waits = tokio::task::spawn_blocking(move || starting.recv());
    host.start(Selection::All).await;
    drop(started);
    assert!(waits.await.unwrap().is_err());
    Agent::new(host, config).unwrap()
}

/// What came of a turn.
pub(crate) struct Told {
    pub(crate) result: Result<Turn>,
    /// One line per event.
    pub(crate) events: String,
    /// How far the clock went.
    pub(crate) took: Duration,
}

impl Told {
    pub(crate) fn text(&self) -> &str {
        &self.result.as_ref().unwrap().text
    }

    /// Name of the code and the message, as a person sees them.
    pub(crate) fn error(&self) -> String {
        let error = self.result.as_ref().unwrap_err();
        let help = error.help().map_or(String::new(), |help| format!("\n  try: {help}"));
        format!("{} {error}{help}", error.kind())
    }

    pub(crate) fn code(&self) -> Code {
        self.result.as_ref().unwrap_err().code()
    }
}

pub(crate) async fn turn(agent: &Agent, session: &mut Session, input: &str) -> Told {
    turn_with(agent, &CallCx::new(), session, input).await
}

pub(crate) async fn turn_with(agent: &Agent, cx: &CallCx, session: &mut Session, input: &str) -> Told {
    let mut events = String::new();
    let begun = tokio::time::Instant::now();
    let turn = agent.turn(cx, session, input, |event| events.push_str(&(line(&event) + "\n")));
    let result = within(turn).await;
    Told { result, events, took: begun.elapsed() }
}

/// Fails instead of waiting for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("it hangs")
}

/// As far as it comes without waiting.
pub(crate) fn poll_once<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

pub(crate) fn line(event: &TurnEvent) -> String {
    match event {
        TurnEvent::Text(text) => format!("{text:?}"),
        TurnEvent::ToolStarted(call) => format!("> {} {}", call.name, call.args),
        TurnEvent::ToolFinished { call, output } => {
            format!("< {} {}: {}{}", call.name, call.args, if output.is_error { "error: " } else { "" }, output.to_text())
        }
        TurnEvent::ProviderFailed { provider, reason, shown } => format!("! {provider}: {reason}{}", if *shown { " (shown)" } else { "" }),
        other => panic!("an event that no test knows: {other:?}"),
    }
}

/// One line per message.
pub(crate) fn lines(messages: &[Message]) -> String {
    let line = |message: &Message| {
        let calls: String = message.tool_calls.iter().map(|call| format!(" [{} {} {}]", call.id, call.name, call.args)).collect();
        let (who, id) = match message.role {
            Role::System => ("system", String::new()),
            Role::User => ("user", String::new()),
            Role::Assistant => ("assistant", String::new()),
            Role::Tool => ("tool ", message.tool_call_id.clone().unwrap()),
            other => panic!("a role that no test knows: {other:?}"),
        };
        format!("{who}{id}: {}{calls}\n", message.text).replace(":  [", ": [")
    };
    messages.iter().map(line).collect()
}

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}
