//! The JSON heads: typed, tolerant of fields that a newer peer adds. Bulk stands in the blob, see [`Body`].

use std::{any::Any, collections::BTreeMap, path::PathBuf};

use bespoke_plugin_api::{
    CallCx, CancelToken, Code, Error, Facts, Health, Hook, Inbound, Level, MAX_DEPTH, Result, RuntimePack, Spec, Target, Timestamp,
};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Body, DEFAULT_PAYLOAD, OLDEST_PROTOCOL, PROTOCOL,
    frame::{Frame, Kind, put_with},
};

/// What the host says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostHello {
    /// Newest protocol it speaks.
    pub protocol: u32,
    /// Oldest one it speaks.
    pub oldest: u32,
    /// Who it is, for logs.
    pub host: String,
    /// What it can do beyond the least, by name; names that this side does not know mean nothing to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// The longest message that it takes, in bytes.
    #[serde(default = "default_payload", skip_serializing_if = "is_default_payload")]
    pub max_payload: u64,
}

/// What the guest answers: also its description, before anything is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuestHello {
    /// Newest protocol it speaks.
    pub protocol: u32,
    /// Oldest one it speaks.
    pub oldest: u32,
    /// Id of the plugin.
    pub plugin: String,
    /// Version of the plugin.
    pub version: String,
    /// What it contributes. What this side cannot read, such as a kind or a hook that it does not know, is left out.
    #[serde(deserialize_with = "known_specs")]
    pub specs: Vec<Spec>,
    /// What it can do beyond the least, by name; names that this side does not know mean nothing to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// The longest message that it takes, in bytes.
    #[serde(default = "default_payload", skip_serializing_if = "is_default_payload")]
    pub max_payload: u64,
}

/// The last words of a side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoodbyeHead {
    /// Why it goes.
    #[serde(default)]
    pub reason: String,
}

/// The protocol that both sides speak.
///
/// # Errors
/// `LOAD_FAILED`, saying which side is too old.
pub fn agree(protocol: u32, oldest: u32) -> Result<u32> {
    let common = protocol.min(PROTOCOL);
    if common >= oldest.max(OLDEST_PROTOCOL) {
        return Ok(common);
    }
    let help = if protocol < OLDEST_PROTOCOL { "install a newer version of the plugin" } else { "install a newer version of the host" };
    let message = format!("the peer speaks protocol {oldest}–{protocol}, this side {OLDEST_PROTOCOL}–{PROTOCOL}");
    Err(Error::new(Code::LOAD_FAILED, message).with_help(help))
}

/// Arguments of `plugin.start`: the configuration and all that a guest cannot ask for synchronously.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The table `[plugins.<id>]`.
    pub config: Value,
    /// A folder of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Threads that one request may use.
    pub cpu_budget: u16,
    /// The model files of the manifest, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, Lookup<PathBuf>>,
    /// The runtimes of the manifest, by what they are called there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub runtimes: BTreeMap<String, Lookup<RuntimePack>>,
}

impl Body for Setup {}

/// What the host found when the plugin was started, of what its manifest names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lookup<T> {
    /// It is here.
    Found(T),
    /// It is not, and why.
    Error(Error),
}

impl<T> From<Result<T>> for Lookup<T> {
    fn from(result: Result<T>) -> Self {
        result.map_or_else(Lookup::Error, Lookup::Found)
    }
}

impl<T> From<Lookup<T>> for Result<T> {
    fn from(lookup: Lookup<T>) -> Self {
        match lookup {
            Lookup::Found(found) => Ok(found),
            Lookup::Error(error) => Err(error),
        }
    }
}

/// Arguments of `plugin.invoke`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InvokeArgs {
    /// The method, by the name that the plugin itself gives it.
    pub method: String,
    /// With what.
    #[serde(default)]
    pub args: Value,
}

impl Body for InvokeArgs {}

/// What a plugin says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// How it does.
    pub health: Health,
    /// Which engine, which device, which file.
    #[serde(default)]
    pub facts: Facts,
}

impl Body for Vitals {}

