//! The programs that may be run: looked up once, and then found by name in a table. Nothing the model says is ever looked up.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bespoke_plugin_api::Result;

use crate::{
    config::{Config, bad},
    refusal::{Refusal, shown},
};

/// Programs that run what their arguments or their input say, by the beginning of the name; a version may follow.
const INTERPRETERS: &[&str] = &[
    // shells
    "sh",
    "ash",
    "bash",
    "csh",
    "dash",
    "elvish",
    "fish",
    "ksh",
    "mksh",
    "nu",
    "oksh",
    "pwsh",
    "rbash",
    "rc",
    "tcsh",
    "xonsh",
    "yash",
    "zsh",
    "cmd",
    "powershell",
    // languages
    "python",
    "pypy",
    "ipython",
    "perl",
    "ruby",
    "irb",
    "node",
    "nodejs",
    "deno",
    "bun",
    "php",
    "lua",
    "luajit",
    "tclsh",
    "wish",
    "expect",
    "guile",
    "racket",
    "sbcl",
    "clojure",
    "ghci",
    "runghc",
    "ocaml",
    "erl",
    "elixir",
    "iex",
    "julia",
    "R",
    "Rscript",
    "octave",
    "groovy",
    "java",
    "jshell",
    "scala",
    "kotlin",
    "dotnet",
    "osascript",
    "gdb",
    "lldb",
    "sqlite3",
    // programs that run other programs
    "env",
    "xargs",
    "find",
    "fd",
    "parallel",
    "nice",
    "ionice",
    "nohup",
    "timeout",
    "time",
    "setsid",
    "stdbuf",
    "unbuffer",
    "watch",
    "script",
    "chroot",
    "unshare",
    "nsenter",
    "flock",
    "strace",
    "ltrace",
    "systemd-run",
    "at",
    "batch",
    "crontab",
    "entr",
    "tmux",
    "screen",
    "make",
    "gmake",
    "ninja",
    "just",
    "npx",
    "npm",
    "pnpm",
    "yarn",
    "pip",
    "uv",
    "uvx",
    "cargo",
    // programs that become somebody or something else
    "sudo",
    "su",
    "doas",
    "pkexec",
    "runuser",
    "ssh",
    "docker",
    "podman",
    "kubectl",
    "nix",
    "nix-shell",
    // editors and pagers with commands, and text tools that can run programs
    "vi",
    "vim",
    "nvim",
    "view",
    "ex",
    "ed",
    "emacs",
    "nano",
    "less",
    "more",
    "man",
    "awk",
    "gawk",
    "mawk",
    "nawk",
    "sed",
    "m4",
    "tar",
];

/// Programs that are many, by the name they are called by: the name counts, not what it leads to.
const MANY_IN_ONE: &[&str] = &["busybox", "toybox", "coreutils", "uutils", "box"];

/// The programs.
pub(crate) struct Allowed {
    by_name: BTreeMap<String, Program>,
}

struct Program {
    path: PathBuf,
    /// `None` for any.
    first_args: Option<Vec<String>>,
}

impl Allowed {
    /// Looks up what a configuration names. `folder` is where programs will work.
    ///
    /// # Errors
    /// `INVALID_PARAMS`, for what is not there, is no program, or must not be allowed.
    pub(crate) fn look_up(config: &Config, folder: Option<&Path>) -> Result<Self> {
        let search = std::env::var_os("PATH").unwrap_or_default();
        let mut by_name = BTreeMap::new();
        for (index, entry) in config.allow.iter().enumerate() {
            let key = format!("allow[{index}]");
            let path = locate(entry, &search).map_err(|why| bad(&key, format!("`{}`: {why}", entry.escape_debug())))?;
            let name = file_name(&path);
            let real = std::fs::canonicalize(&path).map_err(|e| bad(&key, format!("{}: {e}", path.display())))?;
            if folder.is_some_and(|folder| real.starts_with(folder) || path.starts_with(folder)) {
                let why = "it lies in the folder that programs work in, where one of them could replace it";
                return Err(bad(&key, format!("`{name}`: {why}")).with_help("move it, or choose another folder with plugins.shell.cwd"));
            }
            let real_name = file_name(&real);
            let counts = if MANY_IN_ONE.contains(&real_name.as_str()) && name != real_name { &name } else { &real_name };
            if !config.allow_interpreters && (is_interpreter(&name) || is_interpreter(counts) || MANY_IN_ONE.contains(&name.as_str())) {
                let why = "it runs whatever its arguments say, so that allowing it allows everything";
                return Err(bad(&key, format!("`{name}`: {why}")).with_help(
                    "name the programs themselves; or, if that is what you want: bespoke config set plugins.shell.allow_interpreters true",
                ));
            }
            let first_args = config.first_args.get(&name).cloned();
            if by_name.insert(name.clone(), Program { path, first_args }).is_some() {
                return Err(bad(&key, format!("`{name}` stands in `allow` twice; keep one")));
            }
        }
        if let Some(name) = config.first_args.keys().find(|name| !by_name.contains_key(*name)) {
            return Err(bad(&format!("first_args.{name}"), format!("`{name}` stands in `first_args` and not in `allow`")));
        }
        Ok(Allowed { by_name })
    }

