//! The table `[plugins.openai]`, and what is left of it once it was found good.

use std::{collections::BTreeMap, time::Duration};

use bespoke_plugin_api::{
    Error, Result,
    serde::{self, Deserialize},
};
use http::{HeaderName, HeaderValue, Uri};

/// The server of OpenAI.
const OFFICIAL: &str = "https://api.openai.com/v1";

/// The table `[plugins.openai]`. The key is no part of it: it is the secret `api_key`, the variable `OPENAI_API_KEY`.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// Where the server is, up to and with `/v1`: http or https, a host, a path; without query.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub base_url: String,
    /// The model that answers where a call names none; when absent the first of `models`, or the first that the server lists.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub model: Option<String>,
    /// What is known of models beyond what the server says.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub models: Vec<ModelConfig>,
    /// How its models come to call tools.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub tools: ToolMode,
    /// Organization that is billed, sent as `OpenAI-Organization`.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub organization: Option<String>,
    /// Headers that go with every request. Put secrets into the environment and write `${NAME}` here.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub headers: BTreeMap<String, String>,
    /// Most time until a server answers a question that needs no model, such as which models it has, in milliseconds.
    #[cfg_attr(test, schemars(range(min = 1, max = 600_000), extend("x-reload" = "restart")))]
    pub timeout_ms: u32,
    /// Most time until the first piece of an answer of a model is there, in milliseconds. A slow machine reads a long prompt
    /// for as long.
    #[cfg_attr(test, schemars(range(min = 1, max = 3_600_000), extend("x-reload" = "restart")))]
    pub first_token_timeout_ms: u32,
    /// Most time between two pieces of an answer, in milliseconds. What only keeps the connection open is no piece.
    #[cfg_attr(test, schemars(range(min = 1, max = 3_600_000), extend("x-reload" = "restart")))]
    pub silence_timeout_ms: u32,
    /// How often a request is sent again after it failed and before anything of its answer was passed on.
    #[cfg_attr(test, schemars(range(min = 0, max = 10), extend("x-reload" = "restart")))]
    pub max_retries: u8,
    /// What the server calls the limit of an answer; when absent `max_completion_tokens` for OpenAI and `max_tokens` for others.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub max_tokens_key: Option<MaxTokensKey>,
    /// Whether to ask for the tokens of a streamed answer. Only servers that refuse `stream_options` need `false`.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub stream_usage: bool,
    /// The model that hears.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub stt_model: String,
    /// The model that speaks.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub tts_model: String,
    /// The voice that speaks where a call names none.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub voice: String,
    /// The model that makes vectors of texts.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub embedding_model: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            base_url: OFFICIAL.into(),
            model: None,
            models: Vec::new(),
            tools: ToolMode::Native,
            organization: None,
            headers: BTreeMap::new(),
            timeout_ms: 10_000,
            first_token_timeout_ms: 60_000,
            silence_timeout_ms: 30_000,
            max_retries: 3,
            max_tokens_key: None,
            stream_usage: true,
            stt_model: "whisper-1".into(),
            tts_model: "gpt-4o-mini-tts".into(),
            voice: "alloy".into(),
            embedding_model: "text-embedding-3-small".into(),
        }
    }
}

/// What is known of one model beyond what its server says.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct ModelConfig {
    /// Id as the server knows it.
    pub id: String,
    /// Tokens of prompt and answer together; what the server says when absent.
    #[serde(default)]
    pub context_window: Option<u32>,
    /// Whether it emits tool calls of its own; as `tools` of the plugin says when absent.
    #[serde(default)]
    pub tools: Option<bool>,
    /// Whether it keeps an answer to a JSON Schema; as `tools` of the plugin says when absent.
    #[serde(default)]
    pub json_schema: Option<bool>,
}

/// How the models of a server come to call tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(crate = "serde", rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
pub enum ToolMode {
    /// The server emits tool calls.
    Native,
    /// It does not, but it keeps an answer to a JSON Schema: the agent leads the model to tools by one.
    Schema,
    /// Neither.
    None,
}

