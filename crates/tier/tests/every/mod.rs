//! What the tiers have to do alike, for the tests of each: plugins that are built into all of them, and the rules that say what becomes of
//! what they do. Part of the test binaries of the tiers, not a test of its own.

pub(crate) mod actor;
pub(crate) mod faults;
pub(crate) mod hooks;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bespoke_host::{Candidate, Config, Grants, Host, KeyValue, Row, Selection, Supervision};
use bespoke_plugin_api::{CallCx, OnFailure, Result, Tool, ToolRequest, serde_json::Value};

/// Longer than anything here takes, so that a hang fails instead of hanging.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// A tier, and how it is written in manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    #[allow(dead_code, reason = "each is one binary's")]
    Process,
    #[allow(dead_code, reason = "each is one binary's")]
    Dylib,
    #[allow(dead_code, reason = "each is one binary's")]
    Wasm,
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Tier::Process => "process",
            Tier::Dylib => "dylib",
            Tier::Wasm => "wasm",
        }
    }
}

fn manifest(id: &str, tier: &str, more: &str) -> String {
    format!(
        "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"Apache-2.0\"\ndescription = \"A test.\"\nauthor = \"Tests\"\nprotocol = \">=1\"\n\
         tiers = [\"{tier}\"]\n[[provides]]\nkind = \"tool\"\nname = \"{id}\"\n{more}\n"
    )
}

/// The manifest of the plugin that does what it is told; `more` says what runs.
pub(crate) fn acts_manifest(tier: Tier, more: &str) -> String {
    let own = "[[provides]]\nkind = \"vad\"\nname = \"acts\"\n[permissions]\nplugin_communication = [\"tool:acts\"]\n\
               reasons.plugin_communication = \"calls itself\"\n";
    manifest("acts", tier.name(), &format!("{own}{more}"))
}

/// That of the one with the hooks.
pub(crate) fn actor_manifest(tier: &str, more: &str) -> String {
    use bespoke_plugin_api::Hook;
    let hooks = actor::places().chain([Hook::OnEvent]);
    let names = hooks.flat_map(|hook| [OnFailure::Open, OnFailure::Closed].map(|failure| actor::name(hook, failure)));
    let provides: String = names.map(|name| format!("[[provides]]\nkind = \"hook\"\nname = \"{name}\"\n")).collect();
    let heard = actor::HEARD;
    let own = format!(
        "{provides}[permissions]\nplugin_communication = [\"event:{heard}\"]\nreasons.plugin_communication = \"hears what the test tells\"\n"
    );
    manifest("actor", tier, &format!("{own}{more}"))
}

/// A host in which these have been started, with all that they ask for. However often one ends, it is started again, soon.
async fn host(place: &Path, config: &str, store: Option<Arc<dyn KeyValue>>, plugins: Vec<Candidate>) -> Host {
    let grants = Grants::at(place.join("grants.json"));
    for plugin in &plugins {
        grants.grant(plugin.manifest.as_ref().unwrap(), plugin.tier, &[]).unwrap();
    }
    let config = Config::parse("bespoke.toml", config).unwrap();
    let mut patient = Supervision::default();
    (patient.most, patient.pause, patient.longest) = (10_000, Duration::from_millis(1), Duration::from_millis(10));
    let mut host = Host::builder().config(config).grants(grants).supervision(patient).data_dir(place.join("data")).plugins(plugins);
    if let Some(store) = store {
        host = host.store(store);
    }
    let host = host.build().unwrap();
    within(host.start(Selection::All)).await;
    host
}

/// Calls the tool of a plugin, with a deadline, as the agent does.
async fn call(host: &Host, id: &str, args: Value, limit: Duration) -> Result<String> {
    let slot = host.find::<dyn Tool>(id)?;
    let cx = CallCx::new().with_deadline(bespoke_host::now().plus(limit));
    let call = slot.call_apart(&cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(args)).await });
    within(call).await.map(|output| output.to_text())
}

/// The plugin answers that, perhaps after it was started again: who calls in the moment between the end of an instance and that its host
/// knows of it, is told of the end.
async fn answers(host: &Host, id: &str, args: Value, wanted: &str) {
    let begun = Instant::now();
    loop {
        match call(host, id, args.clone(), LONG).await {
            Ok(said) => return assert_eq!(said, wanted, "{id}"),
            Err(error) => assert!(begun.elapsed() < LONG, "{id}: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn row(host: &Host, id: &str) -> Row {
    host.rows().into_iter().find(|row| row.id == id).unwrap()
}

/// Fails instead of hanging.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("in time")
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
