//! `config`: check, schema, show, get, set.

use std::{fs, io::Write, path::Path};

use bespoke_host::{Config, ConfigError};
use serde_json::{Map, Value, json};

use crate::{
    cli::{ConfigVerb, Global},
    exit::{Exit, Failure, Result},
    paths::Paths,
    setup::{SECTIONS, Setup},
};

pub(crate) async fn run(global: &Global, verb: ConfigVerb) -> Result<()> {
    match verb {
        ConfigVerb::Check => check(global).await,
        ConfigVerb::Schema => schema(global),
        ConfigVerb::Show => show(global),
        ConfigVerb::Get { key } => get(global, &key),
        ConfigVerb::Set { key, value, dry_run } => set(global, &key, &value, dry_run).await,
    }
}

async fn check(global: &Global) -> Result<()> {
    let setup = Setup::new(global, &[])?;
    setup.host.check_config().await?;
    setup.agent.check()?;
    setup.voice.check()?;
    let out = setup.out;
    let missing: Vec<_> = setup.rows().into_iter().filter(|row| row.state == bespoke_host::State::Missing).collect();
    for row in &missing {
        out.note(format!("{}: {}\n  try: {}", row.id, row.reason.as_deref().unwrap_or_default(), row.fix.as_deref().unwrap_or_default()));
    }
    if !missing.is_empty() {
        return Err(Failure::new(Exit::NotFound, "the configuration speaks of plugins that are not here"));
    }
    match &setup.paths.config {
        Some(path) => out.line(format!("{}: ok", path.display())),
        None => out.line("there is no bespoke.toml; every plugin has its defaults"),
    }
}

fn schema(global: &Global) -> Result<()> {
    let setup = Setup::new(global, &[])?;
    let parse =
        |text: &str, what: &str| serde_json::from_str::<Value>(text).map_err(|e| Failure::failed(format!("the schema of {what}: {e}")));
    let mut plugins = Map::new();
    for row in setup.host.rows() {
        if let Some(text) = setup.host.config_schema(&row.id) {
            let mut schema = parse(text, &row.id)?;
            if let Some(properties) = schema.as_object_mut().map(|s| s.entry("properties").or_insert_with(|| json!({}))) {
                properties["enabled"] = json!({ "type": "boolean", "default": true, "description": "Whether the plugin is started." });
            }
            plugins.insert(row.id, schema);
        }
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bespoke.toml",
        "type": "object",
        "properties": {
            "config_version": { "type": "integer", "const": bespoke_host::CONFIG_VERSION },
            "agent": parse(bespoke_agent::CONFIG_SCHEMA, "agent")?,
            "voice": parse(bespoke_voice::CONFIG_SCHEMA, "voice")?,
            "plugins": { "type": "object", "properties": plugins }
        },
        "additionalProperties": false
    });
    setup.out.json(&schema, true)
}

fn show(global: &Global) -> Result<()> {
    let setup = Setup::new(global, &[])?;
    let config = setup.host.config();
    if setup.out.json {
        return setup.out.json(&config.get("").unwrap_or_else(|| json!({})), true);
    }
    match config.path() {
        Some(path) => {
            setup.out.note(format!("# {}", path.display()));
            setup.out.text(config.text())
        }
        None => {
            setup.out.note("there is no bespoke.toml; every plugin has its defaults");
            Ok(())
        }
    }
}

fn get(global: &Global, key: &str) -> Result<()> {
    let setup = Setup::new(global, &[])?;
    let value = setup.host.config().get(key);
    let value = value.ok_or_else(|| Failure::new(Exit::NotFound, format!("{key} is not set")).help("bespoke config schema"))?;
    match (&value, setup.out.json) {
        (Value::String(text), false) => setup.out.line(text),
        _ => setup.out.json(&value, setup.out.json),
    }
}

/// Changes the file only if the result is a configuration that works.
async fn set(global: &Global, key: &str, value: &str, dry_run: bool) -> Result<()> {
    let paths = Paths::find(global.config.as_deref())?;
    let path = paths.config.clone().unwrap_or_else(|| paths.home.join("bespoke.toml"));
    let old = match &paths.config {
        Some(path) => Config::read(path)?,
        None => Config::empty(),
    };
    let mut text = old.set(key, value)?;
    if paths.config.is_none() {
        text = format!("config_version = {}\n\n{text}", bespoke_host::CONFIG_VERSION);
    }
    let new = Config::parse(&path.display().to_string(), &text)?;
    new.check_sections(SECTIONS)?;
    new.section::<bespoke_agent::AgentConfig>("agent")?.check()?;
    new.section::<bespoke_voice::VoiceConfig>("voice")?.check()?;
    let host = bespoke_host::Host::builder().config(new).plugins(bespoke_plugin_api::compiled_in()).build()?;
    refuse_new_problems(&host, &old).await?;
    let out = crate::output::Out::new(global.json);
    if dry_run {
        return out.text(&text);
    }
    write(&path, &text).map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
    out.note(format!("{key} is set in {}", path.display()));
    Ok(())
}

/// A file that was wrong elsewhere before may be mended key by key; a key may not make it worse.
async fn refuse_new_problems(host: &bespoke_host::Host, old: &Config) -> Result<()> {
    let Err(ConfigError { problems: now }) = host.check_config().await else { return Ok(()) };
    let before = bespoke_host::Host::builder().config(old.clone()).plugins(bespoke_plugin_api::compiled_in()).build()?;
    let before = before.check_config().await.err().map(|e| e.problems).unwrap_or_default();
    let new: Vec<_> = now.into_iter().filter(|p| !before.iter().any(|b| (&b.key, &b.message) == (&p.key, &p.message))).collect();
    if new.is_empty() { Ok(()) } else { Err(ConfigError { problems: new }.into()) }
}

/// Written beside, flushed to the disk, renamed into place.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Ok(old) = fs::metadata(path) {
        file.as_file().set_permissions(old.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}
