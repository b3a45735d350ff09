//! A new configuration while everything runs: what is applied, swapped, refused or kept, and that no call is lost on the way.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use bespoke_host::{Artifact, Candidate, Config, Host, Outcome, ReloadReport, Selection, State, Terms, Tier};
use bespoke_manifest::{Inherited, Manifest};
use bespoke_plugin_api::{
    BoxFuture, CallCx, Contribution, Error, Facts, Health, HookReply, HookSpec, Instance, Life, PluginContext, Reload, Result, Spec,
    State as Captured, Tool, ToolCall, ToolOutput, ToolRequest, serde_json,
    serde_json::{Value, json},
};
use expect_test::expect;
use futures_util::StreamExt;
use tokio::sync::Notify;

use crate::kit::{BEFORE, Journal, Plug, before_run, hook, row, says, table, tool, within};

/// What the plugin of these tests reads. `begin`, `live` and `state` say how it misbehaves.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    value: i64,
    size: i64,
    port: i64,
    secret: String,
    begin: String,
    live: String,
    state: String,
    publish: Vec<String>,
    veto: bool,
}

const SCHEMA: &str = r#"{ "properties": {
    "value": { "x-reload": "live" }, "live": { "x-reload": "live" }, "secret": { "x-reload": "live" },
    "port": { "x-reload": "fixed", "default": 0 }, "size": { "x-reload": "restart" } } }"#;

/// A plugin of which each instance is another: it says its number, its configuration, and what it was handed.
#[derive(Clone, Default)]
struct Twin {
    id: String,
    extra: String,
    made: Arc<AtomicU32>,
    journal: Journal,
    /// Calls with the argument `wait` wait for it.
    gate: Arc<Notify>,
    entered: Arc<Notify>,
}

struct Twins {
    n: u32,
    of: Twin,
    settings: Arc<Mutex<Settings>>,
    counted: Arc<AtomicU64>,
    alive: Arc<AtomicBool>,
}

impl Twin {
    fn new(id: &str) -> Self {
        Twin { id: id.into(), ..Twin::default() }
    }

    fn extra(mut self, lines: &str) -> Self {
        self.extra += lines;
        self
    }

    fn exclusive(self) -> Self {
        self.extra("swap = \"exclusive\"\n")
    }

    fn candidate(&self) -> Candidate {
        let id = &self.id;
        let manifest = format!(
            "id = \"{id}\"\ndescription = \"A test.\"\nauthor = \"The example authors\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n{}\
             [[provides]]\nkind = \"tool\"\nname = \"{id}\"\n[[provides]]\nkind = \"hook\"\nname = \"hook_{id}\"\n\
             [[provides]]\nkind = \"tool\"\ndynamic = true\n",
            self.extra
        );
        let inherited = Inherited { version: "1.0.0", license: "MIT" };
        Candidate {
            id: id.clone(),
            tier: Tier::Compiled,
            origin: format!("test-{id}"),
            manifest: Manifest::parse("plugin.toml", &manifest, Some(inherited)).map(Arc::new).map_err(Error::from),
            config_schema: SCHEMA.into(),
            artifact: Arc::new(self.clone()),
        }
    }

    fn contributions(&self, twins: &Arc<Twins>) -> Vec<Contribution> {
        let (of_tool, of_hook) = (twins.clone(), twins.clone());
        let answers = tool(&self.id, move |_, args| {
            let twins = of_tool.clone();
            async move {
                if args == json!({ "wait": true }) {
                    twins.of.entered.notify_one();
                    twins.of.gate.notified().await;
                }
                assert!(twins.alive.load(Ordering::SeqCst), "asked after its end");
                let settings = twins.settings.lock().unwrap().clone();
                let counted = twins.counted.fetch_add(1, Ordering::SeqCst);
                Ok(ToolOutput::text(format!("#{} value {} size {} counted {counted}", twins.n, settings.value, settings.size)))
            }
        });
        let guards = hook(HookSpec::new(format!("hook_{}", self.id), BEFORE), move |_, _| {
            let (n, veto) = (of_hook.n, of_hook.settings.lock().unwrap().veto);
            async move { Ok(if veto { HookReply::veto(format!("#{n} says no")) } else { HookReply::Continue }) }
        });
        vec![answers, guards]
    }
}

