//! `logs`: what programs of this user logged, filtered, in the order in which it was written. Writes no log.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use bespoke_screen::plain;
use serde_json::json;

use crate::{
    cli::{Global, LogLevel, Logs},
    exit::{Failure, Result},
    logs,
    output::{Out, Style},
    paths::Paths,
};

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// A longer line is cut: no line of ours is.
const LONGEST_LINE: u64 = 1 << 20;

pub(super) async fn run(global: &Global, args: &Logs) -> Result<()> {
    let folder = Paths::home()?.join("logs");
    let out = Out::with(global.json, global.quiet);
    let wanted = Wanted { level: args.level, plugin: args.plugin.clone() };
    let current = if args.plugin.is_some() { logs::of_plugins(&folder) } else { logs::of_all(&folder) };
    let mut last: VecDeque<Entry> = VecDeque::new();
    // What comes after this look is followed.
    let mut following = Following::at_end(&current);
    for path in logs::set_aside(&current).into_iter().chain([current.clone()]) {
        let end = if path == current { following.at } else { u64::MAX };
        read(&path, end, |line| {
            if let Some(entry) = Entry::read(line).filter(|entry| wanted.fits(entry)) {
                last.push_back(entry);
                if last.len() > args.lines {
                    last.pop_front();
                }
            }
        })
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    }
    if last.is_empty() && !args.follow && !out.json {
        let what = if folder.is_dir() { "nothing of that kind is logged" } else { "nothing is logged yet" };
        out.note(format!("{what} in {}", folder.display()));
    }
    last.iter().try_for_each(|entry| show(out, entry))?;
    if !args.follow {
        return Ok(());
    }
    let follow = async {
        loop {
            tokio::time::sleep(LOOK).await;
            for line in following.more()? {
                if let Some(entry) = Entry::read(&line).filter(|entry| wanted.fits(entry)) {
                    show(out, &entry)?;
                }
            }
        }
    };
    tokio::select! {
        ended = follow => ended,
        // That is how one stops looking.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Which lines are asked for.
struct Wanted {
    level: Option<LogLevel>,
    plugin: Option<String>,
}

impl Wanted {
    fn fits(&self, entry: &Entry) -> bool {
        let loud = |level: LogLevel| rank(level.name()) >= rank(&entry.level);
        self.level.is_none_or(loud) && self.plugin.as_ref().is_none_or(|plugin| entry.plugin.as_ref() == Some(plugin))
    }
}

/// The higher, the less it matters.
fn rank(level: &str) -> usize {
    ["off", "error", "warn", "info", "debug", "trace"].iter().position(|known| *known == level).unwrap_or(0)
}

/// A line of a log.
#[derive(Debug, PartialEq)]
struct Entry {
    at: String,
    level: String,
    message: String,
    plugin: Option<String>,
}

impl Entry {
    /// A line as the log has it; what does not begin as one is none.
    fn read(line: &str) -> Option<Self> {
        let (at, rest) = line.split_once(' ')?;
        let (level, message) = rest.trim_start().split_once(' ')?;
        let level = level.to_ascii_lowercase();
        if !at.ends_with('Z') || rank(&level) == 0 {
            return None;
        }
        // What a plugin says carries its id at the end.
        let of_plugin = message.strip_suffix('"').and_then(|message| message.rsplit_once(" plugin=\""));
        let (message, plugin) = of_plugin.map_or((message, None), |(message, plugin)| (message, Some(plugin.to_owned())));
        let plain = |text: &str| plain(text).into_owned();
        Some(Entry { at: plain(at), level, message: plain(message), plugin: plugin.as_deref().map(plain) })
    }
}

fn show(out: Out, entry: &Entry) -> Result<()> {
    let Entry { at, level, message, plugin } = entry;
    if out.json {
        return out.json(&json!({ "at": at, "level": level, "message": message, "plugin": plugin }), false);
    }
    let style = match level.as_str() {
        "error" => Style::Red,
        "warn" => Style::Yellow,
        "info" => Style::Green,
        _ => Style::Dim,
    };
    let plugin = plugin.as_ref().map_or(String::new(), |plugin| format!(" [{plugin}]"));
    let level = format!("{:>5}", level.to_ascii_uppercase());
    out.line(format!("{} {}{plugin} {message}", out.paint(Style::Dim, at), out.paint(style, &level)))
}

/// Each line of a file up to `end`; none of a file that is not there.
fn read(path: &Path, end: u64, mut line: impl FnMut(&str)) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut lines = BufReader::new(file.take(end));
    let mut bytes = Vec::new();
    while lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes)? > 0 {
        line(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
    }
    Ok(())
}

/// A log that grows, and is set aside when it is full.
struct Following {
    path: PathBuf,
    file: Option<File>,
    at: u64,
    /// A line that is not written to its end yet.
    begun: Vec<u8>,
}

impl Following {
    fn at_end(path: &Path) -> Self {
        let file = File::open(path).ok();
        let at = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
        Following { path: path.to_owned(), file, at, begun: Vec::new() }
    }

    /// The lines since the last look.
    fn more(&mut self) -> io::Result<Vec<String>> {
        let mut lines = self.rest()?;
        // Another file has its name when this one was set aside, with all that was in it read now.
        if self.is_another() {
            lines.extend(self.rest()?);
            self.file = File::open(&self.path).ok();
            self.at = 0;
            lines.extend(self.rest()?);
        }
        Ok(lines)
    }

    fn rest(&mut self) -> io::Result<Vec<String>> {
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        self.at += file.take(LONGEST_LINE).read_to_end(&mut bytes)? as u64;
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                lines.push(String::from_utf8_lossy(&std::mem::take(&mut self.begun)).trim_end().to_owned());
            }
        }
        Ok(lines)
    }

    #[cfg(unix)]
    fn is_another(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let of = |found: io::Result<std::fs::Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
        let now = of(std::fs::metadata(&self.path));
        now.is_some() && now != self.file.as_ref().and_then(|file| of(file.metadata()))
    }

    #[cfg(not(unix))]
    fn is_another(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| found.len() < self.at || self.file.is_none())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let read = |line: &str| Entry::read(line).map(|e| (e.level, e.message, e.plugin));
        let entry =
            |level: &str, message: &str, plugin: Option<&str>| Some((level.to_owned(), message.to_owned(), plugin.map(str::to_owned)));
        for (line, entry) in [
            ("2026-11-20T20:30:00.1Z  INFO serve: serving", entry("info", "serve: serving", None)),
            ("2026-11-20T20:30:00.1Z ERROR it \"broke\" plugin=\"x\"", entry("error", "it \"broke\"", Some("x"))),
            ("2026-11-20T20:30:00.1Z  WARN \u{1b}[31mred", entry("warn", "red", None)),
            ("   at some/file.rs", None),
            ("", None),
            ("2026-11-20T20:30:00.1Z HELLO you", None),
        ] {
            assert_eq!(read(line), entry, "{line}");
        }
    }

    #[test]
    fn a_level_means_that_and_what_matters_more() {
        let entry = |level: &str| Entry { at: String::new(), level: level.into(), message: String::new(), plugin: None };
        let wanted = Wanted { level: Some(LogLevel::Warn), plugin: None };
        assert_eq!(["error", "warn", "info", "trace"].map(|level| wanted.fits(&entry(level))), [true, true, false, false]);
        assert!(!Wanted { level: None, plugin: Some("x".into()) }.fits(&entry("error")));
    }

    #[test]
    fn a_log_is_followed_over_the_moment_at_which_it_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bespoke.log");
        let append = |text: &str| File::options().create(true).append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        append("old\n");
        let mut following = Following::at_end(&path);
        append("one\ntwo\nbeg");
        assert_eq!(following.more().unwrap(), ["one", "two"]);
        append("un\nlast\n");
        std::fs::rename(&path, folder.path().join("bespoke.log.1")).unwrap();
        append("new\n");
        assert_eq!(following.more().unwrap(), ["begun", "last", "new"]);
        assert!(following.more().unwrap().is_empty());
    }
}
