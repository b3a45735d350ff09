//! `status` and `reload`: what the server that runs says, printed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    cli::Global,
    exit::{Exit, Failure, Result},
    output::{Out, Style, bytes},
    paths::Paths,
    running::Running,
};

pub(super) async fn status(global: &Global) -> Result<()> {
    let paths = Paths::of_server(global)?;
    let out = Out::with(global.json, global.quiet);
    let Some(mut running) = Running::find(&paths).await? else {
        if out.json {
            out.json(&json!({ "state": "stopped", "home": paths.home }), true)?;
            return Err(Failure::new(Exit::NotFound, ""));
        }
        return Err(Failure::new(Exit::NotFound, format!("no server runs for {}", paths.home.display())).help("bespoke serve"));
    };
    let status: Value = running.look("status", json!({})).await?;
    if out.json {
        return out.json(&status, true);
    }
    show(out, &status)
}

fn show(out: Out, status: &Value) -> Result<()> {
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let line = |key: &str, value: String| if value.is_empty() { Ok(()) } else { out.line(format!("{key:<9} {value}")) };
    let state = text("state");
    let style = if state == "serving" { Style::Green } else { Style::Yellow };
    let up = ago(Duration::from_millis(number("uptime_ms")));
    let since = draining(status).unwrap_or_else(|| format!(" for {up}"));
    out.line(format!("{}{since}: process {}, version {}", out.paint(style, &state), number("pid"), text("version")))?;
    if status["draining"].is_object() {
        line("waits", waits(status))?;
    }
    line("config", text("config"))?;
    line("socket", text("socket"))?;
    line("listens", status["listen"].as_str().map_or(String::new(), |address| format!("http://{address}")))?;
    line("chats", format!("{} at work, {} messages waiting, {} answered", number("at_work"), number("waiting"), number("turns")))?;
    let dead = number("dead");
    let letters = format!("{} to be sent, {dead} that could not be", number("outbox"));
    line("outbox", if dead > 0 { format!("{}  → bespoke outbox list", out.paint(Style::Yellow, &letters)) } else { letters })?;
    let of = |key: &str| status["plugins"][key].as_array().map(Vec::as_slice).unwrap_or_default();
    let counts = [("ready", of("ready").len()), ("not well", of("not_well").len()), ("switched off", of("disabled").len())];
    let counts = counts.iter().filter(|(what, count)| *what == "ready" || *count > 0).map(|(what, count)| format!("{count} {what}"));
    line("plugins", counts.collect::<Vec<_>>().join(", "))?;
    let tokens = |key: &str| status["tokens"][key].as_u64();
    line("tokens", tokens("daily").map_or(String::new(), |daily| format!("{} of {daily} today", tokens("today").unwrap_or(0))))?;
    line("memory", status["memory_bytes"].as_u64().map(bytes).unwrap_or_default())?;
    if status["reloaded"]["ok"] == false {
        let why = status["reloaded"]["error"].as_str().unwrap_or_default();
        line(
            "reload",
            out.paint(Style::Red, &format!("refused at {}: {why}", status["reloaded"]["at"].as_str().unwrap_or_default())).into_owned(),
        )?;
    }
    left(out, &status["not_taken"])?;
    let channels = status["channels"].as_array().map(Vec::as_slice).unwrap_or_default();
    if channels.is_empty() {
        line("channels", "none".into())?;
    } else {
        out.line("")?;
        show_channels(out, channels)?;
    }
    let not_well = of("not_well");
    if not_well.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let row = |row: &Value| {
        let state = if row["state"] == "ready" { cell(row, "health") } else { cell(row, "state") };
        vec![cell(row, "id"), state, cell(row, "reason") + &fix(row)]
    };
    out.table(&["PLUGIN", "STATE", "WHY"], &not_well.iter().map(row).collect::<Vec<_>>())
}

/// How long it drains already, and how long it may.
fn draining(status: &Value) -> Option<String> {
    let of = |key: &str| status["draining"][key].as_u64().map(Duration::from_millis);
    let (since, limit) = (of("for_ms")?, of("limit_ms")?);
    let left = limit.saturating_sub(since);
    let ends = if left.is_zero() { "ends any moment".to_owned() } else { format!("ends within {}", ago(left)) };
    Some(format!(" for {}, {ends}", ago(since)))
}

/// What a server that drains waits for.
fn waits(status: &Value) -> String {
    let counts = [("at_work", "answer", "answers", "under way"), ("outbox", "message", "messages", "to be sent")];
    let some = counts.iter().filter_map(|(key, one, many, what)| match status[*key].as_u64() {
        None | Some(0) => None,
        Some(1) => Some(format!("1 {one} {what}")),
        Some(n) => Some(format!("{n} {many} {what}")),
    });
    let some: Vec<String> = some.collect();
    if some.is_empty() { "for hooks, channels and plugins to stop".to_owned() } else { format!("for {}", some.join(", ")) }
}