impl Artifact for Twin {
    fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
        let twins = Twins { n: 0, of: self.clone(), settings: Arc::default(), counted: Arc::default(), alive: Arc::default() };
        Ok(self.contributions(&Arc::new(twins)).iter().map(Contribution::spec).collect())
    }

    fn check(&self, config: &Value) -> Result<()> {
        serde_json::from_value::<Settings>(config.clone()).map(drop).map_err(|e| Error::invalid_params(e.to_string()))
    }

    fn start(&self, cx: PluginContext, config: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
        let of = self.clone();
        Box::pin(async move {
            let settings: Settings = serde_json::from_value(config).unwrap();
            let n = of.made.fetch_add(1, Ordering::SeqCst) + 1;
            match settings.begin.as_str() {
                "fails" => return Err(Error::internal("no disk").with_help("mount it")),
                "panics" => panic!("on purpose"),
                "hangs" => std::future::pending().await,
                _ => {}
            }
            if !settings.publish.is_empty() {
                let published = settings.publish.iter().map(|name| says(name, "published"));
                cx.host().publish(published.collect())?;
            }
            of.journal.note(format!("+{n}"));
            let alive = Arc::new(AtomicBool::new(true));
            let twins = Twins { n, of: of.clone(), settings: Arc::new(Mutex::new(settings)), counted: Arc::default(), alive };
            let twins = Arc::new(twins);
            Ok(Instance { contributions: of.contributions(&twins), life: twins })
        })
    }
}

impl Life for Twins {
    fn health(&self) -> Health {
        Health::Ok
    }
    fn facts(&self) -> Facts {
        Facts::new()
    }
    fn reconfigure(&self, config: Value) -> BoxFuture<'_, Result<Reload>> {
        Box::pin(async move {
            let new: Settings = serde_json::from_value(config).unwrap();
            match new.live.as_str() {
                "refuse" => return Err(Error::internal("not now")),
                "restart" => return Ok(Reload::Restart),
                "panic" => panic!("on purpose"),
                "hang" => std::future::pending().await,
                _ => {}
            }
            self.of.journal.note(format!("={}", self.n));
            *self.settings.lock().unwrap() = new;
            Ok(Reload::Applied)
        })
    }
    fn capture_state(&self) -> BoxFuture<'_, Result<Option<Captured>>> {
        Box::pin(async move {
            match self.settings.lock().unwrap().state.as_str() {
                "locked" => Err(Error::internal("the state is locked")),
                "none" => Ok(None),
                _ => Ok(Some(Captured::new(1, self.counted.load(Ordering::SeqCst).to_le_bytes().to_vec()))),
            }
        })
    }
    fn restore_state(&self, state: Captured) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.settings.lock().unwrap().state == "newer" {
                return Err(Error::internal(format!("version {} of the state is not known", state.version)));
            }
            self.counted.store(u64::from_le_bytes(state.bytes[..].try_into().unwrap()), Ordering::SeqCst);
            Ok(())
        })
    }
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.alive.store(false, Ordering::SeqCst);
            self.of.journal.note(format!("-{}", self.n));
        })
    }
}

const QUICK: &str = "[plugins]\nstart_timeout_ms = 300\nstop_timeout_ms = 300\n";

fn read(config: &str) -> Config {
    Config::parse("bespoke.toml", config).unwrap().with_env([("TOKEN".to_owned(), "hunter2hunter2".to_owned())])
}

async fn running(config: &str, twins: &[Twin]) -> Host {
    let host = Host::builder().config(read(config)).plugins(twins.iter().map(Twin::candidate)).build().unwrap();
    within(host.start(Selection::All)).await;
    host
}

async fn ask(host: &Host, name: &str) -> String {
    match within(host.call_tool(&CallCx::new(), ToolCall::new("", name, json!({})))).await {
        Ok((_, output)) => output.to_text(),
        Err(error) => format!("{error}"),
    }
}

fn shown(report: &ReloadReport) -> String {
    let value = |v: &Option<Value>| v.as_ref().map_or("–".to_owned(), Value::to_string);
    let changes = report.changes.iter().map(|c| format!("  {} {} → {} {:?}\n", c.key, value(&c.old), value(&c.new), c.class));
    let plugins = report.plugins.iter().map(|p| {
        let reason = p.reason.as_ref().map_or(String::new(), |r| format!(": {r}"));
        let fix = p.fix.as_ref().map_or(String::new(), |f| format!("; {f}"));
        format!("  {} {:?}{reason}{fix}\n", p.plugin, p.outcome)
    });
    let problems = report.problems.iter().map(|p| format!("  {} {}: {}\n", p.place, p.key, p.message));
    changes.chain(plugins).chain(problems).collect()
}

