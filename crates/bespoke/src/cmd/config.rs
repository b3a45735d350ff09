//! `config`: check, schema, show, get, set, unset, set-secret, diff, path, edit.

use std::{
    fs,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
    process::Command,
};

use bespoke_host::{CONFIG_VERSION, Config, ConfigError, ConfigFile, Host, Origin, Problem};
use serde_json::{Value, json};

use crate::{
    catalog::CATALOG,
    cli::{Change, ConfigVerb, Global},
    exit::{Exit, Failure, Result},
    files, logs,
    output::{Out, can_ask},
    paths::Paths,
    schema, secrets,
    sections::{known_sections, sections},
    setup::{Setup, missing_keys},
    shelf::Shelf,
};

pub(crate) async fn run(setup: &Setup, verb: ConfigVerb) -> Result<()> {
    match verb {
        ConfigVerb::Check => check(setup).await,
        ConfigVerb::Schema => schema(setup),
        ConfigVerb::Show => show(setup),
        ConfigVerb::Get { key, origin } => get(setup, &key, origin),
        ConfigVerb::Diff { file } => diff(setup, &file),
        ConfigVerb::Set { .. } | ConfigVerb::Unset { .. } | ConfigVerb::SetSecret { .. } | ConfigVerb::Path | ConfigVerb::Edit => {
            Err(Failure::failed("the file is changed before the set-up reads it"))
        }
    }
}

/// The verbs that work on the file itself, whatever is wrong with it.
pub(crate) async fn change(global: &Global, verb: ConfigVerb) -> Result<()> {
    match verb {
        ConfigVerb::Set { key, value, how } => edit_key(global, &key, Some(&value), how).await,
        ConfigVerb::Unset { key, how } => edit_key(global, &key, None, how).await,
        ConfigVerb::SetSecret { key, keyring } => set_secret(global, &key, keyring).await,
        ConfigVerb::Path => path(global),
        ConfigVerb::Edit => edit(global).await,
        _ => Err(Failure::failed("this verb works on a set-up")),
    }
}

async fn check(setup: &Setup) -> Result<()> {
    let mut problems = setup.faults().problems();
    problems.extend(problems_of_plugins(&setup.host).await);
    let problems = ConfigError::from(problems);
    let out = setup.out;
    let missing = missing_keys(&setup.host, &setup.edit());
    let absent: Vec<Problem> = missing
        .iter()
        .map(|(key, row)| {
            let message = format!("`{}` is {}", row.id, row.reason.as_deref().unwrap_or_default());
            match message.split_once("; did you mean ") {
                Some((message, meant)) => setup.config.problem(key, message, Some(format!("did you mean {meant}"))),
                None => setup.config.problem(key, message, row.fix.clone()),
            }
        })
        .collect();
    let warnings: Vec<Problem> = literal_secrets(&setup.config, &setup.host);
    if out.json {
        let rows = |problems: &[Problem], severity: &str| -> Vec<Value> {
            let row = |p: &Problem| json!({ "severity": severity, "place": p.place, "key": p.key, "message": p.message, "fix": p.fix });
            problems.iter().map(row).collect()
        };
        let all = [(&problems.problems, "error"), (&absent, "missing"), (&warnings, "warning")];
        out.json(&all.iter().flat_map(|(problems, severity)| rows(problems, severity)).collect::<Vec<_>>(), true)?;
    } else {
        warnings.iter().for_each(|warning| out.note(format!("warning: {warning}")));
        if !absent.is_empty() {
            out.note(ConfigError::from(absent.clone()).to_string());
        }
    }
    if !problems.problems.is_empty() {
        return Err(if out.json { Failure::new(Exit::Usage, "") } else { problems.into() });
    }
    if !absent.is_empty() {
        return Err(Failure::new(Exit::NotFound, "the configuration speaks of plugins that are not here"));
    }
    match &setup.paths.config {
        _ if out.json => Ok(()),
        Some(path) => out.raw(&format!("{}: ok\n", path.display())),
        None => out.line("there is no bespoke.toml; every plugin has its defaults"),
    }
}

fn literal_secrets(config: &Config, host: &Host) -> Vec<Problem> {
    let mut warnings = host.literal_secrets();
    for (section, schema) in known_sections() {
        warnings.extend(config.literal_secrets(section, &serde_json::from_str(schema).unwrap_or_default()));
    }
    warnings.extend(config.open_secret_files());
    ConfigError::from(warnings).problems
}

