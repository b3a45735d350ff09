//! The one error type that crosses every border, and its stable codes. Not a place for domain errors of a single plugin.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

/// What every contract method returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure that can travel through any tier. One word wide, so `Result<()>` stays cheap.
///
/// Causes are flattened into the message where the error is made: a source chain does not survive a border.
///
/// ```
/// use bespoke_plugin_api::{Code, Error};
/// let e = Error::new(Code::MODEL_NOT_FOUND, "silero_vad.onnx is missing").with_help("bespoke plugin download-files silero");
/// assert_eq!(e.code().value(), -32052);
/// assert_eq!(e.kind(), "MODEL_NOT_FOUND");
/// ```
#[derive(Clone, PartialEq)]
pub struct Error(Box<ErrorBody>);

/// The fields of an [`Error`], as they travel; the name of the code travels with them as `kind`, for whoever has no table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct ErrorBody {
    /// Stable number; see [`Code`].
    pub code: Code,
    /// What was wrong and where, in one sentence.
    pub message: String,
    /// Whether the same call may succeed later without a change by the user.
    #[serde(default)]
    pub retryable: bool,
    /// The command or setting that would help.
    #[serde(default)]
    pub help: Option<String>,
    /// Id of the plugin that failed. Only the host sets it.
    #[serde(default)]
    pub plugin: Option<String>,
    /// Anything a program may want to read, such as the path of a bad key.
    #[serde(default)]
    pub data: Option<Value>,
}

/// A stable error number: JSON-RPC's own, the host's (−32000…−32062) or an application's (1000…1301).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(i32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal),+ $(,)?) => {
        impl Code {
            $($(#[$doc])* pub const $name: Code = Code($value);)+

            /// All of the table.
            pub const ALL: &'static [Code] = &[$(Code($value)),+];

            /// The name of the code, or `UNKNOWN` for a number that is not in the table.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($value => stringify!($name),)+
                    _ => "UNKNOWN",
                }
            }
        }
    };
}

codes! {
    /// The bytes were not a message.
    PARSE_ERROR = -32700,
    /// The message was not a request.
    INVALID_REQUEST = -32600,
    /// The peer does not know this method; also: an optional method that a plugin does not offer.
    METHOD_NOT_FOUND = -32601,
    /// Arguments or configuration do not fit.
    INVALID_PARAMS = -32602,
    /// A fault of the program itself.
    INTERNAL_ERROR = -32603,
    /// No plugin or contribution of that name.
    PLUGIN_NOT_FOUND = -32000,
    /// The plugin is known but not ready to serve.
    NOT_READY = -32001,
    /// The artifact could not be loaded.
    LOAD_FAILED = -32002,
    /// `start` failed.
    INITIALIZE_FAILED = -32003,
    /// `shutdown` failed or took too long.
    SHUTDOWN_FAILED = -32004,
    /// An id or name is taken.
    ALREADY_LOADED = -32005,
    /// What is registered differs from what is declared.
    CONTRACT_MISMATCH = -32010,
    /// No such kind of contribution.
    CONTRACT_NOT_FOUND = -32011,
    /// `plugin.toml` is wrong.
    MANIFEST_INVALID = -32012,
    /// `plugin.toml` is not there.
    MANIFEST_MISSING = -32013,
    /// A swap failed; the old generation still serves.
    HOTSWAP_FAILED = -32020,
    /// A swap failed and the old generation could not be brought back.
    HOTSWAP_ROLLBACK_FAILED = -32021,
    /// A plugin folder could not be read.
    DISCOVERY_FAILED = -32030,
    /// No answer to a health check.
    HEALTH_CHECK_TIMEOUT = -32040,
    /// A limit was hit: depth of calls, memory, queue, rate.
    RESOURCE_EXHAUSTED = -32050,
    /// Another plugin that this one needs is missing or not ready.
    DEPENDENCY_MISSING = -32051,
    /// A model file is missing.
    MODEL_NOT_FOUND = -32052,
    /// The user has not granted what the plugin asks for.
    PERMISSION_DENIED = -32053,
    /// Somebody else has changed meanwhile what was to be changed.
    CONFLICT = -32055,
    /// A server could not be reached, or what it sent broke off.
    NETWORK_FAILED = -32054,
    /// The deadline passed.
    EXECUTION_TIMEOUT = -32060,
    /// The plugin panicked or raised.
    PLUGIN_EXCEPTION = -32061,
    /// The plugin's process or instance died.
    PLUGIN_CRASHED = -32062,
    /// The caller cancelled.
    CANCELLED = -32800,
    /// Speech could not be made.
    TTS_SYNTHESIS_FAILED = 1000,
    /// No such voice.
    TTS_VOICE_NOT_FOUND = 1001,
    /// The text is over the limit of the engine.
    TTS_TEXT_TOO_LONG = 1002,
    /// Speech could not be transcribed.
    STT_TRANSCRIPTION_FAILED = 1100,
    /// The audio is not usable: empty, wrong rate, not finite.
    STT_AUDIO_INVALID = 1101,
    /// The engine does not speak this language.
    STT_LANGUAGE_NOT_SUPPORTED = 1102,
    /// The model failed to answer.
    LLM_COMPLETION_FAILED = 1200,
    /// No such model.
    LLM_MODEL_NOT_AVAILABLE = 1201,
    /// The prompt is longer than the context window.
    LLM_CONTEXT_TOO_LONG = 1202,
    /// The provider asks to slow down.
    LLM_RATE_LIMITED = 1203,
    /// A tool server could not be reached.
    MCP_CONNECTION_FAILED = 1300,
    /// A tool server has no such tool.
    MCP_TOOL_NOT_FOUND = 1301,
}

