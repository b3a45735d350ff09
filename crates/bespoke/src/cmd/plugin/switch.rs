//! What a user sets for one plugin: on or off, and its own keys. The file is changed; a server that runs takes it over, other programs on
//! /reload.

use bespoke_host::{Config, ReloadClass, Row};
use serde_json::{Value, json};

use super::server;
use crate::{
    cli::{Change, Global},
    cmd::config::{self, Edit},
    exit::{Exit, Failure, Result},
    output::Style,
    schema,
    setup::Setup,
};

/// `enable`, `disable` and `toggle`.
pub(super) async fn turn(setup: &Setup, global: &Global, id: &str, on: bool) -> Result<()> {
    known(setup, id)?;
    let key = format!("plugins.{id}.enabled");
    let is_on = setup.config.is_enabled(id);
    if is_on == on {
        return told(setup, id, on, &format!("{id} is switched {} already", word(on)), None);
    }
    // Switched on is what a plugin is without a word.
    let edit: Edit =
        if on && setup.config.get(&key) == Some(json!(false)) { (key.clone(), None) } else { (key.clone(), Some(on.to_string())) };
    let (new, _) = config::edit_keys(global, &[edit], Change { dry_run: false, force: false }).await?;
    if new.is_enabled(id) != on {
        let failure = Failure::new(Exit::Conflict, format!("{id} stays {}: a variable of the environment says so", word(!on)));
        return Err(failure.help(format!("bespoke config get {key} --origin")));
    }
    let there = server::apply(setup, id, "reload").await?;
    let note = if on || there.is_some() { "" } else { "; no program runs it from its next start or /reload on" };
    told(setup, id, on, &format!("{id} is switched {}{note}", word(on)), there.as_ref())
}

fn told(setup: &Setup, id: &str, on: bool, text: &str, there: Option<&Row>) -> Result<()> {
    if setup.out.json {
        return setup.out.json(&json!({ "id": id, "enabled": on, "server": there }), true);
    }
    setup.out.note(text);
    there.iter().for_each(|row| server::tell(setup, row));
    Ok(())
}

fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// `config`.
pub(super) async fn config(setup: &Setup, global: &Global, id: &str, key: Option<&str>, value: Option<&str>, dry_run: bool) -> Result<()> {
    known(setup, id)?;
    match (key, value) {
        (None, _) => show(setup, id),
        (Some(key), None) => get(setup, id, key),
        (Some(key), Some(value)) => set(setup, global, id, key, value, dry_run).await,
    }
}

/// Only ids that are known go into keys. A folder without a good manifest is known by its name, which may be anything: then it is none.
fn known(setup: &Setup, id: &str) -> Result<()> {
    if bespoke_manifest::check_id(id).is_ok() && setup.host.rows().iter().any(|row| row.id == id) {
        Ok(())
    } else {
        Err(setup.no_plugin(id))
    }
}

fn schema_of(setup: &Setup, id: &str) -> Value {
    setup.host.config_schema(id).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_else(|| json!({}))
}

/// One key of a plugin, as it can be set and as it is.
fn rows(setup: &Setup, id: &str) -> Vec<Value> {
    let schema = schema_of(setup, id);
    let table = setup.config.get(&format!("plugins.{id}")).unwrap_or_else(|| json!({}));
    let declared: Vec<String> = schema["properties"].as_object().map(|p| p.keys().cloned().collect()).unwrap_or_default();
    let set = table.as_object().into_iter().flat_map(|table| table.keys().cloned());
    let mut keys = declared.clone();
    keys.extend(set.filter(|key| !declared.contains(key)));
    let row = |key: String| {
        let of_key = schema::of_key(&schema, &key).cloned().unwrap_or_default();
        let value = table.get(&key).cloned();
        json!({
            "key": format!("plugins.{id}.{key}"),
            "value": value,
            "default": of_key.get("default"),
            "set": value.is_some(),
            "reload": of_key.get("x-reload").cloned().unwrap_or_else(|| json!("restart")),
            "description": of_key.get("description"),
        })
    };
    keys.into_iter().map(row).collect()
}

fn show(setup: &Setup, id: &str) -> Result<()> {
    let (out, rows) = (setup.out, rows(setup, id));
    if out.json {
        return out.json(&rows, true);
    }
    if rows.is_empty() {
        return out.line(format!("{id} has nothing to configure"));
    }
    let cell = |row: &Value, name: &str| match &row[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let table: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let value = if row["set"] == true { row["value"].to_string() } else { format!("({})", row["default"]) };
            let first = cell(row, "description").lines().next().unwrap_or_default().to_owned();
            vec![cell(row, "key"), value, cell(row, "reload"), first]
        })
        .collect();
    out.table(&["KEY", "VALUE", "TAKES EFFECT", "WHAT IT IS"], &table)
}

fn get(setup: &Setup, id: &str, key: &str) -> Result<()> {
    let full = format!("plugins.{id}.{key}");
    let value = match setup.config.get(&full) {
        Some(value) => value,
        None => {
            let schema = schema_of(setup, id);
            let missing = || {
                let keys = schema["properties"].as_object().into_iter().flat_map(|p| p.keys().map(String::as_str));
                let close = bespoke_manifest::closest(key, keys).map_or(String::new(), |close| format!("; did you mean `{close}`?"));
                Failure::new(Exit::NotFound, format!("{id} has no key `{key}`{close}")).help(format!("bespoke plugin config {id}"))
            };
            let known = schema::of_key(&schema, key).ok_or_else(missing)?;
            let default = known.get("default").filter(|default| !default.is_null());
            let default = default.ok_or_else(|| Failure::new(Exit::NotFound, format!("{full} is not set, and has no default")))?;
            setup.out.note(format!("{full} is not set; its default:"));
            default.clone()
        }
    };
    match &value {
        Value::String(text) if !setup.out.json => setup.out.line(text),
        value => setup.out.json(value, setup.out.json),
    }
}

async fn set(setup: &Setup, global: &Global, id: &str, key: &str, value: &str, dry_run: bool) -> Result<()> {
    let full = format!("plugins.{id}.{key}");
    let (new, told) = config::edit_keys(global, &[(full.clone(), Some(value.to_owned()))], Change { dry_run, force: false }).await?;
    if dry_run {
        return Ok(());
    }
    let class = class_of(setup, &new, id);
    if setup.out.json {
        return setup.out.json(&json!({ "key": full, "value": new.get(&full), "reload": class }), true);
    }
    let (green, effect) = match class {
        None => (true, "it has that value already"),
        Some(ReloadClass::Live) => (true, "live: what runs takes it on /reload, at once"),
        Some(ReloadClass::Fixed) => (false, "fixed: it counts from the next start of the program"),
        Some(_) => (true, "restart: on /reload a new instance of the plugin takes the place of the old one, without a lost call"),
    };
    told.iter().for_each(|told| setup.out.note(told));
    setup.out.note(setup.out.paint(if green { Style::Green } else { Style::Yellow }, effect));
    Ok(())
}

/// How what has changed takes effect: the slowest way of all its keys.
fn class_of(setup: &Setup, new: &Config, id: &str) -> Option<ReloadClass> {
    let changes = setup.host.diff(new, &[]);
    changes.iter().filter(|change| change.plugin.as_deref() == Some(id)).map(|change| change.class).max()
}
