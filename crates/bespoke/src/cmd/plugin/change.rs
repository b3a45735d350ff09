//! `swap` and `reload`: one instance in the place of another, tried in this program.

use std::time::{Duration, Instant};

use bespoke_host::State;
use bespoke_plugin_api::{Code, Kind};
use serde_json::{Value, json};

use super::{server, started};
use crate::{
    cli::{Change, Global},
    cmd::config::{self, Edit},
    exit::{Exit, Failure, Result},
    output::Style,
    setup::Setup,
};

/// `swap`: tried here, then kept in the configuration.
pub(super) async fn swap(setup: &Setup, global: &Global, old: &str, new: &str, dry_run: bool) -> Result<()> {
    for id in [old, new] {
        if !setup.host.rows().iter().any(|row| row.id == id) {
            return Err(setup.no_plugin(id));
        }
    }
    if !setup.config.is_enabled(new) {
        return Err(Failure::new(Exit::Conflict, format!("{new} is switched off")).help(format!("bespoke plugin enable {new}")));
    }
    started(setup, old).await?;
    let began = Instant::now();
    let swapped = setup.host.swap(old, new).await;
    let took = began.elapsed();
    if let Err(error) = swapped {
        let goes_on = error.code() == Code::HOTSWAP_FAILED;
        if setup.out.json {
            let value = json!({ "success": false, "old_plugin": old, "new_plugin": new, "rollback_performed": goes_on,
                "errors": [error.message()], "swap_duration_ms": ms(took), "kept": false });
            setup.out.json(&value, true)?;
        }
        let mut failure = Failure::from(error);
        failure.message.push_str("; nothing is changed");
        return Err(failure);
    }
    let edits: Vec<Edit> = vec![(format!("plugins.{old}.enabled"), Some("false".into()))];
    if !dry_run {
        config::edit_keys(global, &edits, Change { dry_run: false, force: false }).await?;
    }
    let there = if dry_run { None } else { server::apply(setup, new, "plugin.load").await? };
    if setup.out.json {
        let value = json!({ "success": true, "old_plugin": old, "new_plugin": new, "rollback_performed": false, "errors": [],
            "swap_duration_ms": ms(took), "kept": !dry_run, "server": there });
        return setup.out.json(&value, true);
    }
    let text = format!("{new} took the place of {old} in {:.1} ms", ms(took));
    setup.out.note(setup.out.paint(Style::Green, &text));
    match dry_run {
        true => setup.out.note("nothing is kept: --dry-run"),
        false => setup.out.note(format!("{old} is switched off in the configuration; back again: bespoke plugin enable {old}")),
    }
    there.iter().for_each(|row| server::tell(setup, row));
    for key in naming(setup, old) {
        setup.out.note(format!("{key} still names {old}: bespoke config set {key} …"));
    }
    Ok(())
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Keys of the configuration that choose a plugin by a name of its.
fn naming(setup: &Setup, id: &str) -> Vec<&'static str> {
    let keys = [
        ("agent.provider", Kind::Provider),
        ("agent.tools", Kind::Tool),
        ("voice.vad", Kind::Vad),
        ("voice.stt", Kind::Stt),
        ("voice.tts", Kind::Tts),
    ];
    let Some(manifest) = setup.host.manifest(id) else { return Vec::new() };
    let own: Vec<(Kind, &str)> = manifest.provides.iter().filter_map(|p| Some((p.kind, p.name.as_deref()?))).collect();
    let names = |key: &str, kind: Kind| {
        let value = setup.config.get(key).unwrap_or_default();
        let named = value.as_array().into_iter().flatten().filter_map(|name| name.as_str());
        named.map(|name| name.split(':').next().unwrap_or(name).to_owned()).any(|name| name == id || own.contains(&(kind, name.as_str())))
    };
    keys.into_iter().filter(|(key, kind)| names(key, *kind)).map(|(key, _)| key).collect()
}

/// `reload`.
pub(super) async fn reload(setup: &Setup, id: &str, watch: bool) -> Result<()> {
    if !watch && let Some(mut running) = server::find(setup).await? {
        let reloaded: Value = running.ask("plugin.restart", json!({ "id": id })).await?;
        if setup.out.json {
            let value = json!({ "id": id, "reloaded": true, "reload_ms": reloaded["ms"], "anew": reloaded["anew"], "where": "server" });
            return setup.out.json(&value, true);
        }
        let by = if reloaded["anew"] == true { ", by the manifest that its folder has now," } else { "" };
        let text = format!("{id}: in the server that runs, a new instance{by} took the place of the old one in {} ms", reloaded["ms"]);
        setup.out.note(setup.out.paint(Style::Green, &text));
        return Ok(());
    }
    started(setup, id).await?;
    if watch {
        return super::watch::run(setup, id).await;
    }
    let began = Instant::now();
    setup.host.restart(id).await?;
    let took = began.elapsed();
    let ready = setup.host.rows().iter().any(|row| row.id == id && row.state == State::Ready);
    if setup.out.json {
        return setup.out.json(&json!({ "id": id, "reloaded": ready, "reload_ms": ms(took), "where": "here" }), true);
    }
    let text = format!("{id}: a new instance took the place of the old one in {:.1} ms", ms(took));
    setup.out.note(setup.out.paint(Style::Green, &text));
    setup.out.note("  it was tried here; a chat that runs takes up what is new on /reload");
    Ok(())
}
