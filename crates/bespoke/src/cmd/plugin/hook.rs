//! `plugin hook`: who is told of which events, written into the configuration; what handlers there are, and what they would do.

use bespoke_host::{Answer, Config, HookRow, Hooks, Outcome, Selection, ToldRow, Tried, UserHook, topics};
use bespoke_manifest::closest;
use bespoke_plugin_api::{Hook, HookEvent};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{server, started};
use crate::{
    cli::{Change, Global, Hooking},
    cmd::{config, interruptible},
    exit::{Exit, Failure, Result},
    output::Style,
    setup::Setup,
};

pub(super) async fn run(setup: &Setup, global: &Global, asked: Hooking) -> Result<()> {
    match asked {
        Hooking { list: true, id, .. } => list(setup, id.as_deref()).await,
        Hooking { dry_run: Some(hook), event, .. } => dry_run(setup, &hook, event.as_deref()).await,
        Hooking { id: Some(id), remove: Some(callback), .. } => remove(setup, global, &id, &callback).await,
        Hooking { id: Some(id), callback: Some(callback), events, .. } => {
            add(setup, global, UserHook { plugin: id, callback, events }).await
        }
        _ => {
            Err(Failure::new(Exit::Usage, "say --events with --callback, --remove, --list or --dry-run").help("bespoke plugin hook --help"))
        }
    }
}

async fn add(setup: &Setup, global: &Global, hook: UserHook) -> Result<()> {
    let row = started(setup, &hook.plugin).await?;
    for event in &hook.events {
        known_event(setup, event)?;
    }
    let registered = setup.host.hooks().list().into_iter().find(|known| known.plugin == row.id && known.name == hook.callback);
    match registered {
        Some(known) if known.hook != Hook::OnEvent => {
            let message = format!("`{}` of {} handles {}, and is asked there by itself", known.name, row.id, known.hook.name());
            return Err(Failure::new(Exit::Usage, message).help("name a hook of on_event, or a method of the plugin"));
        }
        Some(_) => {}
        None => {
            let methods = setup.host.own_methods(&row.id).await?;
            if !methods.contains(&hook.callback) {
                return Err(no_callback(setup, &row.id, &hook.callback, &methods));
            }
        }
    }
    let new = config::edit_text(global, |old: &Config| Ok(old.with_hook(&hook)?), Change { dry_run: false, force: false }).await?;
    let there = server::apply(setup, &hook.plugin, "reload").await?;
    if setup.out.json {
        return setup.out.json(&json!({ "hook": hook, "server": there }), true);
    }
    let path = new.path().map_or(String::new(), |path| format!(" ({})", path.display()));
    setup.out.note(format!("{} of {} is told of {}{path}", hook.callback, hook.plugin, hook.events.join(", ")));
    match there {
        Some(row) => server::tell(setup, &row),
        None => setup.out.note("programs that run take it over on /reload, or with their next start"),
    }
    Ok(())
}

/// Names of ours are checked; those of a plugin are its own to choose.
fn known_event(setup: &Setup, name: &str) -> Result<()> {
    let beginning = name.strip_suffix('*');
    let known = match beginning {
        Some("") => true,
        Some(prefix) => topics::TOPICS.iter().any(|topic| topic.starts_with(prefix)),
        None => topics::TOPICS.contains(&name),
    };
    if known {
        return Ok(());
    }
    if Hook::from_name(name).is_some() {
        let message = format!("{name} is a hook, and no event: plugins register for it themselves, in register() or as a HookContract");
        return Err(Failure::new(Exit::Usage, message).help("bespoke plugin hook --list"));
    }
    match beginning.unwrap_or(name).split_once('.') {
        // `custom.` stands before what the user tells.
        Some((plugin, _)) if plugin == "custom" || setup.host.rows().iter().any(|row| row.id == plugin) => Ok(()),
        Some((plugin, _)) => {
            Err(Failure::new(Exit::NotFound, format!("no plugin `{plugin}`, whose event `{name}` would be")).help("bespoke plugin list"))
        }
        None => {
            let close = closest(name, topics::TOPICS.iter().copied()).map_or(String::new(), |close| format!("; did you mean `{close}`?"));
            let all = topics::TOPICS.join(", ");
            Err(Failure::new(Exit::Usage, format!("there is no event `{name}`{close}"))
                .help(format!("events are {all}, and PLUGIN.NAME of plugins")))
        }
    }
}

