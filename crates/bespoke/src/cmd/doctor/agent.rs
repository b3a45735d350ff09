//! The agent: who answers, with which tools, over which network, and the chain of the voice.

use std::time::Duration;

use bespoke_host::{Row, State};
use bespoke_plugin_api::{CallCx, Kind, ModelInfo, Provider, Tool};

use super::report::{Report, Verdict};
use crate::{
    catalog::CATALOG,
    setup::{Setup, build_with},
};

/// How long a server has to say which models it has.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn check(report: &mut Report, setup: &Setup, online: bool) {
    report.group("Agent");
    let rows = setup.host.rows();
    let ready = providers(report, setup, &rows);
    models(report, setup, &ready, online).await;
    tools(report, setup, &rows);
    voice(report, setup, &rows);
    network(report, setup, &rows);
}

fn is_ready(setup: &Setup, rows: &[Row], kind: Kind, name: &str) -> bool {
    let id = setup.host.provider_of(kind, name);
    rows.iter().any(|row| Some(&row.id) == id.as_ref() && row.state == State::Ready)
}

/// Whether a plugin asks to reach hosts.
fn calls_out(setup: &Setup, id: &str) -> bool {
    setup.host.manifest(id).is_some_and(|m| !m.permissions.network_access.is_empty())
}

/// Those that may be asked, in their order.
fn providers(report: &mut Report, setup: &Setup, rows: &[Row]) -> Vec<String> {
    let named = setup.agent.provider_names();
    let names = if named.is_empty() { setup.host.default_names(Kind::Provider) } else { named };
    let (ready, not): (Vec<String>, Vec<String>) = names.iter().cloned().partition(|name| is_ready(setup, rows, Kind::Provider, name));
    let lacks = |name: &String| setup.host.provider_of(Kind::Provider, name).filter(|id| setup.host.lacking_models().contains(id));
    let fetched = not.iter().find_map(lacks);
    let fix = match &fetched {
        Some(id) => format!("bespoke plugin download-files {id}"),
        // One that serves without being named, best without a network.
        None => {
            let mut others = setup.host.default_names(Kind::Provider);
            others.retain(|name| !not.contains(name));
            others.sort_by_key(|name| setup.host.provider_of(Kind::Provider, name).is_none_or(|id| calls_out(setup, &id)));
            match others.first() {
                Some(other) => format!("bespoke config set agent.provider '[\"{other}\"]'"),
                None => "bespoke plugin list provider".into(),
            }
        }
    };
    // One of a user's own may want no secret, so that is no fault.
    let bare = |name: &String| {
        let id = setup.host.provider_of(Kind::Provider, name).unwrap_or_default();
        let secrets = setup.host.manifest(&id).map(|m| m.permissions.secrets.clone()).unwrap_or_default();
        match secrets.iter().find(|secret| setup.config.secret(&id, secret).is_err()) {
            Some(secret) => format!("{name} (without its `{secret}`)"),
            None => name.clone(),
        }
    };
    let shown = ready.iter().map(bare).collect::<Vec<_>>().join(", ");
    match (&ready[..], &not[..]) {
        ([], []) => {
            let known = CATALOG.iter().filter(|k| k.provides.iter().any(|(kind, _)| *kind == Kind::Provider));
            let ours = known.map(|k| k.id).find(|id| *id == "smol").unwrap_or("openai");
            report.add("providers", Verdict::Problem, "there is none, so nobody answers", Some(build_with(&[ours])));
        }
        ([], not) => {
            // What one command brings is no fault of the set-up.
            let verdict = if fetched.is_some() { Verdict::Warning } else { Verdict::Problem };
            report.add("providers", verdict, format!("none runs, so nobody answers: {}", not.join(", ")), Some(fix));
        }
        (_, []) => report.ok("providers", format!("asked in this order: {shown}")),
        (_, not) => {
            let message = format!("running: {shown}; not running: {}", not.join(", "));
            report.add("providers", Verdict::Warning, message, Some(fix));
        }
    }
    ready
}

