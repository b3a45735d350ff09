//! `status` and `reload`: what the server that runs says, printed.

use std::time::Duration;

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
    out.line(format!("{} for {up}: process {}, version {}", out.paint(style, &state), number("pid"), text("version")))?;
    line("config", text("config"))?;
    line("socket", text("socket"))?;
    line("listens", status["listen"].as_str().map_or_else(|| text("listen_error"), |address| format!("http://{address}")))?;
    line("chats", format!("{} at work, {} messages waiting, {} answered", number("at_work"), number("waiting"), number("turns")))?;
    let dead = number("dead");
    let letters = format!("{} to be sent, {dead} that could not be", number("outbox"));
    line("outbox", if dead > 0 { format!("{}  → bespoke outbox list", out.paint(Style::Yellow, &letters)) } else { letters })?;
    let names = |key: &str| -> Vec<&str> { status["plugins"][key].as_array().into_iter().flatten().filter_map(Value::as_str).collect() };
    let failed = names("failed");
    let plugins = format!("{} ready", names("ready").len());
    let not = if failed.is_empty() {
        String::new()
    } else {
        format!(", not {}  → bespoke plugin list", out.paint(Style::Yellow, &failed.join(", ")))
    };
    line("plugins", plugins + &not)?;
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
    let channels = status["channels"].as_array().map(Vec::as_slice).unwrap_or_default();
    if channels.is_empty() {
        return line("channels", "none".into());
    }
    out.line("")?;
    let cell = |row: &Value, key: &str| match &row[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let again =
        |row: &Value| row["again_in_ms"].as_u64().map_or(String::new(), |ms| format!(" (again in {})", ago(Duration::from_millis(ms))));
    let rows: Vec<Vec<String>> = channels
        .iter()
        .map(|row| vec![cell(row, "name"), cell(row, "state"), cell(row, "failures"), cell(row, "error") + &again(row)])
        .collect();
    out.table(&["CHANNEL", "STATE", "FAILURES", "WHY"], &rows)
}

/// `3 h 20 min`: the two largest units.
fn ago(time: Duration) -> String {
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
    let report: Value = Running::required(&paths).await?.ask("reload", json!({})).await?;
    if out.json {
        return out.json(&report, true);
    }
    let lines: Vec<&str> = report["lines"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if lines.is_empty() {
        out.note("nothing is new");
    }
    lines.iter().try_for_each(|line| out.line(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units() {
        let told = [0, 59, 61, 3_599, 7_260, 90_000].map(|seconds| ago(Duration::from_secs(seconds)));
        assert_eq!(told, ["0 s", "59 s", "1 min 1 s", "59 min 59 s", "2 h 1 min", "1 days 1 h"]);
    }
}
