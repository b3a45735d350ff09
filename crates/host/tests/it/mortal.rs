//! A plugin that can end by itself, keeps a count from one instance to the next, and says which instance answered.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use bespoke_host::{Artifact, Candidate, Terms, Tier};
use bespoke_manifest::{Inherited, Manifest};
use bespoke_plugin_api::{
    BoxFuture, CallCx, CancelToken, Code, Contribution, Error, Facts, Health, Instance, Life, PluginContext, Reload, Result, Spec,
    State as Captured, ToolOutput,
    serde_json::{Value, json},
};

use crate::kit::tool;

/// The plugin, and what the test sees of it.
#[derive(Clone)]
pub(crate) struct Mortal(Arc<Inner>);

pub(crate) struct Inner {
    id: String,
    tools: Vec<String>,
    extra: String,
    /// Instances so far.
    pub(crate) made: AtomicUsize,
    /// Instances that were shut down.
    pub(crate) ended: AtomicUsize,
    /// Whether starts fail.
    pub(crate) fails: AtomicBool,
    /// Whether the state of another is refused.
    pub(crate) stubborn: AtomicBool,
    /// Ends the instance that runs.
    die: Mutex<CancelToken>,
}

impl std::ops::Deref for Mortal {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Mortal {
    pub(crate) fn new(id: &str) -> Self {
        Self::with(id, &[id], "")
    }

    /// With these tools, and more lines before the tables of its manifest.
    pub(crate) fn with(id: &str, tools: &[&str], extra: &str) -> Self {
        Mortal(Arc::new(Inner {
            id: id.into(),
            tools: tools.iter().map(|t| (*t).to_owned()).collect(),
            extra: extra.into(),
            made: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
            stubborn: AtomicBool::new(false),
            die: Mutex::default(),
        }))
    }

    pub(crate) fn dies(&self) {
        self.die.lock().unwrap().cancel();
    }

    pub(crate) fn instances(&self) -> (usize, usize) {
        (self.made.load(Ordering::SeqCst), self.ended.load(Ordering::SeqCst))
    }

    pub(crate) fn candidate(&self) -> Candidate {
        let provides: String = self.tools.iter().map(|t| format!("[[provides]]\nkind = \"tool\"\nname = \"{t}\"\n")).collect();
        let text = format!(
            "id = \"{}\"\ndescription = \"A test.\"\nauthor = \"The example authors\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n{}{provides}",
            self.id, self.extra
        );
        let inherited = Inherited { version: "1.0.0", license: "MIT" };
        Candidate {
            id: self.id.clone(),
            tier: Tier::Compiled,
            origin: format!("test-{}", self.id),
            manifest: Manifest::parse("plugin.toml", &text, Some(inherited)).map(Arc::new).map_err(Error::from),
            config_schema: json!({ "properties": { "greeting": { "type": "string", "default": "hello" } }, "additionalProperties": false })
                .to_string(),
            artifact: Arc::new(self.clone()),
        }
    }

    fn contributions(&self, one: &Arc<One>) -> Vec<Contribution> {
        let tools = self.tools.iter().map(|name| {
            let (one, name) = (one.clone(), name.clone());
            tool(&name.clone(), move |_, _| {
                let (one, name) = (one.clone(), name.clone());
                async move {
                    if one.gone.is_cancelled() {
                        return Err(Error::new(Code::PLUGIN_CRASHED, "gone").retryable());
                    }
                    tokio::task::yield_now().await;
                    let count = one.count.fetch_add(1, Ordering::SeqCst);
                    Ok(ToolOutput::text(format!("{} {} #{} {name} {count}", one.greeting, one.of.id, one.n)))
                }
            })
        });
        tools.collect()
    }
}

impl Artifact for Mortal {
    fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
        let one = One { of: self.clone(), n: 0, greeting: String::new(), count: AtomicU64::new(0), gone: CancelToken::new() };
        Ok(self.contributions(&Arc::new(one)).iter().map(Contribution::spec).collect())
    }

    fn check(&self, _: &Value) -> Result<()> {
        Ok(())
    }

    fn start(&self, _: PluginContext, config: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
        let this = self.clone();
        Box::pin(async move {
            let n = this.made.fetch_add(1, Ordering::SeqCst) + 1;
            if this.fails.load(Ordering::SeqCst) {
                this.ended.fetch_add(1, Ordering::SeqCst);
                return Err(Error::new(Code::INITIALIZE_FAILED, "the disk is full"));
            }
            let gone = CancelToken::new();
            *this.die.lock().unwrap() = gone.clone();
            let greeting = config["greeting"].as_str().unwrap_or("hello").to_owned();
            let one = Arc::new(One { of: this.clone(), n, greeting, count: AtomicU64::new(0), gone });
            Ok(Instance { contributions: this.contributions(&one), life: one })
        })
    }
}

/// One instance.
struct One {
    of: Mortal,
    n: usize,
    greeting: String,
    count: AtomicU64,
    gone: CancelToken,
}

impl Life for One {
    fn health(&self) -> Health {
        Health::Ok
    }

    fn facts(&self) -> Facts {
        Facts::new()
    }

    fn reconfigure(&self, _: Value) -> BoxFuture<'_, Result<Reload>> {
        Box::pin(async { Ok(Reload::Restart) })
    }

    fn capture_state(&self) -> BoxFuture<'_, Result<Option<Captured>>> {
        Box::pin(async { Ok(Some(Captured::new(1, self.count.load(Ordering::SeqCst).to_le_bytes().to_vec()))) })
    }

    fn restore_state(&self, state: Captured) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.of.stubborn.load(Ordering::SeqCst) {
                return Err(Error::internal("this state is not mine"));
            }
            self.count.store(u64::from_le_bytes(state.bytes[..].try_into().unwrap()), Ordering::SeqCst);
            Ok(())
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.of.ended.fetch_add(1, Ordering::SeqCst);
        })
    }

    fn ended(&self) -> BoxFuture<'static, Error> {
        let gone = self.gone.clone();
        Box::pin(async move {
            gone.cancelled().await;
            Error::new(Code::PLUGIN_CRASHED, "exit code 3; its last line: no more").retryable()
        })
    }

    fn invoke<'a>(&'a self, _: &'a CallCx, method: &'a str, args: Value) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            match method {
                // Who calls it so has passed by hooks and schema.
                "call" => Ok("around the guards".into()),
                "reverse" => Ok(args["text"].as_str().unwrap_or_default().chars().rev().collect::<String>().into()),
                _ => Err(Error::unsupported(method)),
            }
        })
    }
}
