//! The examination against a plugin that keeps all rules, and once for each rule that it breaks when it is told to.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bespoke_plugin_api::{
    Audio, AudioChunk, BoxStream, CallCx, ChatDelta, ChatRequest, Code, Command, CommandRequest, CommandSpec, Descriptor, Duplex,
    EmbedRequest, Embedder, EmbedderSpec, Embeddings, Error, FinishReason, ModelInfo, Output, Package, Plugin, PluginApi, PluginContext,
    Provider, ProviderSpec, Reload, Result, State, Tool, ToolOutput, ToolRequest, ToolSpec, Tts, TtsOptions, TtsSpec, Vad, VadEvent,
    VadOptions, VadSpec, Voice, async_trait, feed,
};
use bespoke_plugin_proxy::StartOptions;
use bespoke_plugin_testkit::{Cases, Check, Conformance, Examination, Outcome, loopback};
use expect_test::expect;
use serde_json::{Map, Value, json};

const MANIFEST: &str = "id = \"rules\"\n[[provides]]\nkind = \"tool\"\nname = \"act\"\n[[provides]]\nkind = \"tts\"\nname = \"say\"\n\
    [[provides]]\nkind = \"vad\"\nname = \"hear\"\n[[provides]]\nkind = \"embedder\"\nname = \"embed\"\n\
    [[provides]]\nkind = \"provider\"\nname = \"think\"\n[[provides]]\nkind = \"command\"\nname = \"run\"\n";

static RULES: Descriptor = Descriptor::of::<Rules>(
    "rules",
    Package { name: "rules", version: "1.0.0", license: "Apache-2.0", manifest: MANIFEST, config_schema: "{}" },
);

/// Which rule it breaks is in its configuration.
struct Rules {
    cx: PluginContext,
    breaks: String,
}

impl Rules {
    fn breaks(&self, what: &str) -> bool {
        self.breaks == what
    }
}

impl Plugin for Rules {
    type Config = Map<String, Value>;

    fn register(api: &mut PluginApi<Self>) {
        let schema = json!({ "type": "object", "properties": { "what": { "enum": ["echo", "wait"] } }, "required": ["what"] });
        api.tool(ToolSpec::new("act", "Acts.").input(schema), |rules| Arc::new(Act(rules.clone())));
        api.tts(TtsSpec::new("say", 16_000), |rules| Arc::new(Say(rules.clone())));
        api.vad(VadSpec::new("hear"), |rules| Arc::new(Hear(rules.clone())));
        api.embedder(EmbedderSpec::new("embed", 2), |rules| Arc::new(Embed(rules.clone())));
        api.provider(ProviderSpec::new("think"), |rules| Arc::new(Think(rules.clone())));
        api.command(CommandSpec::new("run", "Runs."), |rules| Arc::new(Run(rules.clone())));
    }

    fn check(config: &Self::Config) -> Result<()> {
        let lax = config.get("breaks").is_some_and(|breaks| breaks == "keys");
        match config.keys().find(|key| *key != "breaks") {
            Some(key) if !lax => Err(Error::invalid_params(format!("unknown field `{key}`"))),
            _ => Ok(()),
        }
    }

    async fn start(cx: PluginContext, config: Self::Config) -> Result<Self> {
        let breaks = config.get("breaks").and_then(Value::as_str).unwrap_or_default().to_owned();
        if breaks == "start" {
            cx.http(bespoke_plugin_api::HttpRequest::new("GET", "https://example.com/")).await?;
        }
        Ok(Rules { cx, breaks })
    }

    async fn reconfigure(&self, _: Self::Config) -> Result<Reload> {
        if self.breaks("reconfigure") { Err(Error::internal("not now")) } else { Ok(Reload::Applied) }
    }

    async fn capture_state(&self) -> Result<Option<State>> {
        Ok(Some(State::new(1, &b"state"[..])))
    }

    async fn restore_state(&self, _: State) -> Result<()> {
        if self.breaks("state") { Err(Error::internal("what is this?")) } else { Ok(()) }
    }
}

struct Act(Arc<Rules>);

#[async_trait]
impl Tool for Act {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        let rules = &self.0;
        assert!(!rules.breaks("call"), "it panics");
        match request.args["what"].as_str() {
            Some("wait") => {
                rules.cx.sleep(Duration::from_secs(60)).await;
                cx.progress(json!({ "waited": true }));
                Ok(ToolOutput::text("waited"))
            }
            Some("echo") => Ok(ToolOutput::text("echo").with_data(json!({ "n": 4, "list": [1, 2] }))),
            _ => Err(Error::invalid_params("what: echo or wait")),
        }
    }
}