impl ToolMode {
    /// Whether models emit tool calls of their own.
    pub(crate) fn calls(self) -> bool {
        self == ToolMode::Native
    }

    /// Whether models keep answers to a schema.
    pub(crate) fn schemas(self) -> bool {
        self != ToolMode::None
    }
}

/// What a server calls the limit of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(crate = "serde", rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
pub enum MaxTokensKey {
    /// What nearly all servers know.
    MaxTokens,
    /// What OpenAI wants for its newer models.
    MaxCompletionTokens,
}

impl MaxTokensKey {
    /// The key as requests have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            MaxTokensKey::MaxTokens => "max_tokens",
            MaxTokensKey::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// A configuration that was found good.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    /// Without a slash at its end.
    pub(crate) base: String,
    /// Headers of every request, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) max_tokens_key: &'static str,
}

impl Settings {
    /// Holds what the schema says, and what it cannot say, against a configuration.
    pub(crate) fn new(config: Config) -> Result<Self> {
        let base = config.base_url.trim_end_matches('/').to_owned();
        let host = check_base(&base, &config.base_url)?;
        let limits = [
            ("timeout_ms", config.timeout_ms, 1, 600_000),
            ("first_token_timeout_ms", config.first_token_timeout_ms, 1, 3_600_000),
            ("silence_timeout_ms", config.silence_timeout_ms, 1, 3_600_000),
            ("max_retries", config.max_retries.into(), 0, 10),
        ];
        for (key, value, least, most) in limits {
            if !(least..=most).contains(&value) {
                return Err(wrong(key, format!("is {value}; it has to be between {least} and {most}")));
            }
        }
        let mut names = vec![
            ("stt_model", &config.stt_model),
            ("tts_model", &config.tts_model),
            ("voice", &config.voice),
            ("embedding_model", &config.embedding_model),
        ];
        names.extend(config.model.iter().map(|model| ("model", model)));
        names.extend(config.models.iter().map(|model| ("models.id", &model.id)));
        if let Some((key, _)) = names.into_iter().find(|(_, name)| name.trim().is_empty()) {
            return Err(wrong(key, "is empty".into()).with_help("leave it out, or name one"));
        }
        let organization = config.organization.iter().map(|id| ("openai-organization", "organization", id));
        let extra = config.headers.iter().map(|(name, value)| (name.as_str(), "headers", value));
        let headers = organization.chain(extra).map(|(name, key, value)| header(name, key, value)).collect::<Result<_>>()?;
        let of_openai = host == "api.openai.com";
        let default_key = if of_openai { MaxTokensKey::MaxCompletionTokens } else { MaxTokensKey::MaxTokens };
        let max_tokens_key = config.max_tokens_key.unwrap_or(default_key).name();
        Ok(Settings { config, base, headers, max_tokens_key })
    }

    /// Time for a question that needs no model.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.config.timeout_ms.into())
    }

    /// Time until a model says something.
    pub(crate) fn first_token(&self) -> Duration {
        Duration::from_millis(self.config.first_token_timeout_ms.into())
    }

    /// Time until it goes on.
    pub(crate) fn silence(&self) -> Duration {
        Duration::from_millis(self.config.silence_timeout_ms.into())
    }
}

/// The host of an address that requests can be made from.
fn check_base(base: &str, given: &str) -> Result<String> {
    // The address may hold what it must not, a password: then it is not repeated.
    if base.contains('@') {
        return Err(
            wrong("base_url", "holds a user or a password".into()).with_help("export OPENAI_API_KEY=… and leave it out of the address")
        );
    }
    let help = "write it as http://127.0.0.1:8080/v1";
    let bad = |why: &str| Err(wrong("base_url", format!("is `{given}`: {why}")).with_help(help));
    let uri: Uri = match base.parse() {
        Ok(uri) => uri,
        Err(e) => return bad(&format!("no address ({e})")),
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return bad("an address begins with http:// or https://");
    }
    if uri.query().is_some() || base.contains('#') {
        return bad("an address of this kind has no query and no fragment");
    }
    if base.ends_with("/chat/completions") {
        return bad("the part for chats is added to it; leave `/chat/completions` out");
    }
    match uri.host() {
        Some(host) if !host.is_empty() => Ok(host.to_ascii_lowercase()),
        _ => bad("it names no host"),
    }
}