/// What the models can do with tools, and with `online` whether servers answer at all.
async fn models(report: &mut Report, setup: &Setup, ready: &[String], online: bool) {
    if ready.is_empty() {
        report.skip("tool calls", "no provider runs");
    }
    let mut remote = 0;
    for name in ready {
        let Ok(slot) = setup.host.find::<dyn Provider>(name) else { continue };
        let calls_out = calls_out(setup, slot.plugin());
        remote += usize::from(calls_out);
        if calls_out && !online {
            report.skip("servers", format!("{name}: not asked; bespoke doctor --online asks which models it has"));
            continue;
        }
        let cx = CallCx::new();
        let asked = slot.call(&cx, |provider, cx| async move { provider.models(&cx).await });
        let models = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(models)) => models,
            Ok(Err(error)) => {
                let fix = error.help().map_or_else(|| format!("bespoke plugin info {}", slot.plugin()), str::to_owned);
                report.add("servers", Verdict::Problem, format!("{name}: {}", error.message()), Some(fix));
                continue;
            }
            Err(_) => {
                let message = format!("{name}: no answer within {} s", PATIENCE.as_secs());
                report.add("servers", Verdict::Problem, message, Some(format!("bespoke plugin info {}", slot.plugin())));
                continue;
            }
        };
        if calls_out {
            report.ok("servers", format!("{name}: answers, with {} models", models.len()));
        }
        let wanted = setup.agent.provider.iter().find_map(|entry| entry.strip_prefix(name.as_str())?.strip_prefix(':'));
        let wanted = wanted.or(setup.agent.model.as_deref());
        tool_calls(report, setup, name, wanted, &models);
    }
    if remote == 0 {
        report.skip("servers", "no provider that runs asks one");
    }
}

fn tool_calls(report: &mut Report, setup: &Setup, name: &str, wanted: Option<&str>, models: &[ModelInfo]) {
    let model = match wanted {
        Some(wanted) => models.iter().find(|model| model.id == wanted),
        None => models.first(),
    };
    let Some(model) = model else {
        let ids: Vec<_> = models.iter().take(5).map(|model| model.id.as_str()).collect();
        let message = format!("{name}: it lists no model `{}`; it has {}", wanted.unwrap_or("at all"), ids.join(", "));
        return report.add("tool calls", Verdict::Warning, message, Some("bespoke config edit".into()));
    };
    let offers = setup.agent.tools.as_ref().map_or(!setup.host.default_names(Kind::Tool).is_empty(), |tools| !tools.is_empty());
    let what = format!("{name}: {}", model.id);
    match (model.tools, model.json_schema) {
        (true, _) => report.ok("tool calls", format!("{what} calls tools of its own")),
        (false, true) => report.ok("tool calls", format!("{what} keeps schemas, and is led to tools by them")),
        (false, false) if offers => {
            let message = format!("{what} neither calls tools nor keeps schemas: the tools that are offered will not be used");
            report.add("tool calls", Verdict::Warning, message, Some("bespoke config set agent.tools '[]'".into()));
        }
        (false, false) => report.ok("tool calls", format!("{what} uses none, and none is offered")),
    }
}

fn tools(report: &mut Report, setup: &Setup, rows: &[Row]) {
    let slots = setup.host.registry().all::<dyn Tool>();
    let offered = |plugin: &str, name: &str| match &setup.agent.tools {
        None => setup.host.serves_unasked(plugin),
        Some(tools) => tools.iter().any(|tool| tool == name || tool == plugin),
    };
    let names: Vec<&str> =
        slots.iter().filter(|slot| slot.is_ready() && offered(slot.plugin(), slot.name())).map(|slot| slot.name()).collect();
    match names.is_empty() {
        true => report.skip("tools", "the model is offered none"),
        false => report.ok("tools", format!("the model is offered {}", names.join(", "))),
    }
    // A tool whose list of what it may do is empty does nothing, which is how it is meant until the user says more.
    let off: Vec<&str> = rows.iter().filter(|row| is_off(setup, row)).map(|row| row.id.as_str()).collect();
    if off.is_empty() {
        report.ok("tools that are off", "none");
    }
    for id in off {
        let message = format!("{id} does nothing while plugins.{id}.allow names nothing; what it names is yours to decide");
        report.skip("tools that are off", message);
    }
}

