//! Plugins: how each one does, guards that do not run, slow starts, threads that were left behind.

use bespoke_host::{Host, Row, Slot, State};
use bespoke_plugin_api::{HookHandler, OnFailure};

use super::{
    agent::is_off,
    report::{Report, Verdict},
};
use crate::setup::{Setup, build_with};

/// A start that takes longer is told.
const SLOW_MS: u64 = 3_000;

pub(crate) fn check(report: &mut Report, setup: &Setup) {
    report.group("Plugins");
    let rows = setup.rows();
    let (lacking, asked) = (setup.host.lacking_models(), setup.asked_for());
    match rows.len() {
        0 => report.add("plugins", Verdict::Warning, "none in this binary", Some(build_with(&["local"]))),
        n => {
            let ready = rows.iter().filter(|row| row.state == State::Ready).count();
            report.ok("plugins", format!("{ready} of {n} run"));
        }
    }
    for row in &rows {
        let unasked = || row.state == State::Ready && row.health == "degraded" && !asked.contains(&row.id);
        match is_off(setup, row) {
            true => report.skip(&format!("plugin {}", row.id), "off: it is told below, with the tools"),
            false if unasked() => {
                report.skip(&format!("plugin {}", row.id), format!("not configured: {}", row.reason.as_deref().unwrap_or_default()));
            }
            false => plugin(report, row, lacking.contains(&row.id)),
        }
    }
    guards(report, &setup.host);
    let slow: Vec<String> = rows
        .iter()
        .filter_map(|row| Some(format!("{} {:.1} s", row.id, row.started_ms.filter(|ms| *ms > SLOW_MS)? as f64 / 1e3)))
        .collect();
    match slow.is_empty() {
        true => report.ok("start times", format!("no plugin took longer than {} s", SLOW_MS / 1_000)),
        false => report.add("start times", Verdict::Warning, format!("slow to start: {}", slow.join(", ")), None),
    }
    match setup.host.late_names() {
        late if late.is_empty() => report.ok("threads", "no plugin left one behind"),
        late => {
            let message = format!("left behind by plugins that did not come back in time: {}", late.join(", "));
            report.add("threads", Verdict::Warning, message, Some("bespoke plugin list".into()));
        }
    }
}

fn plugin(report: &mut Report, row: &Row, lacks_model: bool) {
    let name = format!("plugin {}", row.id);
    let reason = row.reason.clone().unwrap_or_default();
    let fix = row.fix.clone();
    match (row.state, row.health.as_str()) {
        (State::Ready, "ok" | "unknown") => {
            report.ok(&name, format!("ready{}", row.facts.get("engine").map(|e| format!(", {e}")).unwrap_or_default()));
        }
        (State::Ready, health) => report.add(&name, Verdict::Warning, format!("{health}: {reason}"), fix),
        (State::Disabled, _) => report.skip(&name, "switched off"),
        (State::Failed, _) if lacks_model => report.add(&name, Verdict::Warning, reason, fix),
        (state, _) => {
            let fix = fix.unwrap_or_else(|| format!("bespoke plugin info {}", row.id));
            report.add(&name, Verdict::Problem, format!("{}: {reason}", state.name()), Some(fix));
        }
    }
}

/// What a guard watches is refused while its plugin does not run.
fn guards(report: &mut Report, host: &Host) {
    let slots = host.registry().all::<dyn HookHandler>();
    let rows = host.rows();
    let row = |id: &str| rows.iter().find(|row| row.id == id);
    let is_guard = |slot: &&Slot<dyn HookHandler>| {
        let is_on = row(slot.plugin()).is_some_and(|row| row.state != State::Disabled);
        slot.spec().on_failure == OnFailure::Closed && !slot.spec().observer && is_on
    };
    let (stand, down): (Vec<_>, Vec<_>) = slots.iter().filter(is_guard).partition(|slot| slot.is_ready());
    let missed = host.hooks().missed();
    match (stand.len(), down.is_empty() && missed.is_empty()) {
        (0, true) => report.skip("guards", "no plugin guards anything"),
        (n, true) => report.ok("guards", format!("{n} stand")),
        _ => {}
    }
    for missed in missed {
        let fix = row(&missed.plugin).and_then(|row| row.fix.clone()).unwrap_or_else(|| format!("bespoke plugin info {}", missed.plugin));
        let message = format!("nobody knows what {} would stop, so whatever a hook can stop is refused: {}", missed.plugin, missed.reason);
        report.add("guards", Verdict::Problem, message, Some(fix));
    }
    for slot in down {
        let (name, plugin) = (slot.name(), slot.plugin());
        let why = row(plugin).and_then(|row| row.reason.clone()).map(|why| format!(": {why}")).unwrap_or_default();
        let fix = row(plugin).and_then(|row| row.fix.clone()).unwrap_or_else(|| format!("bespoke plugin info {plugin}"));
        let message = format!("`{name}` of {plugin} does not run, so everything that it guards is refused{why}");
        report.add("guards", Verdict::Problem, message, Some(fix));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bespoke_host::{Config, Selection};
    use bespoke_plugin_api::{
        CallCx, Descriptor, Error, Hook, HookEvent, HookReply, HookSpec, Package, Plugin, PluginApi, PluginContext, Result, async_trait,
    };

    use super::*;

    /// Guards, if its configuration lets it start.
    struct Watch;

    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct WatchConfig {
        words: Vec<String>,
    }

    impl Plugin for Watch {
        type Config = WatchConfig;

        fn register(api: &mut PluginApi<Self>) {
            api.hook(HookSpec::new("watch", Hook::BeforeAgentRun).fail_closed(), |_| Arc::new(Watch));
        }

        async fn start(_: PluginContext, config: WatchConfig) -> Result<Self> {
            if config.words.is_empty() { Err(Error::internal("no list of words").with_help("bespoke config edit")) } else { Ok(Watch) }
        }
    }

    #[async_trait]
    impl HookHandler for Watch {
        async fn on(&self, _: &CallCx, _: &HookEvent) -> Result<HookReply> {
            Ok(HookReply::Continue)
        }
    }

    const MANIFEST: &str = r#"
        id = "watch"
        description = "d"
        author = "The Bespoke authors"
        protocol = "1"
        tiers = ["compiled"]
        [[provides]]
        kind = "hook"
        name = "watch"
    "#;
    static WATCH: Descriptor = Descriptor::of::<Watch>(
        "watch",
        Package { name: "hook-watch", version: "0.1.0", license: "MIT", manifest: MANIFEST, config_schema: "{}" },
    );

    #[tokio::test]
    async fn a_guard_that_does_not_run_is_a_problem_and_letting_it_go_is_no_fix() {
        let mut said = Vec::new();
        for text in ["", "[plugins.watch]\nwords = ['a']\n", "[plugins.watch]\nenabled = false\n"] {
            let host = Host::builder().config(Config::parse("bespoke.toml", text).unwrap()).plugins([&WATCH]).build().unwrap();
            host.start(Selection::All).await;
            let mut report = Report::new(false);
            guards(&mut report, &host);
            said.extend(report.checks().iter().map(|check| (check.verdict, check.message.clone(), check.fix.clone())));
            host.shutdown().await;
        }
        let down = "`watch` of watch does not run, so everything that it guards is refused: no list of words";
        assert_eq!(
            said,
            [
                (Verdict::Problem, down.to_owned(), Some("bespoke config edit".to_owned())),
                (Verdict::Ok, "1 stand".to_owned(), None),
                (Verdict::Skipped, "no plugin guards anything".to_owned(), None),
            ]
        );
    }
}
