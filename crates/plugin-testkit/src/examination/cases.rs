//! `conformance.toml`: what an author says of a plugin beside its manifest, for its tests: the configuration to start it with, what the
//! world answers, and calls with what must come of them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bespoke_plugin_api::{
    CallCx, ChatDelta, ChatRequest, Code, Command, CommandRequest, Contract, EmbedRequest, Embedder, Error, HookEvent, HookHandler,
    HttpEndpoint, HttpRequest, HttpResponse, Message, Output, OutputSink, Provider, Result as ApiResult, Stt, SttRequest, Tool,
    ToolRequest, Tts, TtsOptions, Vad, VadEvent, VadOptions,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Examination, Fault, Shared,
    report::{Kept, Report, Tried, read},
    taken,
};
use crate::{
    conformance::record::{line, passed, read as read_stream},
    host::{Clock, TestHost},
    rules::find,
    running::Running,
};

/// Samples of one push.
const FRAME: usize = 320;

/// What an author says, as `conformance.toml` has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The table `[plugins.ID]` that it is started with.
    #[serde(default)]
    config: BTreeMap<String, Value>,
    /// Secrets that the host has.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    /// What servers answer; whatever is not named is not reached.
    #[serde(default)]
    http: Vec<Answer>,
    /// Calls, made one after the other of one instance.
    #[serde(default)]
    call: Vec<Case>,
    /// Where files are that it names.
    #[serde(skip)]
    folder: PathBuf,
}

/// What a server answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    /// What the address begins with.
    url: String,
    #[serde(default = "fine")]
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

fn fine() -> u16 {
    200
}

/// A call, and what must come of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What it shows, for people.
    name: Option<String>,
    tool: Option<String>,
    command: Option<String>,
    provider: Option<String>,
    embedder: Option<String>,
    tts: Option<String>,
    stt: Option<String>,
    vad: Option<String>,
    http: Option<String>,
    hook: Option<String>,
    /// What it is asked; for a command, its words.
    #[serde(default)]
    args: Value,
    /// Of a new instance instead of the one of the calls before.
    #[serde(default)]
    fresh: bool,
    /// What the answer holds at least.
    expect: Option<Value>,
    /// Words that are in the answer.
    #[serde(default)]
    contains: Words,
    /// The error that it must be.
    error: Option<String>,
    /// What the call tells on its way.
    progress: Option<Vec<Value>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(untagged)]
enum Words {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Words {
    fn all(&self) -> &[String] {
        match self {
            Words::None => &[],
            Words::One(one) => std::slice::from_ref(one),
            Words::Many(many) => many,
        }
    }
}

impl Cases {
    /// The name of the file, beside plugin.toml.
    pub const FILE: &str = "conformance.toml";

    /// Reads the text of such a file; `folder` is where files lie that it names.
    ///
    /// # Errors
    /// What is wrong, with its place in the text.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let mut cases: Cases = toml::from_str(text).map_err(|e| e.to_string())?;
        for (n, case) in cases.call.iter().enumerate() {
            let subjects = case.subjects().count();
            if subjects != 1 {
                return Err(format!(
                    "call[{n}]: it names {subjects} contributions instead of one: tool, command, provider, embedder, tts, stt, vad, http or hook"
                ));
            }
            if let Some(error) = &case.error
                && !Code::ALL.iter().any(|code| code.name() == error)
            {
                return Err(format!("call[{n}].error: `{error}` is no code; docs/protocol.md has all of them"));
            }
        }
        cases.folder = folder.to_owned();
        Ok(cases)
    }

    /// The table that it is started with.
    pub fn config(&self) -> Value {
        json!(self.config)
    }

    /// Tells a host what its world is like.
    pub(super) fn prepare(&self, host: &TestHost) {
        for (name, secret) in &self.secrets {
            host.set_secret(name, secret);
        }
        if self.http.is_empty() {
            return;
        }
        let answers = self.http.clone();
        host.on_http(move |request| {
            let Some(answer) = answers.iter().find(|answer| request.url.starts_with(&answer.url)) else {
                let message = format!("{} answers nothing here: no [[http]] of {} names it", request.url, Cases::FILE);
                return Err(Error::new(Code::NETWORK_FAILED, message));
            };
            let response = HttpResponse::new(answer.status).body(answer.body.clone().into_bytes().into());
            Ok(answer.headers.iter().fold(response, |response, (name, value)| response.header(name, value)))
        });
    }

    /// Arguments with which a tool answers, if the author has said some.
    pub(super) fn args_of(&self, tool: &str) -> Option<Value> {
        let answers = |case: &&Case| case.tool.as_deref() == Some(tool) && case.error.is_none();
        self.call.iter().find(answers).map(|case| case.args())
    }
}

