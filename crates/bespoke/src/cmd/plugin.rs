//! `plugin`: what there is, how it does, what it needs.

use bespoke_host::{Ability, Row, Selection, State, Tier, ask};
use bespoke_manifest::{Limit, Manifest};
use bespoke_plugin_api::{Kind, Tool};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    cli::{Global, Plugin},
    cmd::usage,
    exit::{Exit, Failure, Result},
    logs,
    output::{self, Style},
    packs,
    setup::{Setup, build_with},
};

pub(crate) mod add;
#[cfg(feature = "build")]
pub(super) mod build;
#[cfg(not(feature = "build"))]
#[path = "plugin/build_disabled.rs"]
pub(super) mod build;
mod call;
mod change;
mod files;
mod health;
mod hook;
mod permissions;
pub(super) mod server;
mod switch;
#[cfg(feature = "testkit")]
mod test;
#[cfg(not(feature = "testkit"))]
#[path = "plugin/test_disabled.rs"]
mod test;
#[cfg(feature = "process")]
mod watch;
#[cfg(not(feature = "process"))]
#[path = "plugin/watch_disabled.rs"]
mod watch;

#[cfg(feature = "serve")]
pub(super) use self::hook::Listed;

pub(crate) async fn run(setup: &Setup, global: &Global, verb: Plugin) -> Result<()> {
    match verb {
        Plugin::List { kind, start } => list(setup, kind.as_deref(), start).await,
        Plugin::Info { id } => info(setup, &id).await,
        Plugin::Call { id, method, args, timeout_ms } => call::run(setup, global, &id, &method, &args, timeout_ms).await,
        Plugin::Load { what, yes, auto_install_deps } => add::load(setup, global, &what, yes, auto_install_deps).await,
        Plugin::Build(building) => build::run(setup.out, building).await,
        Plugin::Unload { id } => add::unload(setup, global, &id).await,
        Plugin::Enable { id } => switch::turn(setup, global, &id, true).await,
        Plugin::Disable { id } => switch::turn(setup, global, &id, false).await,
        Plugin::Toggle { id, on } => switch::turn(setup, global, &id, on).await,
        Plugin::Config { id, key, value, dry_run } => switch::config(setup, global, &id, key.as_deref(), value.as_deref(), dry_run).await,
        Plugin::Health { id } => health::run(setup, id.as_deref()).await,
        Plugin::Swap { old, new, dry_run } => change::swap(setup, global, &old, &new, dry_run).await,
        Plugin::Reload { id, watch } => change::reload(setup, &id, watch).await,
        Plugin::Test { what, cases, yes } => test::run(setup, what.as_deref(), cases.as_deref(), yes).await,
        Plugin::Install { packs: names, auto, how } => {
            packs::install(setup, &names, auto, &how).await?;
            server::look_again(setup, how.dry_run).await
        }
        Plugin::Update { packs: names, how } => {
            packs::update(setup, &names, &how).await?;
            server::look_again(setup, how.dry_run).await
        }
        Plugin::Uninstall { pack, version, dry_run } => packs::uninstall(setup, &pack, version.as_deref(), dry_run),
        Plugin::Verify { packs: names } => packs::verify(setup, &names).await,
        Plugin::Rollback { pack } => packs::rollback(setup, &pack),
        Plugin::Hook(hooking) => hook::run(setup, global, hooking).await,
        Plugin::Grant { id, permissions, yes } => add::grant(setup, global, &id, &permissions, yes).await,
        Plugin::Revoke { id } => add::revoke(setup, global, &id).await,
        Plugin::DownloadFiles(args) => {
            files::run(setup, &args).await?;
            server::look_again(setup, args.dry_run).await
        }
    }
}

/// Starts one plugin, and what it needs. Its row when it serves, or would with its first call.
async fn started(setup: &Setup, id: &str) -> Result<Row> {
    let find = || setup.rows().into_iter().find(|row| row.id == id);
    if find().is_none() {
        return Err(setup.no_plugin(id));
    }
    setup.host.start(Selection::Ids(&[id.to_owned()])).await;
    let row = find().ok_or_else(|| setup.no_plugin(id))?;
    let exit = match row.state {
        State::Ready | State::Unloaded => return Ok(row),
        State::Missing => Exit::NotFound,
        State::Blocked => Exit::Consent,
        State::Disabled => Exit::Conflict,
        _ => Exit::Failed,
    };
    let why = row.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    let failure = Failure::new(exit, format!("{id} is {}{why}", row.state.name()));
    Err(failure.help(row.fix.unwrap_or_else(|| format!("bespoke plugin info {id}"))))
}

