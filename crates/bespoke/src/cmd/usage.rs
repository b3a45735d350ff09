//! `usage`: what plugins were used for, as it is counted on this machine, and the tokens of today.

use std::collections::BTreeMap;

use bespoke_agent::AgentConfig;
use bespoke_host::{Host, UsageSummary};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::plugin::server;
use crate::{exit::Result, setup::Setup, time};

/// What was used, by whom.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Used {
    pub(crate) plugins: BTreeMap<String, OfPlugin>,
    /// Of all conversations of this day of UTC, while a budget counts them.
    pub(crate) tokens_today: u64,
    /// The budget; 0 for none.
    pub(crate) daily_tokens: u64,
}

/// What one plugin was used for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OfPlugin {
    pub(crate) today: UsageSummary,
    pub(crate) total: UsageSummary,
}

/// As a host counts it.
pub(crate) fn here(host: &Host) -> Result<Used> {
    let (today, total) = host.usages()?;
    let of_day = |id: &str| today.get(id).cloned().unwrap_or_default().summary();
    let plugins = total.into_iter().map(|(id, total)| (id.clone(), OfPlugin { today: of_day(&id), total: total.summary() }));
    let (tokens_today, daily_tokens) = tokens(host).unwrap_or_default();
    Ok(Used { plugins: plugins.collect(), tokens_today, daily_tokens })
}

/// The tokens of today, and the budget that counts them, if there is one.
pub(crate) fn tokens(host: &Host) -> Option<(u64, u64)> {
    // A section that is wrong is told by who works with it.
    let daily = host.config().section::<AgentConfig>("agent").ok()?.daily_tokens;
    (daily > 0).then(|| Some((host.tokens_today().ok()?.0, daily)))?
}

/// As the server that runs counts it, with what it has not kept yet; else as it is kept.
pub(crate) async fn seen(setup: &Setup) -> Result<Used> {
    match server::find(setup).await? {
        Some(mut running) => running.look("usage", json!({})).await,
        None => here(&setup.host),
    }
}

/// The lines of one plugin in its page.
pub(crate) fn lines(of: &OfPlugin) -> Vec<String> {
    let line = |name: &str, used: &UsageSummary| {
        let failed = if used.errors > 0 { format!(", {} failed", used.errors) } else { String::new() };
        let times = [("p50", used.p50_ms), ("p90", used.p90_ms), ("p99", used.p99_ms), ("max", used.max_ms)];
        let times = times.into_iter().filter_map(|(name, ms)| Some(format!(", {name} {}", span(ms?)))).collect::<String>();
        let cpu = used.cpu_ms.map_or(String::new(), |ms| format!(", processor {}", span(ms)));
        let memory = used.memory_mb.map_or(String::new(), |mb| format!(", memory up to {mb:.1} MB"));
        let firsts = [("p50", used.first_p50_ms), ("p90", used.first_p90_ms), ("p99", used.first_p99_ms)];
        let firsts: Vec<_> = firsts.into_iter().filter_map(|(name, ms)| Some(format!("{name} {}", span(ms?)))).collect();
        let firsts = if firsts.is_empty() { String::new() } else { format!(", first token {}", firsts.join(" ")) };
        format!("{name}: {} calls{failed}{times}{firsts}{cpu}{memory}", used.calls)
    };
    let mut lines = vec![line("total", &of.total)];
    if of.today.calls > 0 {
        lines.insert(0, line("today", &of.today));
    }
    lines.extend(of.total.last_used.map(|at| format!("last {}", time::ago(time::now(), at))));
    lines
}

/// `bespoke usage`: a row a plugin, the most used first.
pub(super) async fn run(setup: &Setup) -> Result<()> {
    let used = seen(setup).await?;
    let out = setup.out;
    if out.json {
        return out.json(&used, true);
    }
    if used.daily_tokens > 0 {
        out.line(format!("{} of {} tokens today, in all conversations (agent.daily_tokens)", used.tokens_today, used.daily_tokens))?;
    }
    if used.plugins.is_empty() {
        return out.line("no plugin was called yet");
    }
    let mut plugins: Vec<_> = used.plugins.iter().collect();
    plugins.sort_by_key(|(id, of)| (std::cmp::Reverse(of.total.calls), id.as_str().to_owned()));
    let now = time::now();
    let row = |(id, of): &(&String, &OfPlugin)| {
        let time = |ms: Option<f64>| ms.map(span).unwrap_or_default();
        vec![
            (*id).clone(),
            of.today.calls.to_string(),
            of.total.calls.to_string(),
            of.total.errors.to_string(),
            time(of.total.p50_ms),
            time(of.total.p99_ms),
            time(of.total.max_ms),
            time(of.total.first_p50_ms),
            time(of.total.first_p99_ms),
            time(of.total.cpu_ms),
            of.total.memory_mb.map(|mb| format!("{mb:.1} MB")).unwrap_or_default(),
            of.total.last_used.map(|at| time::ago(now, at)).unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = plugins.iter().map(row).collect();
    out.table(&["PLUGIN", "TODAY", "CALLS", "FAILED", "P50", "P99", "MAX", "FIRST P50", "FIRST P99", "CPU", "MEMORY", "LAST"], &rows)
}

/// A time as a person reads it, in three digits.
fn span(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{:.0} µs", ms * 1e3),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1e3 => format!("{ms:.0} ms"),
        ms if ms < 1e4 => format!("{:.1} s", ms / 1e3),
        ms => format!("{:.0} s", ms / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_the_digits_that_they_are_worth() {
        let told = [0.0004, 0.9, 1.0, 9.96, 120.4, 999.4, 1_500.0, 61_000.0].map(span);
        assert_eq!(told, ["0 µs", "900 µs", "1.0 ms", "10.0 ms", "120 ms", "999 ms", "1.5 s", "61 s"]);
    }
}
