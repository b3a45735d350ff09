//! The conformance suite: one plugin, one script, two tiers or more, equal bytes; and the rules that no script shows.

mod checks;
pub(crate) mod record;
pub(crate) mod script;

use std::{path::PathBuf, sync::Arc};

use bespoke_plugin_api::{Audio, BoxFuture, ChatRequest, Descriptor, Error, Instance, Message, PluginContext, Result};
use bespoke_plugin_proxy::StartOptions;
use serde_json::{Value, json};

use crate::{
    executor::block_on_for,
    host::{Clock, TestHost},
    loopback::{Probe, loopback},
    manifest::Manifest,
    rules::LIMIT,
    running::{Running, Start},
};

/// The suite for one plugin. Everything but the plugin has a default; say more where it has more to show.
pub struct Conformance {
    id: String,
    /// The text of its plugin.toml.
    manifest: String,
    /// Of one that is compiled into the test.
    descriptor: Option<&'static Descriptor>,
    config: Value,
    tools: Vec<(String, Value)>,
    chats: Vec<ChatRequest>,
    audio: Vec<Audio>,
    texts: Vec<String>,
    models: Vec<(String, PathBuf)>,
    channel_messages: usize,
    slow_tool: Option<(String, Value)>,
    slow_chat: Option<ChatRequest>,
    panicking: Vec<(String, Value)>,
    clock: Clock,
    prepare: Arc<dyn Fn(&TestHost) + Send + Sync>,
    others: Vec<Other>,
}

/// Where a plugin runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    Compiled,
    Loopback,
    /// One of those that the test brought.
    Other(usize),
}

/// A tier that the test brought.
struct Other {
    name: String,
    /// Facts that are the tier's own.
    facts: Vec<String>,
    /// Whether a panic is the end of an instance.
    traps: bool,
    start: Box<Start>,
}

impl Conformance {
    /// The suite of a plugin that is compiled into the test, with an empty configuration. It runs compiled in, through the loopback, and
    /// in each [`tier`](Self::tier) that is named besides.
    pub fn new(descriptor: &'static Descriptor) -> Self {
        Conformance { descriptor: Some(descriptor), ..Self::of(descriptor.id(), descriptor.package().manifest) }
    }

    /// The suite of a plugin that the test does not hold, by its id and the text of its plugin.toml. It runs in each
    /// [`tier`](Self::tier) that is named, and the first of them says what the others must say.
    pub fn of(id: &str, manifest: &str) -> Self {
        Conformance {
            id: id.to_owned(),
            manifest: manifest.to_owned(),
            descriptor: None,
            config: json!({}),
            tools: Vec::new(),
            chats: vec![
                ChatRequest::new(vec![Message::system("You are helpful."), Message::user("Say hello.")]).temperature(0.0).max_tokens(8),
            ],
            audio: vec![beeps()],
            texts: vec!["Hello there. This is ".to_owned(), "a test.".to_owned()],
            models: Vec::new(),
            channel_messages: 0,
            slow_tool: None,
            slow_chat: None,
            panicking: Vec::new(),
            clock: Clock::Jump,
            prepare: Arc::new(|_| ()),
            others: Vec::new(),
        }
    }