/// Waits until the generations that were replaced have ended, so that what they noted is all there.
async fn ended(twin: &Twin, n: usize) {
    within(async {
        while twin.journal.read().iter().filter(|note| note.starts_with('-')).count() < n {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_change_has_its_consequence_and_no_other() {
    let mut said = String::new();
    for (name, twin, old, new, ends) in [
        ("live", Twin::new("a"), "value = 1", "value = 2", 0),
        ("live, refused", Twin::new("a"), "value = 1", "value = 2\nlive = 'refuse'", 0),
        ("live, panics", Twin::new("a"), "value = 1", "value = 2\nlive = 'panic'", 0),
        ("live, hangs", Twin::new("a"), "value = 1", "value = 2\nlive = 'hang'", 0),
        ("live, wants a restart", Twin::new("a"), "value = 1", "value = 2\nlive = 'restart'", 1),
        ("restart", Twin::new("a"), "size = 1", "size = 2", 1),
        ("fixed", Twin::new("a"), "port = 1", "port = 2", 0),
        ("fixed, back to what is the default anyway", Twin::new("a"), "port = 0", "", 0),
        ("mixed", Twin::new("a"), "value = 1\nsize = 1\nport = 1", "value = 2\nsize = 2\nport = 2", 0),
        ("nothing", Twin::new("a"), "value = 1", "value = 1 # a comment", 0),
        ("a value of another type", Twin::new("a"), "value = 1", "value = 'one'", 0),
        ("an unknown key", Twin::new("a"), "value = 1", "vlaue = 2", 0),
        ("a variable that is not set", Twin::new("a"), "secret = '${TOKEN}'", "secret = '${TOKEN_2}'", 0),
        ("a reference instead of a value", Twin::new("a"), "secret = 'plain'", "secret = '${TOKEN}'", 0),
        ("the new one fails", Twin::new("a"), "size = 1", "size = 2\nbegin = 'fails'", 0),
        ("the new one panics", Twin::new("a"), "size = 1", "size = 2\nbegin = 'panics'", 0),
        ("the new one hangs", Twin::new("a"), "size = 1", "size = 2\nbegin = 'hangs'", 0),
        ("the new one publishes a name that is taken", Twin::new("a"), "size = 1", "size = 2\npublish = ['b']", 1),
        ("exclusive", Twin::new("a").exclusive(), "size = 1", "size = 2", 1),
        ("exclusive, no state", Twin::new("a").exclusive(), "size = 1\nstate = 'none'", "size = 2", 1),
        ("exclusive, the state cannot be had", Twin::new("a").exclusive(), "size = 1\nstate = 'locked'", "size = 2", 0),
        ("exclusive, the state is not known", Twin::new("a").exclusive(), "size = 1", "size = 2\nstate = 'newer'", 2),
        ("exclusive, the new one fails", Twin::new("a").exclusive(), "size = 1", "size = 2\nbegin = 'fails'", 1),
    ] {
        let b = Twin::new("b");
        // Short only where somebody hangs: everything else must not depend on how busy the machine is.
        let limits = if new.contains("hang") { QUICK } else { "" };
        let host = running(&format!("{limits}[plugins.a]\n{old}\n"), &[twin.clone(), b.clone()]).await;
        ask(&host, "a").await;
        let report = within(host.reload(read(&format!("{limits}[plugins.a]\n{new}\n")))).await;
        ended(&twin, ends).await;
        let answer = ask(&host, "a").await;
        said += &format!("{name}\n{}  → {answer} [{}] {}\n", shown(&report), twin.journal.text(), table(&host).replace('\n', " ").trim());
        assert_eq!(b.journal.text(), "+1", "{name}: the other plugin is left alone");
        within(host.shutdown()).await;
    }
    expect![[r#"
        live
          plugins.a.value 1 → 2 Live
          a Applied
          → #1 value 2 size 0 counted 1 [+1 =1] a ready b ready
        live, refused
          plugins.a.live – → "refuse" Live
          plugins.a.value 1 → 2 Live
          a Kept: not now
          → #1 value 1 size 0 counted 1 [+1] a ready b ready
        live, panics
          plugins.a.live – → "panic" Live
          plugins.a.value 1 → 2 Live
          a Kept: reconfigure panicked: on purpose
          → #1 value 1 size 0 counted 1 [+1] a ready b ready
        live, hangs
          plugins.a.live – → "hang" Live
          plugins.a.value 1 → 2 Live
          a Kept: did not take its new configuration within 300 ms; its thread was left behind
          → #1 value 1 size 0 counted 1 [+1] a ready b ready
        live, wants a restart
          plugins.a.live – → "restart" Live
          plugins.a.value 1 → 2 Live
          a Swapped
          → #2 value 2 size 0 counted 0 [+1 +2 -1] a ready b ready
        restart
          plugins.a.size 1 → 2 Restart
          a Swapped
          → #2 value 0 size 2 counted 0 [+1 +2 -1] a ready b ready
        fixed
          plugins.a.port 1 → 2 Fixed
          a Rejected: plugins.a.port cannot change while the program runs; the old values stay; restart the program
          → #1 value 0 size 0 counted 1 [+1] a ready b ready
        fixed, back to what is the default anyway
          → #1 value 0 size 0 counted 1 [+1] a ready b ready
        mixed
          plugins.a.port 1 → 2 Fixed
          plugins.a.size 1 → 2 Restart
          plugins.a.value 1 → 2 Live
          a Rejected: plugins.a.port cannot change while the program runs; the old values stay; restart the program
          → #1 value 1 size 1 counted 1 [+1] a ready b ready
        nothing
          → #1 value 1 size 0 counted 1 [+1] a ready b ready
        a value of another type
          plugins.a.value 1 → "one" Live
          a Kept: bespoke.toml:1:10: plugins.a: string "one" does not fit here: expected a whole number; bespoke config check
          → #1 value 1 size 0 counted 1 [+1] a ready b ready
        an unknown key
          plugins.a.value 1 → – Live
          plugins.a.vlaue – → 2 Restart
          a Kept: bespoke.toml:2:1: plugins.a.vlaue: unknown key; did you mean `value`?; bespoke config check
          → #1 value 1 size 0 counted 1 [+1] a ready b ready
        a variable that is not set
          plugins.a.secret "${TOKEN}" → "${TOKEN_2}" Live
          a Kept: bespoke.toml:2:1: plugins.a.secret: refers to ${TOKEN_2}, which is not set; export TOKEN_2=…; bespoke config check
          → #1 value 0 size 0 counted 1 [+1] a ready b ready
        a reference instead of a value
          plugins.a.secret "plain" → "${TOKEN}" Live
          a Applied
          → #1 value 0 size 0 counted 1 [+1 =1] a ready b ready
        the new one fails
          plugins.a.begin – → "fails" Restart
          plugins.a.size 1 → 2 Restart
          a Kept: the old instance goes on: no disk; mount it
          → #1 value 0 size 1 counted 1 [+1] a ready b ready
        the new one panics
          plugins.a.begin – → "panics" Restart
          plugins.a.size 1 → 2 Restart
          a Kept: the old instance goes on: start panicked: on purpose
          → #1 value 0 size 1 counted 1 [+1] a ready b ready
        the new one hangs
          plugins.a.begin – → "hangs" Restart
          plugins.a.size 1 → 2 Restart
          a Kept: the old instance goes on: did not start within 300 ms; its thread was left behind; raise plugins.start_timeout_ms, or switch the plugin off
          → #1 value 0 size 1 counted 1 [+1] a ready b ready
        the new one publishes a name that is taken
          plugins.a.publish – → ["b"] Restart
          plugins.a.size 1 → 2 Restart
          a Kept: the old instance goes on: tool `b` is provided by both `b` and `a`; that of `b` counts; bespoke config set plugins.b.enabled false
          → #1 value 0 size 1 counted 1 [+1 +2 -2] a ready b ready
        exclusive
          plugins.a.size 1 → 2 Restart
          a Swapped
          → #2 value 0 size 2 counted 1 [+1 -1 +2] a ready b ready
        exclusive, no state
          plugins.a.size 1 → 2 Restart
          plugins.a.state "none" → – Restart
          a Swapped
          → #2 value 0 size 2 counted 0 [+1 -1 +2] a ready b ready
        exclusive, the state cannot be had
          plugins.a.size 1 → 2 Restart
          plugins.a.state "locked" → – Restart
          a Kept: the old instance goes on: the state is locked
          → #1 value 0 size 1 counted 1 [+1] a ready b ready
        exclusive, the state is not known
          plugins.a.size 1 → 2 Restart
          plugins.a.state – → "newer" Restart
          a Kept: it was started again as it was: could not go on from the state before: version 1 of the state is not known
          → #3 value 0 size 1 counted 1 [+1 -1 +2 -2 +3] a ready b ready
        exclusive, the new one fails
          plugins.a.begin – → "fails" Restart
          plugins.a.size 1 → 2 Restart
          a Kept: it was started again as it was: no disk; mount it
          → #3 value 0 size 1 counted 1 [+1 -1 +3] a ready b ready
    "#]].assert_eq(&said);
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_switched_off_and_on_with_those_that_need_them() {
    let (a, b) = (Twin::new("a").extra(""), Twin::new("b"));
    let needs = |id: &str, of: &str, more: &str| Plug::new(id).provides(says(id, "here")).needs(of, more);
    let host = Host::builder()
        .config(read("[plugins.b]\nenabled = false\n"))
        .plugins([a.candidate(), b.candidate()])
        .plugins([needs("c", "a", ""), needs("d", "c", ""), needs("e", "a", "optional = true"), needs("f", "b", "")])
        .build()
        .unwrap();
    within(host.start(Selection::All)).await;
    let mut said = table(&host);
    for config in ["[plugins.a]\nenabled = false\n", "", "[plugins.nobody]\n", "[plugins]\ncall_timeout_ms = 0\n"] {
        let report = within(host.reload(read(config))).await;
        said += &format!("--- {}\n{}{}", config.trim().replace('\n', " "), shown(&report), table(&host));
        said += &format!("  a: {}, b: {}, d: {}\n", ask(&host, "a").await, ask(&host, "b").await, ask(&host, "d").await);
    }
    expect![[r#"
        a ready
        b disabled: switched off in the configuration
            fix: bespoke config set plugins.b.enabled true
        c ready
        d ready
        e ready
        f failed: needs `b`, which is disabled: switched off in the configuration
            fix: bespoke config set plugins.b.enabled true
        --- [plugins.a] enabled = false
          plugins.a.enabled true → false Live
          plugins.b.enabled false → true Live
          a Stopped
          b Started
          c Stopped: needs `a`, which was stopped
          d Stopped: needs `c`, which was stopped
          f Started
        a disabled: switched off in the configuration
            fix: bespoke config set plugins.a.enabled true
        b ready
        c failed: needs `a`, which was stopped
            fix: bespoke config set plugins.a.enabled true
        d failed: needs `c`, which was stopped
            fix: bespoke config set plugins.c.enabled true
        e ready
        f ready
          a: a: is disabled: switched off in the configuration, b: #1 value 0 size 0 counted 0, d: d: is failed: needs `c`, which was stopped
        --- 
          plugins.a.enabled false → true Live
          a Started
          c Started
          d Started
        a ready
        b ready
        c ready
        d ready
        e ready
        f ready
          a: #2 value 0 size 0 counted 0, b: #1 value 0 size 0 counted 1, d: here
        --- [plugins.nobody]
          bespoke.toml:1:10 plugins.nobody: no plugin of this id is in this program
        a ready
        b ready
        c ready
        d ready
        e ready
        f ready
          a: #2 value 0 size 0 counted 1, b: #1 value 0 size 0 counted 2, d: here
        --- [plugins] call_timeout_ms = 0
          plugins.call_timeout_ms – → 0 Live
          bespoke.toml:2:1 plugins.call_timeout_ms: 0 is no limit
        a ready
        b ready
        c ready
        d ready
        e ready
        f ready
          a: #2 value 0 size 0 counted 2, b: #1 value 0 size 0 counted 3, d: here
    "#]].assert_eq(&said);
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_failed_is_started_again_when_its_configuration_changes() {
    let twin = Twin::new("a");
    let host = running("[plugins.a]\nbegin = 'fails'\n", std::slice::from_ref(&twin)).await;
    assert_eq!(table(&host), "a failed: no disk\n    fix: mount it\n");
    let report = within(host.reload(read("[plugins.a]\nbegin = 'fails'\n"))).await;
    assert_eq!(report, ReloadReport::default(), "nothing has changed, so nothing is tried");
    let report = within(host.reload(read(""))).await;
    assert_eq!(shown(&report), "  plugins.a.begin \"fails\" → – Restart\n  a Started\n");
    assert_eq!(ask(&host, "a").await, "#2 value 0 size 0 counted 0");
}

/// Only the host's own `enabled` is a switch.
#[tokio::test]
async fn a_key_further_down_may_be_called_enabled() {
    let cached = Plug::new("a").tool("x", |_, _| async { Ok(ToolOutput::text("")) });
    let host = Host::builder().config(read("[plugins.a.cache]\nenabled = true\n")).plugins([cached]).build().unwrap();
    within(host.start(Selection::All)).await;
    let report = within(host.reload(read("[plugins.a.cache]\nenabled = false\n"))).await;
    assert_eq!(shown(&report), "  plugins.a.cache.enabled true → false Restart\n  a Swapped\n");
}

/// Whatever is written into its table: what could not run before its values were read does not run because of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_may_not_run_is_not_started_by_a_change_of_its_table() {
    let ran = Journal::default();
    let plug = |id: &'static str| {
        let ran = ran.clone();
        Plug::new(id).provides(says(id, "")).starts(move |_, _| {
            ran.note(id);
            async { Ok(()) }
        })
    };
    let plugs = [
        plug("broken").manifest("id = 'broken'\n"),
        plug("round").needs("trip", ""),
        plug("trip").needs("round", ""),
        plug("missing").needs("nobody", ""),
        plug("old"),
        plug("picky").needs("old", "version = \"^2\""),
    ];
    let host = Host::builder().config(read("")).plugins(plugs).build().unwrap();
    within(host.start(Selection::All)).await;
    let before = table(&host);
    let values: String = ["broken", "round", "trip", "missing", "picky"].map(|id| format!("[plugins.{id}]\nvalue = 1\n")).concat();
    let report = within(host.reload(read(&values))).await;
    assert_eq!(table(&host), before);
    assert_eq!(ran.text(), "old");
    expect![[r#"
          plugins.broken.value – → 1 Restart
          plugins.missing.value – → 1 Restart
          plugins.picky.value – → 1 Restart
          plugins.round.value – → 1 Restart
          plugins.trip.value – → 1 Restart
          broken Failed: test-broken/plugin.toml:1:1: author: it is missing; say who wrote it
        test-broken/plugin.toml:1:1: description: it is missing; say in one line what the plugin is
        test-broken/plugin.toml:1:1: protocol: it is missing; write protocol = "1"
        test-broken/plugin.toml:1:1: tiers: it is missing; list those in which the plugin can ship: compiled, dylib, wasm, process
          missing Failed: needs `nobody`, which is not in this program; build with the feature `nobody`
          picky Failed: needs `old` ^2, but 1.0.0 is here; build with a version of `old` that fits
          round Failed: waits for itself: round → trip → round; take one [[requires]] out of the circle
          trip Failed: waits for itself: trip → round → trip; take one [[requires]] out of the circle
    "#]]
    .assert_eq(&shown(&report));
}

/// Two that failed and are both repaired: the order of their ids is not that of their needs.
#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_started_again_after_what_it_needs() {
    let twin = Twin::new("b");
    let needs = Plug::new("a").provides(says("x", "here")).needs("b", "");
    let config = |b: &str, a: &str| read(&format!("[plugins.b]\n{b}\n[plugins.a]\n{a}\n"));
    let host = Host::builder().config(config("begin = 'fails'", "")).plugins([needs]).plugins([twin.candidate()]).build().unwrap();
    within(host.start(Selection::All)).await;
    assert_eq!((row(&host, "a").state, row(&host, "b").state), (State::Failed, State::Failed));
    let report = within(host.reload(config("", "value = 1"))).await;
    assert_eq!(report.plugins.iter().map(|p| format!("{} {:?}", p.plugin, p.outcome)).collect::<Vec<_>>(), ["a Started", "b Started"]);
    assert_eq!(table(&host), "a ready\nb ready\n");
}

/// A plugin whose every start but the first waits until it is told to go on.
fn waits_from_the_second_start(swap: &str) -> (Plug, Arc<Notify>, Arc<Notify>) {
    let (go, entered, made) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
    let (of_plug, enters) = (go.clone(), entered.clone());
    let plug = Plug::new("a").extra(&format!("swap = \"{swap}\"\n")).starts(move |_, _| {
        let (go, entered, n) = (of_plug.clone(), enters.clone(), made.fetch_add(1, Ordering::SeqCst));
        async move {
            if n > 0 {
                entered.notify_one();
                go.notified().await;
            }
            Ok(())
        }
    });
    (plug, go, entered)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_waiting_for_a_reload_or_a_restart_stops_neither() {
    for (swap, restart) in [("overlap", false), ("exclusive", false), ("overlap", true), ("exclusive", true)] {
        let (plug, go, entered) = waits_from_the_second_start(swap);
        let host = Host::builder().config(read("")).plugins([plug]).build().unwrap();
        within(host.start(Selection::All)).await;
        let mut swapped = host.events().subscribe("plugin_updated", None);
        let work = async {
            if restart {
                host.restart("a").await.unwrap();
            } else {
                host.reload(read("[plugins.a]\nvalue = 1\n")).await;
            }
        };
        tokio::select! {
            () = work => panic!("it waits for the new instance"),
            () = within(entered.notified()) => {}
        }
        go.notify_one();
        assert!(within(swapped.next()).await.unwrap().is_ok(), "{swap} {restart}");
        let again = if restart { "" } else { "[plugins.a]\nvalue = 1\n" };
        assert_eq!(within(host.reload(read(again))).await, ReloadReport::default(), "{swap}: it runs with these values");
        assert_eq!(table(&host), "a ready\n");
        within(host.shutdown()).await;
    }
}

#[tokio::test]
async fn defaults_of_all_plugins_hold_from_the_next_call_on() {
    let twin = Twin::new("a");
    let host = running("", std::slice::from_ref(&twin)).await;
    let report = within(host.reload(read("config_version = 1\n[plugins]\ncall_timeout_ms = 30\n"))).await;
    assert_eq!(shown(&report), "  plugins.call_timeout_ms – → 30 Live\n");
    let slot = host.registry().get::<dyn Tool>("a").unwrap();
    let cx = CallCx::new();
    let waits = slot.call(&cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(json!({ "wait": true }))).await });
    assert_eq!(within(waits).await.unwrap_err().to_string(), "a: no answer within 30 ms");
    assert_eq!(host.config().plugin_defaults().unwrap().call_timeout_ms, 30);
}

#[tokio::test]
async fn sections_of_the_program_are_compared_and_left_to_it() {
    let host = running("[agent]\nsystem = 'a'\nport = 1\n", &[]).await;
    let schema = r#"{ "properties": { "system": { "x-reload": "live" }, "port": { "x-reload": "fixed" }, "x": { "default": 3 } } }"#;
    let new = read("[agent]\nsystem = 'b'\nport = 2\nx = 3\n");
    let changes: Vec<_> = host.diff(&new, &[("agent", schema)]).iter().map(|c| format!("{} {:?}", c.key, c.class)).collect();
    assert_eq!(changes, ["agent.port Fixed", "agent.system Live"]);
    assert!(host.diff(&read("[agent]\nsystem = 'a'\nport = 1\n"), &[("agent", schema)]).is_empty());
}

#[tokio::test]
async fn what_a_change_shows_is_a_reference_and_no_secret() {
    let twin = Twin::new("a");
    let host = running("[plugins.a]\nsecret = '${TOKEN}'\n", std::slice::from_ref(&twin)).await;
    let changes = host.diff(&read("[plugins.a]\nsecret = 'hunter2hunter2 or so'\n"), &[]);
    assert_eq!((changes[0].old.clone(), changes[0].new.clone()), (Some(json!("${TOKEN}")), Some(json!("*** or so"))));
    // The same reference to another value is a change, too.
    let other = read("[plugins.a]\nsecret = '${TOKEN}'\n").with_env([("TOKEN".to_owned(), "another-secret".to_owned())]);
    let report = within(host.reload(other)).await;
    assert_eq!(shown(&report), "  plugins.a.secret \"${TOKEN}\" → \"${TOKEN}\" Live\n  a Applied\n");
    assert_eq!(host.redactor().redact("another-secret"), "***", "and it is known as one");
}

/// Eight callers that never pause, and fifty generations under them.
async fn hammer(twin: Twin) {
    let host = running("[plugins.a]\nsize = 0\n", std::slice::from_ref(&twin)).await;
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (host, over) = (host.clone(), over.clone());
            tokio::spawn(async move {
                let slot = host.registry().get::<dyn Tool>("a").unwrap();
                let mut answered = 0_u32;
                while !over.load(Ordering::SeqCst) {
                    let cx = CallCx::new();
                    let ask = slot.call(&cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(json!({}))).await });
                    ask.await.map_err(|e| e.to_string())?;
                    let outcome = host.hooks().run(&CallCx::new(), BEFORE, || before_run("")).await;
                    if !matches!(outcome, Some(Outcome::Proceed(_))) {
                        return Err(format!("{outcome:?}"));
                    }
                    answered += 1;
                    tokio::task::yield_now().await;
                }
                Ok::<u32, String>(answered)
            })
        })
        .collect();
    for n in 1..=50 {
        let report = within(host.reload(read(&format!("[plugins.a]\nsize = {n}\n")))).await;
        assert_eq!(shown(&report), format!("  plugins.a.size {} → {n} Restart\n  a Swapped\n", n - 1));
    }
    over.store(true, Ordering::SeqCst);
    for caller in callers {
        let answered = within(caller).await.unwrap().unwrap();
        assert!(answered > 0);
    }
    assert!(ask(&host, "a").await.starts_with("#51 value 0 size 50"));
    assert_eq!(row(&host, "a").errors, 0);
    within(host.shutdown()).await;
    let ends = twin.journal.read().iter().filter(|note| note.starts_with('-')).count();
    assert_eq!(ends, 51, "every generation was ended");
    assert_eq!(host.late_threads(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_call_is_lost_in_fifty_swaps_beside_each_other() {
    hammer(Twin::new("a")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_call_is_lost_in_fifty_swaps_of_one_at_a_time() {
    hammer(Twin::new("a").exclusive()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_ends_on_the_generation_that_it_began_on() {
    let twin = Twin::new("a");
    let host = running("[plugins.a]\nsize = 1\n", std::slice::from_ref(&twin)).await;
    let slot = host.registry().get::<dyn Tool>("a").unwrap();
    let waiting = tokio::spawn({
        let slot = slot.clone();
        let wait = || ToolRequest::new(json!({ "wait": true }));
        async move { slot.call(&CallCx::new(), |tool, cx| async move { tool.call(&cx, wait()).await }).await }
    });
    within(twin.entered.notified()).await;
    within(host.reload(read("[plugins.a]\nsize = 2\n"))).await;
    assert!(ask(&host, "a").await.starts_with("#2 value 0 size 2"), "others are served by the new one at once");
    twin.gate.notify_one();
    assert!(within(waiting).await.unwrap().unwrap().to_text().starts_with("#1 value 0 size 1"));
    ended(&twin, 1).await;
    assert_eq!(twin.journal.text(), "+1 +2 -1");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_reloads_at_once_are_one_after_the_other() {
    let twin = Twin::new("a");
    let host = running("[plugins.a]\nsize = 0\n", std::slice::from_ref(&twin)).await;
    let reload = |n: i64| host.reload(read(&format!("[plugins.a]\nsize = {n}\n")));
    let (first, second) = within(async { tokio::join!(reload(1), reload(2)) }).await;
    // Whichever goes first, the other begins where it ended.
    let changed = |from: i64, to: i64| format!("  plugins.a.size {from} → {to} Restart\n  a Swapped\n");
    let (orders, told) = ([(changed(0, 1), changed(1, 2)), (changed(2, 1), changed(0, 2))], (shown(&first), shown(&second)));
    let order = orders.iter().position(|order| *order == told).unwrap_or_else(|| panic!("{told:?}"));
    assert!(ask(&host, "a").await.starts_with(["#3 value 0 size 2", "#3 value 0 size 1"][order]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_a_reload_and_leaves_nothing_running() {
    for twin in [Twin::new("a"), Twin::new("a").exclusive()] {
        let host = running("[plugins]\nstart_timeout_ms = 20000\n[plugins.a]\nsize = 0\n", std::slice::from_ref(&twin)).await;
        let reloading = tokio::spawn({
            let host = host.clone();
            async move { host.reload(read("[plugins]\nstart_timeout_ms = 20000\n[plugins.a]\nsize = 1\nbegin = 'hangs'\n")).await }
        });
        within(async {
            while twin.made.load(Ordering::SeqCst) < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let began = tokio::time::Instant::now();
        within(host.shutdown()).await;
        within(reloading).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "the limit of the start was not waited for");
        assert_eq!((row(&host, "a").state, twin.journal.text().as_str()), (State::Stopped, "+1 -1"));
        // And a reload after it changes nothing that runs.
        let report = within(host.reload(read("[plugins.a]\nsize = 3\n"))).await;
        assert!(report.plugins.iter().all(|p| p.reason.as_deref() == Some("the host is being shut down")), "{report:?}");
        assert_eq!(twin.journal.text(), "+1 -1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_and_published_names_are_those_of_the_new_generation() {
    let twin = Twin::new("a");
    let host = running("[plugins.a]\npublish = ['one', 'two']\n", std::slice::from_ref(&twin)).await;
    let slot = host.registry().get::<dyn Tool>("two").unwrap();
    let turn = async || within(host.hooks().run(&CallCx::new(), BEFORE, || before_run(""))).await.unwrap();
    assert!(matches!(turn().await, Outcome::Proceed(_)));
    let report = within(host.reload(read("[plugins.a]\npublish = ['two', 'three']\nveto = true\n"))).await;
    assert_eq!(report.plugins.len(), 1);
    assert!(matches!(turn().await, Outcome::Vetoed { reason, .. } if reason == "#2 says no"));
    assert_eq!(host.registry().names(bespoke_plugin_api::Kind::Tool), ["a", "three", "two"]);
    let cx = CallCx::new();
    let again = slot.call(&cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(json!({}))).await });
    assert_eq!(within(again).await.unwrap().to_text(), "published", "whoever held a name that stays goes on with it");
    // Dependents, too, go on: they hold slots.
    within(host.restart("a")).await.unwrap();
    assert!(ask(&host, "a").await.starts_with("#3"));
    assert_eq!(within(host.restart("b")).await.unwrap_err().to_string(), "no plugin `b`");
}