struct Say(Arc<Rules>);

#[async_trait]
impl Tts for Say {
    async fn voices(&self, _: &CallCx) -> Result<Vec<Voice>> {
        Ok(if self.0.breaks("voices") { Vec::new() } else { vec![Voice::new("a", "en")] })
    }

    fn open(&self, options: &TtsOptions) -> Result<Box<dyn Duplex<str, AudioChunk>>> {
        if options.voice.is_some() && !self.0.breaks("voice") {
            return Err(Error::new(Code::TTS_VOICE_NOT_FOUND, "no such voice"));
        }
        Ok(Box::new(Saying { rules: self.0.clone(), chunks: Vec::new(), finished: false }))
    }
}

struct Saying {
    rules: Arc<Rules>,
    chunks: Vec<AudioChunk>,
    finished: bool,
}

impl Duplex<str, AudioChunk> for Saying {
    fn push(&mut self, text: &str) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("it has ended"));
        }
        if !text.trim().is_empty() {
            let rate = if self.rules.breaks("rate") { 8_000 } else { 16_000 };
            let loud = if self.rules.breaks("loud") { 2.0 } else { 0.5 };
            self.chunks.push(AudioChunk::new(Audio::new([loud; 160], rate)));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AudioChunk>>> {
        if let Some(chunk) = self.chunks.pop() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        if !self.finished {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(None)
    }
}

struct Hear(Arc<Rules>);

impl Vad for Hear {
    fn open(&self, options: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        if options.sample_rate == 0 && !self.0.breaks("zero") {
            return Err(Error::new(Code::STT_AUDIO_INVALID, "0 Hz"));
        }
        Ok(Box::new(Hearing { rules: self.0.clone(), at: 0, speaks: false, finished: false, events: Vec::new() }))
    }
}

/// Loud samples are speech, each for itself.
struct Hearing {
    rules: Arc<Rules>,
    at: u64,
    speaks: bool,
    finished: bool,
    events: Vec<VadEvent>,
}

impl Hearing {
    fn end(&mut self) {
        if self.speaks {
            self.events.insert(0, VadEvent::speech_end(self.at, self.at));
        }
        self.speaks = false;
    }
}

impl Duplex<[f32], VadEvent> for Hearing {
    fn push(&mut self, item: &[f32]) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("it has ended"));
        }
        let noisy = self.rules.breaks("silence");
        // The first loud sample of a piece, not of the stream.
        for (n, sample) in item.iter().enumerate() {
            let loud = sample.abs() > 0.1 || noisy;
            let at = self.at + n as u64 + 1;
            let at = if self.rules.breaks("pieces") { self.at + item.len() as u64 } else { at };
            if loud && !self.speaks {
                self.speaks = true;
                self.events.insert(0, VadEvent::speech_start(at, if self.rules.breaks("order") { at + 1 } else { at }));
            } else if !loud && self.speaks && self.at > 12_000 {
                self.at += n as u64;
                self.end();
                self.at -= n as u64;
            }
        }
        self.at += item.len() as u64;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if !self.finished {
            self.end();
        }
        self.finished = true;
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<VadEvent>>> {
        match self.events.pop() {
            Some(event) => Poll::Ready(Some(Ok(event))),
            None if self.finished => Poll::Ready(None),
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

struct Embed(Arc<Rules>);

#[async_trait]
impl Embedder for Embed {
    async fn embed(&self, _: &CallCx, request: EmbedRequest) -> Result<Embeddings> {
        let length = if self.0.breaks("dimensions") { 3 } else { 2 };
        Ok(Embeddings::new(request.texts.iter().map(|text| vec![text.len() as f32; length]).collect()))
    }
}

struct Think(Arc<Rules>);

#[async_trait]
impl Provider for Think {
    async fn models(&self, _: &CallCx) -> Result<Vec<ModelInfo>> {
        Ok(vec![ModelInfo::new("m", 100)])
    }

    async fn chat(&self, _: &CallCx, _: ChatRequest) -> Result<BoxStream<ChatDelta>> {
        let (sender, deltas) = feed(4);
        let _ = sender.send(Ok(ChatDelta::text("well")));
        if !self.0.breaks("finish") {
            let _ = sender.send(Ok(ChatDelta::finish(FinishReason::Stop, None)));
        }
        Ok(Box::pin(deltas))
    }
}

struct Run(Arc<Rules>);

#[async_trait]
impl Command for Run {
    async fn run(&self, _: &CallCx, request: CommandRequest, out: Output) -> Result<i32> {
        out.line(&request.args.join(" "));
        Ok(if self.0.breaks("code") { 256 } else { 0 })
    }
}

/// Through the loopback: what works there works over any driver.
fn examination(breaks: &str) -> Examination {
    let text = format!("[config]\nbreaks = \"{breaks}\"\n");
    let start = |cx: PluginContext, config: Value| -> bespoke_plugin_api::BoxFuture<'static, _> {
        Box::pin(async move { Ok(loopback(&RULES, cx.host().clone(), StartOptions::new("rules", config)).await?.0) })
    };
    Examination::new("rules", start).cases(Cases::parse(&text, Path::new(".")).unwrap()).fits(|config| RULES.check(config))
}

fn broken(checks: &[Check]) -> Vec<String> {
    checks.iter().filter(|check| !check.is_fine()).map(|check| format!("{} {}", check.subject, check.rule)).collect()
}

#[test]
fn a_plugin_that_keeps_all_rules_is_told_so_line_by_line() {
    let heard = Mutex::new(0);
    let checks = examination("").run(|_| *heard.lock().unwrap() += 1);
    let lines: Vec<String> = checks
        .iter()
        .map(|check| {
            let mark = match check.outcome {
                Outcome::Passed => '✓',
                Outcome::Skipped { .. } => '-',
                Outcome::Failed(_) => '✗',
            };
            format!("{mark} {} {}\n", check.subject, check.rule)
        })
        .collect();
    assert_eq!(*heard.lock().unwrap(), lines.len());
    expect![[r#"
        - plugin has a configuration that its schema allows
        ✓ plugin starts offline
        ✓ plugin contributes what its manifest declares
        ✓ tool act says to a model what it does and takes
        ✓ tool act answers a call by its schema
        ✓ tool act outlives arguments that break its schema
        ✓ tool act is still there after all of this
        ✓ tts say names its voices
        ✓ tts say speaks, in fragments, at its rate
        ✓ tts say says nothing where there is nothing to say
        ✓ tts say refuses a voice that there is not
        ✓ tts say ends its streams, and forgets those that are dropped
        ✓ tts say is still there after all of this
        ✓ vad hear hears no speech in silence
        ✓ vad hear tells in order, starts and ends in turn
        ✓ vad hear hears the same in pieces of any length
        ✓ vad hear refuses a rate that there is not
        ✓ vad hear ends its streams, and forgets those that are dropped
        ✓ vad hear is still there after all of this
        ✓ embedder embed gives each text a vector of its length
        ✓ embedder embed outlives no texts
        ✓ embedder embed is still there after all of this
        ✓ provider think names its models
        ✓ provider think ends its answer with why it ended
        ✓ provider think outlives a conversation without messages
        ✓ provider think is still there after all of this
        ✓ command run runs without arguments
        ✓ command run outlives arguments that it does not know
        ✓ command run is still there after all of this
        ✓ plugin refuses keys of its configuration that it does not know
        ✓ plugin says quickly how it does
        ✓ plugin takes its own configuration again
        ✓ plugin hands over what it keeps, and takes it back
        ✓ plugin lets go of a call of act that is cancelled
        ✓ plugin answers 100 calls of act within its limits
        ✓ plugin leaves no call of act without an answer when it stops
        ✓ plugin stops, and stops again
    "#]]
    .assert_eq(&lines.concat());
}

#[test]
fn each_broken_rule_is_named_and_no_other() {
    for (breaks, rules) in [
        ("start", &["plugin starts offline"][..]),
        ("keys", &["plugin refuses keys of its configuration that it does not know"]),
        ("reconfigure", &["plugin takes its own configuration again"]),
        ("state", &["plugin hands over what it keeps, and takes it back"]),
        ("call", &["tool act answers a call by its schema"]),
        ("voices", &["tts say names its voices"]),
        ("voice", &["tts say refuses a voice that there is not"]),
        ("rate", &["tts say speaks, in fragments, at its rate"]),
        ("loud", &["tts say speaks, in fragments, at its rate"]),
        ("zero", &["vad hear refuses a rate that there is not"]),
        ("order", &["vad hear tells in order, starts and ends in turn"]),
        ("silence", &["vad hear hears no speech in silence"]),
        ("pieces", &["vad hear hears the same in pieces of any length"]),
        ("dimensions", &["embedder embed gives each text a vector of its length"]),
        ("finish", &["provider think ends its answer with why it ended"]),
        ("code", &["command run runs without arguments", "command run outlives arguments that it does not know"]),
    ] {
        assert_eq!(broken(&examination(breaks).run(|_| ())), rules, "{breaks}");
    }
}

#[test]
fn what_an_author_says_of_calls_is_held_against_the_answers() {
    let text = r#"
        [[call]]
        name = "at least this"
        tool = "act"
        args = { what = "echo" }
        expect = { text = "echo", data = { n = 4.0 } }
        [[call]]
        name = "another number"
        tool = "act"
        args = { what = "echo" }
        expect = { data = { list = [1, 3] } }
        [[call]]
        name = "the error"
        tool = "act"
        args = { what = "dance" }
        error = "INVALID_PARAMS"
        contains = ["echo", "wait"]
        [[call]]
        name = "another error"
        tool = "act"
        error = "NETWORK_FAILED"
        [[call]]
        name = "progress"
        tool = "act"
        args = { what = "wait" }
        progress = [{ waited = true }]
        [[call]]
        name = "words"
        command = "run"
        args = ["a", "b"]
        expect = { exit_code = 0, lines = ["a b"] }
        contains = "c"
        [[call]]
        name = "speech"
        tts = "say"
        args = { text = "Hello." }
        expect = { rate = 16000, samples = 160 }
        [[call]]
        name = "hearing"
        vad = "hear"
        args = { file = "some.wav" }
        expect = { speeches = 1 }
        [[call]]
        name = "thinking"
        provider = "think"
        args = { prompt = "Well?" }
        expect = { text = "well", finish = "stop" }
        [[call]]
        name = "numbers"
        embedder = "embed"
        args = { texts = ["four"] }
        expect = { count = 1, dimensions = 2, vectors = [[4, 4]] }
        [[call]]
        name = "nobody"
        tool = "dance"
    "#;
    let asked = Arc::new(AtomicBool::new(false));
    let asked_for = asked.clone();
    let examination = examination("").cases(Cases::parse(text, Path::new("/tests")).unwrap()).hear(move |path| {
        asked_for.store(path == Path::new("/tests/some.wav"), Ordering::SeqCst);
        Ok(Audio::new([0.5; 1_600], 16_000))
    });
    let checks = examination.run(|_| ());
    assert!(asked.load(Ordering::SeqCst));
    assert_eq!(
        broken(&checks),
        ["tool act another number", "tool act another error", "command run words", "tool dance nobody"],
        "{checks:#?}"
    );
    let fault = checks.iter().find_map(|check| match &check.outcome {
        Outcome::Failed(fault) if check.rule == "another number" => Some(fault),
        _ => None,
    });
    assert!(fault.unwrap().got.ends_with("it differs at data.list[1]"), "{fault:?}");
}

#[test]
fn a_file_of_cases_that_is_wrong_says_where() {
    for (text, why) in [
        ("[[call]]\ntool = \"a\"\nvad = \"b\"\n", "call[0]: it names 2 contributions instead of one"),
        ("[[call]]\nargs = {}\n", "call[0]: it names 0 contributions instead of one"),
        ("[[call]]\ntool = \"a\"\nerror = \"NO_SUCH\"\n", "call[0].error: `NO_SUCH` is no code"),
        ("[[calls]]\n", "unknown field `calls`"),
        ("[config\n", "TOML parse error at line 1"),
    ] {
        let error = Cases::parse(text, Path::new(".")).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn a_panic_is_an_error_where_code_unwinds_and_the_end_where_it_does_not() {
    let suite = || Conformance::new(&RULES).tool("act", json!({ "what": "echo" }));
    suite().check();
    // No call of this plugin panics, unless it is told to, and then each does: the call after it does not answer.
    let error = suite().config(json!({ "breaks": "call" })).panicking_tool("act", json!({ "what": "echo" })).verify().unwrap_err();
    assert!(error.contains("after a panic of act the next call in compiled comes to"), "{error}");
    let error = suite().panicking_tool("act", json!({ "what": "echo" })).verify().unwrap_err();
    assert!(error.contains("act panics in compiled and comes to Some(Ok("), "{error}");
}

#[test]
fn a_plugin_that_the_test_does_not_hold_is_compared_with_itself() {
    let start = |breaks: &'static str| {
        move |cx: PluginContext, _: Value| -> bespoke_plugin_api::BoxFuture<'static, _> {
            Box::pin(async move { RULES.start(cx, json!({ "breaks": breaks })).await })
        }
    };
    Conformance::of("rules", MANIFEST).tier("one", &[], start("")).tier("other", &[], start("")).check();
    let error = Conformance::of("rules", MANIFEST).tier("one", &[], start("")).tier("other", &[], start("loud")).verify().unwrap_err();
    assert!(error.starts_with("the tiers differ:\none: {\"tts:say\""), "{error}");
}