    /// The path of a program that may be run with these arguments.
    pub(crate) fn find(&self, name: &str, args: &[String]) -> Result<&Path, Refusal> {
        if name.contains(['/', '\\']) {
            return Err(Refusal::HasPath(shown(name)));
        }
        let Some(program) = self.by_name.get(name) else { return Err(Refusal::NotAllowed(shown(name), self.list())) };
        if let Some(allowed) = &program.first_args {
            let first = args.first().map_or("", String::as_str);
            if !allowed.iter().any(|a| a == first) {
                let given = if args.is_empty() { "missing".to_owned() } else { shown(first) };
                let allowed = allowed.iter().map(|a| shown(a)).collect::<Vec<_>>().join(", ");
                return Err(Refusal::FirstArgument(name.to_owned(), given, allowed));
            }
        }
        Ok(&program.path)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// All names, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.by_name.keys().map(String::as_str).collect()
    }

    /// The same for a person.
    pub(crate) fn list(&self) -> String {
        if self.by_name.is_empty() { "none".into() } else { self.names().join(", ") }
    }
}

/// The absolute path of a program: as it stands, or the first in `search` that can be run. Folders of `search` that are not absolute are
/// passed over: what they mean depends on where one stands.
fn locate(entry: &str, search: &std::ffi::OsStr) -> Result<PathBuf, String> {
    if entry.is_empty() || entry.contains(|c: char| c.is_control()) {
        return Err("it is no name of a program".into());
    }
    let path = Path::new(entry);
    if path.is_absolute() {
        return if is_program(path) { Ok(path.to_owned()) } else { Err("there is no program".into()) };
    }
    if entry.contains(['/', '\\']) || entry == "." || entry == ".." {
        return Err("write a name or an absolute path".into());
    }
    let mut folders = std::env::split_paths(search).filter(|folder| folder.is_absolute());
    folders.find_map(|folder| Some(folder.join(entry)).filter(|path| is_program(path))).ok_or_else(|| "it is not in PATH".into())
}

fn is_program(path: &Path) -> bool {
    let Ok(there) = std::fs::metadata(path) else { return false };
    #[cfg(unix)]
    let can_run = std::os::unix::fs::PermissionsExt::mode(&there.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let can_run = true;
    there.is_file() && can_run
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a name is one of the interpreters, with or without a version: `python3.12`, `bash`, `lua5.4`.
fn is_interpreter(name: &str) -> bool {
    let name = name.strip_suffix(".exe").unwrap_or(name);
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
    INTERPRETERS.iter().any(|known| *known == name || *known == plain)
}

#[cfg(test)]
mod tests {
    use super::is_interpreter;

    #[test]
    fn interpreters_are_known_with_their_versions() {
        for name in ["sh", "bash", "python3", "python3.12", "lua5.4", "php8.2", "perl5.36.0", "sqlite3", "env", "nodejs", "bash.exe"] {
            assert!(is_interpreter(name), "{name}");
        }
        for name in ["git", "ls", "shuf", "shasum", "environment", "date", "b3sum", "7z"] {
            assert!(!is_interpreter(name), "{name}");
        }
    }
}
