//! A session with a client, and plugins to try.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_host::{Candidate, Config, Host};
use bespoke_host_stdio::{Ended, Options, Source, serve};
use bespoke_plugin_api::{
    CallCx, CancelToken, Code, Descriptor, Error, Package, Plugin, PluginApi, PluginContext, Result, Stt, SttRequest, SttSpec, Tool,
    ToolOutput, ToolRequest, ToolSpec, Transcript, async_trait,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    task::JoinHandle,
};

/// Longer than anything takes, even where two cores are shared by many.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A client and the session that it has.
pub(crate) struct Client {
    input: Option<WriteHalf<DuplexStream>>,
    output: BufReader<ReadHalf<DuplexStream>>,
    session: JoinHandle<Ended>,
    pub(crate) stop: CancelToken,
    pub(crate) host: Host,
    next: u64,
}

impl Client {
    pub(crate) fn new(config: &str) -> Self {
        Self::with(config, |_| {})
    }

    pub(crate) fn with(config: &str, change: impl FnOnce(&mut Options)) -> Self {
        let host = Host::builder().config(Config::parse("bespoke.toml", config).unwrap()).plugins([&EAR2]).build().unwrap();
        let mut options = Options::new("1.2.3", Arc::new(Shelf));
        change(&mut options);
        let stop = options.stop.clone();
        let (ours, theirs) = duplex(1 << 16);
        let (read, write) = split(theirs);
        let session = tokio::spawn(serve(host.clone(), read, write, options));
        let (read, write) = split(ours);
        Client { input: Some(write), output: BufReader::new(read), session, stop, host, next: 0 }
    }

    pub(crate) async fn send(&mut self, line: impl AsRef<[u8]>) {
        let input = self.input.as_mut().expect("the input was closed");
        let line = [line.as_ref(), b"\n"].concat();
        tokio::time::timeout(LIMIT, input.write_all(&line)).await.expect("nobody reads").unwrap();
    }

    /// The next line; nothing at the end.
    pub(crate) async fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = tokio::time::timeout(LIMIT, self.output.read_line(&mut line)).await.expect("no answer").unwrap();
        (read > 0).then(|| serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}")))
    }

    /// Sends a request; its id.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        self.send(json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params }).to_string()).await;
        self.next
    }

    /// Sends a request and waits for its answer, which has to be the next line.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params).await;
        let answer = self.line().await.expect("the session is over");
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    #[track_caller]
    pub(crate) fn is_ok(answer: &Value) -> Value {
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }

    pub(crate) async fn ok(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params).await;
        Self::is_ok(&answer)
    }

    pub(crate) async fn error(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params).await;
        assert!(answer.get("result").is_none(), "{answer}");
        answer["error"].clone()
    }

    /// Closes the input.
    pub(crate) async fn close(&mut self) {
        if let Some(mut input) = self.input.take() {
            input.shutdown().await.unwrap();
        }
    }

    /// Goes away without a word.
    pub(crate) async fn gone(mut self) -> Ended {
        drop((self.input.take(), self.output));
        let ended = tokio::time::timeout(LIMIT, self.session).await.expect("the session does not end").unwrap();
        self.host.shutdown().await;
        ended
    }

    /// What comes until the session is over, and how it ended.
    pub(crate) async fn rest(mut self) -> (Vec<Value>, Ended) {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
        }
        let ended = tokio::time::timeout(LIMIT, self.session).await.expect("the session does not end").unwrap();
        self.host.shutdown().await;
        (lines, ended)
    }
}

/// All plugins of these tests, and one that is broken.
struct Shelf;

impl Source for Shelf {
    fn all(&self) -> Vec<Candidate> {
        let mut all: Vec<Candidate> =
            [&bespoke_fake::BESPOKE_PLUGIN, &EAR, &EAR2, &DEAF, &MUTE, &DUMB].into_iter().map(Candidate::from).collect();
        let mut broken = Candidate::from(&EAR);
        broken.id = "broken".into();
        let error = Error::new(Code::MANIFEST_INVALID, "broken/manifest.json:3:1: version: it is missing");
        broken.manifest = Err(error.with_help("write a version"));
        all.push(broken);
        all
    }

    fn open(&self, folder: &Path) -> Result<Candidate> {
        match folder.to_str() {
            Some("/plugins/ear") => Ok(Candidate::from(&EAR)),
            _ => Err(Error::new(Code::MANIFEST_MISSING, format!("{} holds no plugin", folder.display()))),
        }
    }
}

/// Starts of `mute`, to see what a plugin sees.
pub(crate) static STARTS: AtomicUsize = AtomicUsize::new(0);

/// Writes down its configuration instead of what it hears.
pub(crate) struct Ear {
    word: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EarConfig {
    word: String,
    fail: bool,
}

impl Plugin for Ear {
    type Config = EarConfig;