/// A call of a plugin to try: one that needs no arguments, else one with arguments that can be typed.
fn to_try(setup: &Setup, id: &str) -> Option<String> {
    let methods = setup.host.methods(id);
    let needs_none = |(method, args): &&(String, String)| {
        let tool = setup.host.registry().get::<dyn Tool>(method);
        args == "{}" || tool.is_some_and(|tool| tool.spec().input_schema["required"].as_array().is_none_or(Vec::is_empty))
    };
    if let Some((method, _)) = methods.iter().find(needs_none) {
        return Some(format!("bespoke plugin call {id} {method}"));
    }
    let (method, args) = methods.iter().find(|(_, args)| !args.contains("{…}") && !args.contains("base64"))?;
    let args = args.replace('…', "Hello").replace('\'', r"'\''");
    Some(format!("bespoke plugin call {id} {method} '{args}'"))
}

/// What packs are listed as, beside the kinds of contributions.
const RUNTIME: &str = "runtime";

/// Rows of all plugins: as the server that runs has them, else as they are here.
async fn rows(setup: &Setup, start: bool) -> Result<Vec<Row>> {
    let running = if start { None } else { server::find(setup).await? };
    if let Some(mut running) = running {
        setup.out.note("as the server that runs has them; --start starts them here");
        return running.look("plugin.list", json!({})).await;
    }
    if start {
        setup.host.start(Selection::All).await;
    } else {
        // A process is not spawned to be listed, nothing foreign runs because somebody looks, and no heavy library is loaded.
        let light = |row: &Row| row.tier == Tier::Compiled && setup.host.runtimes(&row.id).is_empty();
        let ours: Vec<String> = setup.host.rows().into_iter().filter(light).map(|row| row.id).collect();
        setup.host.start(Selection::Ids(&ours)).await;
    }
    Ok(setup.rows())
}

async fn list(setup: &Setup, kind: Option<&str>, start: bool) -> Result<()> {
    if kind == Some(RUNTIME) {
        let rows = packs::rows(setup);
        return if setup.out.json { setup.out.json(&rows, true) } else { packs::table(setup, false) };
    }
    if let Some(kind) = kind
        && Kind::from_name(kind).is_none()
    {
        let kinds: Vec<_> = Kind::ALL.iter().map(|k| k.name()).chain([RUNTIME]).collect();
        return Err(Failure::new(Exit::Usage, format!("`{kind}` is no kind of contribution; kinds: {}", kinds.join(", "))));
    }
    let mut rows = rows(setup, start).await?;
    rows.retain(|row| kind.is_none_or(|kind| row.kinds.iter().any(|k| k == kind)));
    let out = setup.out;
    if out.json {
        let failed = |e: serde_json::Error| Failure::failed(e.to_string());
        let mut all = rows.iter().map(serde_json::to_value).collect::<std::result::Result<Vec<_>, _>>().map_err(failed)?;
        let mut used = usage::seen(setup).await?.plugins;
        for (row, value) in rows.iter().zip(&mut all) {
            value["usage"] = used.remove(&row.id).map_or(Value::Null, |used| json!(used));
        }
        all.extend(kind.is_none().then(|| packs::rows(setup)).into_iter().flatten());
        return out.json(&all, true);
    }
    if rows.is_empty() {
        return match kind {
            Some(kind) => out.line(format!("no plugin provides {kind}")),
            None => {
                out.line("no plugin in this binary")?;
                out.note(format!("  try: {}", build_with(&["local"])));
                Ok(())
            }
        };
    }
    let table: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let why = [row.reason.clone(), row.fix.as_ref().map(|fix| format!("→ {fix}")), engine(row)];
            let why: Vec<String> = why.into_iter().flatten().collect();
            vec![
                row.id.clone(),
                short(&row.kinds),
                row.tier.name().into(),
                row.version.clone(),
                row.state.name().into(),
                row.health.clone(),
                why.join("  "),
            ]
        })
        .collect();
    out.table(&["ID", "KINDS", "TIER", "VERSION", "STATE", "HEALTH", "WHY"], &table)?;
    if kind.is_some() {
        return Ok(());
    }
    packs::table(setup, true)
}