    /// With the table `[plugins.<id>]`.
    #[must_use]
    pub fn config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }

    /// With a call of a tool. Each tool is called without arguments too.
    #[must_use]
    pub fn tool(mut self, name: &str, args: Value) -> Self {
        self.tools.push((name.to_owned(), args));
        self
    }

    /// With a conversation besides the one that every provider is asked.
    #[must_use]
    pub fn chat(mut self, request: ChatRequest) -> Self {
        self.chats.push(request);
        self
    }

    /// With audio besides a second of silence and tone at 16 kHz.
    #[must_use]
    pub fn audio(mut self, audio: Audio) -> Self {
        self.audio.push(audio);
        self
    }

    /// With these fragments of text to speak, instead of two short sentences.
    #[must_use]
    pub fn texts(mut self, texts: &[&str]) -> Self {
        self.texts = texts.iter().map(|t| (*t).to_owned()).collect();
        self
    }

    /// With a model file of the manifest.
    #[must_use]
    pub fn model(mut self, file: &str, path: impl Into<PathBuf>) -> Self {
        self.models.push((file.to_owned(), path.into()));
        self
    }

    /// With so many messages to wait for from a channel before it is cancelled; none is the default.
    #[must_use]
    pub fn channel_messages(mut self, count: usize) -> Self {
        self.channel_messages = count;
        self
    }

    /// With a call that sleeps for long and must end when it is cancelled.
    #[must_use]
    pub fn slow_tool(mut self, name: &str, args: Value) -> Self {
        self.slow_tool = Some((name.to_owned(), args));
        self
    }

    /// With a conversation whose answer begins and then sleeps for long, and must end when it is cancelled or dropped.
    #[must_use]
    pub fn slow_chat(mut self, request: ChatRequest) -> Self {
        self.slow_chat = Some(request);
        self
    }

    /// With a call of a tool that panics. It is asked in an instance of its own: where panics unwind, the call is `PLUGIN_EXCEPTION` and
    /// the instance answers on; in a tier that [`traps`](Self::traps) it is `PLUGIN_CRASHED`, may be tried again, and the instance has
    /// ended. After it the tool is called without arguments, which it must answer.
    #[must_use]
    pub fn panicking_tool(mut self, name: &str, args: Value) -> Self {
        self.panicking.push((name.to_owned(), args));
        self
    }

    /// With another clock for the script, instead of one by which every wait ends at once: a plugin that races its work against a
    /// limit of time takes [`Clock::Manual`], which stands still.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// With a host that is told more: secrets, scripted answers.
    #[must_use]
    pub fn host(mut self, prepare: impl Fn(&TestHost) + Send + Sync + 'static) -> Self {
        self.prepare = Arc::new(prepare);
        self
    }

    /// With one more tier that is held against the others: `start` gives an instance there, with a context of this suite's host and
    /// the configuration. `facts` are the names of those that the tier adds to the plugin's own; they are not compared. The future is
    /// polled wherever the suite runs, so one that needs a runtime must find it entered.
    #[must_use]
    pub fn tier(
        mut self,
        name: &str,
        facts: &[&str],
        start: impl Fn(PluginContext, Value) -> BoxFuture<'static, Result<Instance>> + Send + Sync + 'static,
    ) -> Self {
        let facts = facts.iter().map(|fact| (*fact).to_owned()).collect();
        self.others.push(Other { name: name.to_owned(), facts, traps: false, start: Box::new(start) });
        self
    }

    /// In the tier that was named last, a panic is the end of the instance: what is compiled to wasm does not unwind.
    #[must_use]
    pub fn traps(mut self) -> Self {
        if let Some(last) = self.others.last_mut() {
            last.traps = true;
        }
        self
    }

    /// Runs all of it.
    ///
    /// # Panics
    /// At the first rule that the plugin breaks, naming it.
    pub fn check(&self) {
        if let Err(why) = self.verify() {
            panic!("{} does not conform: {why}", self.id);
        }
    }

    /// What the script recorded, compiled in and through the loopback, as JSON.
    ///
    /// # Errors
    /// When a start fails or a step does not end; when the plugin is not compiled in.
    pub fn transcripts(&self) -> Result<(Vec<u8>, Vec<u8>), String> {
        Ok((self.transcript(Tier::Compiled)?, self.transcript(Tier::Loopback)?))
    }

    fn manifest(&self) -> Result<Manifest, String> {
        Manifest::read(&self.manifest)
    }

    fn is_trapping(&self, tier: Tier) -> bool {
        matches!(tier, Tier::Other(n) if self.others[n].traps)
    }

    fn name(&self, tier: Tier) -> &str {
        match tier {
            Tier::Compiled => "compiled",
            Tier::Loopback => "loopback",
            Tier::Other(n) => &self.others[n].name,
        }
    }

    /// All tiers that the suite runs in, the one that counts first.
    fn tiers(&self) -> impl Iterator<Item = Tier> + use<> {
        let ours = if self.descriptor.is_some() { &[Tier::Compiled, Tier::Loopback][..] } else { &[] };
        ours.iter().copied().chain((0..self.others.len()).map(Tier::Other))
    }

    fn transcript(&self, tier: Tier) -> Result<Vec<u8>, String> {
        let running = self.start(tier, self.clock)?;
        let steps = script::run(self, &running)?;
        serde_json::to_vec(&steps).map_err(|e| e.to_string())
    }

    /// Starts an instance, offline.
    fn start(&self, tier: Tier, clock: Clock) -> Result<Running, String> {
        let manifest = self.manifest()?;
        let host = TestHost::with_clock(clock);
        for (file, path) in &self.models {
            host.set_model(file, path);
        }
        (self.prepare)(&host);
        let id = &*self.id;
        let descriptor = || self.descriptor.ok_or_else(|| format!("{id} is not compiled into this test"));
        let started: Option<Result<(Instance, Option<Probe>), Error>> = match tier {
            Tier::Compiled => {
                let start = descriptor()?.start(host.context(id), self.config.clone());
                block_on_for(LIMIT, record::caught(start)).map(|r| r.map(|i| (i, None)))
            }
            Tier::Loopback => {
                let models = manifest.models.into_iter().map(|m| m.file).chain(self.models.iter().map(|(file, _)| file.clone()));
                let options = StartOptions::new(id, self.config.clone()).models(models.collect()).runtimes(manifest.runtimes);
                block_on_for(LIMIT, loopback(descriptor()?, host.clone(), options)).map(|r| r.map(|(i, p)| (i, Some(p))))
            }
            Tier::Other(n) => {
                let start = (self.others[n].start)(host.context(id), self.config.clone());
                block_on_for(LIMIT, start).map(|r| r.map(|i| (i, None)))
            }
        };
        let foreign = if let Tier::Other(n) = tier { self.others[n].facts.clone() } else { Vec::new() };
        match started {
            Some(Ok((instance, probe))) => Ok(Running { instance, host, probe, foreign }),
            Some(Err(e)) => Err(format!("start fails offline in the tier {}: {e:?}", self.name(tier))),
            None => Err(format!("start does not end in the tier {}", self.name(tier))),
        }
    }
}

impl std::fmt::Debug for Conformance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conformance").field("plugin", &self.id).finish_non_exhaustive()
    }
}

/// A second at 16 kHz: silence, a loud square tone, silence. Exact in f32.
pub(crate) fn beeps() -> Audio {
    let samples: Vec<f32> = (0..16_000)
        .map(|n| match n {
            4_096..12_288 if n / 20 % 2 == 0 => 0.75,
            4_096..12_288 => -0.75,
            _ => 0.0,
        })
        .collect();
    Audio::new(samples, 16_000)
}