/// The head of CALL, OPEN and HOST_CALL, as it is read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct CallHead<T> {
    /// See [`method`](crate::method).
    pub method: String,
    /// Name of the contribution; empty for methods of the plugin itself.
    #[serde(default)]
    pub name: String,
    /// The context of the call.
    #[serde(default)]
    pub cx: CxHead,
    /// The arguments.
    pub args: T,
}

/// The same as it is written.
#[derive(Debug, Serialize)]
pub struct CallRef<'a, T> {
    /// See [`CallHead::method`].
    pub method: &'a str,
    /// See [`CallHead::name`].
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: &'a str,
    /// See [`CallHead::cx`].
    #[serde(skip_serializing_if = "CxHead::is_empty")]
    pub cx: &'a CxHead,
    /// See [`CallHead::args`].
    pub args: &'a T,
}

/// The part of a [`CallHead`] that says who is to read the rest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// See [`CallHead::method`].
    pub method: String,
    /// See [`CallHead::name`].
    #[serde(default)]
    pub name: String,
    /// See [`CallHead::cx`].
    #[serde(default)]
    pub cx: CxHead,
}

impl Route {
    /// Reads it.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the head is none.
    pub fn read(frame: &Frame<'_>) -> Result<Self> {
        serde_json::from_slice(frame.head).map_err(|e| Error::new(Code::INVALID_REQUEST, format!("head of {}: {e}", frame.kind.name())))
    }
}

/// A `CallCx` as it travels. The token and the listener of progress stay where they are: CANCEL and PROGRESS speak for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CxHead {
    /// When the caller stops waiting, on the host's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The plugin that made the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Groups the calls of one turn.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub trace: u64,
    /// How many plugins stand between.
    #[serde(default, skip_serializing_if = "is_zero_u8")]
    pub depth: u8,
    /// Hooks that do not fire, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quiet: Vec<String>,
    /// The caller had gone before the call was made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
}

impl CxHead {
    /// What travels of a context.
    pub fn of(cx: &CallCx) -> Self {
        CxHead {
            deadline: cx.deadline(),
            session: cx.session().map(str::to_owned),
            caller: cx.caller().map(str::to_owned),
            trace: cx.trace(),
            depth: cx.depth(),
            quiet: Hook::ALL.iter().filter(|h| !cx.fires(**h)).map(|h| h.name().to_owned()).collect(),
            cancelled: cx.is_cancelled(),
        }
    }

    /// The context on the other side, over a token of its own.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` for a depth beyond the limit.
    pub fn to_cx(&self, token: CancelToken) -> Result<CallCx> {
        check_depth(self.depth)?;
        let mut cx = CallCx::new();
        if let Some(caller) = &self.caller {
            cx = cx.nested(caller)?;
        }
        if self.cancelled {
            token.cancel();
        }
        cx = cx.with_cancel(token).with_depth(self.depth).with_trace(self.trace);
        if let Some(at) = self.deadline {
            cx = cx.with_deadline(at);
        }
        if let Some(session) = &self.session {
            cx = cx.with_session(session);
        }
        Ok(self.quiet.iter().filter_map(|name| Hook::from_name(name)).fold(cx, |cx, hook| cx.quieting(hook)))
    }

    /// The context of a call that a guest makes under `base`, over a token of its own. What the guest says can only make it
    /// narrower: deeper, sooner over, cancelled. Session, caller, trace and quiet hooks are those of `base`: a guest that could
    /// quiet a hook would get past its guard.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` for a depth beyond the limit.
    pub fn under(&self, base: &CallCx, token: CancelToken) -> Result<CallCx> {
        check_depth(self.depth)?;
        if self.cancelled {
            token.cancel();
        }
        let cx = base.with_cancel(token).with_depth(base.depth().max(self.depth));
        Ok(match self.deadline {
            Some(at) => cx.with_deadline(at),
            None => cx,
        })
    }

    fn is_empty(&self) -> bool {
        *self == CxHead::default()
    }
}

/// The head of REPLY and HOST_REPLY: `{"ok": …}` or `{"err": …}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: DeserializeOwned"))]
pub struct ReplyHead<T> {
    /// The answer; `null` is one.
    #[serde(default = "none", deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub ok: Option<T>,
    /// The failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub err: Option<Error>,
}

