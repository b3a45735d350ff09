//! What a plugin writes beside the protocol: its standard error line by line with a level, and what strays onto its standard output.
//! Bounded in every way: a line, the lines kept, the lines a second. Where the lines go is the host's.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bespoke_plugin_api::{HostApi, Level, serde_json};
use bespoke_tier::{
    Pass, Rate,
    log::{self, MOST_LINE},
};

/// Lines kept for the error of a plugin that dies.
const KEPT_LINES: usize = 40;

/// The last lines of a plugin's standard error.
#[derive(Debug, Default)]
pub(crate) struct LastLines(Mutex<VecDeque<String>>);

impl LastLines {
    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn keep(&self, line: &str) {
        let mut lines = self.lock();
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// All that are kept, the oldest first.
    pub(crate) fn all(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    /// The last that is not empty.
    pub(crate) fn last(&self) -> Option<String> {
        self.lock().iter().rev().find(|line| !line.trim().is_empty()).cloned()
    }
}

/// Where the lines of one child go.
pub(crate) struct Log {
    host: Arc<dyn HostApi>,
    last: Arc<LastLines>,
    stderr: Lines,
    /// Inside a traceback, whose lines are all part of one error.
    trace: Trace,
    rate: Rate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trace {
    No,
    Inside,
}

impl Log {
    pub(crate) fn new(host: Arc<dyn HostApi>, last: Arc<LastLines>, now: Instant) -> Self {
        Log { host, last, stderr: Lines::default(), trace: Trace::No, rate: log::rate(now) }
    }

    /// Bytes of the standard error, cut anywhere.
    pub(crate) fn stderr(&mut self, bytes: &[u8], now: Instant) {
        let mut lines = std::mem::take(&mut self.stderr);
        lines.feed(bytes, |line, more| self.stderr_line(line, more, now));
        self.stderr = lines;
    }

    /// The standard error has ended, perhaps in the middle of a line.
    pub(crate) fn stderr_ended(&mut self, now: Instant) {
        let mut lines = std::mem::take(&mut self.stderr);
        lines.end(|line, more| self.stderr_line(line, more, now));
        let held = self.rate.held();
        self.tell_held(held);
    }

    /// A line on the standard output that is no message.
    pub(crate) fn stray(&mut self, line: &[u8], now: Instant) {
        self.put(Level::Warn, &format!("wrote a line to stdout that is no message: {}", plain(line, 0)), now);
    }

    /// What the tier itself has to say of the plugin.
    pub(crate) fn say(&mut self, level: Level, line: &str, now: Instant) {
        self.put(level, line, now);
    }

    /// Whether one more line of the plugin's own log may pass.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        match self.rate.pass(now) {
            Pass::Held => false,
            Pass::Through { held_before } => {
                self.tell_held(held_before);
                true
            }
        }
    }

    fn stderr_line(&mut self, line: &[u8], more: usize, now: Instant) {
        let line = plain(line, more);
        self.last.keep(&line);
        if line.trim().is_empty() {
            return;
        }
        let level = self.level(&line);
        self.put(level, &line, now);
    }

    fn level(&mut self, line: &str) -> Level {
        if line.trim_start().starts_with("Traceback (most recent call last)") {
            self.trace = Trace::Inside;
            return Level::Error;
        }
        if self.trace == Trace::Inside {
            // The last line of a traceback is the first that is not indented: the exception itself.
            if !line.starts_with(char::is_whitespace) {
                self.trace = Trace::No;
            }
            return Level::Error;
        }
        level_of(line)
    }

    fn put(&mut self, level: Level, line: &str, now: Instant) {
        if self.admits(now) {
            self.host.log(level, line);
        }
    }

    fn tell_held(&self, held: u64) {
        if let Some(line) = log::left_out(held) {
            self.host.log(Level::Warn, &line);
        }
    }
}

/// The level that a line says it has; `Info` when it says nothing.
fn level_of(line: &str) -> Level {
    let text = line.trim_start();
    if text.starts_with('{')
        && let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(text)
    {
        let said = ["level", "levelname", "severity", "lvl"].iter().find_map(|key| fields.get(*key)?.as_str());
        return said.and_then(level_named).unwrap_or(Level::Info);
    }
    if text.contains("panicked at") || text.starts_with("Fatal Python error") || text.starts_with("Segmentation fault") {
        return Level::Error;
    }
    // A date, a time and a module may stand before it. A level in the middle of a sentence is a word like any other, so it counts
    // only in capitals, or right at the start before a colon.
    let first = text.split([':', ' ']).next().unwrap_or_default();
    if text.as_bytes().get(first.len()) == Some(&b':')
        && let Some(level) = level_named(first)
    {
        return level;
    }
    let words = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).take(8);
    words.filter(|word| word.bytes().all(|b| b.is_ascii_uppercase())).find_map(level_named).unwrap_or(Level::Info)
}

