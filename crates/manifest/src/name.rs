//! Which ids and names are good, and which known word somebody may have meant.

use std::fmt;

/// Most characters of an id or a name.
pub const MAX_NAME: usize = 64;

/// Keys of `[plugins]` that are settings of the host for all plugins, and so name none. The host's own struct has the same.
pub const PLUGIN_SETTINGS: &[&str] = &[
    "auto_install",
    "auto_install_timeout_ms",
    "auto_install_deps",
    "index_url",
    "start_timeout_ms",
    "stop_timeout_ms",
    "shutdown_timeout_ms",
    "call_timeout_ms",
    "command_timeout_ms",
    "cpu_budget",
    "dir",
    "sandbox",
    "limits",
];

/// Keys in the table of a plugin that are settings of the host, and so none of the plugin's own. The host's own struct has the same.
pub const HOST_KEYS: &[&str] = &[
    "enabled",
    "secrets",
    "path",
    "sandbox",
    "allow_native",
    "start",
    "idle_stop_ms",
    "command_timeout_ms",
    "limits",
    "auto_install_deps",
];

/// Ids that no plugin may have, beside [`PLUGIN_SETTINGS`]: they are words of `[plugins]`, features of the app that are no plugins, words of commands,
/// or file names that one operating system keeps for its devices.
pub const RESERVED_IDS: &[&str] = &[
    // keys that [plugins] may get
    "grants",
    // what lies beside plugins in their folder
    "runtimes",
    // features of the app: groups, profiles, tiers, optional parts
    "default",
    "build",
    "demo",
    "http",
    "serve",
    "keyring",
    "models",
    "onnx",
    "state",
    "xla",
    "silero-bundled",
    "testkit",
    "local",
    "full",
    "minimal",
    "channels",
    "tiers",
    "process",
    "dylib",
    "wasm",
    "wasi",
    "compiled",
    "gateway",
    "console",
    "market",
    "foreign",
    "nats",
    // words
    "all",
    "none",
    "host",
    "core",
    "self",
    "bespoke",
    "plugin",
    "plugins",
    // devices
    "con",
    "prn",
    "aux",
    "nul",
    "com1",
    "com2",
    "com3",
    "com4",
    "com5",
    "com6",
    "com7",
    "com8",
    "com9",
    "lpt1",
    "lpt2",
    "lpt3",
    "lpt4",
    "lpt5",
    "lpt6",
    "lpt7",
    "lpt8",
    "lpt9",
];

/// Why an id or a name is not good. Displays as message and fix, joined by `; `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.fix)
    }
}

impl std::error::Error for NameError {}

/// Whether a plugin may have this id.
///
/// # Errors
/// Says which rule it breaks: see [`check_name`], [`RESERVED_IDS`] and [`PLUGIN_SETTINGS`].
pub fn check_id(id: &str) -> Result<(), NameError> {
    check_name(id)?;
    if RESERVED_IDS.contains(&id) || PLUGIN_SETTINGS.contains(&id) {
        return Err(NameError { message: format!("`{id}` is reserved"), fix: "choose another id".into() });
    }
    Ok(())
}

/// Whether a contribution may have this name: `^[a-z][a-z0-9_-]*$`, at most [`MAX_NAME`] characters.
///
/// # Errors
/// Says which rule it breaks.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let rule = || "use a to z, 0 to 9, `_` and `-`, beginning with a letter".to_owned();
    let Some(first) = name.chars().next() else {
        return Err(NameError { message: "it is empty".into(), fix: rule() });
    };
    if !first.is_ascii_lowercase() {
        return Err(NameError { message: format!("`{}` begins with {first:?}", shown(name)), fix: rule() });
    }
    if let Some(bad) = name.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))) {
        return Err(NameError { message: format!("`{}` holds {bad:?}", shown(name)), fix: rule() });
    }
    if name.len() > MAX_NAME {
        return Err(NameError {
            message: format!("`{}` has {} characters", shown(name), name.len()),
            fix: format!("use at most {MAX_NAME}"),
        });
    }
    Ok(())
}

