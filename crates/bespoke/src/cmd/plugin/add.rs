//! `load`, `unload`, `grant`, `revoke`: plugins from outside of this binary, and what they may. Nothing is copied and nothing is
//! deleted: a folder is remembered, or forgotten.

use std::path::{Path, PathBuf};

use bespoke_host::{Candidate, Config, Consent, Grants, Origin, Row, Tier, ask};
use bespoke_manifest::{Manifest, Permission};
use serde_json::json;

use super::{server, started, to_try};
use crate::{
    cli::{Change, Global},
    cmd::config::{self, Edit},
    exit::{Exit, Failure, Result},
    output::{self, Style},
    setup::{Also, Setup},
};

/// `load`: what it asks for is shown, it is tried, and only then kept.
pub(super) async fn load(setup: &Setup, global: &Global, what: &str, yes: bool, auto_install_deps: bool) -> Result<()> {
    let known = setup.host.rows().into_iter().find(|row| row.id == what);
    let shelf = if auto_install_deps { setup.shelf.clone().installing() } else { setup.shelf.clone() };
    // A word without a separator is an id first: `./name` is a folder in any case.
    let candidate = match known {
        Some(row) if row.tier == Tier::Compiled => {
            // It is there already; in a server it may wait for somebody who needs it.
            if let Some(row) = server::apply(setup, what, "plugin.load").await? {
                if setup.out.json {
                    return setup.out.json(&json!({ "id": what, "server": row }), true);
                }
                server::tell(setup, &row);
                return Ok(());
            }
            let failure = Failure::new(Exit::Conflict, format!("{what} is part of this program"));
            return Err(failure.help(format!("bespoke plugin enable {what}")));
        }
        Some(_) => shelf.find(what).ok_or_else(|| setup.no_plugin(what))?,
        None if Path::new(what).is_dir() => shelf.open_folder(&std::path::absolute(what)?)?,
        None if what.contains(['/', '\\']) => return Err(Failure::new(Exit::NotFound, format!("{what} is no folder"))),
        None => return Err(setup.no_plugin(what)),
    };
    let id = candidate.id.clone();
    let manifest = candidate.manifest.clone()?;
    let folder = setup.shelf.folder_of(&candidate);
    if !setup.config.is_enabled(&id) {
        return Err(Failure::new(Exit::Conflict, format!("{id} is switched off")).help(format!("bespoke plugin enable {id}")));
    }
    if let Some(row) = setup.host.rows().into_iter().find(|row| row.id == id)
        && setup.shelf.find(&id).is_none_or(|other| other.origin != candidate.origin)
    {
        return Err(taken(setup, &row, what));
    }
    let before = setup.paths.granted().of(&id).ok().flatten();
    let trust = consent(setup, &manifest, candidate.tier, &optional_of(&manifest), yes, &format!("bespoke plugin load {what} --yes"))?;

    // In a host that knows this folder, as the next program will.
    let persists = folder.clone().filter(|folder| !setup.shelf.searches(folder));
    // Also where its table says that it waits for its first call: it is to be seen that it starts.
    let keys = trust.iter().cloned().chain([(format!("plugins.{id}.start"), r#""eager""#.to_owned())]).collect();
    let also = Also { plugins: vec![candidate.clone()], install_dependencies: auto_install_deps, keys, ..Also::default() };
    let trial = Setup::also(global, also)?;
    let tried = started(&trial, &id).await;
    let methods: Vec<String> = trial.host.methods(&id).into_iter().map(|(method, _)| method).collect();
    let call = to_try(&trial, &id);
    trial.host.shutdown().await;
    if tried.is_err() && before.is_none() {
        // It is not kept, so its grant is not either.
        setup.paths.granted().revoke(&id)?;
    }
    let row = tried.map_err(|failure| {
        // Nobody knows it, and nobody can be asked about it; but it can be looked at, and so can what it logged.
        let (help, logs) = (failure.help.clone().unwrap_or_default(), format!("bespoke logs --plugin {id}"));
        let nothing_else = help == format!("bespoke plugin info {id}") || help.ends_with(&logs);
        if setup.shelf.find(&id).is_some() || !nothing_else {
            return failure;
        }
        failure.help(format!("see what it logged: {logs}")).or(format!("bespoke plugin test {what}"))
    })?;
    let path = persists.as_deref().map(|folder| Ok::<_, Failure>((format!("plugins.{id}.path"), written(folder)?))).transpose()?;
    let told = keep(global, path.into_iter().chain(trust)).await?;
    let there = server::apply(setup, &id, "plugin.load").await?;
    if setup.out.json {
        let mut value = serde_json::to_value(&row).map_err(|e| Failure::failed(e.to_string()))?;
        value["server"] = json!(there);
        value["path"] = json!(folder);
        value["methods"] = json!(methods);
        return setup.out.json(&value, true);
    }
    told.iter().for_each(|told| setup.out.note(told));
    let ms = row.started_ms.map(|ms| format!(" in {ms} ms")).unwrap_or_default();
    setup.out.note(setup.out.paint(Style::Green, &format!("{id} {} starts{ms}, and is kept", row.version)));
    there.iter().for_each(|row| server::tell(setup, row));
    if let Some(call) = call {
        setup.out.note(format!("  try: {call}"));
    }
    Ok(())
}

/// The error of a folder whose id another plugin has, with the command that makes room where there is one.
fn taken(setup: &Setup, row: &Row, what: &str) -> Failure {
    let id = &row.id;
    let conflict = |place: String| Failure::new(Exit::Conflict, format!("there is a plugin {id} already: {place}"));
    let folder = setup.shelf.find(id).and_then(|candidate| setup.shelf.folder_of(&candidate));
    let Some(folder) = folder.filter(|_| row.tier != Tier::Compiled) else {
        let help = format!("give the one in {what} another id, load it, then bespoke plugin swap {id} NEW");
        return conflict("it is part of this program".to_owned()).help(help);
    };
    let failure = conflict(format!("{} ({})", folder.display(), row.tier.name()));
    let has_path = setup.config.get(&format!("plugins.{id}.path")).is_some();
    let makes_room = if has_path { format!("bespoke plugin unload {id}") } else { format!("mv {} ELSEWHERE", folder.display()) };
    failure
        .help(format!("{makes_room} && bespoke plugin load {what}"))
        .or(format!("bespoke plugin reload {id}   for what is new in its folder"))
}

/// A key of the configuration with its value.
type Key = (String, String);

/// Asks the user for what a plugin asks for, and to trust a library, unless that was granted before. What it may have is kept among the
/// grants; the key that trusts a library is returned, for the configuration.
fn consent(setup: &Setup, manifest: &Manifest, tier: Tier, optional: &[Permission], yes: bool, command: &str) -> Result<Option<Key>> {
    let grants = setup.paths.granted();
    let asks = match grants.consent(manifest, tier) {
        Consent::Blocked(blocked) => Some(blocked),
        _ => None,
    };
    let trust = trust(setup, manifest, tier)?;
    if asks.is_none() && trust.is_none() {
        return Ok(None);
    }
    let lines = asks.iter().flat_map(|asks| asks.new.lines());
    let before = asks.as_ref().and_then(|asks| asks.before.as_deref());
    show(setup, manifest, trust.iter().map(native).chain(lines), before);
    agree(&manifest.id, yes, command)?;
    if asks.is_some() {
        grants.grant(manifest, tier, optional)?;
    }
    Ok(trust)
}

/// The key that trusts the library of a plugin: that of its folder, as it stands behind all links. `None` where it is trusted, or is none.
fn trust(setup: &Setup, manifest: &Manifest, tier: Tier) -> Result<Option<Key>> {
    if tier != Tier::Dylib || setup.config.distrusts(manifest)?.is_none() {
        return Ok(None);
    }
    let folder = Path::new(&manifest.path).parent().unwrap_or(Path::new("."));
    let folder = folder.canonicalize().map_err(|e| Failure::failed(format!("{}: {e}", folder.display())))?;
    let key = format!("plugins.{}.allow_native", manifest.id);
    if let Origin::Environment(name) = setup.config.origin(&key) {
        let failure = Failure::new(Exit::Conflict, format!("{} is not trusted: {name} of the environment says so", manifest.id));
        return Err(failure.help(format!("unset {name}")));
    }
    Ok(Some((key, written(&folder)?)))
}

/// A folder as a value of the configuration.
fn written(folder: &Path) -> Result<String> {
    let text = folder
        .to_str()
        .ok_or_else(|| Failure::failed(format!("{}: its name is no Unicode, as texts of the configuration are", folder.display())))?;
    Ok(json!(text).to_string())
}

/// What it means to trust it, as a line of what a plugin asks for.
fn native((_, folder): &Key) -> String {
    format!("to be trusted: a dynamic library is code inside this program, which no wall can hold, and has all that you have: {folder}")
}

/// Sets keys in the configuration: a line for each.
async fn keep(global: &Global, keys: impl Iterator<Item = Key>) -> Result<Vec<String>> {
    let edits: Vec<Edit> = keys.map(|(key, value)| (key, Some(value))).collect();
    if edits.is_empty() {
        return Ok(Vec::new());
    }
    Ok(config::edit_keys(global, &edits, Change { dry_run: false, force: false }).await?.1)
}

fn show(setup: &Setup, manifest: &Manifest, lines: impl Iterator<Item = String>, before: Option<&str>) {
    let by = if manifest.author.is_empty() { String::new() } else { format!(" by {}", manifest.author) };
    let more = before.map_or(String::new(), |version| format!(" more than version {version} was granted"));
    setup.out.note(format!("{} {}{by} asks for{more}:", manifest.id, manifest.version));
    lines.for_each(|line| setup.out.note(format!("  {line}")));
}

fn agree(id: &str, yes: bool, command: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    let refused = |message: String| Err(Failure::new(Exit::Consent, message).help(command));
    if !output::can_ask() {
        return refused(format!("{id} waits for your consent, and there is no terminal to ask on; with --yes it is given"));
    }
    if output::ask("Grant it?")? { Ok(()) } else { refused(format!("{id} is not granted what it asks for")) }
}

fn optional_of(manifest: &Manifest) -> Vec<Permission> {
    manifest.optional.iter().copied().filter(|permission| manifest.permissions.has(*permission)).collect()
}

/// `unload`: the folder is forgotten, nothing is deleted.
pub(super) async fn unload(setup: &Setup, global: &Global, id: &str) -> Result<()> {
    let row = setup.host.rows().into_iter().find(|row| row.id == id);
    let key = format!("plugins.{id}.path");
    // Only an id that a plugin has, or a table of the file: no path is made of it.
    let has_path = setup.config.plugin_ids().iter().any(|known| known == id) && setup.config.get(&key).is_some();
    match (row, has_path) {
        (_, true) => {
            // Before the file says so: what runs cannot lose its folder. One that others need is the server's to keep.
            let kept = server::apply(setup, id, "plugin.unload").await.err();
            if let Some(failure) = &kept {
                setup.out.note(format!("the server that runs keeps it: {failure}"));
            }
            // Without trust the server would stop it all the same.
            let keys: &[&str] = if kept.is_some() { &["path"] } else { &["path", "allow_native"] };
            let told = forget(setup, global, id, keys).await?;
            // What it has to say of that is no matter of this verb: it tells it itself.
            let _ = server::read_again(setup).await?;
            if setup.out.json {
                return setup.out.json(&json!({ "id": id, "unloaded": true }), true);
            }
            told.iter().for_each(|told| setup.out.note(told));
            let granted = if setup.paths.granted().of(id)?.is_some() {
                format!(", and what it was granted: bespoke plugin revoke {id}")
            } else {
                String::new()
            };
            setup.out.note(format!("{id} is forgotten; its folder stays{granted}"));
            Ok(())
        }
        (None, false) => Err(setup.no_plugin(id)),
        (Some(row), false) if row.tier == Tier::Compiled => {
            let failure = Failure::new(Exit::Conflict, format!("{id} is part of this program and cannot be taken out of it"));
            Err(failure.help(format!("bespoke plugin disable {id}")))
        }
        (Some(_), false) => {
            let folder = setup.shelf.find(id).and_then(|candidate| setup.shelf.folder_of(&candidate));
            let place = folder.map_or(String::new(), |folder: PathBuf| format!(": {}", folder.display()));
            let failure = Failure::new(
                Exit::Conflict,
                format!("{id} lies in a folder where plugins are searched{place}; move it away, or switch it off"),
            );
            Err(failure.help(format!("bespoke plugin disable {id}")))
        }
    }
}

/// Takes out of the file what names a plugin that is gone: these keys, which are its folder and the trust in its library, which was for that
/// folder; and what told it of events. What it was, a line each. Other keys of its table stay for the day that it comes back; a table without
/// any goes.
async fn forget(setup: &Setup, global: &Global, id: &str, keys: &[&str]) -> Result<Vec<String>> {
    let told: Vec<_> = setup.config.hooks().unwrap_or_default().into_iter().filter(|hook| hook.plugin == id).collect();
    let mut removed = Vec::new();
    let change = |old: &Config| {
        let origin = old.path().map_or(String::new(), |path| path.display().to_string());
        let mut text = without(old, id, keys, &mut removed)?;
        for hook in &told {
            if let Some(without) = Config::parse(&origin, &text)?.without_hook(id, &hook.callback)? {
                text = without;
                removed.push(format!("{} is not told of {} any more", hook.callback, hook.events.join(", ")));
            }
        }
        Ok(text)
    };
    config::edit_text(global, change, Change { dry_run: false, force: true }).await?;
    Ok(removed)
}

/// The text of a configuration without these keys of a plugin's table, and without the table when nothing is left in it.
fn without(old: &Config, id: &str, keys: &[&str], removed: &mut Vec<String>) -> Result<String> {
    let origin = old.path().map_or(String::new(), |path| path.display().to_string());
    let mut text = old.text().to_owned();
    for key in keys.iter().map(|key| format!("plugins.{id}.{key}")) {
        // What a variable of the environment says is not the file's to lose.
        let file = Config::parse(&origin, &text)?.with_env([]);
        if file.get(&key).is_some() {
            text = file.unset(&key)?;
            removed.push(format!("{key} is removed"));
        }
    }
    Ok(Config::parse(&origin, &text)?.without_empty_table(&format!("plugins.{id}"))?)
}

/// What lies outside of this binary and asks for something.
fn asking(setup: &Setup, id: &str) -> Result<(Candidate, std::sync::Arc<Manifest>)> {
    let rows = setup.host.rows();
    let row = rows.iter().find(|row| row.id == id).ok_or_else(|| setup.no_plugin(id))?;
    if row.tier == Tier::Compiled {
        let message = format!("{id} is part of this program: whoever built it chose it, and it has what it asks for");
        return Err(Failure::new(Exit::Conflict, message).help(format!("bespoke plugin info {id}")));
    }
    let candidate = setup.shelf.find(id).ok_or_else(|| setup.no_plugin(id))?;
    let manifest = candidate.manifest.clone()?;
    Ok((candidate, manifest))
}

/// `grant`.
pub(super) async fn grant(setup: &Setup, global: &Global, id: &str, permissions: &[String], yes: bool) -> Result<()> {
    let (candidate, manifest) = asking(setup, id)?;
    let asked = ask(&manifest);
    let trust = trust(setup, &manifest, candidate.tier)?;
    if asked.is_empty() && trust.is_none() {
        setup.out.note(format!("{id} asks for nothing, and needs no grant"));
        return Ok(());
    }
    let mut optional = if permissions.is_empty() { optional_of(&manifest) } else { Vec::new() };
    for name in permissions {
        let permission = Permission::ALL.iter().copied().find(|permission| permission.name() == name);
        let permission = permission.filter(|permission| manifest.permissions.has(*permission)).ok_or_else(|| {
            let names = Permission::ALL.iter().map(|permission| permission.name());
            let close = bespoke_manifest::closest(name, names).filter(|close| close != name);
            let meant = close.map_or(String::new(), |close| format!("; did you mean `{close}`?"));
            Failure::new(Exit::Usage, format!("{id} does not ask for `{name}`{meant}")).help(format!("bespoke plugin info {id}"))
        })?;
        // What it requires is granted with all the rest that it requires, or not at all.
        if manifest.optional.contains(&permission) {
            optional.push(permission);
        }
    }
    show(setup, &manifest, trust.iter().map(native).chain(asked.lines()), None);
    agree(id, yes, &format!("bespoke plugin grant {id} --yes"))?;
    if !asked.is_empty() {
        setup.paths.granted().grant(&manifest, candidate.tier, &optional)?;
    }
    let is_new_trust = trust.is_some();
    let told = keep(global, trust.into_iter()).await?;
    let grant = setup.paths.granted().of(id)?;
    if is_new_trust && let Some(failure) = server::read_again(setup).await? {
        setup.out.note(format!("the server that runs does not take the configuration: {failure}"));
    }
    let there = server::consent(setup, id).await;
    if setup.out.json {
        return setup.out.json(&json!({ "id": id, "grant": grant, "server": there.ok().flatten() }), true);
    }
    told.iter().for_each(|told| setup.out.note(told));
    setup.out.note(setup.out.paint(Style::Green, &format!("{id} is granted what it asks for")));
    match &there {
        Ok(row) => row.iter().for_each(|row| server::tell(setup, row)),
        Err(failure) => setup.out.note(format!("the server that runs does not have it: {failure}")),
    }
    if let Some(refused) = grant.map(|grant| grant.refused).filter(|refused| !refused.is_empty()) {
        setup.out.note(format!("not granted: {}", refused.into_iter().collect::<Vec<_>>().join("; ")));
    }
    Ok(())
}

/// `revoke`. Also of a plugin that is gone, or of which there is nothing but that it was trusted.
pub(super) async fn revoke(setup: &Setup, global: &Global, id: &str) -> Result<()> {
    let grants: Grants = setup.paths.granted();
    let key = format!("plugins.{id}.allow_native");
    // Only of a table of the file: no key is made of whatever was typed.
    let is_trusted = setup.config.plugin_ids().iter().any(|known| known == id) && setup.config.get(&key).is_some_and(|said| said != false);
    if grants.of(id)?.is_none() && !is_trusted {
        if !setup.host.rows().iter().any(|row| row.id == id) {
            return Err(setup.no_plugin(id));
        }
        setup.out.note(format!("{id} was granted nothing"));
        return Ok(());
    }
    grants.revoke(id)?;
    let told = if is_trusted { distrust(setup, global, id).await } else { Ok(Vec::new()) };
    // Also where it stays trusted: what it was granted is gone.
    let there = server::consent(setup, id).await;
    let told = told?;
    if setup.out.json {
        let value = json!({ "id": id, "revoked": true, "server": there.as_ref().ok() });
        setup.out.json(&value, true)?;
        return there.map(drop);
    }
    told.iter().for_each(|told| setup.out.note(told));
    setup.out.note(format!("{id} is granted nothing any more"));
    match there? {
        Some(row) => server::tell(setup, &row),
        None => setup.out.note("a chat that runs it goes on with it until it ends, or until /reload"),
    }
    Ok(())
}

/// Takes the trust in a library out of the file, and has the server take that over: a line for what was removed.
async fn distrust(setup: &Setup, global: &Global, id: &str) -> Result<Vec<String>> {
    let (key, mut told) = (format!("plugins.{id}.allow_native"), Vec::new());
    let change = |old: &Config| without(old, id, &["allow_native"], &mut told);
    let new = config::edit_text(global, change, Change { dry_run: false, force: true }).await?;
    let refused = server::read_again(setup).await?;
    if new.get(&key).is_some_and(|said| said != false) {
        let failure = Failure::new(Exit::Conflict, format!("{id} stays trusted: a variable of the environment says so"));
        return Err(failure.help(format!("bespoke config get {key} --origin")));
    }
    match refused {
        None => Ok(told),
        Some(failure) => {
            let message =
                format!("{id} is not trusted any more, and the server that runs goes on with it, as it cannot take the configuration");
            Err(Failure::new(Exit::Conflict, format!("{message}: {}", failure.message)).help("bespoke config check, then bespoke reload"))
        }
    }
}
