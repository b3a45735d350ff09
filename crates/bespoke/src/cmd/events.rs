//! `events`: what happens in the server that runs, what happened before, and telling something oneself.

use std::time::Duration;

use bespoke_control::ClientError;
use bespoke_host::{EventFilter, EventStore, topics};
use bespoke_manifest::closest;
use bespoke_plugin_api::{Event, Timestamp};
use bespoke_state::{State, iso};
use serde_json::{Value, json};

use crate::{
    cli::{Events, Global},
    exit::{Exit, Failure, Result},
    output::{Out, Style},
    paths::Paths,
    running::Running,
    time,
};

pub(super) async fn run(global: &Global, verb: Events) -> Result<()> {
    let paths = Paths::of_server(global)?;
    let out = Out::with(global.json, global.quiet);
    match verb {
        Events::Tail { follow, filter, lines } => {
            known(&paths, &filter)?;
            let tail = Tail { out, filter, follow };
            let running = Running::required(&paths).await?;
            // A Ctrl-C is how one stops looking.
            tokio::select! {
                ended = tail.run(&paths, running, lines) => ended,
                _ = tokio::signal::ctrl_c() => Ok(()),
            }
        }
        Events::History { filter, plugin, since, lines } => {
            known(&paths, &filter)?;
            let mut wanted = EventFilter::default();
            wanted.prefix = filter;
            wanted.source = plugin;
            wanted.since = since.as_deref().map(since_when).transpose()?;
            wanted.limit = lines;
            history(out, &paths, &wanted)
        }
        Events::Emit { name, payload } => {
            let payload: Value = serde_json::from_str(&payload).map_err(|e| {
                Failure::new(Exit::Usage, format!("the payload is no JSON: {e}")).help(format!("bespoke events emit {name} '{{\"a\":1}}'"))
            })?;
            let told: Value = Running::required(&paths).await?.look("events.emit", json!({ "name": name, "payload": payload })).await?;
            if out.json { out.json(&told, true) } else { out.line(told["topic"].as_str().unwrap_or_default()) }
        }
        Events::Stats => stats(out, &paths).await,
    }
}

/// What stands before the name of an event that somebody makes up.
pub(super) const CUSTOM: &str = "custom.";
/// How often a server that has gone is looked for.
const AGAIN: Duration = Duration::from_secs(1);
/// Events that a new server has told before it was found.
const MISSED: usize = 1000;

/// Somebody who looks at what happens.
struct Tail {
    out: Out,
    filter: String,
    follow: bool,
}

impl Tail {
    /// Looks until the server has said all; whoever follows waits for the next server when one goes.
    async fn run(&self, paths: &Paths, mut running: Running, lines: usize) -> Result<()> {
        let mut lines = lines;
        loop {
            match self.one(&mut running, lines).await {
                Err(End::Gone) if self.follow => {}
                // It has ended in order: it answers nobody any more.
                Ok(()) if self.follow => {}
                Err(End::Failed(failure)) => return Err(failure),
                Err(End::Gone) => return Err(Failure::failed("the server has gone").help("bespoke logs -n 50")),
                Ok(()) => return Ok(()),
            }
            self.tell("gone", "the server has gone; waiting for the next one")?;
            running = loop {
                tokio::time::sleep(AGAIN).await;
                // One that begins or ends just now is looked for again.
                if let Ok(Some(running)) = Running::find(paths).await {
                    break running;
                }
            };
            self.tell("back", "a server runs again")?;
            lines = MISSED;
        }
    }

    async fn one(&self, running: &mut Running, lines: usize) -> Result<(), End> {
        let params = json!({ "filter": self.filter, "follow": self.follow, "lines": lines });
        let mut events = running.stream("events.tail", params).await.map_err(End::Failed)?;
        while let Some(item) = events.next().await? {
            show(self.out, &item).map_err(End::Failed)?;
        }
        Ok(())
    }

    fn tell(&self, what: &str, text: &str) -> Result<()> {
        if self.out.json {
            return self.out.json(&json!({ "server": what }), false);
        }
        self.out.note(text);
        Ok(())
    }
}

/// Why nothing more is heard.
enum End {
    /// The server is not there any more.
    Gone,
    Failed(Failure),
}

impl From<ClientError> for End {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Gone => End::Gone,
            other => End::Failed(other.into()),
        }
    }
}

fn show(out: Out, item: &Value) -> Result<()> {
    if let Some(message) = item["message"].as_str().filter(|_| item.get("topic").is_none()) {
        // What is missing is part of what happened.
        return if out.json { out.json(item, false) } else { out.line(out.paint(Style::Yellow, &format!("({message})"))) };
    }
    let Ok(event) = serde_json::from_value::<Event>(item.clone()) else {
        return Err(Failure::failed("the server is of another version: its events cannot be read"));
    };
    show_event(out, &event)
}

fn show_event(out: Out, event: &Event) -> Result<()> {
    let at = iso(event.at);
    if out.json {
        let value = json!({ "seq": event.seq, "at": at, "topic": event.topic, "source": event.source, "payload": event.payload });
        return out.json(&value, false);
    }
    let source = event.source.as_ref().map_or(String::new(), |source| format!(" [{source}]"));
    out.line(format!("{} {}{source} {}", out.paint(Style::Dim, &at), out.paint(Style::Bold, &event.topic), event.payload))
}

