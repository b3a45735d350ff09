//! `plugin health`: how plugins do when they run.

use bespoke_host::{Row, Selection, State};
use serde_json::{Value, json};

use super::server;
use crate::{
    exit::{Exit, Failure, Result},
    setup::Setup,
};

pub(super) async fn run(setup: &Setup, id: Option<&str>) -> Result<()> {
    let running = server::find(setup).await?;
    match id {
        // There they run.
        _ if running.is_some() => {}
        Some(id) if setup.rows().iter().any(|row| row.id == id) => setup.host.start(Selection::Ids(&[id.to_owned()])).await,
        Some(id) => return Err(setup.no_plugin(id)),
        None => setup.host.start(Selection::All).await,
    }
    let mut rows = match running {
        Some(mut running) => running.look("plugin.list", json!({})).await?,
        None => setup.rows(),
    };
    rows.retain(|row: &Row| id.is_none_or(|id| row.id == id));
    if let Some(id) = id.filter(|_| rows.is_empty()) {
        return Err(setup.no_plugin(id));
    }
    let (out, bad) = (setup.out, rows.iter().filter(|row| !does_well(row)).count());
    if out.json {
        out.json(&rows.iter().map(value).collect::<Vec<_>>(), true)?;
    } else {
        let table = rows.iter().map(|row| {
            let number = |number: Option<f64>, unit: &str| number.map_or(String::new(), |n| format!("{n:.1} {unit}"));
            let why = [row.reason.clone(), row.fix.as_ref().map(|fix| format!("→ {fix}"))];
            let why: Vec<String> = why.into_iter().flatten().collect();
            vec![
                row.id.clone(),
                row.state.name().into(),
                row.health.clone(),
                number(row.latency_ms, "ms"),
                number(row.memory_mb, "MB"),
                why.join("  "),
            ]
        });
        out.table(&["ID", "STATE", "HEALTH", "LATENCY", "MEMORY", "WHY"], &table.collect::<Vec<_>>())?;
    }
    match bad {
        0 => Ok(()),
        _ if out.json => Err(Failure::new(Exit::Failed, "")),
        1 => Err(Failure::failed("1 plugin does not do well")),
        n => Err(Failure::failed(format!("{n} plugins do not do well"))),
    }
}

/// One that is switched off is as it should be.
fn does_well(row: &Row) -> bool {
    match row.state {
        State::Ready | State::Unloaded => row.health != "failed",
        State::Disabled => true,
        _ => false,
    }
}

fn value(row: &Row) -> Value {
    json!({
        "id": row.id, "tier": row.tier, "state": row.state, "health": row.health, "reason": row.reason, "fix": row.fix,
        "latency_ms": row.latency_ms, "memory_mb": row.memory_mb, "started_ms": row.started_ms,
        "in_flight": row.in_flight, "calls": row.calls, "errors": row.errors, "facts": row.facts,
    })
}