/// A list has room for so many kinds; `--json` and `plugin info` have all.
fn short(kinds: &[String]) -> String {
    const SHOWN: usize = 3;
    match kinds.get(..SHOWN) {
        Some(first) if kinds.len() > SHOWN => format!("{},+{}", first.join(","), kinds.len() - SHOWN),
        _ => kinds.join(","),
    }
}

/// What a healthy plugin says of itself that a list has room for.
fn engine(row: &Row) -> Option<String> {
    (row.reason.is_none()).then(|| row.facts.get("engine").cloned()).flatten()
}

/// A plugin where it runs.
#[derive(Deserialize)]
struct Seen {
    row: Row,
    used: Vec<Used>,
    /// Each with how its arguments look.
    methods: Vec<(String, String)>,
}

/// What it made use of.
#[derive(Serialize, Deserialize)]
struct Used {
    permission: String,
    item: String,
    used: u64,
    refused: u64,
}

/// A plugin as the server that runs has it, else started here.
async fn seen(setup: &Setup, id: &str) -> Result<Seen> {
    if let Some(mut running) = server::find(setup).await? {
        return running.look("plugin.info", json!({ "id": id })).await;
    }
    setup.host.start(Selection::Ids(&[id.to_owned()])).await;
    let row = setup.rows().into_iter().find(|row| row.id == id).ok_or_else(|| setup.no_plugin(id))?;
    let used = setup.host.used(id).into_iter();
    let used = used.map(|u| Used { permission: u.permission.to_string(), item: u.item, used: u.used, refused: u.refused });
    Ok(Seen { row, used: used.collect(), methods: setup.host.methods(id) })
}

async fn info(setup: &Setup, id: &str) -> Result<()> {
    if let Some(told) = packs::info(setup, id) {
        return told;
    }
    let Seen { row, used, methods } = seen(setup, id).await?;
    let out = setup.out;
    let manifest = setup.host.manifest(id);
    let usage = usage::seen(setup).await?.plugins.remove(id);
    if out.json {
        let models: Vec<_> = manifest
            .iter()
            .flat_map(|m| &m.models)
            .map(|m| json!({ "file": m.file, "version": m.version, "size": m.size, "sha256": m.sha256, "license": m.license }))
            .collect();
        let mut value = serde_json::to_value(&row).map_err(|e| Failure::failed(e.to_string()))?;
        if let (Some(map), Some(m)) = (value.as_object_mut(), &manifest) {
            map.insert("author".into(), json!(m.author));
            map.insert("license".into(), json!(m.license));
            map.insert("models".into(), json!(models));
            map.insert("permissions".into(), permissions::value(m, &setup.config));
            map.insert("asks".into(), json!(ask(m)));
            map.insert("grant".into(), json!(setup.paths.granted().of(id)?));
            map.insert("used".into(), json!(used));
            map.insert("usage".into(), json!(usage));
            map.insert("methods".into(), methods.iter().map(|(method, args)| json!({ "method": method, "args": args })).collect());
            map.insert("folder".into(), json!(setup.shelf.find(id).and_then(|candidate| setup.shelf.folder_of(&candidate))));
            map.insert("last_said".into(), json!(logs::last_of(&setup.paths.logs(), id, LAST_LINES)));
            map.insert("limits".into(), limits(setup, m));
            map.insert("wall".into(), json!(wall(row.tier)));
        }
        return out.json(&value, true);
    }
    let line = |key: &str, value: &str| if value.is_empty() { Ok(()) } else { out.line(format!("{key:<12} {value}")) };
    out.line(format!("{} {}", out.paint(Style::Bold, &row.id), row.version))?;
    line("", &row.description)?;
    line("provides", &row.provides.join(", "))?;
    line("tier", row.tier.name())?;
    let color = if row.state == State::Ready { Style::Green } else { Style::Yellow };
    line("state", &out.paint(color, row.state.name()))?;
    line("health", &row.health)?;
    line("why", row.reason.as_deref().unwrap_or_default())?;
    line("try", row.fix.as_deref().unwrap_or_default())?;
    line("started in", &row.started_ms.map(|ms| format!("{ms} ms")).unwrap_or_default())?;
    for (n, used) in usage.iter().flat_map(usage::lines).enumerate() {
        line(if n == 0 { "usage" } else { "" }, &used)?;
    }
    // What it says of itself, and was not said before.
    let known = [("tier", row.tier.name()), ("state", row.state.name()), ("status", row.state.name()), ("health", &row.health)];
    for (key, value) in row.facts.iter().filter(|(key, value)| !known.contains(&(key, value))) {
        line(key, value)?;
    }
    if let Some(m) = manifest {
        line("author", &m.author)?;
        line("license", &m.license)?;
        for (n, permission) in permissions::lines(&m, &setup.config, row.tier).iter().enumerate() {
            line(if n == 0 { "permissions" } else { "" }, permission)?;
        }
        outside(setup, &row, &m, &used, &line)?;
        for model in &m.models {
            line("model", &format!("{} {} ({}, {})", model.file, model.version, output::bytes(model.size), model.license))?;
        }
    }
    if matches!(row.state, State::Failed | State::Quarantined) {
        for (n, said) in logs::last_of(&setup.paths.logs(), id, LAST_LINES).iter().enumerate() {
            line(if n == 0 { "last said" } else { "" }, said)?;
        }
    }
    for (n, (method, args)) in methods.iter().enumerate() {
        line(if n == 0 { "methods" } else { "" }, &format!("{method}  {args}"))?;
    }
    Ok(())
}