/// What of the configuration does not count, a line each, with what to type below it.
fn left(out: Out, left: &Value) -> Result<()> {
    for left in left.as_array().into_iter().flatten() {
        let text = format!("{}: {}", cell(left, "what"), cell(left, "reason"));
        out.line(format!("{:<9} {}", "not taken", out.paint(Style::Yellow, &text)))?;
        left["fix"].as_str().map_or(Ok(()), |fix| out.line(format!("{:<9} → {fix}", "")))?;
    }
    Ok(())
}

fn cell(row: &Value, key: &str) -> String {
    match &row[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What would help, behind what is wrong.
fn fix(row: &Value) -> String {
    row["fix"].as_str().map_or(String::new(), |fix| format!("  → {fix}"))
}

fn show_channels(out: Out, channels: &[Value]) -> Result<()> {
    let again =
        |row: &Value| row["again_in_ms"].as_u64().map_or(String::new(), |ms| format!(" (again in {})", ago(Duration::from_millis(ms))));
    let rows: Vec<Vec<String>> = channels
        .iter()
        .map(|row| vec![cell(row, "name"), cell(row, "state"), cell(row, "failures"), cell(row, "error") + &again(row) + &fix(row)])
        .collect();
    out.table(&["CHANNEL", "STATE", "FAILURES", "WHY"], &rows)
}

/// `3 h 20 min`: the two largest units.
pub(super) fn ago(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} days {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

pub(super) async fn reload(global: &Global) -> Result<()> {
    let paths = Paths::of_server(global)?;
    let out = Out::with(global.json, global.quiet);
    let mut running = Running::required(&paths).await?;
    if let Some(asked) = &paths.config {
        let status: Value = running.look("status", json!({})).await?;
        let theirs = PathBuf::from(status["config"].as_str().unwrap_or_default());
        let same = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned());
        if same(asked) != same(&theirs) {
            let message = format!("the server that runs goes by {}, not by {}", theirs.display(), asked.display());
            return Err(Failure::new(Exit::Conflict, message).help(format!("bespoke --config {} reload", theirs.display())));
        }
    }
    let report: Value = running.ask("reload", json!({})).await?;
    let complete = report["complete"] != false;
    if out.json {
        out.json(&report, true)?;
        return if complete { Ok(()) } else { Err(Failure::failed("")) };
    }
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|line| line.as_str().map(str::to_owned)).collect()
    };
    let lines = texts(&report["lines"]);
    lines.iter().try_for_each(|line| out.line(line))?;
    if lines.is_empty() {
        let last = &report["last"];
        match last["at"].as_str() {
            // Whoever watches the file may have been faster.
            Some(at) => {
                out.note(format!("nothing is new since {at} ({}):", last["why"].as_str().unwrap_or_default()));
                texts(&last["lines"]).iter().try_for_each(|line| out.line(line))?;
            }
            None => out.note(format!("nothing is new in {}", report["config"].as_str().unwrap_or_default())),
        }
    }
    if complete {
        return Ok(());
    }
    let left = report["not_taken"].as_array().into_iter().flatten().map(|left| {
        let fix = left["fix"].as_str().map_or(String::new(), |fix| format!("\n    try: {fix}"));
        format!("\n  {}: {}{fix}", cell(left, "what"), cell(left, "reason"))
    });
    Err(Failure::failed(format!("not all of the configuration counts:{}", left.collect::<String>())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_drains_says_for_what_it_waits() {
        for (status, since, what) in [
            (json!({ "state": "serving", "draining": null }), None, "for hooks, channels and plugins to stop"),
            (
                json!({ "draining": { "for_ms": 2_000, "limit_ms": 30_000 }, "at_work": 1, "outbox": 3 }),
                Some(" for 2 s, ends within 28 s"),
                "for 1 answer under way, 3 messages to be sent",
            ),
            (
                json!({ "draining": { "for_ms": 31_000, "limit_ms": 30_000 }, "at_work": 0, "outbox": 0 }),
                Some(" for 31 s, ends any moment"),
                "for hooks, channels and plugins to stop",
            ),
        ] {
            assert_eq!((draining(&status).as_deref(), waits(&status).as_str()), (since, what));
        }
    }

    #[test]
    fn times_have_two_units() {
        let told = [0, 59, 61, 3_599, 7_260, 90_000].map(|seconds| ago(Duration::from_secs(seconds)));
        assert_eq!(told, ["0 s", "59 s", "1 min 1 s", "59 min 59 s", "2 h 1 min", "1 days 1 h"]);
    }
}