/// What is kept; nothing while nothing was ever kept.
fn kept(paths: &Paths) -> Result<Option<State>> {
    let path = paths.state();
    if path.exists() { Ok(Some(State::open(path)?)) } else { Ok(None) }
}

fn history(out: Out, paths: &Paths, wanted: &EventFilter) -> Result<()> {
    let events = match kept(paths)? {
        Some(state) => EventStore::query(&state, wanted)?,
        None => Vec::new(),
    };
    if events.is_empty() && !out.json {
        out.note("nothing of that kind is kept");
    }
    events.iter().try_for_each(|event| show_event(out, event))
}

async fn stats(out: Out, paths: &Paths) -> Result<()> {
    let stats = kept(paths)?.map(|state| EventStore::stats(&state)).transpose()?.unwrap_or_default();
    let listeners: Option<Vec<Value>> = match Running::find(paths).await? {
        Some(mut running) => Some(running.look("events.stats", json!({})).await?),
        None => None,
    };
    if out.json {
        let topics: Vec<_> = stats.topics.iter().map(|t| json!({ "topic": t.topic, "count": t.count, "last": iso(t.last) })).collect();
        let value = json!({ "count": stats.count, "oldest": stats.oldest.map(iso), "newest": stats.newest.map(iso), "lost": stats.lost,
            "topics": topics, "listeners": listeners });
        return out.json(&value, true);
    }
    let lost = if stats.lost > 0 { format!("; {} were lost on their way there", stats.lost) } else { String::new() };
    let since = stats.oldest.map_or(String::new(), |oldest| format!(" since {}", iso(oldest)));
    out.line(format!("{} events are kept{since}{lost}", stats.count))?;
    if !stats.topics.is_empty() {
        let rows: Vec<Vec<String>> = stats.topics.iter().map(|t| vec![t.count.to_string(), iso(t.last), t.topic.clone()]).collect();
        out.table(&["COUNT", "LAST", "TOPIC"], &rows)?;
    }
    let Some(listeners) = listeners else {
        out.note("no server runs: nobody listens");
        return Ok(());
    };
    if listeners.is_empty() {
        return out.line("nobody listens to the server");
    }
    let cell = |row: &Value, key: &str, none: &str| match &row[key] {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => none.to_owned(),
    };
    let rows: Vec<Vec<String>> =
        listeners.iter().map(|row| vec![cell(row, "listener", "the program"), cell(row, "lost", ""), cell(row, "topics", "all")]).collect();
    out.line("")?;
    out.table(&["LISTENER", "LOST", "HEARS"], &rows)
}

/// Whether something may be called so: of ours, of what is kept, or of a plugin, which need not be here. A slip would wait for ever, and
/// find nothing.
fn known(paths: &Paths, filter: &str) -> Result<()> {
    let fits = |topic: &str| topic.starts_with(filter);
    if filter.contains('.') || CUSTOM.starts_with(filter) || topics::TOPICS.iter().any(|topic| fits(topic)) {
        return Ok(());
    }
    if let Some(state) = kept(paths)?
        && EventStore::stats(&state)?.topics.iter().any(|known| fits(&known.topic))
    {
        return Ok(());
    }
    let close = closest(filter, topics::TOPICS.iter().copied()).map_or(String::new(), |close| format!("; did you mean `{close}`?"));
    let all = topics::TOPICS.join(", ");
    Err(Failure::new(Exit::Usage, format!("no event begins with `{filter}`{close}"))
        .help(format!("events are {all}, PLUGIN.NAME of plugins, and {CUSTOM}NAME of bespoke events emit")))
}

/// A time that somebody typed: ISO 8601 in UTC, a day, or how long ago.
fn since_when(text: &str) -> Result<Timestamp> {
    let ago = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds: u64 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        let micros = number.parse::<u64>().ok()?.checked_mul(seconds)?.checked_mul(1_000_000)?;
        Some(Timestamp(time::now().0.saturating_sub(micros)))
    };
    let day = || bespoke_state::from_iso(&format!("{text}T00:00:00Z"));
    let wrong = || {
        let message = format!("`{text}` is no time: write 2026-11-20T09:00:00Z, 2026-11-20, or how long ago, such as 90s, 15m, 2h, 3d");
        Failure::new(Exit::Usage, message)
    };
    bespoke_state::from_iso(text).or_else(day).or_else(ago).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_or_how_long_ago() {
        let now = time::now().0;
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7_200), ("3d", 259_200)] {
            let ago = (now - since_when(text).unwrap().0) / 1_000_000;
            assert!(ago <= seconds && seconds < ago + 60, "{text}: {ago}");
        }
        assert_eq!(since_when("1970-01-01T00:00:01Z").unwrap(), Timestamp(1_000_000));
        assert_eq!(since_when("1970-01-02").unwrap(), Timestamp(86_400_000_000));
        for text in ["", "h", "1970-13-01", "T00:00:00Z", "1970-01-02T", "yesterday", "3", "-3h", "3w", "99999999999999999999d", "ä"] {
            assert_eq!(since_when(text).unwrap_err().exit, Exit::Usage, "{text}");
        }
    }
}
