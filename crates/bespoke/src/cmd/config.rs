//! `config`: check, schema, show, get, set.

use std::{fs, io::Write, path::Path};

use bespoke_host::{Config, ConfigError, Host, Problem};
use serde_json::{Value, json};

use crate::{
    catalog::CATALOG,
    cli::{ConfigVerb, Global},
    exit::{Exit, Failure, Result},
    output::Out,
    paths::Paths,
    schema,
    setup::{Setup, missing, sections},
};

pub(crate) async fn run(setup: &Setup, verb: ConfigVerb) -> Result<()> {
    match verb {
        ConfigVerb::Check => check(setup).await,
        ConfigVerb::Schema => schema(setup),
        ConfigVerb::Show => show(setup),
        ConfigVerb::Get { key } => get(setup, &key),
        ConfigVerb::Set { .. } => Err(Failure::failed("the file is changed before the set-up reads it")),
    }
}

async fn check(setup: &Setup) -> Result<()> {
    let problems = problems(&setup.host).await?;
    if !problems.is_empty() {
        return Err(ConfigError { problems }.into());
    }
    let out = setup.out;
    let missing = setup.missing();
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

fn schema(setup: &Setup) -> Result<()> {
    setup.out.json(&schema::of_file(&setup.host)?, true)
}

fn show(setup: &Setup) -> Result<()> {
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

fn get(setup: &Setup, key: &str) -> Result<()> {
    let value = match setup.host.config().get(key) {
        Some(value) => value,
        None => {
            let schema = schema::of_file(&setup.host)?;
            let known = schema::of_key(&schema, key)
                .ok_or_else(|| Failure::new(Exit::NotFound, format!("there is no key {key}")).help("bespoke config schema"))?;
            let default = known.get("default").filter(|default| !default.is_null());
            let default = default.ok_or_else(|| Failure::new(Exit::NotFound, format!("{key} is not set, and has no default")))?;
            setup.out.note(format!("{key} is not set; its default:"));
            default.clone()
        }
    };
    match (&value, setup.out.json) {
        (Value::String(text), false) => setup.out.line(text),
        _ => setup.out.json(&value, setup.out.json),
    }
}

/// Changes the file only if the result is a configuration that works.
pub(crate) async fn set(global: &Global, key: &str, value: &str, dry_run: bool) -> Result<()> {
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
    sections(&new)?;
    let host = Host::builder().config(new).plugins(bespoke_plugin_api::compiled_in()).build()?;
    refuse_new_problems(&host, &old).await?;
    let out = Out::new(global.json);
    if dry_run {
        return out.text(&text);
    }
    write(&path, &text).map_err(|e| {
        Failure::failed(format!("{} cannot be written: {e}", path.display()))
            .help("bespoke config set … --config FILE, or export BESPOKE_HOME=/a/folder")
    })?;
    out.note(format!("{key} is set in {}", path.display()));
    Ok(())
}

/// A file that was wrong elsewhere before may be mended key by key; a key may not make it worse.
async fn refuse_new_problems(host: &Host, old: &Config) -> Result<()> {
    let before = Host::builder().config(old.clone()).plugins(bespoke_plugin_api::compiled_in()).build()?;
    let old_problems = problems(&before).await?;
    let mut new = problems(host).await?;
    new.retain(|p| !old_problems.iter().any(|b| (&b.key, &b.message) == (&p.key, &p.message)));
    if !new.is_empty() {
        return Err(ConfigError { problems: new }.into());
    }
    let old_missing = missing(&before, "");
    for row in missing(host, "bespoke plugin list") {
        // A plugin of another binary may be configured here; one that nobody knows is a slip.
        let known = CATALOG.iter().any(|k| k.id == row.id);
        if !known && !old_missing.iter().any(|old| old.id == row.id) {
            let failure = Failure::new(Exit::NotFound, format!("{}: {}", row.id, row.reason.unwrap_or_default()));
            return Err(failure.help(row.fix.unwrap_or_default()));
        }
    }
    Ok(())
}

/// What is wrong with the plugins' tables, in the order of the file.
async fn problems(host: &Host) -> Result<Vec<Problem>> {
    let mut problems = host.check_config().await.err().map(|e| e.problems).unwrap_or_default();
    problems.extend(schema::out_of_range(host)?);
    problems.sort_by_key(|problem| {
        let mut numbers = problem.place.rsplit(':').map(|n| n.parse::<usize>().unwrap_or_default());
        let (column, line) = (numbers.next(), numbers.next());
        (line, column)
    });
    Ok(problems)
}

/// Written beside, flushed to the disk, renamed into place. A link stays one: the file behind it is replaced.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
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