fn schema(setup: &Setup) -> Result<()> {
    setup.out.json(&schema::of_file(&setup.host)?, true)
}

/// The file with the variables of the environment in it. What is secret is masked where it is printed.
fn show(setup: &Setup) -> Result<()> {
    let config = &setup.config;
    if setup.out.json {
        return setup.out.json(&config.get("").unwrap_or_else(|| json!({})), true);
    }
    match config.path() {
        Some(path) => setup.out.note(format!("# {}", path.display())),
        None => setup.out.note("there is no bespoke.toml; every plugin has its defaults"),
    }
    let mut shown = config.clone();
    for (key, name) in config.overrides() {
        setup.out.note(format!("# {key} comes from {name} (environment)"));
        let value = config.get(key).unwrap_or_default();
        // JSON of a string, a number, a truth or a list is TOML too.
        shown = shown.with(key, &value.to_string())?;
    }
    setup.out.text(shown.text())
}

fn get(setup: &Setup, key: &str, with_origin: bool) -> Result<()> {
    let (value, origin) = match setup.config.get(key) {
        Some(value) => (value, setup.config.origin(key)),
        None => {
            let schema = schema::of_file(&setup.host)?;
            let known = schema::of_key(&schema, key)
                .ok_or_else(|| Failure::new(Exit::NotFound, format!("there is no key {key}")).help("bespoke config schema"))?;
            let default = known.get("default").filter(|default| !default.is_null());
            let default = default.ok_or_else(|| Failure::new(Exit::NotFound, format!("{key} is not set, and has no default")))?;
            if !with_origin {
                setup.out.note(format!("{key} is not set; its default:"));
            }
            (default.clone(), Origin::Default)
        }
    };
    match (&value, setup.out.json, with_origin) {
        (_, true, true) => setup.out.json(&json!({ "key": key, "value": value, "origin": origin_row(&origin) }), true),
        (Value::String(text), false, false) => setup.out.line(text),
        (Value::String(text), false, true) => setup.out.line(format!("{text}\t{origin}")),
        (_, false, true) => setup.out.line(format!("{value}\t{origin}")),
        (_, json, false) => setup.out.json(&value, json),
    }
}

fn origin_row(origin: &Origin) -> Value {
    match origin {
        Origin::File(place) => json!({ "kind": "file", "place": place }),
        Origin::Environment(name) => json!({ "kind": "environment", "variable": name }),
        _ => json!({ "kind": "default" }),
    }
}

/// One change of the file: a dotted key, and its new value; none removes it.
pub(super) type Edit = (String, Option<String>);

async fn edit_key(global: &Global, key: &str, value: Option<&str>, how: Change) -> Result<()> {
    let (_, told) = edit_keys(global, &[(key.to_owned(), value.map(str::to_owned))], how).await?;
    told.iter().for_each(|told| Out::with(global.json, global.quiet).note(told));
    Ok(())
}

/// Sets or removes keys, as [`edit_text`]. The new configuration, and what is to be said of it; with `dry_run` the file is printed instead.
pub(super) async fn edit_keys(global: &Global, edits: &[Edit], how: Change) -> Result<(Config, Vec<String>)> {
    let path = file(global)?;
    let origin = path.display().to_string();
    let change = |old: &Config| {
        let mut text = old.text().to_owned();
        for (key, value) in edits {
            let config = Config::parse_beside(&path, &text)?;
            text = match value {
                Some(value) => config.set(key, value)?,
                None => config.unset(key)?,
            };
        }
        Ok(text)
    };
    let new = edit_text(global, change, how).await?;
    if how.dry_run {
        return Ok((new, Vec::new()));
    }
    let told = edits.iter().map(|(key, value)| match (new.origin(key), value) {
        (Origin::Environment(name), Some(_)) => {
            format!("{key} is set in {origin}, but {name} is set in the environment and goes before the file")
        }
        (_, Some(_)) => format!("{key} is set in {origin}"),
        (_, None) => format!("{key} is removed from {origin}"),
    });
    let told = told.collect();
    Ok((new, told))
}