fn level_named(word: &str) -> Option<Level> {
    let is = |names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
    if is(&["error", "err", "critical", "fatal", "panic", "emerg", "alert", "crit"]) {
        Some(Level::Error)
    } else if is(&["warning", "warn"]) {
        Some(Level::Warn)
    } else if is(&["info", "notice", "information"]) {
        Some(Level::Info)
    } else if is(&["debug", "trace", "verbose"]) {
        Some(Level::Debug)
    } else {
        None
    }
}

/// Bytes as a line of a log.
fn plain(line: &[u8], more: usize) -> String {
    log::plain(&String::from_utf8_lossy(line), more)
}

/// Finds lines in bytes, keeping no more of each than may be shown.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    /// Bytes of the line beyond those.
    more: usize,
}

impl Lines {
    fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], usize)) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.add(&bytes[..end]);
            bytes = &bytes[end + 1..];
            each(&self.begun, self.more);
            self.begun.clear();
            self.more = 0;
        }
        self.add(bytes);
    }

    fn end(&mut self, mut each: impl FnMut(&[u8], usize)) {
        if !self.begun.is_empty() {
            each(&self.begun, self.more);
        }
        *self = Lines::default();
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = MOST_LINE.saturating_sub(self.begun.len()).min(bytes.len());
        self.begun.extend_from_slice(&bytes[..room]);
        self.more = self.more.saturating_add(bytes.len() - room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bespoke_plugin_testkit::TestHost;

    #[test]
    fn the_level_is_what_the_line_says() {
        let cases = [
            ("plain words", Level::Info),
            ("ERROR: no", Level::Error),
            ("error: no", Level::Error),
            ("an error in the middle", Level::Info),
            ("warning: deprecated", Level::Warn),
            ("2026-01-02 03:04:05,678 - tts.engine - WARNING - slow", Level::Warn),
            ("[INFO] ready", Level::Info),
            ("DEBUG:root:x", Level::Debug),
            ("CRITICAL:root:x", Level::Error),
            (r#"{"level":"warn","msg":"x"}"#, Level::Warn),
            (r#"{"severity":"ERROR","message":"x"}"#, Level::Error),
            (r#"{"level":7}"#, Level::Info),
            ("{not json", Level::Info),
            ("thread 'main' panicked at src/main.rs:2:5:", Level::Error),
            ("Fatal Python error: Segmentation fault", Level::Error),
            ("informed: no level", Level::Info),
        ];
        for (line, level) in cases {
            assert_eq!(level_of(line), level, "{line}");
        }
    }

    #[test]
    fn a_traceback_is_one_error() {
        let now = Instant::now();
        let host = TestHost::new();
        let mut log = Log::new(host, Arc::default(), now);
        let text = "Traceback (most recent call last):\n  File \"x.py\", line 1\n    boom\nValueError: no\nafter";
        let levels: Vec<_> = text.lines().map(|line| log.level(line)).collect();
        assert_eq!(levels, [Level::Error, Level::Error, Level::Error, Level::Error, Level::Info]);
    }

    #[test]
    fn a_line_is_kept_in_part_whatever_its_length_and_harms_no_terminal() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in ["a".repeat(5000), "b\nsec".into(), "ond\n\n".into(), "rest".into()] {
            lines.feed(piece.as_bytes(), |line, more| seen.push((line.len(), more)));
        }
        lines.end(|line, more| seen.push((line.len(), more)));
        assert_eq!(seen, [(4096, 905), (6, 0), (0, 0), (4, 0)]);
        assert_eq!(plain(b"\x1b[1;31mred\x1b[0m \x07bell\tx\xff\r", 3), "red bell\tx\u{fffd}… (3 bytes more)");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let last = LastLines::default();
        (0..100).for_each(|n| last.keep(&n.to_string()));
        last.keep("  ");
        let all = last.all();
        assert_eq!((all.len(), all[0].as_str(), last.last().as_deref()), (KEPT_LINES, "61", Some("99")));
    }
}