fn no_callback(setup: &Setup, plugin: &str, callback: &str, methods: &[String]) -> Failure {
    let own = setup.host.hooks().list().into_iter().filter(|known| known.plugin == plugin && known.hook == Hook::OnEvent);
    let known: Vec<String> = own.map(|known| known.name).chain(methods.iter().cloned()).collect();
    let close = closest(callback, known.iter().map(String::as_str)).map_or(String::new(), |close| format!("; did you mean `{close}`?"));
    let message = format!("{plugin} registers no hook `{callback}` of on_event, and has no method of that name{close}");
    let failure = Failure::new(Exit::NotFound, message);
    match known.is_empty() {
        true => failure.help(format!(
            "a plugin registers one with HookSpec::new(\"{callback}\", Hook::OnEvent), or as a method: def {callback}(self, event)"
        )),
        false => failure.help(format!("it has {}", known.join(", "))),
    }
}

async fn remove(setup: &Setup, global: &Global, id: &str, callback: &str) -> Result<()> {
    let absent = || {
        let known = setup.config.hooks().unwrap_or_default();
        let known: Vec<_> = known.iter().filter(|hook| hook.plugin == id).map(|hook| hook.callback.clone()).collect();
        let message = format!("the configuration has no `{callback}` of {id} told of events");
        let help = if known.is_empty() { "bespoke plugin hook --list".to_owned() } else { format!("there is {}", known.join(", ")) };
        Failure::new(Exit::NotFound, message).help(help)
    };
    let change = |old: &Config| old.without_hook(id, callback)?.ok_or_else(absent);
    config::edit_text(global, change, Change { dry_run: false, force: false }).await?;
    let there = server::apply(setup, id, "reload").await?;
    if setup.out.json {
        return setup.out.json(&json!({ "removed": { "plugin": id, "callback": callback }, "server": there }), true);
    }
    setup.out.note(format!("{callback} of {id} is not told of events any more"));
    Ok(())
}

/// Starts those that have hooks, as every conversation does: what they register for is known then.
async fn start_those_with_hooks(setup: &Setup) {
    let with_hooks: Vec<String> = setup.host.rows().into_iter().filter(|row| setup.watches(row)).map(|row| row.id).collect();
    setup.host.start(Selection::Ids(&with_hooks)).await;
}

/// All that is asked, or told of events.
#[derive(Serialize, Deserialize)]
pub(in crate::cmd) struct Listed {
    pub(in crate::cmd) handlers: Vec<HookRow>,
    pub(in crate::cmd) told: Vec<ToldRow>,
}

/// The state of one that failed too often, and is not asked for a while.
const LEFT_ALONE: &str = "left alone";

async fn list(setup: &Setup, id: Option<&str>) -> Result<()> {
    let mut hooks = match server::find(setup).await? {
        // Which of them are left alone is known where they are asked.
        Some(mut running) => running.look("plugin.hooks", json!({})).await?,
        None => {
            start_those_with_hooks(setup).await;
            Listed { handlers: setup.host.hooks().list(), told: setup.config.hooks()?.into_iter().map(ToldRow::of).collect() }
        }
    };
    let of = |plugin: &str| id.is_none_or(|id| id == plugin);
    hooks.handlers.retain(|row| of(&row.plugin));
    hooks.told.retain(|row| of(&row.hook.plugin));
    let Listed { handlers, told } = hooks;
    if setup.out.json {
        return setup.out.json(&json!({ "handlers": handlers, "told": told }), true);
    }
    let line = |row: &HookRow| {
        let kind = match (row.observer, row.fails_closed) {
            (true, _) => "looks",
            (_, true) => "guards",
            _ => "may change",
        };
        let topics = if row.topics.is_empty() { String::new() } else { format!(" ({})", row.topics.join(", ")) };
        vec![
            format!("{}{topics}", row.hook.name()),
            row.plugin.clone(),
            row.name.clone(),
            row.priority.to_string(),
            kind.to_owned(),
            format!("{} ms", row.timeout_ms),
            if row.tripped { LEFT_ALONE.into() } else { row.state.name().into() },
        ]
    };
    let user = |ToldRow { hook, tripped, .. }: &ToldRow| {
        let row = handlers.iter().find(|row| row.plugin == hook.plugin && row.name == hook.callback);
        let state = match row {
            _ if *tripped => LEFT_ALONE,
            Some(row) => row.state.name(),
            None => "a method",
        };
        let cells = [format!("on_event ({})", hook.events.join(", ")), hook.plugin.clone(), hook.callback.clone()];
        cells.into_iter().chain(["".into(), "by [[hooks]]".into(), "".into(), state.to_owned()]).collect()
    };
    let rows: Vec<Vec<String>> = handlers.iter().map(line).chain(told.iter().map(user)).collect();
    if rows.is_empty() {
        setup.out.note("no plugin handles a hook, and none is told of events");
        return Ok(());
    }
    setup.out.table(&["HOOK", "PLUGIN", "NAME", "PRIORITY", "WHAT IT DOES", "LIMIT", "STATE"], &rows)
}

