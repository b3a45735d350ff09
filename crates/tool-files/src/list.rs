//! What is in a folder. Of a file, its line and what it says, because models confuse the two.

use std::fmt::Write as _;

use bespoke_plugin_api::{
    CancelToken, ToolOutput,
    serde_json::{Value, json},
};
use cap_std::fs::Dir;

use crate::{
    name::{RelPath, is_askable},
    near,
    read::{self, read_at},
    refusal::{Refusal, Shown},
    root::{Kind, Root},
};

/// Most names of one folder that are looked at; a folder of more is listed in part.
pub(crate) const MOST_NAMES: usize = 20_000;

/// One name in a folder.
pub(crate) struct Entry {
    /// As the model may write it; with what is not Unicode replaced.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Of a file.
    pub(crate) bytes: u64,
    /// Whether the other tools would take the name.
    pub(crate) askable: bool,
}

/// What was found in a folder.
pub(crate) struct Names {
    /// Folders first, each part by name.
    pub(crate) entries: Vec<Entry>,
    /// Names that begin with a dot and are not shown.
    pub(crate) hidden: usize,
    /// Whether there are more than were looked at.
    pub(crate) more: bool,
}

/// Lists a folder, or tells of a file what its first `bytes` say.
pub(crate) fn list(root: &Root, path: &str, most: usize, bytes: u64, cancel: &CancelToken) -> Result<ToolOutput, Refusal> {
    let path = root.parse(path)?;
    let listed = match list_at(root, &path, most, cancel) {
        Err(Refusal::NotAFolder(_)) => read_at(root, &path, 0, bytes).map(|file| line_of(&path, file)),
        other => other,
    };
    listed.map_err(|refusal| near::explain(root, &path, refusal, cancel))
}

/// What a file says, and the line that it has in a list.
fn line_of(path: &RelPath, file: read::Read) -> ToolOutput {
    let name = path.names().last().map_or("", String::as_str);
    let mut data = file.data;
    data["entries"] = json!([{ "name": name, "kind": "file", "bytes": data["size"] }]);
    let mut text = file.text;
    if file.says {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n[{} is a file of {} bytes]", Shown::new(&path.text()), data["size"]);
    }
    ToolOutput::text(text).with_data(data)
}

/// Lists a folder.
pub(crate) fn list_at(root: &Root, path: &RelPath, most: usize, cancel: &CancelToken) -> Result<ToolOutput, Refusal> {
    let dir = root.folder(path.names())?;
    let text_of_path = path.text();
    let names = names(root, &dir, || Shown::new(if path.names().is_empty() { "." } else { text_of_path.as_str() }), cancel)?;
    let shown = place(&text_of_path);
    let count = names.entries.len();
    let mut text = match count {
        0 => format!("{shown} is empty"),
        1 => format!("{shown} has one entry:"),
        _ => format!("{shown} has {count} entries:"),
    };
    let mut entries = Vec::new();
    for entry in names.entries.iter().take(most) {
        let Entry { name, kind, bytes, askable } = entry;
        // A name that may be asked for is shown as it has to be written; it holds nothing that does harm.
        let name = if *askable { name.clone() } else { name.escape_debug().to_string() };
        // Writing to a string cannot fail.
        let _ = match kind {
            Kind::Folder => write!(text, "\n{name}/"),
            Kind::File => write!(text, "\n{name} ({bytes} bytes)"),
            Kind::Link => write!(text, "\n{name} (a link, not followed)"),
            Kind::Special(what) => write!(text, "\n{name} (a {what}, not opened)"),
        };
        if !askable && matches!(kind, Kind::Folder | Kind::File) {
            text.push_str(" (its name can not be asked for)");
        }
        entries.push(entry_data(entry));
    }
    let left_out = count.saturating_sub(most);
    if left_out > 0 {
        let _ = write!(text, "\n[{left_out} more left out; find_files finds by name]");
    }
    if names.more {
        let _ = write!(text, "\n[the folder has more than the {MOST_NAMES} names that were looked at]");
    }
    if names.hidden > 0 {
        let _ = write!(text, "\n[{} hidden, not shown]", names.hidden);
    }
    let data = json!({
        "path": path.text(), "entries": entries, "left_out": left_out, "hidden": names.hidden, "more": names.more,
    });
    Ok(ToolOutput::text(text).with_data(data))
}

/// A folder as answers name it.
pub(crate) fn place(path: &str) -> String {
    if path.is_empty() { "the folder".to_owned() } else { Shown::new(path).to_string() }
}

/// The names in a folder, sorted.
pub(crate) fn names(root: &Root, dir: &Dir, shown: impl Fn() -> Shown, cancel: &CancelToken) -> Result<Names, Refusal> {
    let mut names = Names { entries: Vec::new(), hidden: 0, more: false };
    for entry in dir.entries().map_err(|e| Refusal::Io(shown(), e))? {
        if cancel.is_cancelled() {
            return Err(Refusal::Cancelled);
        }
        if names.entries.len() == MOST_NAMES {
            names.more = true;
            break;
        }
        let entry = entry.map_err(|e| Refusal::Io(shown(), e))?;
        let raw = entry.file_name();
        let name = raw.to_string_lossy();
        if name.starts_with('.') && !root.rules().hidden {
            names.hidden += 1;
            continue;
        }
        // Gone in between: then it is not there.
        let Ok(there) = entry.metadata() else { continue };
        let kind = Kind::of(there.file_type());
        let askable = raw.to_str().is_some_and(|name| is_askable(name, root.rules()));
        names.entries.push(Entry { name: name.into_owned(), kind, bytes: there.len(), askable });
    }
    names.entries.sort_by(|a, b| (a.kind != Kind::Folder, &a.name).cmp(&(b.kind != Kind::Folder, &b.name)));
    Ok(names)
}

fn entry_data(entry: &Entry) -> Value {
    let kind = match entry.kind {
        Kind::File => return json!({ "name": entry.name, "kind": "file", "bytes": entry.bytes }),
        Kind::Folder => "folder",
        Kind::Link => "link",
        Kind::Special(what) => what,
    };
    json!({ "name": entry.name, "kind": kind })
}