/// Lines of a plugin that broke.
const LAST_LINES: usize = 12;

/// What there is to say of a plugin that is not part of this binary: where it lies, what it was granted and used, its limits, its wall.
fn outside(setup: &Setup, row: &Row, manifest: &Manifest, used: &[Used], line: &dyn Fn(&str, &str) -> Result<()>) -> Result<()> {
    for (n, used) in used.iter().enumerate() {
        let refused = if used.refused > 0 { format!(", refused {}", used.refused) } else { String::new() };
        line(if n == 0 { "used" } else { "" }, &format!("{}: {} ({} times{refused})", used.permission, used.item, used.used))?;
    }
    if row.tier == Tier::Compiled {
        return Ok(());
    }
    if let Some(folder) = setup.shelf.find(&row.id).and_then(|candidate| setup.shelf.folder_of(&candidate)) {
        line("folder", &folder.display().to_string())?;
    }
    let granted = match setup.paths.granted().of(&row.id)? {
        None if manifest.permissions.is_empty() => "nothing, as it asks for nothing".to_owned(),
        None => "nothing".to_owned(),
        Some(grant) => {
            let granted: Vec<String> = grant.granted.into_iter().collect();
            let refused: Vec<String> = grant.refused.into_iter().map(|entry| format!("not {entry}")).collect();
            format!("{} (version {})", [granted, refused].concat().join("; "), grant.version)
        }
    };
    line("granted", &granted)?;
    if let Some(limits) = limits(setup, manifest).as_object().filter(|limits| !limits.is_empty()) {
        let asked = |name: &str| Limit::named(name).and_then(|limit| limit.of(&manifest.resources));
        let limit = |(name, value): (&String, &Value)| match asked(name) {
            Some(asked) if json!(asked) == *value => format!("{name} {value}"),
            Some(asked) => format!("{name} {value} (asks for {asked})"),
            None => format!("{name} {value} (as configured)"),
        };
        line("limits", &limits.iter().map(limit).collect::<Vec<_>>().join(", "))?;
    }
    for (n, ability) in wall(row.tier).iter().enumerate() {
        let holds = if ability.enforced { "enforced" } else { "not enforced here" };
        line(if n == 0 { "wall" } else { "" }, &format!("{}: {holds}, {}", ability.name, ability.detail))?;
    }
    Ok(())
}

/// The limits that hold for it: those of its manifest, as the configuration tightens or widens them. Of one that cannot be started as it
/// is, those of the manifest.
fn limits(setup: &Setup, manifest: &Manifest) -> Value {
    let limits = setup.host.terms(&manifest.id).map_or(manifest.resources, |terms| terms.limits);
    limits.set().map(|(limit, value)| (limit.key.to_owned(), json!(value))).collect::<Map<_, _>>().into()
}

/// What of its wall this machine enforces.
fn wall(tier: Tier) -> Vec<Ability> {
    bespoke_host::tiers().into_iter().find(|driver| driver.tier == tier).map(|driver| (driver.abilities)()).unwrap_or_default()
}