async fn dry_run(setup: &Setup, hook: &str, event: Option<&str>) -> Result<()> {
    let Some(hook) = Hook::from_name(hook) else {
        let all: Vec<&str> = Hook::ALL.iter().map(|hook| hook.name()).collect();
        let close = closest(hook, all.iter().copied()).map_or(String::new(), |close| format!("; did you mean `{close}`?"));
        return Err(Failure::new(Exit::Usage, format!("there is no hook `{hook}`{close}")).help(format!("hooks are {}", all.join(", "))));
    };
    let event = match event {
        Some(text) => read(hook, text)?,
        None => Hooks::example(hook),
    };
    start_those_with_hooks(setup).await;
    let (tried, outcome) = setup.host.hooks().dry_run(&interruptible(&setup.host), event.clone()).await;
    if setup.out.json {
        let outcome = match &outcome {
            Outcome::Proceed(event) => json!({ "proceeds": true, "event": event }),
            Outcome::Vetoed { plugin, reason, .. } => json!({ "proceeds": false, "plugin": plugin, "reason": reason }),
        };
        return setup.out.json(&json!({ "hook": hook, "event": event, "handlers": tried, "outcome": outcome }), true);
    }
    if tried.is_empty() {
        setup.out.note(format!("no plugin handles {}", hook.name()));
        return Ok(());
    }
    for one in &tried {
        setup.out.line(told(setup, one))?;
    }
    setup.out.line(match outcome {
        Outcome::Vetoed { plugin, reason, .. } => setup.out.paint(Style::Yellow, &format!("stopped by {plugin}: {reason}")).into_owned(),
        Outcome::Proceed(after) if after == event => "goes on as it was".to_owned(),
        Outcome::Proceed(after) => format!("goes on as {}", serde_json::to_string(&after).unwrap_or_default()),
    })
}

fn told(setup: &Setup, one: &Tried) -> String {
    let said = match one.answer {
        Answer::Continue => "lets it be".to_owned(),
        Answer::Replace => format!("wants {}", one.event.as_ref().and_then(|event| serde_json::to_string(event).ok()).unwrap_or_default()),
        Answer::Veto => format!("says no: {}", one.reason.as_deref().unwrap_or_default()),
        Answer::Failed => {
            let meaning = if one.fails_closed { "which is a no" } else { "which is passed over" };
            let text = format!("fails, {meaning}: {}", one.reason.as_deref().unwrap_or_default());
            setup.out.paint(Style::Red, &text).into_owned()
        }
        _ => "is not asked".to_owned(),
    };
    let looks = if one.observer { " (only looks)" } else { "" };
    format!("{} of {}{looks}, priority {}, {} ms: {said}", one.name, one.plugin, one.priority, one.ms)
}

/// An event as a person writes it; the hook may be left out.
fn read(hook: Hook, text: &str) -> Result<HookEvent> {
    let wrong = |why: String| {
        let example = serde_json::to_string(&Hooks::example(hook)).unwrap_or_default();
        Failure::new(Exit::Usage, format!("--event is no {}: {why}", hook.name())).help(format!("such as --event '{example}'"))
    };
    let mut value: Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let Value::Object(fields) = &mut value else { return Err(wrong("it is no object".into())) };
    fields.entry("hook").or_insert_with(|| hook.name().into());
    let event: HookEvent = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
    if event.hook() == hook { Ok(event) } else { Err(wrong(format!("it is one of {}", event.hook().name()))) }
}
