//! The table `[plugins.telegram]`, and what is left of it once it was found good.

use std::time::Duration;

use bespoke_plugin_api::{
    Error, Result,
    serde::{self, Deserialize},
};
use http::Uri;

/// The server of Telegram.
const OFFICIAL: &str = "https://api.telegram.org";

/// The table `[plugins.telegram]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// What shows Telegram that it is your bot, from @BotFather: a reference such as `${TELEGRAM_TOKEN}`. When absent, the secret
    /// `token`, which is the variable TELEGRAM_TOKEN.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart", "x-secret" = true)))]
    pub token: Option<String>,
    /// Where the Bot API is: http or https, a host; with a path where a server of your own has one.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub base_url: String,
    /// Ids of the people who may write to the bot, in private and in groups. With this list and `allowed_chats` empty, nobody may.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub allowed_users: Vec<i64>,
    /// Ids of the chats in which everybody may write to the bot; those of groups are negative.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub allowed_chats: Vec<i64>,
    /// How long Telegram keeps a request for messages open while there are none, in seconds.
    #[cfg_attr(test, schemars(range(min = 1, max = 50), extend("x-reload" = "restart")))]
    pub poll_timeout_s: u8,
    /// Where Telegram sends messages to, instead of being asked for them.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub webhook: Option<Webhook>,
    /// Largest file that is fetched, in bytes. Telegram's server gives no larger ones than 20 MB.
    #[cfg_attr(test, schemars(range(min = 0, max = 2_000_000_000), extend("x-reload" = "restart")))]
    pub max_file_bytes: u32,
    /// Whether to keep to Telegram's limits before it says so: a message a second in a chat, 20 a minute in a group, 30 a second in
    /// all. Only a server that is not Telegram's has no such limits.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub paced: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            token: None,
            base_url: OFFICIAL.into(),
            allowed_users: Vec::new(),
            allowed_chats: Vec::new(),
            poll_timeout_s: 30,
            webhook: None,
            max_file_bytes: 20_000_000,
            paced: true,
        }
    }
}

/// Where Telegram sends messages to.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Webhook {
    /// The address that leads to `/hooks/telegram/updates` of the gateway; for Telegram's server https, on port 443, 80, 88 or 8443.
    pub url: String,
    /// What Telegram shows with each message, so that nobody else's are taken: 1 to 256 of A–Z, a–z, 0–9, _ and -.
    #[cfg_attr(test, schemars(extend("x-secret" = true)))]
    pub secret_token: String,
}

/// Who may write to the bot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    users: Vec<i64>,
    chats: Vec<i64>,
}

impl Access {
    pub(crate) fn of(config: &Config) -> Self {
        Access { users: config.allowed_users.clone(), chats: config.allowed_chats.clone() }
    }

    pub(crate) fn admits(&self, user: i64, chat: i64) -> bool {
        self.users.contains(&user) || self.chats.contains(&chat)
    }

    /// Whether nobody at all may.
    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.chats.is_empty()
    }

    /// The command that lets one more person in.
    pub(crate) fn command(&self, user: i64) -> String {
        let users: Vec<String> = self.users.iter().chain(&[user]).map(ToString::to_string).collect();
        format!("bespoke config set plugins.telegram.allowed_users '[{}]'", users.join(", "))
    }
}

/// A configuration that was found good.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Without a slash at its end.
    pub(crate) base: String,
    pub(crate) token: Option<String>,
    pub(crate) poll: Duration,
    pub(crate) webhook: Option<Webhook>,
    pub(crate) max_file: u64,
    pub(crate) paced: bool,
}

impl Settings {
    /// Holds what the schema says, and what it cannot say, against a configuration.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let base = config.base_url.trim_end_matches('/').to_owned();
        check_url("base_url", &base, "https://api.telegram.org")?;
        let token = config.token.as_deref().map(str::trim).filter(|token| !token.is_empty());
        if let Some(token) = token {
            check_token(token)?;
        }
        if !(1..=50).contains(&config.poll_timeout_s) {
            return Err(wrong("poll_timeout_s", &format!("is {}; it has to be between 1 and 50", config.poll_timeout_s)));
        }
        if let Some(webhook) = &config.webhook {
            check_url("webhook.url", &webhook.url, "https://bot.example.com/hooks/telegram/updates")?;
            if base == OFFICIAL && !webhook.url.starts_with("https://") {
                return Err(wrong("webhook.url", "has to begin with https://, or Telegram does not take it"));
            }
            let secret = &webhook.secret_token;
            if !(1..=256).contains(&secret.len()) || !secret.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
                return Err(wrong("webhook.secret_token", "has to be 1 to 256 of A–Z, a–z, 0–9, _ and -"));
            }
        }
        Ok(Settings {
            base,
            token: token.map(str::to_owned),
            poll: Duration::from_secs(config.poll_timeout_s.into()),
            webhook: config.webhook.clone(),
            max_file: config.max_file_bytes.into(),
            paced: config.paced,
        })
    }
}

