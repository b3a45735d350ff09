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

mod calls;
mod changes;
mod side_by_side;
mod switches;

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