impl Case {
    fn subjects(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("tool", &self.tool),
            ("command", &self.command),
            ("provider", &self.provider),
            ("embedder", &self.embedder),
            ("tts", &self.tts),
            ("stt", &self.stt),
            ("vad", &self.vad),
            ("http", &self.http),
            ("hook", &self.hook),
        ];
        all.into_iter().filter_map(|(kind, name)| Some((kind, name.as_deref()?)))
    }

    fn args(&self) -> Value {
        if self.args.is_null() { json!({}) } else { self.args.clone() }
    }
}

pub(super) fn all(exam: &Examination, report: &mut Report<'_>) {
    let mut kept: Option<Running> = None;
    for (n, case) in exam.cases.call.iter().enumerate() {
        let Some((kind, name)) = case.subjects().next() else { continue };
        let rule = case.name.clone().unwrap_or_else(|| format!("call {} of {}", n + 1, Cases::FILE));
        report.of(&format!("{kind} {name}")).check(&rule, || {
            if case.fresh {
                kept = None;
            }
            let running = match kept.take() {
                Some(running) => running,
                None => exam.started(Clock::Jump)?,
            };
            let tried = one(exam, &running, kind, name, case);
            kept = Some(running);
            tried
        });
    }
}

fn one(exam: &Examination, running: &Running, kind: &str, name: &str, case: &Case) -> Tried {
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = told.clone();
    let cx = CallCx::new().with_progress(move |value| listener.lock().unwrap_or_else(PoisonError::into_inner).push(value));
    let made = exam.within("the call", called(exam, running, &cx, kind, name, case))?;
    let answer = match (made, &case.error) {
        (Err(e), Some(wanted)) if e.kind() == wanted => return words(case, &line(&e)),
        (Err(e), Some(wanted)) => return Err(Fault::new(wanted, line(&e), read::CASES)),
        (Err(e), None) => return Err(Fault::new("an answer", line(&e), read::CASES).help(e.help())),
        (Ok(answer), Some(wanted)) => return Err(Fault::new(wanted, answer.to_string(), read::CASES)),
        (Ok(answer), None) => answer,
    };
    if let Some(expected) = &case.expect
        && let Err(at) = holds(&answer, expected, String::new())
    {
        return Err(Fault::new(format!("{expected}, at least"), format!("{answer}; it differs at {at}"), read::CASES));
    }
    if let Some(expected) = &case.progress {
        let told = taken(&told);
        if &told != expected {
            return Err(Fault::new(format!("progress {}", json!(expected)), json!(told).to_string(), read::CASES));
        }
    }
    words(case, &answer["text"].as_str().map_or_else(|| answer.to_string(), str::to_owned))
}

fn words(case: &Case, text: &str) -> Tried {
    match case.contains.all().iter().find(|word| !text.contains(word.as_str())) {
        Some(word) => Err(Fault::new(format!("an answer with `{word}` in it"), text, read::CASES)),
        None => Ok(Kept::Yes),
    }
}

/// Whether an answer holds what is expected: of objects the keys that are named, of everything else all. Else where it does not.
fn holds(answer: &Value, expected: &Value, at: String) -> Result<(), String> {
    match (answer, expected) {
        (Value::Object(answer), Value::Object(expected)) => expected.iter().try_for_each(|(key, value)| {
            let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            holds(answer.get(key).unwrap_or(&Value::Null), value, at)
        }),
        (Value::Array(answer), Value::Array(expected)) if answer.len() == expected.len() => {
            answer.iter().zip(expected).enumerate().try_for_each(|(n, (answer, expected))| holds(answer, expected, format!("{at}[{n}]")))
        }
        // 4 is 4.0.
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => Ok(()),
        (a, b) if a == b => Ok(()),
        _ => Err(if at.is_empty() { "the whole".to_owned() } else { at }),
    }
}