/// Changes the text of the file, only if the result is a configuration that works. The file is this program's alone meanwhile. The new
/// configuration; with `dry_run` the file is printed instead.
pub(super) async fn edit_text(global: &Global, change: impl FnOnce(&Config) -> Result<String>, how: Change) -> Result<Config> {
    let out = Out::new(global.json);
    let path = file(global)?;
    let unwritable = |e: io::Error| {
        Failure::failed(format!("{} cannot be written: {e}", path.display()))
            .help("bespoke config set … --config FILE, or export BESPOKE_HOME=/a/folder")
    };
    // Nothing is written for a look.
    let locked = if how.dry_run { None } else { Some(ConfigFile::lock(&path).map_err(unwritable)?) };
    let old = match &locked {
        Some(locked) => locked.read()?,
        None if path.is_file() => Config::read(&path)?,
        None => Config::empty(),
    };
    let old = secrets::sources().into_iter().fold(old, Config::with_source);
    logs::redact(old.redactor());
    let origin = path.display().to_string();
    let text = change(&old)?;
    let text = Config::parse(&origin, &text)?.with_version(CONFIG_VERSION)?;
    let new = secrets::sources().into_iter().fold(Config::parse_beside(&path, &text)?, Config::with_source);
    new.redactor().learn_from(&old.redactor());
    logs::redact(new.redactor());
    if how.force {
        // It learns what plugins call secret, also without a check.
        of_config(&new)?;
    } else {
        refuse_new_problems(&new, &old).await?;
    }
    let Some(locked) = locked else {
        out.text(&text)?;
        return Ok(new);
    };
    locked.write(&text).map_err(unwritable)?;
    Ok(new)
}

/// Keeps a secret where only its owner reads it, and writes the reference into the configuration.
async fn set_secret(global: &Global, key: &str, keyring: bool) -> Result<()> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        // What is typed on a command line stays in its history and in the list of processes.
        return Err(Failure::new(Exit::Usage, "the secret comes through a pipe, so that nobody sees it")
            .help(format!("bespoke config set-secret {key} < FILE")));
    }
    let mut secret = String::new();
    stdin.lock().take(LONGEST_SECRET + 1).read_to_string(&mut secret).map_err(|e| Failure::failed(format!("stdin: {e}")))?;
    let secret = secret.strip_suffix('\n').map_or(&*secret, |text| text.strip_suffix('\r').unwrap_or(text));
    if secret.is_empty() || secret.len() as u64 > LONGEST_SECRET {
        return Err(Failure::new(Exit::Usage, "a secret has 1 to 65536 bytes"));
    }
    if key.chars().any(|c| !c.is_ascii_alphanumeric() && !"._-".contains(c)) || key.split('.').any(str::is_empty) {
        return Err(Failure::new(Exit::Usage, format!("`{key}` is no key that can hold a secret")));
    }
    let refer =
        async |reference: String| edit_key(global, key, Some(&json!(reference).to_string()), Change { dry_run: false, force: false }).await;
    if keyring {
        let name = format!("bespoke/{key}");
        let before = secrets::in_keyring(&name)?;
        let result = refer(secrets::keep_in_keyring(&name, secret)?).await;
        if let (Err(_), Some(before)) = (&result, before) {
            // The error of the edit is the one to tell.
            let _ = secrets::keep_in_keyring(&name, &before);
        }
        return result;
    }
    let file = Paths::find(global.config.as_deref())?.home.join("secrets").join(key);
    let unwritable = |e: io::Error| Failure::failed(format!("{} cannot be written: {e}", file.display()));
    let before = match fs::read(&file) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unwritable(error)),
    };
    files::folder(file.parent().unwrap_or(Path::new("."))).map_err(unwritable)?;
    files::replace(&file, secret.as_bytes()).map_err(unwritable)?;
    let result = refer(format!("${{file:{}}}", file.display())).await;
    if result.is_err() {
        // What was there is there again; nothing refers to a new one. The error of the edit is the one to tell.
        let _ = before.map_or_else(|| fs::remove_file(&file), |before| files::replace(&file, &before));
    }
    result
}

/// Most bytes of a secret.
const LONGEST_SECRET: u64 = 64 * 1024;

