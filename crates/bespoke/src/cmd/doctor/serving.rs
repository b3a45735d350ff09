//! What serves: the server that runs, its socket, the channels that it has, and what could not be sent.

use std::fs;

use bespoke_plugin_api::Kind;
use bespoke_state::State;
use serde_json::{Value, json};

use super::report::{Repair, Report, Verdict};
use crate::{paths::Paths, running::Running, setup::Setup};

pub(super) async fn check(report: &mut Report, paths: &Paths) {
    report.group("Server");
    let socket = paths.socket();
    let folder = socket.parent().unwrap_or(&socket).to_owned();
    match Running::find(paths).await {
        Ok(Some(mut running)) => match running.look::<Value>("status", json!({})).await {
            Ok(status) => {
                let state = status["state"].as_str().unwrap_or_default();
                report.ok(
                    "server",
                    format!("{state}: process {}, version {}", status["pid"], status["version"].as_str().unwrap_or_default()),
                );
                if status["reloaded"]["ok"] == false {
                    let why = status["reloaded"]["error"].as_str().unwrap_or_default();
                    let message = format!("goes on with the configuration from before: {why}");
                    report.add("server's configuration", Verdict::Problem, message, Some("bespoke config check".into()));
                }
            }
            Err(failure) => report.add("server", Verdict::Problem, failure.message, failure.help),
        },
        Ok(None) if fs::symlink_metadata(&socket).is_ok() => {
            let message = format!("{} was left by one that was killed; the next one replaces it", socket.display());
            report.add("server", Verdict::Warning, message, Some("bespoke serve".into()));
        }
        Ok(None) => report.skip("server", "none runs"),
        Err(failure) => report.add("server", Verdict::Problem, failure.message, failure.help),
    }
    match super::files::others_can(&folder, 0o077) {
        _ if !folder.exists() => report.skip("control socket", "none was made yet"),
        true => {
            let message = format!("others can look into {}", folder.display());
            report.mend("control socket", Verdict::Warning, message, &Repair::Private(folder, 0o700));
        }
        false => report.ok("control socket", format!("{} is yours alone", folder.display())),
    }
    outbox(report, paths);
}

fn outbox(report: &mut Report, paths: &Paths) {
    let path = paths.state();
    if !path.exists() {
        return report.skip("outbox", "nothing was sent yet");
    }
    match State::open(&path).and_then(|state| state.outbox_length()) {
        Ok((_, 0)) => report.ok("outbox", "every message could be sent, or is still tried"),
        Ok((_, dead)) => {
            let messages = if dead == 1 { "message" } else { "messages" };
            let message = format!("{dead} {messages} could not be sent");
            report.add("outbox", Verdict::Warning, message, Some("bespoke outbox list".into()));
        }
        // Told with the conversations.
        Err(error) => report.skip("outbox", format!("not looked at: {error}")),
    }
}

/// The channels that a server would have.
pub(super) fn channels(report: &mut Report, setup: &Setup) {
    report.group("Channels");
    let missing: Vec<_> = setup.missing().into_iter().filter(|row| row.kinds.iter().any(|kind| kind == "channel")).collect();
    let is_off = |name: &String| setup.host.provider_of(Kind::Channel, name).is_some_and(|id| !setup.config.is_enabled(&id));
    let (off, served): (Vec<_>, Vec<_>) = setup.channels_to_serve(&setup.serve.channels).into_iter().partition(is_off);
    let off = if off.is_empty() { String::new() } else { format!("; switched off: {}", off.join(", ")) };
    for row in &missing {
        let why = row.reason.as_deref().unwrap_or_default();
        report.add("channels", Verdict::Problem, format!("{} is {why}", row.id), row.fix.clone());
    }
    match (served.is_empty(), missing.is_empty()) {
        (true, true) => report.skip("channels", format!("none is configured, so there is nothing to serve{off}")),
        (false, true) => report.ok("channels", format!("bespoke serve has {}{off}", served.join(", "))),
        _ => {}
    }
}