/// A line of a running command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputHead {
    /// Data.
    Line(String),
    /// For the person.
    Note(String),
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// How much it matters. A level that this side does not know reads as `Info`.
    #[serde(deserialize_with = "known_level")]
    pub level: Level,
    /// The line.
    pub line: String,
}

/// Arguments of `host.sleep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SleepArgs {
    /// How long, in microseconds.
    pub us: u64,
}

impl Body for SleepArgs {}

/// Arguments of `host.call`. Its context is the host's own of the call that it is made under; the head can only narrow that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostCallArgs {
    /// The CALL that it is made under. Without one, or when that has ended, the host begins a fresh context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<u32>,
    /// Who is called.
    pub target: Target,
    /// With what.
    pub args: Value,
}

impl Body for HostCallArgs {}

/// Arguments of `host.emit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmitArgs {
    /// The topic, without the plugin's id.
    pub topic: String,
    /// What happened.
    pub payload: Value,
}

impl Body for EmitArgs {}

/// Arguments of `host.publish`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishArgs {
    /// The dynamic contributions.
    #[serde(deserialize_with = "known_specs")]
    pub specs: Vec<Spec>,
}

impl Body for PublishArgs {}

/// Arguments of `inbox.accept`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AcceptArgs {
    /// The call of `channel.run` that speaks.
    pub call: u32,
    /// The message.
    pub message: Inbound,
}

/// Appends a frame whose head is `value`.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` when it is too long; nothing is appended then.
pub fn put_json(out: &mut Vec<u8>, kind: Kind, id: u32, value: &impl Serialize) -> Result<()> {
    put_with(out, kind, id, |head| write_json(head, value), |_| ())
}

/// Appends CALL, OPEN or HOST_CALL.
///
/// # Errors
/// As [`put_json`]; `INVALID_PARAMS` for a number that is not finite.
pub fn put_call<T: Body>(out: &mut Vec<u8>, kind: Kind, id: u32, method: &str, name: &str, cx: &CxHead, args: &T) -> Result<()> {
    args.check()?;
    let light = args.light();
    let head = CallRef { method, name, cx, args: light.as_ref().unwrap_or(args) };
    put_with(out, kind, id, |out| write_json(out, &head), |out| args.put_bulk(out))
}

/// Appends a REPLY or HOST_REPLY that is no failure.
///
/// # Errors
/// As [`put_call`].
pub fn put_answer<T: Body>(out: &mut Vec<u8>, kind: Kind, id: u32, value: &T) -> Result<()> {
    value.check()?;
    let light = value.light();
    let head = ReplyHead { ok: Some(light.as_ref().unwrap_or(value)), err: None };
    put_with(out, kind, id, |out| write_json(out, &head), |out| value.put_bulk(out))
}

/// Appends REPLY or HOST_REPLY. An answer that does not fit, or has a number that is not finite, becomes the error that says so.
pub fn put_reply<T: Body>(out: &mut Vec<u8>, kind: Kind, id: u32, result: &Result<T>) {
    let put = result.as_ref().map_err(Error::clone).and_then(|value| put_answer(out, kind, id, value));
    let Err(error) = put else { return };
    let head = ReplyHead::<()> { ok: None, err: Some(error) };
    if put_json(out, kind, id, &head).is_err() {
        // Only an error whose own text or data is longer than a frame comes here.
        let short = ReplyHead::<()> { ok: None, err: Some(Error::new(Code::RESOURCE_EXHAUSTED, "the error was longer than a frame")) };
        let _fits = put_json(out, kind, id, &short);
    }
}

/// Appends an EVENT.
///
/// # Errors
/// As [`put_call`].
pub fn put_body<T: Body>(out: &mut Vec<u8>, kind: Kind, id: u32, body: &T) -> Result<()> {
    body.check()?;
    let light = body.light();
    put_with(out, kind, id, |out| write_json(out, light.as_ref().unwrap_or(body)), |out| body.put_bulk(out))
}

