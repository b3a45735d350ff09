//! Requests of plugins to servers: which hosts a plugin may reach, by its manifest and the user's configuration. Making the
//! request, and holding every address against this list, is an [`HttpClient`]'s; the host has none of its own.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bespoke_manifest::{HttpAccess, HttpHosts};
use bespoke_plugin_api::{BoxFuture, Code, Error, HttpReply, HttpRequest, Result};
use serde_json::Value;
use tokio::time::Instant;

/// Makes the requests of plugins.
pub trait HttpClient: Send + Sync {
    /// Makes one request, if it goes where it may. Redirects are not followed. Dropping the future, or the body of the answer,
    /// ends the transfer. It may be polled outside any runtime.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, naming the plugin, the host, and what would allow it; `INVALID_PARAMS` for a request that is none;
    /// `EXECUTION_TIMEOUT` and `NETWORK_FAILED`. None of them repeats more of the URL than its host.
    fn send(&self, allowed: HttpAllowed, request: HttpRequest) -> BoxFuture<'static, Result<HttpReply>>;
}

/// The hosts that one plugin may reach at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct HttpAllowed {
    /// The plugin.
    pub plugin: String,
    /// The hosts, in the order of the manifest.
    pub hosts: Vec<AllowedHost>,
    /// Where the user may name more of them.
    pub keys: Vec<HostsKey>,
}

/// One entry of the list.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AllowedHost {
    /// As it was written: a host with an optional port, `*.name`, `*`, a range of addresses, or, out of the configuration, a URL.
    pub pattern: String,
    /// Where it was written: `plugin.toml`, or the key of the configuration.
    pub source: String,
    /// Whether addresses that are not public are granted, too.
    pub private: bool,
}

/// A key of the configuration that names hosts.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct HostsKey {
    /// The whole dotted key, such as `plugins.fetch.allow`.
    pub key: String,
    /// Whether what it names may be private.
    pub private: bool,
    /// The list that holds now, without its references filled in; `None` when the key takes one string.
    pub written: Option<Vec<String>>,
}

impl HttpAllowed {
    /// A list without entries.
    pub fn new(plugin: impl Into<String>) -> Self {
        HttpAllowed { plugin: plugin.into(), hosts: Vec::new(), keys: Vec::new() }
    }

    /// With a host as a manifest names it: at public addresses only.
    #[must_use]
    pub fn host(mut self, pattern: impl Into<String>) -> Self {
        self.hosts.push(AllowedHost { pattern: pattern.into(), source: "plugin.toml".into(), private: false });
        self
    }

    /// With a host that may also be at private addresses.
    #[must_use]
    pub fn private(mut self, pattern: impl Into<String>) -> Self {
        self.hosts.push(AllowedHost { pattern: pattern.into(), source: "plugin.toml".into(), private: true });
        self
    }

    /// What a manifest asks for. `config` is the plugin's own table with references filled in, `written` the one without;
    /// `schema` says whether a key that is not set takes a list.
    pub(crate) fn of(plugin: &str, asked: &[HttpAccess], config: &Value, written: &Value, schema: &Value) -> Self {
        let mut allowed = HttpAllowed::new(plugin);
        for access in asked {
            match &access.hosts {
                HttpHosts::Named(host) if access.private => allowed = allowed.private(host),
                HttpHosts::Named(host) => allowed = allowed.host(host),
                HttpHosts::Configured { key, default, .. } => {
                    let full = format!("plugins.{plugin}.{key}");
                    let mut found = Vec::new();
                    if at(config, key, &mut found) {
                        let entry = |pattern| AllowedHost { pattern, source: full.clone(), private: access.private };
                        allowed.hosts.extend(found.into_iter().map(entry));
                    } else {
                        allowed = default.iter().fold(allowed, HttpAllowed::host);
                    }
                    let mut path = Some(written);
                    for part in key.split('.') {
                        path = path.and_then(|value| value.get(part));
                    }
                    let list = match path {
                        None => takes_list(schema, key).then(|| default.clone()),
                        Some(value) => serde_json::from_value(value.clone()).ok(),
                    };
                    allowed.keys.push(HostsKey { key: full, private: access.private, written: list });
                }
                _ => {}
            }
        }
        allowed
    }
}