/// Makes a call; its answer as JSON.
async fn called(exam: &Examination, running: &Running, cx: &CallCx, kind: &str, name: &str, case: &Case) -> ApiResult<Value> {
    match kind {
        "tool" => {
            let output = of::<dyn Tool>(running, name)?.call(cx, ToolRequest::new(case.args())).await?;
            Ok(json!({ "text": output.to_text(), "data": output.data, "is_error": output.is_error }))
        }
        "command" => {
            let words: Vec<String> = if case.args.is_null() { Vec::new() } else { parsed(case.args.clone())? };
            let lines = Arc::new(Lines::default());
            let code = of::<dyn Command>(running, name)?.run(cx, CommandRequest::new(words), Output::new(lines.clone())).await?;
            let (lines, notes) = (taken(&lines.lines), taken(&lines.notes));
            Ok(json!({ "exit_code": code, "text": lines.join("\n"), "lines": lines, "notes": notes }))
        }
        "provider" => {
            let request = match case.args["prompt"].as_str() {
                Some(prompt) => ChatRequest::new(vec![Message::user(prompt)]),
                None => parsed(case.args())?,
            };
            let (deltas, error) = read_stream(of::<dyn Provider>(running, name)?.chat(cx, request).await?).await;
            error.map_or(Ok(()), Err)?;
            let text: String =
                deltas.iter().filter_map(|d| if let ChatDelta::Text { text, .. } = d { Some(text.as_str()) } else { None }).collect();
            let calls: Vec<&_> =
                deltas.iter().filter_map(|d| if let ChatDelta::ToolCall { call, .. } = d { Some(call) } else { None }).collect();
            let finish = deltas.iter().find_map(|d| if let ChatDelta::Finish { reason, .. } = d { Some(reason) } else { None });
            Ok(json!({ "text": text, "tool_calls": calls, "finish": finish }))
        }
        "embedder" => {
            let request: EmbedRequest = parsed(case.args())?;
            let vectors = of::<dyn Embedder>(running, name)?.embed(cx, request).await?.vectors;
            Ok(json!({ "count": vectors.len(), "dimensions": vectors.first().map(Vec::len), "vectors": vectors }))
        }
        "tts" => {
            #[derive(Deserialize)]
            struct Say {
                text: String,
                #[serde(flatten)]
                options: TtsOptions,
            }
            let say: Say = parsed(case.args())?;
            let (chunks, error) = passed(of::<dyn Tts>(running, name)?.open(&say.options), [say.text.as_str()]).await;
            error.map_or(Ok(()), Err)?;
            let samples: usize = chunks.iter().map(|chunk| chunk.audio.samples.len()).sum();
            let rate = chunks.first().map_or(0, |chunk| chunk.audio.rate);
            Ok(json!({ "rate": rate, "samples": samples, "ms": (samples * 1000).checked_div(rate as usize) }))
        }
        "stt" => {
            let audio = exam.audio(case)?;
            let mut request = SttRequest::new(audio);
            request.language = case.args["language"].as_str().map(str::to_owned);
            Ok(serde_json::to_value(of::<dyn Stt>(running, name)?.transcribe(cx, request).await?)?)
        }
        "vad" => {
            let audio = exam.audio(case)?;
            let (events, error) =
                passed(of::<dyn Vad>(running, name)?.open(&VadOptions::new(audio.rate)), audio.samples.chunks(FRAME)).await;
            error.map_or(Ok(()), Err)?;
            let events: Vec<VadEvent> = events.into_iter().filter(|event| !matches!(event, VadEvent::Window { .. })).collect();
            let speeches = events.iter().filter(|event| matches!(event, VadEvent::SpeechStart { .. })).count();
            Ok(json!({ "speeches": speeches, "events": events }))
        }
        "http" => {
            let request: HttpRequest = parsed(case.args())?;
            let answer = of::<dyn HttpEndpoint>(running, name)?.handle(cx, request).await?;
            Ok(json!({ "status": answer.status, "headers": answer.headers, "text": String::from_utf8_lossy(&answer.body) }))
        }
        _ => {
            let event: HookEvent = parsed(case.args["event"].clone())?;
            Ok(serde_json::to_value(of::<dyn HookHandler>(running, name)?.on(cx, &event).await?)?)
        }
    }
}

impl Examination {
    /// The audio that a call names.
    fn audio(&self, case: &Case) -> ApiResult<bespoke_plugin_api::Audio> {
        let file = case.args["file"].as_str().ok_or_else(|| Error::invalid_params("args.file: which recording is it?"))?;
        (self.hear)(&self.cases.folder.join(file)).map_err(Error::invalid_params)
    }
}

fn of<T: Contract + ?Sized>(running: &Running, name: &str) -> ApiResult<Arc<T>> {
    find::<T>(running, Some(name)).map_err(|why| Error::new(Code::PLUGIN_NOT_FOUND, why))
}

fn parsed<T: DeserializeOwned>(args: Value) -> ApiResult<T> {
    serde_json::from_value(args).map_err(|e| Error::invalid_params(format!("args in {}: {e}", Cases::FILE)))
}

/// What a command says.
#[derive(Default)]
struct Lines {
    lines: Shared<Vec<String>>,
    notes: Shared<Vec<String>>,
}

impl OutputSink for Lines {
    fn line(&self, text: &str) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }
}
