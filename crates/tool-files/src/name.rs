//! What a path may look like, before anything is opened. The rules are the same on every platform, so that a folder and a
//! configuration can move; and they are stricter than any platform's, because a model never needs the rest.

use crate::refusal::{Refusal, Shown};

/// Most bytes of one name: what all common file systems take.
const NAME_BYTES: usize = 255;

/// Most bytes of a path.
const PATH_BYTES: usize = 4096;

/// Device names of Windows, which mean the device in every folder and with every extension.
const DEVICES: &[&str] = &["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"];

/// What may be named, besides what is always refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Names that begin with a dot.
    pub(crate) hidden: bool,
    /// Most names in one path.
    pub(crate) depth: usize,
}

/// A path below the root: names without separators, none of which is `.` or `..`. Empty for the root itself.
#[derive(Debug, Clone)]
pub(crate) struct RelPath {
    names: Vec<String>,
}

impl RelPath {
    /// Takes a path apart. `.`, `./` and one `/` at the end are understood, since models write them.
    pub(crate) fn parse(text: &str, rules: Rules) -> Result<Self, Refusal> {
        let shown = || Shown::new(text);
        if text.len() > PATH_BYTES {
            return Err(Refusal::PathTooLong(shown(), PATH_BYTES));
        }
        if text.starts_with(['/', '\\']) || has_drive(text) {
            return Err(Refusal::Absolute(shown()));
        }
        if text.starts_with('~') {
            return Err(Refusal::Home(shown()));
        }
        let mut names = Vec::new();
        let inner = text.strip_suffix('/').unwrap_or(text);
        for name in inner.split('/').filter(|_| !inner.is_empty()) {
            match name {
                "." => continue,
                ".." => return Err(Refusal::Parent(shown())),
                "" => return Err(Refusal::Name(shown(), "is empty")),
                _ => check(name, rules, shown)?,
            }
            names.push(name.to_owned());
        }
        if names.len() > rules.depth {
            return Err(Refusal::TooDeep(shown(), rules.depth));
        }
        Ok(RelPath { names })
    }

    /// The names, outermost first.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The folder and the name in it; `None` for the root.
    pub(crate) fn split(&self) -> Option<(&[String], &str)> {
        self.names.split_last().map(|(last, folders)| (folders, last.as_str()))
    }

    /// With `/` between the names; empty for the root.
    pub(crate) fn text(&self) -> String {
        self.names.join("/")
    }
}

/// Whether a name that was found in a folder could be asked for.
pub(crate) fn is_askable(name: &str, rules: Rules) -> bool {
    check(name, rules, || Shown::new(name)).is_ok()
}

fn check(name: &str, rules: Rules, shown: impl Fn() -> Shown) -> Result<(), Refusal> {
    if name.len() > NAME_BYTES {
        return Err(Refusal::NameTooLong(shown(), NAME_BYTES));
    }
    if is_disguised(name) {
        return Err(Refusal::LookAlike(shown()));
    }
    if let Some(why) = fault(name) {
        return Err(Refusal::Name(shown(), why));
    }
    if name.starts_with('.') && !rules.hidden {
        return Err(Refusal::Hidden(shown()));
    }
    Ok(())
}

fn fault(name: &str) -> Option<&'static str> {
    if name.contains('\0') {
        Some("holds a NUL byte")
    } else if name.contains(|c: char| c.is_control()) {
        Some("holds a control character")
    } else if name.contains(['\u{2028}', '\u{2029}', '\u{feff}']) || name.contains(is_bidi) {
        Some("holds a character that does not show")
    } else if name.contains('\\') {
        Some("holds a backslash")
    } else if name.contains(':') {
        Some("holds a colon")
    } else if name.ends_with(['.', ' ']) || name.starts_with(' ') {
        Some("begins or ends with a space, or ends with a dot")
    } else if is_device(name) {
        Some("means a device on Windows")
    } else if is_short_name(name) {
        Some("means another file on Windows")
    } else {
        None
    }
}

/// `C:` and the like, whatever follows.
fn has_drive(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// Characters that turn the direction of writing, and make `txt.exe` of `exe.txt`.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a name has a separator in disguise, or is `.` or `..` in disguise. No file system that we know of folds these; a layer
/// between may.
fn is_disguised(name: &str) -> bool {
    let slash =
        |c| matches!(c, '\u{2044}' | '\u{2215}' | '\u{29f8}' | '\u{ff0f}' | '\u{ff3c}' | '\u{29f5}' | '\u{29f9}' | '\u{fe68}' | '\u{2216}');
    let dot = |c| matches!(c, '\u{2024}' | '\u{2025}' | '\u{fe52}' | '\u{ff0e}' | '\u{ff61}' | '\u{3002}');
    name.contains(slash) || (name.contains(dot) && name.chars().all(|c| c == '.' || dot(c)))
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    if DEVICES.contains(&stem.as_str()) {
        return true;
    }
    let number = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
    // Windows takes superscript digits for digits here.
    number.is_some_and(|n| matches!(n, "¹" | "²" | "³") || matches!(n.as_bytes(), [b'0'..=b'9']))
}

/// `GIT~1` and the like: the name of eight and three characters that Windows makes beside a long one, such as a hidden one.
fn is_short_name(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let digits = stem.rsplit_once('~').map(|(_, digits)| digits);
    stem.len() <= 8 && digits.is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
}
