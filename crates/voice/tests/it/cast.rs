//! The engines of the tests: a detector that really measures loudness, and a transcriber, a provider and a voice that follow
//! a script, each noting what it was asked and when it was let go.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bespoke_agent::{Agent, AgentConfig};
use bespoke_audio::rms;
use bespoke_host::{Artifact, Candidate, Host, Selection, Terms, Tier};
use bespoke_manifest::{Inherited, Manifest};
use bespoke_plugin_api::{
    Audio, AudioChunk, BoxFuture, BoxStream, CallCx, ChatDelta, ChatRequest, Code, Contribution, Duplex, Error, FinishReason, Instance,
    ModelInfo, Plugin, PluginApi, PluginContext, Provider, ProviderSpec, Result, Spec, Stt, SttRequest, SttSpec, Transcript, Tts,
    TtsOptions, TtsSpec, Vad, VadEvent, VadOptions, VadSpec, Voice as TtsVoice, async_trait, serde_json::Value,
};
use bespoke_voice::{Voice, VoiceConfig};
use futures_util::stream;
use tokio::sync::{Semaphore, watch};

/// Waits, but not for ever.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("did not happen in time")
}

/// Something that a test lets happen.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Gate(Arc::new(Semaphore::new(0)))
    }

    pub(crate) fn open(&self) {
        self.0.add_permits(1_000);
    }

    async fn pass(&self) {
        self.0.acquire().await.expect("never closed").forget();
    }
}

/// Counts something that a test waits for.
#[derive(Clone)]
pub(crate) struct Count(Arc<watch::Sender<usize>>);

impl Count {
    fn new() -> Self {
        Count(Arc::new(watch::Sender::new(0)))
    }

    fn up(&self) {
        self.0.send_modify(|n| *n += 1);
    }

    pub(crate) fn get(&self) -> usize {
        *self.0.borrow()
    }

    pub(crate) async fn reaches(&self, n: usize) {
        let mut watch = self.0.subscribe();
        within(watch.wait_for(|count| *count >= n)).await.expect("the sender is ours");
    }
}

/// Counts when it goes.
struct Gone(Count);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.up();
    }
}

// ---- the detector -------------------------------------------------------------------------------

/// Speech is what is loud: two loud windows of 32 ms start it, five quiet ones end it.
pub(crate) struct Loudness {
    pub(crate) opened: AtomicUsize,
    pub(crate) fault: Option<Fault>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// It cannot be opened.
    Open,
    /// It fails on the first frame.
    Push,
    /// It panics on the first frame.
    Panic,
    /// Its stream is over after the first frame.
    Ends,
}

pub(crate) const WINDOW: u64 = 512;
const QUIET: u32 = 5;

impl Vad for Loudness {
    fn open(&self, options: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        assert_eq!(options.sample_rate, 16_000);
        self.opened.fetch_add(1, Ordering::SeqCst);
        if self.fault == Some(Fault::Open) {
            return Err(Error::new(Code::MODEL_NOT_FOUND, "loud.onnx is missing").with_help("bespoke plugin download-files loud"));
        }
        Ok(Box::new(Listening { fault: self.fault, ..Listening::default() }))
    }
}

#[derive(Default)]
struct Listening {
    fault: Option<Fault>,
    pending: Vec<f32>,
    at: u64,
    loud: u32,
    quiet: u32,
    last_loud: u64,
    speaking: bool,
    events: VecDeque<VadEvent>,
    finished: bool,
}

