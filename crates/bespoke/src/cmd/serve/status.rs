//! How a server does, as `status` shows it. Changes nothing.

use std::time::Duration;

use bespoke_host::{Row, State as Life};
use serde_json::{Value, json};

use super::serving::Serving;
use crate::cmd::usage;

impl Serving {
    /// How it does.
    pub(super) fn status(&self) -> Value {
        let rows = self.rows();
        let of = |wanted: fn(&Row) -> bool| rows.iter().filter(|row| wanted(row)).map(|row| row.id.clone()).collect::<Vec<_>>();
        let mut value = match self.server().map(|server| serde_json::to_value(server.status())) {
            Some(Ok(value)) => value,
            _ => json!({ "channels": [] }),
        };
        let asked = self.setup.asked_for();
        let is_well = |row: &Row| is_well(row, &asked);
        let left = self.left();
        let now = self.now();
        let own = json!({
            "state": now.phase.name(),
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_ms": ms(self.began.elapsed()),
            "draining": now.draining.map(|(since, limit)| json!({ "for_ms": ms(since.elapsed()), "limit_ms": ms(limit) })),
            "home": self.setup.paths.home,
            "config": self.setup.paths.config_to_be(),
            "socket": self.socket,
            "listen": now.listens,
            "listen_error": now.listens_badly.as_ref().map(ToString::to_string),
            "reloaded": now.reloaded,
            "not_taken": left,
            "plugins": {
                "ready": of(|row| row.state == Life::Ready),
                "failed": of(is_down),
                "disabled": of(|row| row.state == Life::Disabled),
                "not_well": rows.iter().filter(|row| !is_well(row)).map(told).collect::<Vec<_>>(),
            },
            "memory_bytes": memory(),
            "tokens": usage::tokens(&self.setup.host).map(|(today, daily)| json!({ "today": today, "daily": daily })),
        });
        if let (Some(value), Value::Object(own)) = (value.as_object_mut(), own) {
            value.extend(own);
        }
        value
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn is_down(row: &Row) -> bool {
    matches!(row.state, Life::Failed | Life::Quarantined | Life::Blocked | Life::Missing)
}

/// One that is switched off, that nobody has needed yet, or of which nobody has asked anything, is as it should be.
fn is_well(row: &Row, asked: &[String]) -> bool {
    match row.state {
        Life::Ready => row.health != "failed" && (row.health != "degraded" || !asked.contains(&row.id)),
        _ => !is_down(row),
    }
}

fn told(row: &Row) -> Value {
    json!({ "id": row.id, "state": row.state, "health": row.health, "reason": row.reason, "fix": row.fix })
}

/// What this process has in memory, where the system says it.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}
