//! `plugin call`: one method of one plugin, from the command line. What methods there are is the host's to know.

use std::{
    fs::File,
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use bespoke_host::now;
use bespoke_plugin_api::Code;
use serde_json::Value;

use super::started;
use crate::{
    cli::Global,
    cmd::interruptible,
    exit::{Exit, Failure, Result},
    logs,
    setup::Setup,
};

/// How arguments are written.
const EXAMPLE: &str = "'{\"text\":\"Hello\"}' as one word, @args.json for a file, or - for stdin";

/// Most bytes of arguments; a plugin in another process takes no longer message either.
const LONGEST: u64 = 64 << 20;

pub(super) async fn run(setup: &Setup, global: &Global, id: &str, method: &str, args: &str, timeout_ms: Option<u64>) -> Result<()> {
    let args = arguments(args)?;
    started(setup, id).await?;
    let said = logs::length_of_plugins(&setup.paths.logs());
    let of_all = setup.config.plugin_defaults().unwrap_or_default().call_timeout_ms;
    // Before the deadline is made, so that what is late is not early by this clock.
    let (begun, limit) = (Instant::now(), Duration::from_millis(timeout_ms.unwrap_or(of_all).min(of_all)));
    let cx = match timeout_ms {
        Some(ms) => interruptible(&setup.host).with_deadline(now().plus(Duration::from_millis(ms))),
        None => interruptible(&setup.host),
    };
    let value = setup.host.invoke(&cx, id, method, args).await.map_err(|error| {
        let log = logs::of_plugins(&setup.paths.logs());
        // A plugin may have limits of its own, which these commands do not raise.
        let is_late = error.code() == Code::EXECUTION_TIMEOUT && error.help().is_none() && begun.elapsed() >= limit;
        let mut failure = Failure::from(error);
        if is_late {
            failure = failure.help(longer(id, method, timeout_ms, of_all));
        }
        // It said more than the error does, and nobody has seen it.
        if logs::length_of_plugins(&setup.paths.logs()) != said && !logs::tells_of_plugins(global.log_level.name()) {
            failure.message.push_str(&format!("; more in {}", log.display()));
        }
        failure
    })?;
    match &value {
        Value::String(text) if !setup.out.json => setup.out.line(text),
        value => setup.out.json(value, true),
    }
}

/// The command that gives a call more time: the limit of this call, or that of all.
fn longer(id: &str, method: &str, timeout_ms: Option<u64>, of_all: u64) -> String {
    match timeout_ms.filter(|ms| *ms < of_all) {
        Some(ms) => format!("bespoke plugin call {id} {method} … --timeout-ms {}", ms.saturating_mul(10).min(of_all)),
        None => format!("bespoke config set plugins.call_timeout_ms {}", of_all.saturating_mul(2)),
    }
}

/// What was typed, what a file holds, or what is piped in.
fn arguments(typed: &str) -> Result<Value> {
    let (place, text) = match typed.strip_prefix('@') {
        Some("") => return Err(Failure::new(Exit::Usage, "behind @ stands the name of a file").help(EXAMPLE)),
        Some(path) if Path::new(path).is_dir() => return Err(Failure::new(Exit::Usage, format!("{path} is a folder")).help(EXAMPLE)),
        Some(path) => {
            let file = File::open(path).map_err(|e| Failure::new(Exit::NotFound, format!("{path} cannot be read: {e}")).help(EXAMPLE))?;
            (path, read(file, path)?)
        }
        None if typed == "-" => ("stdin", read(std::io::stdin().lock(), "stdin")?),
        None => ("the arguments", typed.to_owned()),
    };
    let text = if text.trim().is_empty() { "{}" } else { &text };
    serde_json::from_str(text).map_err(|error| {
        let failure = Failure::new(Exit::Usage, format!("{place}: no JSON: {error}"));
        if place == "the arguments" { failure.help(EXAMPLE) } else { failure }
    })
}

fn read(from: impl Read, place: &str) -> Result<String> {
    let mut bytes = Vec::new();
    from.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|e| Failure::failed(format!("{place}: {e}")))?;
    if bytes.len() as u64 > LONGEST {
        return Err(Failure::new(Exit::Usage, format!("{place}: longer than 64 MiB")));
    }
    String::from_utf8(bytes).map_err(|_| Failure::new(Exit::Usage, format!("{place}: no UTF-8")))
}