/// Appends an END.
pub fn put_end(out: &mut Vec<u8>, id: u32, result: &Result<()>) {
    let put = match result {
        Ok(()) => put_with(out, Kind::END, id, |_| Ok(()), |_| ()),
        Err(e) => put_json(out, Kind::END, id, e),
    };
    if put.is_err() {
        let _fits = put_json(out, Kind::END, id, &Error::new(Code::RESOURCE_EXHAUSTED, "the error was longer than a frame"));
    }
}

/// The arguments of CALL, OPEN or HOST_CALL.
///
/// # Errors
/// `INVALID_PARAMS`, naming what does not fit.
pub fn read_args<T: Body>(frame: &Frame<'_>) -> Result<T> {
    let head: CallHead<T> = serde_json::from_slice(frame.head).map_err(|e| Error::invalid_params(format!("arguments: {e}")))?;
    let mut args = head.args;
    args.take_bulk(frame.blob)?;
    Ok(args)
}

/// The result in REPLY or HOST_REPLY.
///
/// # Errors
/// The peer's error; or `INVALID_REQUEST` when the answer is not of the expected type.
pub fn read_reply<T: Body>(frame: &Frame<'_>) -> Result<T> {
    match serde_json::from_slice::<ReplyHead<T>>(frame.head) {
        Ok(ReplyHead { err: Some(e), .. }) => Err(e),
        Ok(ReplyHead { ok: Some(mut value), .. }) => {
            value.take_bulk(frame.blob)?;
            Ok(value)
        }
        Ok(ReplyHead { ok: None, err: None }) => Err(unreadable(frame, "neither ok nor err")),
        Err(e) => Err(unreadable(frame, &e.to_string())),
    }
}

/// The body of an EVENT.
///
/// # Errors
/// `INVALID_REQUEST` when it is not of the expected type.
pub fn read_body<T: Body>(frame: &Frame<'_>) -> Result<T> {
    let mut body: T = serde_json::from_slice(frame.head).map_err(|e| unreadable(frame, &e.to_string()))?;
    body.take_bulk(frame.blob)?;
    Ok(body)
}

/// How a stream ended.
///
/// # Errors
/// The error that ended it.
pub fn read_end(frame: &Frame<'_>) -> Result<()> {
    if frame.head.is_empty() {
        return Ok(());
    }
    Err(serde_json::from_slice::<Error>(frame.head).unwrap_or_else(|e| unreadable(frame, &e.to_string())))
}

/// The error that a panic becomes, the same in every tier that can catch one.
pub fn panicked(payload: &(dyn Any + Send)) -> Error {
    let what = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    Error::new(Code::PLUGIN_EXCEPTION, format!("panicked: {}", what.unwrap_or("without a message")))
}

fn check_depth(depth: u8) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::new(Code::RESOURCE_EXHAUSTED, format!("a call at depth {depth}: is there a cycle of plugins?")));
    }
    Ok(())
}

fn unreadable(frame: &Frame<'_>, why: &str) -> Error {
    Error::new(Code::INVALID_REQUEST, format!("{} from the peer: {why}", frame.kind.name()))
}

fn write_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> Result<()> {
    serde_json::to_writer(out, value).map_err(|e| Error::internal(format!("cannot be written as JSON: {e}")))
}

/// Unlike `Option`'s own reading, `null` is a value here.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> std::result::Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

fn none<T>() -> Option<T> {
    None
}

/// One spec that is newer than this side must not keep the others out.
fn known_specs<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Vec<Spec>, D::Error> {
    Ok(Vec::<Value>::deserialize(d)?.into_iter().filter_map(|spec| Spec::deserialize(spec).ok()).collect())
}

fn known_level<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Level, D::Error> {
    Ok(Level::deserialize(Value::deserialize(d)?).unwrap_or(Level::Info))
}

pub(crate) fn default_payload() -> u64 {
    DEFAULT_PAYLOAD
}

fn is_default_payload(n: &u64) -> bool {
    *n == DEFAULT_PAYLOAD
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_zero_u8(n: &u8) -> bool {
    *n == 0
}
