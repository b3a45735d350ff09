//! Plugins of closures: each test says what its plugin does in one place.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use bespoke_host::{Artifact, Candidate, Config, Host, Row, Selection, Terms, Tier};
use bespoke_manifest::{Inherited, Manifest};
use bespoke_plugin_api::{
    BoxFuture, BoxStream, CallCx, ChatDelta, ChatRequest, Contribution, Error, Facts, Health, Hook, HookEvent, HookHandler, HookReply,
    HookSpec, Instance, Life, ModelInfo, PluginContext, Provider, ProviderSpec, Reload, Result, Spec, State, Tool, ToolOutput, ToolRequest,
    ToolSpec, async_trait, serde_json::Value,
};

/// Longer than anything here takes, so that a hang fails instead of hanging.
pub(crate) const LONG: Duration = Duration::from_secs(20);

type Check = dyn Fn(&Value) -> Result<()> + Send + Sync;

/// A plugin made of closures.
#[derive(Clone)]
pub(crate) struct Plug {
    id: String,
    version: String,
    tier: Tier,
    extra: String,
    manifest: Option<String>,
    contributions: Vec<Contribution>,
    declare: Arc<dyn Fn(Vec<Spec>) -> Vec<Spec> + Send + Sync>,
    check: Arc<Check>,
    start: Arc<dyn Fn(PluginContext, Value) -> BoxFuture<'static, Result<()>> + Send + Sync>,
    life: Arc<dyn Fn() -> Arc<dyn Life> + Send + Sync>,
}

impl Plug {
    pub(crate) fn new(id: &str) -> Self {
        Plug {
            id: id.into(),
            version: "1.0.0".into(),
            tier: Tier::Compiled,
            extra: String::new(),
            manifest: None,
            contributions: Vec::new(),
            declare: Arc::new(|specs| specs),
            check: Arc::new(|_| Ok(())),
            start: Arc::new(|_, _| Box::pin(async { Ok(()) })),
            life: Arc::new(|| Arc::new(Alive::default())),
        }
    }

    pub(crate) fn version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    pub(crate) fn tier(mut self, tier: Tier) -> Self {
        self.tier = tier;
        self
    }

    /// Lines at the end of its manifest.
    pub(crate) fn extra(mut self, lines: &str) -> Self {
        self.extra = lines.into();
        self
    }

    /// More lines at the end of its manifest.
    pub(crate) fn extra_more(mut self, lines: &str) -> Self {
        self.extra += lines;
        self
    }

    /// Needs another plugin.
    pub(crate) fn needs(mut self, plugin: &str, more: &str) -> Self {
        self.extra += &format!("[[requires]]\nplugin = \"{plugin}\"\n{more}\n");
        self
    }

    /// This manifest instead of one made from the contributions.
    pub(crate) fn manifest(mut self, text: &str) -> Self {
        self.manifest = Some(text.into());
        self
    }

    pub(crate) fn provides(mut self, contribution: Contribution) -> Self {
        self.contributions.push(contribution);
        self
    }

    pub(crate) fn tool<F: Future<Output = Result<ToolOutput>> + Send + 'static>(
        self,
        name: &str,
        call: impl Fn(CallCx, Value) -> F + Send + Sync + 'static,
    ) -> Self {
        self.provides(tool(name, call))
    }

    pub(crate) fn hook<F: Future<Output = Result<HookReply>> + Send + 'static>(
        self,
        spec: HookSpec,
        on: impl Fn(CallCx, HookEvent) -> F + Send + Sync + 'static,
    ) -> Self {
        self.provides(hook(spec, on))
    }

    pub(crate) fn registers(mut self, declare: impl Fn(Vec<Spec>) -> Vec<Spec> + Send + Sync + 'static) -> Self {
        self.declare = Arc::new(declare);
        self
    }

    pub(crate) fn checks(mut self, check: impl Fn(&Value) -> Result<()> + Send + Sync + 'static) -> Self {
        self.check = Arc::new(check);
        self
    }

    pub(crate) fn starts<F: Future<Output = Result<()>> + Send + 'static>(
        mut self,
        start: impl Fn(PluginContext, Value) -> F + Send + Sync + 'static,
    ) -> Self {
        self.start = Arc::new(move |cx, config| Box::pin(start(cx, config)));
        self
    }

    pub(crate) fn lives(mut self, life: impl Life + 'static) -> Self {
        let life: Arc<dyn Life> = Arc::new(life);
        self.life = Arc::new(move || life.clone());
        self
    }

    /// A life that is made at the start.
    pub(crate) fn makes(mut self, life: impl Fn() -> Alive + Send + Sync + 'static) -> Self {
        self.life = Arc::new(move || Arc::new(life()));
        self
    }
}

impl From<Plug> for Candidate {
    fn from(plug: Plug) -> Self {
        let text = plug.manifest.clone().unwrap_or_else(|| {
            let provides = plug.contributions.iter().map(|c| format!("[[provides]]\nkind = \"{}\"\nname = \"{}\"\n", c.kind(), c.name()));
            let head = "description = \"A test.\"\nauthor = \"The example authors\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n";
            format!("id = \"{}\"\n{head}{}{}", plug.id, provides.collect::<String>(), plug.extra)
        });
        let inherited = Inherited { version: &plug.version, license: "MIT" };
        Candidate {
            id: plug.id.clone(),
            tier: plug.tier,
            origin: format!("test-{}", plug.id),
            manifest: Manifest::parse(&format!("test-{}/plugin.toml", plug.id), &text, Some(inherited)).map(Arc::new).map_err(Error::from),
            config_schema: "{}".into(),
            artifact: Arc::new(plug),
        }
    }
}