/// What another file would change, against the one in use. Secrets that are typed into either are masked where they are printed.
fn diff(setup: &Setup, file: &Path) -> Result<()> {
    let new = secrets::sources().into_iter().fold(Config::read(file)?, Config::with_source);
    logs::redact_more(&new.redactor());
    let sections: Vec<_> = known_sections().collect();
    for row in setup.host.rows() {
        let schema = setup.host.config_schema(&row.id).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        new.learn_secrets(&format!("plugins.{}", row.id), &schema);
    }
    logs::redact_more(&new.redactor());
    let changes = setup.host.diff(&new, &sections);
    if setup.out.json {
        setup.out.json(&changes, true)?;
    } else {
        let shown = |value: &Option<Value>| value.as_ref().map_or("(default)".to_owned(), Value::to_string);
        let class = |change: &bespoke_host::Change| {
            serde_json::to_value(change.class).ok().and_then(|c| c.as_str().map(str::to_owned)).unwrap_or_default()
        };
        for change in &changes {
            setup.out.line(format!("{}: {} → {} [{}]", change.key, shown(&change.old), shown(&change.new), class(change)))?;
        }
    }
    if changes.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Differences, "")) }
}

/// The file in use, else the one that would be made.
fn file(global: &Global) -> Result<PathBuf> {
    let paths = Paths::find(global.config.as_deref())?;
    Ok(paths.config.unwrap_or_else(|| paths.home.join("bespoke.toml")))
}

fn path(global: &Global) -> Result<()> {
    let (out, path) = (Out::new(global.json), file(global)?);
    if global.json {
        return out.json(&json!({ "path": path, "exists": path.is_file() }), true);
    }
    if !path.is_file() {
        out.note("it is not there yet; bespoke config set makes it");
    }
    out.raw(&format!("{}\n", path.display()))
}

async fn edit(global: &Global) -> Result<()> {
    let path = file(global)?;
    if !can_ask() {
        return Err(Failure::new(Exit::Usage, "an editor needs a terminal").help("bespoke config set KEY VALUE"));
    }
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    // People put options into it, such as `code --wait`.
    let mut words = editor.split_whitespace();
    let status = Command::new(words.next().unwrap_or("vi")).args(words).arg(&path).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(Failure::failed(format!("{editor} ended with {status}"))),
        Err(error) => return Err(Failure::failed(format!("{editor} cannot be run: {error}")).help("export EDITOR=…")),
    }
    let setup = Setup::new(global, Vec::new())?;
    let result = check(&setup).await;
    setup.host.shutdown().await;
    result
}

/// A file that was wrong elsewhere before may be mended key by key; a key may not make it worse.
async fn refuse_new_problems(new: &Config, old: &Config) -> Result<()> {
    let (before, after) = (of_config(old)?, of_config(new)?);
    let old_problems = problems(old, &before).await;
    let mut new_problems = problems(new, &after).await;
    new_problems.retain(|p| !old_problems.iter().any(|b| (&b.key, &b.message) == (&p.key, &p.message)));
    if !new_problems.is_empty() {
        return Err(ConfigError::from(new_problems).into());
    }
    let old_missing = missing_keys(&before, "");
    for (_, row) in missing_keys(&after, "bespoke plugin list") {
        // A plugin of another binary may be configured here; one that nobody knows is a slip.
        let known = CATALOG.iter().any(|k| k.id == row.id);
        if !known && !old_missing.iter().any(|(_, old)| old.id == row.id) {
            let failure = Failure::new(Exit::NotFound, format!("{}: {}", row.id, row.reason.unwrap_or_default()));
            return Err(failure.help(row.fix.unwrap_or_default()));
        }
    }
    Ok(())
}

fn of_config(config: &Config) -> Result<Host> {
    let config = if config.plugin_defaults().is_err() { config.without_plugin_defaults() } else { config.clone() };
    let paths = Paths { home: Paths::home()?, config: config.path().map(Path::to_owned) };
    let found = Shelf::of(&paths, &config, &[], false).all();
    Ok(Host::builder().config(config).plugins(found).build()?)
}

/// All that is wrong with a configuration, in the order of the file.
async fn problems(config: &Config, host: &Host) -> Vec<Problem> {
    let (_, faults) = sections(config);
    let mut problems = faults.problems();
    problems.extend(problems_of_plugins(host).await);
    ConfigError::from(problems).problems
}

async fn problems_of_plugins(host: &Host) -> Vec<Problem> {
    host.check_config().await.err().map(|e| e.problems).unwrap_or_default()
}
