//! What a server says of itself while it runs: lines for a person on stderr, or one JSON value a line on stdout; both are logged.

use serde_json::{Value, json};

use crate::{logs::TOLD, output::Out, time};

#[derive(Debug, Clone, Copy)]
pub(super) struct Told(Out);

impl Told {
    pub(super) fn new(out: Out) -> Self {
        Told(out)
    }

    /// Something that happened: `event` is its name in JSON, `more` what is said of it there.
    pub(super) fn say(&self, event: &str, line: &str, more: &Value) {
        tracing::info!(target: TOLD, "{}", one(line));
        self.show(event, line, more);
    }

    /// Something that happened, and is not all as it should be.
    pub(super) fn say_badly(&self, event: &str, line: &str, more: &Value) {
        tracing::warn!(target: TOLD, "{}", one(line));
        self.show(event, line, more);
    }

    /// Something that is not as it should be.
    pub(super) fn warn(&self, line: &str) {
        tracing::warn!(target: TOLD, "{}", one(line));
        self.show("warning", line, &json!({ "message": line }));
    }

    /// A configuration that was not taken.
    pub(super) fn reject(&self, line: &str, why: &str, error: &str) {
        tracing::warn!(target: TOLD, "{}", one(line));
        self.show("rejected", line, &json!({ "why": why, "error": error }));
    }

    fn show(&self, event: &str, line: &str, more: &Value) {
        if !self.0.json {
            return self.0.note(line);
        }
        let mut value = json!({ "event": event, "at": bespoke_state::iso(time::now()) });
        if let (Some(value), Some(more)) = (value.as_object_mut(), more.as_object()) {
            value.extend(more.clone());
        }
        // Whoever read it may have gone; it serves on.
        let _ = self.0.json(&value, false);
    }
}

/// A line of the log is one line, so that who looks for a level or a plugin finds all of it.
fn one(line: &str) -> String {
    line.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