impl Duplex<[f32], VadEvent> for Listening {
    fn push(&mut self, frame: &[f32]) -> Result<()> {
        match self.fault {
            Some(Fault::Push) => return Err(Error::internal("the engine broke")),
            Some(Fault::Panic) => panic!("out of its mind"),
            Some(Fault::Ends) => self.finished = true,
            Some(Fault::Open) | None => {}
        }
        self.pending.extend_from_slice(frame);
        while self.pending.len() >= WINDOW as usize {
            let window: Vec<f32> = self.pending.drain(..WINDOW as usize).collect();
            self.at += WINDOW;
            let loud = rms(&window) > 0.05;
            let probability = if loud { 0.9 } else { 0.1 };
            self.events.push_back(VadEvent::window(self.at, probability, 1));
            if loud {
                self.last_loud = self.at;
                (self.loud, self.quiet) = (self.loud + 1, 0);
                if self.loud >= 2 && !std::mem::replace(&mut self.speaking, true) {
                    self.events.push_back(VadEvent::speech_start(self.at, self.at.saturating_sub(2 * WINDOW)));
                }
            } else {
                (self.loud, self.quiet) = (0, self.quiet + 1);
                if self.quiet >= QUIET && std::mem::replace(&mut self.speaking, false) {
                    self.events.push_back(VadEvent::speech_end(self.at, self.last_loud));
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        Ok(())
    }

    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<VadEvent>>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(Some(Ok(event))),
            None if self.finished => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

// ---- the transcriber ----------------------------------------------------------------------------

/// Says what its script says, one entry per request, whatever it hears.
pub(crate) struct Scribe {
    pub(crate) script: Mutex<VecDeque<Result<&'static str>>>,
    pub(crate) requests: Mutex<Vec<SttRequest>>,
    pub(crate) asked: Count,
    pub(crate) gate: Option<Gate>,
}

#[async_trait]
impl Stt for Scribe {
    async fn transcribe(&self, _cx: &CallCx, request: SttRequest) -> Result<Transcript> {
        self.requests.lock().unwrap().push(request);
        self.asked.up();
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
        let entry = self.script.lock().unwrap().pop_front();
        entry.expect("the script of the transcriber is too short").map(Transcript::new)
    }
}

// ---- the provider -------------------------------------------------------------------------------

/// A step of an answer.
#[derive(Clone)]
pub(crate) enum Step {
    Say(&'static str),
    Wait(Gate),
    Fail,
}

/// Answers by its script, one entry per request.
pub(crate) struct Brain {
    pub(crate) script: Mutex<VecDeque<Vec<Step>>>,
    pub(crate) requests: Mutex<Vec<ChatRequest>>,
    /// Answers that were let go, at their end or before.
    pub(crate) gone: Count,
}

#[async_trait]
impl Provider for Brain {
    async fn models(&self, _cx: &CallCx) -> Result<Vec<ModelInfo>> {
        Ok(vec![ModelInfo::new("brain", 4_096)])
    }

    async fn chat(&self, _cx: &CallCx, request: ChatRequest) -> Result<BoxStream<ChatDelta>> {
        self.requests.lock().unwrap().push(request);
        let steps = self.script.lock().unwrap().pop_front().expect("the script of the provider is too short");
        let state = (VecDeque::from(steps), false, Gone(self.gone.clone()));
        Ok(Box::pin(stream::unfold(state, |(mut steps, over, gone)| async move {
            loop {
                let delta = match steps.pop_front() {
                    _ if over => return None,
                    Some(Step::Wait(gate)) => {
                        gate.pass().await;
                        continue;
                    }
                    Some(Step::Say(text)) => Ok(ChatDelta::text(text)),
                    Some(Step::Fail) => Err(Error::new(Code::LLM_COMPLETION_FAILED, "the thread was lost")),
                    None => Ok(ChatDelta::finish(FinishReason::Stop, None)),
                };
                let over = !matches!(delta, Ok(ChatDelta::Text { .. }));
                return Some((delta, (steps, over, gone)));
            }
        })))
    }
}

// ---- the voice ----------------------------------------------------------------------------------

/// 10 ms of sound per character at 8 kHz, one chunk a piece, as soon as the piece is there.
pub(crate) struct Throat {
    pub(crate) pieces: Arc<Mutex<Vec<String>>>,
    /// Streams that were let go.
    pub(crate) gone: Count,
    /// How often a stream had nothing more to give for now.
    pub(crate) idle: Count,
    pub(crate) fault: Option<Fault>,
    /// Takes only one piece at a time.
    pub(crate) narrow: bool,
    /// Every character lasts this much longer.
    pub(crate) drawl: usize,
}

pub(crate) const TTS_RATE: u32 = 8_000;

#[async_trait]
impl Tts for Throat {
    async fn voices(&self, _cx: &CallCx) -> Result<Vec<TtsVoice>> {
        Ok(vec![TtsVoice::new("throat", "en")])
    }

    fn open(&self, _options: &TtsOptions) -> Result<Box<dyn Duplex<str, AudioChunk>>> {
        if self.fault == Some(Fault::Open) {
            return Err(Error::new(Code::TTS_SYNTHESIS_FAILED, "hoarse"));
        }
        Ok(Box::new(Speaking {
            pieces: self.pieces.clone(),
            idle: self.idle.clone(),
            fault: self.fault,
            narrow: self.narrow,
            drawl: self.drawl,
            queue: VecDeque::new(),
            finished: false,
            waker: None,
            _gone: Gone(self.gone.clone()),
        }))
    }
}

struct Speaking {
    pieces: Arc<Mutex<Vec<String>>>,
    idle: Count,
    fault: Option<Fault>,
    narrow: bool,
    drawl: usize,
    queue: VecDeque<AudioChunk>,
    finished: bool,
    waker: Option<Waker>,
    _gone: Gone,
}

impl Duplex<str, AudioChunk> for Speaking {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.narrow && !self.queue.is_empty() {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn push(&mut self, piece: &str) -> Result<()> {
        assert!(!self.narrow || self.queue.is_empty(), "pushed without room");
        match self.fault {
            Some(Fault::Push) => return Err(Error::new(Code::TTS_SYNTHESIS_FAILED, "a frog in it")),
            Some(Fault::Panic) => panic!("swallowed wrong"),
            Some(Fault::Ends) => self.finished = true,
            Some(Fault::Open) | None => {}
        }
        let piece = piece.strip_suffix("\n\n").expect("a piece is complete");
        self.pieces.lock().unwrap().push(piece.to_owned());
        let samples = vec![0.25; piece.chars().count() * 80 * self.drawl];
        self.queue.push_back(AudioChunk::new(Audio::new(samples, TTS_RATE)));
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AudioChunk>>> {
        match self.queue.pop_front() {
            Some(chunk) => {
                self.waker.take().into_iter().for_each(Waker::wake);
                Poll::Ready(Some(Ok(chunk)))
            }
            None if self.finished => Poll::Ready(None),
            None => {
                self.waker = Some(cx.waker().clone());
                self.idle.up();
                Poll::Pending
            }
        }
    }
}

// ---- the stage ----------------------------------------------------------------------------------

/// The engines of a test, and a voice over a host that has them.
pub(crate) struct Cast {
    pub(crate) voice: Voice,
    pub(crate) vad: Arc<Loudness>,
    pub(crate) stt: Arc<Scribe>,
    pub(crate) brain: Arc<Brain>,
    pub(crate) tts: Arc<Throat>,
    pub(crate) host: Host,
}

/// What a test changes before the engines start.
pub(crate) struct Script {
    pub(crate) words: Vec<Result<&'static str>>,
    pub(crate) answers: Vec<Vec<Step>>,
    pub(crate) stt_gate: Option<Gate>,
    pub(crate) vad_fault: Option<Fault>,
    pub(crate) tts_fault: Option<Fault>,
    pub(crate) narrow: bool,
    pub(crate) drawl: usize,
    pub(crate) config: VoiceConfig,
    /// More plugins, and names of those that fail to start.
    pub(crate) extra: Vec<Candidate>,
}

impl Default for Script {
    fn default() -> Self {
        let mut config = VoiceConfig::default();
        (config.vad, config.stt, config.tts) = (vec!["loud".into()], vec!["scribe".into()], vec!["throat".into()]);
        Script {
            words: Vec::new(),
            answers: Vec::new(),
            stt_gate: None,
            vad_fault: None,
            tts_fault: None,
            narrow: false,
            drawl: 1,
            config,
            extra: Vec::new(),
        }
    }
}

impl Script {
    /// These words are heard, and these answers given, in turn.
    pub(crate) fn new(words: &[&'static str], answers: &[&[Step]]) -> Self {
        let answers = answers.iter().map(|steps| steps.to_vec()).collect();
        Script { words: words.iter().map(|w| Ok(*w)).collect(), answers, ..Script::default() }
    }

    pub(crate) async fn start(self) -> Cast {
        let vad = Arc::new(Loudness { opened: AtomicUsize::new(0), fault: self.vad_fault });
        let stt = Arc::new(Scribe {
            script: Mutex::new(self.words.into()),
            requests: Mutex::default(),
            asked: Count::new(),
            gate: self.stt_gate,
        });
        let brain = Arc::new(Brain { script: Mutex::new(self.answers.into()), requests: Mutex::default(), gone: Count::new() });
        let tts = Arc::new(Throat {
            pieces: Arc::default(),
            gone: Count::new(),
            idle: Count::new(),
            fault: self.tts_fault,
            narrow: self.narrow,
            drawl: self.drawl,
        });
        let cast = vec![
            Contribution::Vad(VadSpec::new("loud"), vad.clone()),
            Contribution::Stt(SttSpec::new("scribe"), stt.clone()),
            Contribution::Provider(ProviderSpec::new("brain"), brain.clone()),
            Contribution::Tts(TtsSpec::new("throat", TTS_RATE), tts.clone()),
        ];
        let plugins = self.extra.into_iter().chain([candidate("cast", cast, None)]);
        let host = Host::builder().plugins(plugins).build().expect("the configuration is empty");
        within(host.start(Selection::All)).await;
        let agent = Agent::new(host.clone(), AgentConfig::default()).expect("the defaults fit");
        let voice = Voice::new(agent, self.config).expect("the configuration fits");
        Cast { voice, vad, stt, brain, tts, host }
    }
}

/// A plugin of these contributions, which fails to start if there is a reason.
pub(crate) fn candidate(id: &str, contributions: Vec<Contribution>, fails: Option<Error>) -> Candidate {
    let provides: String =
        contributions.iter().map(|c| format!("\n[[provides]]\nkind = \"{}\"\nname = \"{}\"\n", c.kind(), c.name())).collect();
    let manifest = format!(
        "id = \"{id}\"\ndescription = \"Plays a part.\"\nauthor = \"The Bespoke authors\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n{provides}"
    );
    let inherited = Inherited { version: "0.1.0", license: "Apache-2.0" };
    Candidate {
        id: id.into(),
        tier: Tier::Compiled,
        origin: "tests".into(),
        manifest: Manifest::parse("plugin.toml", &manifest, Some(inherited)).map(Arc::new).map_err(Error::from),
        config_schema: "{}".into(),
        artifact: Arc::new(Troupe { contributions, fails }),
    }
}

struct Troupe {
    contributions: Vec<Contribution>,
    fails: Option<Error>,
}

impl Artifact for Troupe {
    fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
        Ok(self.contributions.iter().map(Contribution::spec).collect())
    }

    fn check(&self, _config: &Value) -> Result<()> {
        Ok(())
    }

    fn start(&self, _cx: PluginContext, _config: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
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

    fn register(_api: &mut PluginApi<Self>) {}

    async fn start(_cx: PluginContext, _config: Value) -> Result<Self> {
        Ok(Alive)
    }
}

// ---- the sound ----------------------------------------------------------------------------------

/// A tone where `true`, silence where `false`, for so many milliseconds each.
pub(crate) fn sound(rate: u32, parts: &[(u64, bool)]) -> Vec<f32> {
    let mut samples = Vec::new();
    for &(ms, loud) in parts {
        let length = u64::from(rate) * ms / 1_000;
        let tone = (0..length).map(|n| (n as f32 * 220.0 * std::f32::consts::TAU / rate as f32).sin() * 0.5);
        samples.extend(tone.map(|s| if loud { s } else { 0.0 }));
    }
    samples
}