/// Whether a plugin with tools runs, but the user has not said yet what it may do.
pub(crate) fn is_off(setup: &Setup, row: &Row) -> bool {
    if row.state != State::Ready || !row.kinds.iter().any(|kind| kind == Kind::Tool.name()) {
        return false;
    }
    let schema = setup.host.config_schema(&row.id).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    if schema.is_none_or(|schema| schema["properties"]["allow"]["type"] != "array") {
        return false;
    }
    let table = setup.config.get(&format!("plugins.{}", row.id)).unwrap_or_default();
    ["allow", "allow_private"].iter().all(|key| table[*key].as_array().is_none_or(Vec::is_empty))
}

fn voice(report: &mut Report, setup: &Setup, rows: &[Row]) {
    let chain = [(Kind::Vad, &setup.voice.vad), (Kind::Stt, &setup.voice.stt), (Kind::Tts, &setup.voice.tts)];
    let here = |kind: Kind, names: &[String]| names.iter().any(|name| setup.host.provider_of(kind, name).is_some());
    if !chain.iter().any(|(kind, names)| here(*kind, names)) {
        return report.skip("voice", "this binary neither hears nor speaks");
    }
    let mut whole = true;
    for (kind, names) in chain {
        if names.iter().any(|name| is_ready(setup, rows, kind, name)) {
            continue;
        }
        whole = false;
        let ids: Vec<String> = names.iter().filter_map(|name| setup.host.provider_of(kind, name)).collect();
        let lacking = setup.host.lacking_models();
        let fix = match ids.iter().find(|id| lacking.contains(id)) {
            Some(id) => format!("bespoke plugin download-files {id}"),
            None if ids.is_empty() => {
                let known = CATALOG.iter().filter(|k| k.provides.iter().any(|(of, name)| *of == kind && names.iter().any(|n| n == name)));
                match &known.map(|k| k.id).collect::<Vec<_>>()[..] {
                    [] => "bespoke config edit".into(),
                    features => build_with(features),
                }
            }
            None => format!("bespoke plugin info {}", ids[0]),
        };
        report.add("voice", Verdict::Warning, format!("no {kind} runs: {}", names.join(", ")), Some(fix));
    }
    if whole {
        report.ok("voice", "it hears speech, writes it down, and speaks");
    }
}

/// What calls out, and what needs no network.
fn network(report: &mut Report, setup: &Setup, rows: &[Row]) {
    let providers = setup.agent.provider_names();
    let providers = if providers.is_empty() { setup.host.default_names(Kind::Provider) } else { providers };
    let chains = [(Kind::Provider, &providers), (Kind::Stt, &setup.voice.stt), (Kind::Tts, &setup.voice.tts)];
    let speaks =
        |id: &str| chains.iter().any(|(kind, names)| names.iter().any(|name| setup.host.provider_of(*kind, name).as_deref() == Some(id)));
    let is_tool = |row: &Row| row.kinds.iter().any(|kind| kind == Kind::Tool.name()) && !is_off(setup, row);
    let in_use = rows.iter().filter(|row| row.state == State::Ready && calls_out(setup, &row.id) && (speaks(&row.id) || is_tool(row)));
    let names: Vec<&str> = in_use.map(|row| row.id.as_str()).collect();
    match names.is_empty() {
        true => report.ok("network", "nothing that is in use needs it; --offline keeps model files from being fetched, too"),
        false => report.ok("network", format!("may be asked by {}, at the hosts that the configuration names", names.join(", "))),
    }
    let proxies: Vec<&str> = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .filter(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
        .collect();
    match (proxies.is_empty(), names.is_empty()) {
        (true, _) => report.ok("proxies", "none is set"),
        (false, true) => report.ok("proxies", format!("{} set; pip and npm use it", proxies.join(", "))),
        (false, false) => {
            let message = format!("{} set: pip and npm use it, requests of plugins go without", proxies.join(", "));
            report.add("proxies", Verdict::Warning, message, None);
        }
    }
}