impl Artifact for Plug {
    fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
        Ok((self.declare)(self.contributions.iter().map(Contribution::spec).collect()))
    }

    fn check(&self, config: &Value) -> Result<()> {
        (self.check)(config)
    }

    /// All but the one that its configuration names.
    fn uses_runtime(&self, config: &Value, runtime: &str) -> bool {
        assert!(config["never"] != "panics", "this one panics");
        config["never"] != runtime
    }

    fn start(&self, cx: PluginContext, config: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
        let (start, contributions, life) = ((self.start)(cx, config), self.contributions.clone(), self.life.clone());
        Box::pin(async move {
            start.await?;
            Ok(Instance { life: life(), contributions })
        })
    }
}

/// What a plugin does between its start and its end.
pub(crate) struct Alive {
    pub(crate) health: fn() -> Health,
    pub(crate) facts: fn() -> Facts,
    pub(crate) shutdown: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Default for Alive {
    fn default() -> Self {
        Alive { health: || Health::Ok, facts: Facts::new, shutdown: Box::new(|| Box::pin(async {})) }
    }
}

impl Alive {
    /// Whose shutdown is the closure's.
    pub(crate) fn ends<F: Future<Output = ()> + Send + 'static>(shutdown: impl Fn() -> F + Send + Sync + 'static) -> Self {
        Alive { shutdown: Box::new(move || Box::pin(shutdown())), ..Self::default() }
    }
}

impl Life for Alive {
    fn health(&self) -> Health {
        (self.health)()
    }

    fn facts(&self) -> Facts {
        (self.facts)()
    }

    fn reconfigure(&self, _: Value) -> BoxFuture<'_, Result<Reload>> {
        Box::pin(async { Ok(Reload::Restart) })
    }

    fn capture_state(&self) -> BoxFuture<'_, Result<Option<State>>> {
        Box::pin(async { Ok(None) })
    }

    fn restore_state(&self, _: State) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        (self.shutdown)()
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
    strict(ToolSpec::new(name, "A test.").input(Value::Object(Default::default())), call)
}

/// A tool that says what it takes; [`tool`] takes anything.
pub(crate) fn strict<F: Future<Output = Result<ToolOutput>> + Send + 'static>(
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

/// A provider whose answer is the closure's stream.
pub(crate) struct Answers<F>(pub(crate) F);

#[async_trait]
impl<F: Fn(CallCx) -> BoxStream<ChatDelta> + Send + Sync> Provider for Answers<F> {
    async fn models(&self, _: &CallCx) -> Result<Vec<ModelInfo>> {
        Ok(Vec::new())
    }
    async fn chat(&self, cx: &CallCx, _: ChatRequest) -> Result<BoxStream<ChatDelta>> {
        Ok((self.0)(cx.clone()))
    }
}

pub(crate) fn provider(name: &str, answer: impl Fn(CallCx) -> BoxStream<ChatDelta> + Send + Sync + 'static) -> Contribution {
    Contribution::Provider(ProviderSpec::new(name), Arc::new(Answers(answer)))
}

/// A host of these plugins, not started.
pub(crate) fn built(config: &str, plugs: impl IntoIterator<Item = Plug>) -> Host {
    Host::builder().config(Config::parse("bespoke.toml", config).unwrap()).plugins(plugs).build().unwrap()
}

/// A host of these plugins, started.
pub(crate) async fn started(config: &str, plugs: impl IntoIterator<Item = Plug>) -> Host {
    let host = built(config, plugs);
    within(host.start(Selection::All)).await;
    host
}

/// Fails instead of waiting for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("it hangs")
}

pub(crate) async fn call(host: &Host, tool: &str) -> Result<String> {
    call_with(host, &CallCx::new(), tool).await
}

pub(crate) async fn call_with(host: &Host, cx: &CallCx, tool: &str) -> Result<String> {
    let slot = host.registry().find::<dyn Tool>(tool)?;
    let output = slot.call(cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(Value::Null)).await });
    within(output).await.map(|output| output.to_text())
}

/// `id state: reason; fix`, one line per plugin.
pub(crate) fn table(host: &Host) -> String {
    host.rows().iter().map(line).collect()
}

pub(crate) fn line(row: &Row) -> String {
    let reason = row.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    let fix = row.fix.as_ref().map_or(String::new(), |fix| format!("\n    fix: {fix}"));
    format!("{} {}{reason}{fix}\n", row.id, row.state.name())
}

pub(crate) fn row(host: &Host, id: &str) -> Row {
    host.rows().into_iter().find(|row| row.id == id).unwrap()
}

/// Code, message and help of an error, as a person sees them.
pub(crate) fn told(error: &bespoke_plugin_api::Error) -> String {
    let help = error.help().map_or(String::new(), |help| format!("\n    help: {help}"));
    format!("{} {error}{help}\n", error.kind())
}

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn text(&self) -> String {
        self.read().join(" ")
    }
}

pub(crate) fn before_run(input: &str) -> HookEvent {
    HookEvent::before_agent_run("s", input)
}

pub(crate) const BEFORE: Hook = Hook::BeforeAgentRun;