impl Code {
    /// A code by number; any number is accepted, because a peer may know more than we do.
    pub const fn from_value(value: i32) -> Self {
        Code(value)
    }

    /// The number.
    pub const fn value(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl Error {
    /// An error with a code and a message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error(Box::new(ErrorBody { code, message: message.into(), retryable: false, help: None, plugin: None, data: None }))
    }

    /// Arguments or configuration do not fit.
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(Code::INVALID_PARAMS, message)
    }

    /// A fault of the program itself, not of its input.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::INTERNAL_ERROR, message)
    }

    /// An optional method (`"stt.open"`) that this plugin or peer does not offer.
    pub fn unsupported(method: &str) -> Self {
        Self::new(Code::METHOD_NOT_FOUND, format!("{method} is not supported"))
    }

    /// The caller cancelled.
    pub fn cancelled() -> Self {
        Self::new(Code::CANCELLED, "cancelled by the caller")
    }

    /// Adds the command or setting that would help.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Adds data for programs.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.0.data = Some(data);
        self
    }

    /// Marks that the same call may succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.0.retryable = true;
        self
    }

    /// Stamps the plugin that failed. The host calls it; what a plugin writes here is overwritten.
    #[must_use]
    pub fn with_plugin(mut self, id: &str) -> Self {
        self.0.plugin = Some(id.to_owned());
        self
    }

    /// The stable number.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The name of the code.
    pub fn kind(&self) -> &'static str {
        self.0.code.name()
    }

    /// What was wrong.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// The command or setting that would help.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The plugin that failed.
    pub fn plugin(&self) -> Option<&str> {
        self.0.plugin.as_deref()
    }

    /// Data for programs.
    pub fn data(&self) -> Option<&Value> {
        self.0.data.as_ref()
    }

    /// All fields.
    pub fn body(&self) -> &ErrorBody {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(plugin) = &self.0.plugin {
            write!(f, "{plugin}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}

impl Serialize for ErrorBody {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let ErrorBody { code, message, retryable, help, plugin, data } = self;
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("code", code)?;
        map.serialize_entry("kind", code.name())?;
        map.serialize_entry("message", message)?;
        if *retryable {
            map.serialize_entry("retryable", retryable)?;
        }
        for (name, text) in [("help", help), ("plugin", plugin)] {
            if let Some(text) = text {
                map.serialize_entry(name, text)?;
            }
        }
        if let Some(data) = data {
            map.serialize_entry("data", data)?;
        }
        map.end()
    }
}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        ErrorBody::deserialize(d).map(|body| Error(Box::new(body)))
    }
}

impl From<serde_json::Error> for Error {
    fn from(e: serde_json::Error) -> Self {
        Error::invalid_params(e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_of_unit_is_one_word() {
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn travels_as_json_and_tolerates_unknown_codes() {
        let e = Error::new(Code::from_value(4711), "odd").retryable().with_help("wait").with_plugin("x");
        let text = serde_json::to_string(&e).unwrap();
        assert_eq!(text, r#"{"code":4711,"kind":"UNKNOWN","message":"odd","retryable":true,"help":"wait","plugin":"x"}"#);
        let back: Error = serde_json::from_str(&text).unwrap();
        assert_eq!(back, e);
        assert_eq!(back.kind(), "UNKNOWN");
    }
}