fn header(name: &str, key: &str, value: &str) -> Result<(String, String)> {
    let good = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(key, format!("holds `{name}`, which is no name of a header")))?;
    // Without the value: it may be a secret.
    HeaderValue::from_str(value).map_err(|_| wrong(key, format!("has a value for `{name}` that no header may have")))?;
    Ok((good.as_str().to_owned(), value.to_owned()))
}

fn wrong(key: &str, what: String) -> Error {
    Error::invalid_params(format!("plugins.openai.{key} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }

    #[test]
    fn an_address_is_http_with_a_host_and_nothing_behind_its_path() {
        let settings = |base_url: &str| Settings::new(Config { base_url: base_url.into(), ..Config::default() });
        for (good, base) in [
            ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
            ("https://models.example.com/openai/v1//", "https://models.example.com/openai/v1"),
            ("http://[::1]:1234", "http://[::1]:1234"),
        ] {
            assert_eq!(settings(good).unwrap().base, base);
        }
        for (bad, why) in [
            ("", "no address"),
            ("127.0.0.1:8080", "begins with http"),
            ("ftp://example.com/v1", "begins with http"),
            ("http:///v1", "no address"),
            ("http://example.com/v1?key=1", "no query"),
            ("http://example.com/v1#x", "no query"),
            ("http://example.com/v1/chat/completions", "leave `/chat/completions` out"),
            ("http://exam ple.com", "no address"),
        ] {
            let error = settings(bad).unwrap_err();
            assert!(error.message().contains(why), "{bad}: {error}");
            assert!(error.message().starts_with("plugins.openai.base_url "), "{error}");
        }
        let error = settings("http://ann:hunter2@example.com/v1").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn headers_are_checked_and_their_values_not_repeated() {
        let with = |name: &str, value: &str| {
            Settings::new(Config { headers: BTreeMap::from([(name.to_owned(), value.to_owned())]), ..Config::default() })
        };
        assert_eq!(with("X-Team", "red").unwrap().headers, [("x-team".to_owned(), "red".to_owned())]);
        assert!(with("a b", "c").is_err());
        let error = with("x-key", "hunter2\r\nx: y").unwrap_err();
        assert!(!error.message().contains("hunter2"), "{error}");
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (config, key) in [
            (Config { timeout_ms: 0, ..Config::default() }, "timeout_ms"),
            (Config { first_token_timeout_ms: 3_600_001, ..Config::default() }, "first_token_timeout_ms"),
            (Config { silence_timeout_ms: 0, ..Config::default() }, "silence_timeout_ms"),
            (Config { max_retries: 11, ..Config::default() }, "max_retries"),
            (Config { voice: " ".into(), ..Config::default() }, "voice"),
            (Config { model: Some(String::new()), ..Config::default() }, "model"),
        ] {
            let message = Settings::new(config).unwrap_err().message().to_owned();
            assert!(message.starts_with(&format!("plugins.openai.{key} ")), "{message}");
        }
    }

    #[test]
    fn the_limit_of_an_answer_has_the_name_that_the_server_knows() {
        let key = |config| Settings::new(config).unwrap().max_tokens_key;
        let local = || Config { base_url: "http://127.0.0.1:1/v1".into(), ..Config::default() };
        assert_eq!(key(Config::default()), "max_completion_tokens");
        assert_eq!(key(local()), "max_tokens");
        assert_eq!(key(Config { max_tokens_key: Some(MaxTokensKey::MaxCompletionTokens), ..local() }), "max_completion_tokens");
    }
}
