//! Why a program is not run. Each reason is a sentence for the model, and a word for programs.

use std::fmt;

/// Why not.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The program, quoted, and those that may be run.
    NotAllowed(String, String),
    /// The program, quoted: it has a path.
    HasPath(String),
    /// The program, its first argument, quoted, and those that may be.
    FirstArgument(String, String, String),
    /// What, its bytes, the limit and its key.
    TooMuch(&'static str, u64, u64, &'static str),
    Nul,
    NoFolder,
    NotSupported,
}

impl Refusal {
    /// The reason in a word, stable for programs.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Refusal::NotAllowed(..) => "not_allowed",
            Refusal::HasPath(_) => "path",
            Refusal::FirstArgument(..) => "first_argument",
            Refusal::TooMuch(..) => "too_much",
            Refusal::Nul => "nul",
            Refusal::NoFolder => "no_folder",
            Refusal::NotSupported => "not_supported",
        }
    }

    /// Whether the model tried what the user did not allow: worth a warning in the log.
    pub(crate) fn is_attempt(&self) -> bool {
        matches!(self, Refusal::NotAllowed(..) | Refusal::HasPath(_) | Refusal::FirstArgument(..) | Refusal::Nul)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotAllowed(program, there_is) => {
                write!(f, "{program} may not be run; there is {there_is} (the user can name more in `plugins.shell.allow`)")
            }
            Refusal::HasPath(program) => write!(f, "{program} is a path; write the name of the program only"),
            Refusal::FirstArgument(program, given, allowed) => {
                write!(f, "the first argument of `{program}` may not be {given}; it has to be one of {allowed}")
            }
            Refusal::TooMuch(what, bytes, most, key) => {
                write!(f, "{bytes} bytes of {what}, and {most} are the most (`plugins.shell.{key}`)")
            }
            Refusal::Nul => write!(f, "an argument holds a NUL byte, which no program can take"),
            Refusal::NoFolder => {
                write!(f, "there is no folder to work in; the user has to choose one: bespoke config set plugins.shell.cwd ~/work")
            }
            Refusal::NotSupported => write!(f, "programs are run on Unix only"),
        }
    }
}

/// What the model gave, quoted, bounded, and without anything that a terminal or a log would obey.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let cut = text.char_indices().nth(MOST).map_or(text.len(), |(at, _)| at);
    let mut shown = String::from("`");
    for c in text[..cut].chars() {
        match c {
            '\'' | '"' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown + if cut < text.len() { "…`" } else { "`" }
}