/// Whether it can be a token: the number of the bot, a colon, and letters that need no escape in a path.
pub(crate) fn check_token(token: &str) -> Result<i64> {
    let good = token.split_once(':').filter(|(_, key)| {
        !key.is_empty() && key.len() <= 256 && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    });
    // Without the value: it may be nearly right.
    good.and_then(|(bot, _)| bot.parse().ok()).ok_or_else(|| {
        wrong("token", "is no token of a bot; it looks like 123456:AbC-dEf")
            .with_help("@BotFather shows it: /mybots; then export TELEGRAM_TOKEN=…")
    })
}

fn check_url(key: &str, url: &str, example: &str) -> Result<()> {
    // It may hold what it must not, a password: then it is not repeated.
    if url.contains('@') {
        return Err(wrong(key, "holds a user or a password"));
    }
    let bad = |why: &str| Err(wrong(key, &format!("is `{url}`: {why}")).with_help(format!("write it as {example}")));
    let uri: Uri = match url.parse() {
        Ok(uri) => uri,
        Err(e) => return bad(&format!("no address ({e})")),
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return bad("an address begins with http:// or https://");
    }
    if uri.query().is_some() || url.contains('#') {
        return bad("an address of this kind has no query and no fragment");
    }
    if uri.host().is_none_or(str::is_empty) {
        return bad("it names no host");
    }
    Ok(())
}

fn wrong(key: &str, what: &str) -> Error {
    Error::invalid_params(format!("plugins.telegram.{key} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }

    fn with(change: impl Fn(&mut Config)) -> Result<Settings> {
        let mut config = Config::default();
        change(&mut config);
        Settings::new(&config)
    }

    fn hook(url: &str, secret: &str) -> Option<Webhook> {
        Some(Webhook { url: url.into(), secret_token: secret.into() })
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_repeated() {
        let long = "x".repeat(257);
        for (result, key) in [
            (with(|c| c.base_url = "api.telegram.org".into()), "base_url "),
            (with(|c| c.base_url = "https://ann:hunter2@example.com".into()), "base_url "),
            (with(|c| c.base_url = "http://localhost/?key=hunter2#".into()), "base_url "),
            (with(|c| c.token = Some("hunter2".into())), "token "),
            (with(|c| c.token = Some("1:hunter2/../x".into())), "token "),
            (with(|c| c.poll_timeout_s = 0), "poll_timeout_s "),
            (with(|c| c.poll_timeout_s = 51), "poll_timeout_s "),
            (with(|c| c.webhook = hook("http://example.com/x", "s")), "webhook.url "),
            (with(|c| c.webhook = hook("https://example.com/x", "")), "webhook.secret_token "),
            (with(|c| c.webhook = hook("https://example.com/x", "hunter2 hunter2")), "webhook.secret_token "),
            (with(|c| c.webhook = hook("https://example.com/x", &long)), "webhook.secret_token "),
        ] {
            let error = result.unwrap_err();
            assert!(error.message().starts_with(&format!("plugins.telegram.{key}")), "{error}");
            if !error.message().contains('?') {
                assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
            }
        }
    }

    #[test]
    fn a_server_of_ones_own_may_be_plain() {
        let settings = with(|c| {
            c.base_url = "http://127.0.0.1:8081/".into();
            c.webhook = hook("http://127.0.0.1:8790/hooks/telegram/updates", "s-3_T");
            c.token = Some(" 123:Ab-c_D ".into());
        });
        let settings = settings.unwrap();
        assert_eq!((settings.base.as_str(), settings.token.as_deref()), ("http://127.0.0.1:8081", Some("123:Ab-c_D")));
        assert_eq!(check_token("123:Ab-c_D").unwrap(), 123);
    }

    #[test]
    fn the_command_lets_one_more_in_and_nobody_out() {
        let access = Access { users: vec![1, 2], chats: vec![-5] };
        assert_eq!(access.command(7), "bespoke config set plugins.telegram.allowed_users '[1, 2, 7]'");
        assert!(access.admits(1, 99) && access.admits(99, -5) && !access.admits(99, 99) && !access.is_empty());
        assert!(Access::default().is_empty() && !Access::default().admits(0, 0));
    }
}