/// The id or name that a name of another system's becomes: `MyAwesomePlugin` is `my-awesome-plugin`, `AI Model` is `ai-model`. Whether the
/// result is good is for [`check_id`] to say.
pub(crate) fn kebab(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (n, c) in chars.iter().copied().enumerate() {
        let before = n.checked_sub(1).and_then(|n| chars.get(n)).copied();
        let follows = before.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let ends_capitals = before.is_some_and(|b| b.is_ascii_uppercase()) && chars.get(n + 1).is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && (follows || ends_capitals) {
            out.push('-');
        }
        match c {
            ' ' | '.' => out.push('-'),
            c => out.push(c.to_ascii_lowercase()),
        }
    }
    out
}

/// The known word that is nearest to `word`, when it is near enough to be meant.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing is quadratic: nobody means a known word by a long text.
    if word.len() > 2 * MAX_NAME {
        return None;
    }
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&word, k), k))
        .filter(|(distance, k)| *distance <= k.chars().count().max(word.chars().count()).div_ceil(3))
        .min()
        .map(|(_, k)| k)
}

/// A value as an error message shows it: one line of bounded length.
pub(crate) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_NAME + 16).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if out.len() < text.len() && text.chars().count() > MAX_NAME + 16 {
        out.push('…');
    }
    out
}

/// `a, b, c` for a sentence.
pub(crate) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass_and_bad_ones_say_why() {
        for good in ["a", "clock", "stt_local", "silero-v6", &"x".repeat(64)] {
            assert_eq!(check_id(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", "it is empty; use a to z, 0 to 9, `_` and `-`, beginning with a letter"),
            ("Clock", "`Clock` begins with 'C'; use a to z, 0 to 9, `_` and `-`, beginning with a letter"),
            ("9a", "`9a` begins with '9'; use a to z, 0 to 9, `_` and `-`, beginning with a letter"),
            ("a b", "`a b` holds ' '; use a to z, 0 to 9, `_` and `-`, beginning with a letter"),
            ("../x", "`../x` begins with '.'; use a to z, 0 to 9, `_` and `-`, beginning with a letter"),
            ("a\u{0}", "`a\u{fffd}` holds '\\0'; use a to z, 0 to 9, `_` and `-`, beginning with a letter"),
            ("sandbox", "`sandbox` is reserved; choose another id"),
            ("nul", "`nul` is reserved; choose another id"),
        ] {
            assert_eq!(check_id(bad).unwrap_err().to_string(), why);
        }
        assert_eq!(check_id(&"x".repeat(65)).unwrap_err().fix, "use at most 64");
    }

    #[test]
    fn names_of_other_systems_become_ids() {
        for (name, id) in [
            ("MyAwesomePlugin", "my-awesome-plugin"),
            ("AIModel", "ai-model"),
            ("my-plugin", "my-plugin"),
            ("my_tts_plugin", "my_tts_plugin"),
            ("Summarizer V2", "summarizer-v2"),
            ("SHOUT", "shout"),
            ("gpt4All", "gpt4-all"),
            ("../Up", "--/up"),
        ] {
            assert_eq!(kebab(name), id);
        }
    }

    #[test]
    fn settings_of_all_plugins_are_no_ids() {
        for setting in PLUGIN_SETTINGS {
            assert!(check_id(setting).is_err(), "{setting}");
        }
    }

    #[test]
    fn suggests_what_is_near_and_nothing_else() {
        let known = ["description", "provides", "tool", "stt"];
        assert_eq!(closest("descripton", known), Some("description"));
        assert_eq!(closest("Provide", known), Some("provides"));
        assert_eq!(closest("tol", known), Some("tool"));
        assert_eq!(closest("xyzzy", known), None);
        assert_eq!(closest(&"x".repeat(100_000), known), None);
    }
}