    fn register(api: &mut PluginApi<Self>) {
        api.stt(SttSpec::new("ear"), |ear| ear.clone());
    }

    async fn start(_: PluginContext, config: EarConfig) -> Result<Self> {
        if config.fail { Err(Error::internal("no microphone").with_help("plug one in")) } else { Ok(Ear { word: config.word }) }
    }
}

#[async_trait]
impl Stt for Ear {
    async fn transcribe(&self, _: &CallCx, _: SttRequest) -> Result<Transcript> {
        Ok(Transcript::new(self.word.clone()))
    }
}

struct Block;

#[async_trait]
impl Tool for Block {
    async fn call(&self, _: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        std::thread::sleep(Duration::from_millis(request.args["ms"].as_u64().unwrap_or(0)));
        Ok(ToolOutput::text("blocked"))
    }
}

/// Another one for the same contract.
struct Ear2;

impl Plugin for Ear2 {
    type Config = EarConfig;

    fn register(api: &mut PluginApi<Self>) {
        api.stt(SttSpec::new("ear2"), |ear| ear.clone());
    }

    async fn start(_: PluginContext, _: EarConfig) -> Result<Self> {
        Ok(Ear2)
    }
}

#[async_trait]
impl Stt for Ear2 {
    async fn transcribe(&self, _: &CallCx, _: SttRequest) -> Result<Transcript> {
        Ok(Transcript::new("second"))
    }
}

/// A third one, which does not start.
struct Deaf;

impl Plugin for Deaf {
    type Config = EarConfig;

    fn register(api: &mut PluginApi<Self>) {
        api.stt(SttSpec::new("deaf"), |ear| ear.clone());
    }

    async fn start(_: PluginContext, _: EarConfig) -> Result<Self> {
        Err(Error::internal("hears nothing").with_help("shout"))
    }
}

#[async_trait]
impl Stt for Deaf {
    async fn transcribe(&self, _: &CallCx, _: SttRequest) -> Result<Transcript> {
        Err(Error::internal("never started"))
    }
}

/// Of another contract; blocks its thread when it is asked to.
struct Dumb;

impl Plugin for Dumb {
    type Config = EarConfig;

    fn register(api: &mut PluginApi<Self>) {
        let input = json!({ "type": "object", "properties": { "ms": { "type": "integer" } } });
        api.tool(ToolSpec::new("block", "Blocks its thread.").input(input), |_| Arc::new(Block));
    }

    async fn start(_: PluginContext, _: EarConfig) -> Result<Self> {
        Ok(Dumb)
    }
}

/// Counts its starts.
struct Mute;

impl Plugin for Mute {
    type Config = EarConfig;

    fn register(api: &mut PluginApi<Self>) {
        api.tool(ToolSpec::new("mute", "Says nothing."), |_| Arc::new(Block));
    }

    async fn start(_: PluginContext, _: EarConfig) -> Result<Self> {
        STARTS.fetch_add(1, Ordering::SeqCst);
        Ok(Mute)
    }
}

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": { "word": { "type": "string", "x-reload": "live" }, "fail": { "type": "boolean" } },
    "additionalProperties": false
}"#;

const fn package(manifest: &'static str) -> Package {
    Package { name: "test-plugin", version: "0.1.0", license: "MIT", manifest, config_schema: SCHEMA }
}

macro_rules! manifest {
    ($id:literal, $provides:literal) => {
        concat!(
            "id = \"",
            $id,
            "\"\nname = \"The ",
            $id,
            "\"\ndescription = \"d\"\nauthor = \"a\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n",
            $provides
        )
    };
}

static EAR: Descriptor = Descriptor::of::<Ear>("ear", package(manifest!("ear", "[[provides]]\nkind = \"stt\"\nname = \"ear\"\n")));
static EAR2: Descriptor = Descriptor::of::<Ear2>("ear2", package(manifest!("ear2", "[[provides]]\nkind = \"stt\"\nname = \"ear2\"\n")));
static DEAF: Descriptor = Descriptor::of::<Deaf>("deaf", package(manifest!("deaf", "[[provides]]\nkind = \"stt\"\nname = \"deaf\"\n")));
static DUMB: Descriptor = Descriptor::of::<Dumb>("dumb", package(manifest!("dumb", "[[provides]]\nkind = \"tool\"\nname = \"block\"\n")));
static MUTE: Descriptor = Descriptor::of::<Mute>("mute", package(manifest!("mute", "[[provides]]\nkind = \"tool\"\nname = \"mute\"\n")));

/// A recording as arguments of `transcribe`: so many bytes of silence.
pub(crate) fn recording(bytes: usize) -> Value {
    json!({ "audio": { "base64": "AAAA".repeat(bytes.div_ceil(6) * 2) }, "format": "s16le", "sample_rate": 16_000 })
}
