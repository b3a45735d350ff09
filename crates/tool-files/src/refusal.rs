//! Why a request is not answered with files. Each reason is a sentence for the model, and a word for programs.

use std::{fmt, io};

/// Why not. The text says what was asked for, what is wrong with it, and what would be right.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0} goes up with `..`; name only what is inside the folder, such as notes/today.txt")]
    Parent(Shown),
    #[error("{0} begins at the top of the machine; paths are relative to the folder, such as notes/today.txt")]
    Absolute(Shown),
    #[error("{0} begins with `~`, which stands for no folder here; paths are relative to the folder")]
    Home(Shown),
    #[error("{0} has a name that {1}; take names of letters, digits, `-`, `_`, `.` and single spaces")]
    Name(Shown, &'static str),
    #[error("{0} has a character that only looks like `.`, `/` or `\\`; write the plain one")]
    LookAlike(Shown),
    #[error("{0} has a name of more than {1} bytes")]
    NameTooLong(Shown, usize),
    #[error("{0} is longer than {1} bytes")]
    PathTooLong(Shown, usize),
    #[error("{0} lies more than {1} folders deep (`plugins.files.max_depth`)")]
    TooDeep(Shown, usize),
    #[error("{0} is hidden: a name begins with a dot; hidden files are off limits unless the user sets `plugins.files.hidden`")]
    Hidden(Shown),
    #[error("{0} is a link, and links are not followed, wherever they lead")]
    Link(Shown),
    #[error("{0} is a {1}, neither a file nor a folder")]
    Special(Shown, &'static str),
    #[error(
        "{0} has more than one name (hard links), so it may belong elsewhere, too; the user can allow it with `plugins.files.hard_links`"
    )]
    HardLink(Shown),
    #[error("{0} lies on another file system, mounted below the folder")]
    Mounted(Shown),
    #[error("there is no {0}; list_files and find_files tell what there is")]
    NotFound(Shown),
    #[error("there is no {0}; {1}")]
    Misnamed(Shown, Near),
    #[error("{0} is a file, not a folder")]
    NotAFolder(Shown),
    #[error("{0} is a folder, not a file; list_files tells what is in it")]
    NotAFile(Shown),
    #[error("{0} exists; with mode `replace` it is overwritten, with `append` the text is added at its end")]
    Exists(Shown),
    #[error("{0} is marked as read-only")]
    ReadOnly(Shown),
    #[error("the folder of {0} does not exist, and new folders are made only when the user sets `plugins.files.create_folders`")]
    NoFolder(Shown),
    #[error("{0} would have {1} bytes, and a file that is written may have at most {2} (`plugins.files.max_write_bytes`)")]
    TooLarge(Shown, u64, u64),
    #[error("{0} has only {1} bytes, so there is nothing at offset {2}")]
    BeyondEnd(Shown, u64, u64),
    #[error("{0} changed while it was opened")]
    Changed(Shown),
    #[error("{0}: {1}")]
    Io(Shown, #[source] io::Error),
    #[error("the folder was moved, removed or replaced since the plugin started; the user has to start it again")]
    RootGone,
    #[error("there is no folder to work in yet; the user has to choose one: bespoke config set plugins.files.root ~/notes")]
    NoRoot,
    #[error("cancelled by the caller")]
    Cancelled,
}

impl Refusal {
    /// The reason in a word, stable for programs.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Refusal::Parent(_) => "parent",
            Refusal::Absolute(_) => "absolute",
            Refusal::Home(_) => "home",
            Refusal::Name(..) => "name",
            Refusal::LookAlike(_) => "look_alike",
            Refusal::NameTooLong(..) | Refusal::PathTooLong(..) => "too_long",
            Refusal::TooDeep(..) => "too_deep",
            Refusal::Hidden(_) => "hidden",
            Refusal::Link(_) => "link",
            Refusal::Special(..) => "special",
            Refusal::HardLink(_) => "hard_link",
            Refusal::Mounted(_) => "mounted",
            Refusal::NotFound(_) | Refusal::Misnamed(..) => "not_found",
            Refusal::NotAFolder(_) => "not_a_folder",
            Refusal::NotAFile(_) => "not_a_file",
            Refusal::Exists(_) => "exists",
            Refusal::ReadOnly(_) => "read_only",
            Refusal::NoFolder(_) => "no_folder",
            Refusal::TooLarge(..) => "too_large",
            Refusal::BeyondEnd(..) => "beyond_end",
            Refusal::Changed(_) => "changed",
            Refusal::Io(..) => "io",
            Refusal::RootGone => "root_gone",
            Refusal::NoRoot => "no_root",
            Refusal::Cancelled => "cancelled",
        }
    }

    /// Whether it was an attempt on what is outside of the folder or off limits in it, by whoever chose the path or made the
    /// files: worth a warning in the log.
    pub(crate) fn is_escape(&self) -> bool {
        use Refusal::*;
        matches!(
            self,
            Parent(_)
                | Absolute(_)
                | Home(_)
                | Name(..)
                | LookAlike(_)
                | Hidden(_)
                | Link(_)
                | Special(..)
                | HardLink(_)
                | Mounted(_)
                | Changed(_)
                | RootGone
        )
    }
}

/// Paths that exist, close to one that does not.
#[derive(Debug)]
pub(crate) struct Near {
    /// The closest first; at least one.
    pub(crate) paths: Vec<String>,
    /// Whether there is one, and it is what was asked for in another spelling.
    pub(crate) is_clear: bool,
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self.paths.iter().map(|path| Shown::new(path).to_string()).collect();
        match shown.as_slice() {
            [one] if self.is_clear => write!(f, "did you mean {one}?"),
            many => write!(f, "what comes close: {}", many.join(", ")),
        }
    }
}

/// A path as it may be shown: quoted, nothing in it that a terminal or a log would obey, and of bounded length.
#[derive(Debug, Clone)]
pub(crate) struct Shown(String);

impl Shown {
    /// Most characters of a path that are shown.
    const MOST: usize = 120;

    pub(crate) fn new(path: &str) -> Self {
        let cut = path.char_indices().nth(Self::MOST).map_or(path.len(), |(at, _)| at);
        let dots = if cut < path.len() { "…" } else { "" };
        let mut shown = String::from("`");
        for c in path[..cut].chars() {
            match c {
                '\'' | '"' => shown.push(c),
                _ => shown.extend(c.escape_debug()),
            }
        }
        Shown(shown + dots + "`")
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