impl fmt::Debug for AllowedHost {
    /// Without the pattern: a URL that a user wrote may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllowedHost").field("source", &self.source).field("private", &self.private).finish_non_exhaustive()
    }
}

impl fmt::Debug for HostsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostsKey").field("key", &self.key).field("private", &self.private).finish_non_exhaustive()
    }
}

/// How many requests a plugin may make in one second: so many at once, and then as many as a second brings.
#[derive(Default)]
pub(crate) struct Rate(Mutex<Bucket>);

#[derive(Default)]
struct Bucket {
    per_s: Option<u32>,
    /// Requests that may be made now, in thousandths, and since when.
    left: u64,
    at: Option<Instant>,
}

impl Rate {
    pub(crate) fn limit(&self, per_s: Option<u32>) {
        *self.lock() = Bucket { per_s, left: per_s.map_or(0, |n| u64::from(n) * 1000), at: None };
    }

    /// Takes one request off.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`, which may be tried again.
    pub(crate) fn take(&self, plugin: &str, now: Instant) -> Result<()> {
        let mut bucket = self.lock();
        let Some(per_s) = bucket.per_s else { return Ok(()) };
        let most = u64::from(per_s) * 1000;
        let passed = bucket.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        // Thousandths of a request in a millisecond are requests in a second.
        let ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let brought = ms.saturating_mul(u64::from(per_s));
        if bucket.at.is_none() || brought > 0 {
            bucket.at = Some(now);
        }
        bucket.left = bucket.left.saturating_add(brought).min(most);
        if bucket.left < 1000 {
            let message = format!("makes more than {per_s} requests in a second");
            let help = format!("raise plugins.{plugin}.limits.network_per_s; above what the plugin asks for, with widen = true beside it");
            return Err(Error::new(Code::RESOURCE_EXHAUSTED, message).retryable().with_help(help));
        }
        bucket.left -= 1000;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host of a URL as far as it can be shown: what stands before an `@` may be a password.
pub(crate) fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

/// Whether a key of a configuration takes a list, by its schema.
fn takes_list(schema: &Value, key: &str) -> bool {
    schema["properties"][key]["type"] == "array"
}

/// Collects the strings at a dotted key, through lists on the way; `false` when the key is not set. Other types are the
/// plugin's to refuse: they grant nothing.
fn at(value: &Value, key: &str, found: &mut Vec<String>) -> bool {
    match value {
        Value::Array(items) => {
            let set = items.iter().map(|item| at(item, key, found));
            // Not `any`: every item counts.
            set.fold(items.is_empty(), |all, one| all | one)
        }
        Value::String(text) if key.is_empty() => {
            found.push(text.clone());
            true
        }
        Value::Object(fields) if !key.is_empty() => {
            let (first, rest) = key.split_once('.').unwrap_or((key, ""));
            fields.get(first).is_some_and(|value| at(value, rest, found))
        }
        _ => key.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_so_many_through_and_then_as_many_as_a_second_brings() {
        let (rate, start) = (Rate::default(), Instant::now());
        let through = |ms: u64, tries: usize| {
            let now = start + Duration::from_millis(ms);
            (0..tries).filter(|_| rate.take("web", now).is_ok()).count()
        };
        assert_eq!(through(0, 1000), 1000, "there is no limit");
        rate.limit(Some(4));
        assert_eq!(through(0, 10), 4);
        assert_eq!((through(249, 1), through(250, 10)), (0, 1), "what came in between is not lost");
        assert_eq!(through(600, 10), 1);
        assert_eq!(through(3_600_000, 100), 4, "nothing is saved up beyond a second");
        let error = rate.take("web", start).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), ("RESOURCE_EXHAUSTED", true));
        assert!(error.help().is_some_and(|help| help.contains("plugins.web.limits.network_per_s")));
    }

    #[test]
    fn a_host_is_shown_without_what_may_be_secret() {
        for (url, host) in [
            ("https://api.example.com/v1?key=secret", "api.example.com"),
            ("http://user:secret@a.example:8080/", "a.example:8080"),
            ("http://[::1]:80", "[::1]:80"),
            ("a.example?secret", "a.example"),
            ("http:///secret", ""),
            ("https://a.example\\@secret", "a.example"),
        ] {
            assert_eq!(host_of(url), host);
        }
    }
}
