//! A plugin in a folder with a library, as the host sees it: what it contributes, and an instance for each start. Whether it may be loaded
//! at all is the host's: it asks for neither before the user has allowed it.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bespoke_host::{Artifact, Grounds, PluginFolder, Sandbox, Terms};
use bespoke_plugin_api::{BoxFuture, Code, Error, HostApi, Instance, PluginContext, Result, Spec, serde_json::Value};
use bespoke_plugin_proxy::{Inline, StartOptions};
use bespoke_tier::{Asker, declared};

use crate::{
    copies,
    instance::Stepped,
    life::DylibLife,
    thread::{self, Opened},
};

/// How long a start may take where the host does not say, and how long a plugin has to say what it contributes.
const START: Duration = Duration::from_secs(10);

/// A plugin that runs in a library inside this program.
#[derive(Debug, Clone)]
pub struct DylibPlugin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PluginFolder,
    grounds: Grounds,
    file: PathBuf,
}

impl DylibPlugin {
    /// The plugin in a folder. Looks at nothing yet.
    ///
    /// # Errors
    /// `LOAD_FAILED` when its manifest names no library.
    pub fn new(folder: &PluginFolder, grounds: &Grounds) -> Result<Self> {
        let Some(library) = &folder.manifest.dylib else {
            let message = format!("{}: it does not say which library it is", folder.manifest.path);
            let help = format!("bespoke plugin build {} --tier dylib", folder.path.display());
            return Err(Error::new(Code::LOAD_FAILED, message).with_help(help));
        };
        let file = folder.path.join(&library.file);
        Ok(DylibPlugin(Arc::new(Inner { folder: folder.clone(), grounds: grounds.clone(), file })))
    }
}

impl Artifact for DylibPlugin {
    /// From what it said before, as long as nothing in its folder has changed; only then without loading it. To ask it, an instance is
    /// opened that is not started.
    fn declare(&self, terms: &Terms) -> Result<Vec<Spec>> {
        let inner = self.0.clone();
        inner.may_run(terms)?;
        let id = inner.id();
        let place = declared::place(&inner.grounds.cache, id, &inner.folder.path, &[b"dylib"]);
        if let Some(specs) = place.as_deref().and_then(declared::read) {
            return Ok(specs);
        }
        let limit = inner.limit(terms);
        let asking = inner.clone();
        // On a thread of its own: the caller's may belong to a runtime, which does not wait inside itself.
        let asked = std::thread::Builder::new().name(format!("ask-{id}")).spawn(move || asking.ask(limit));
        let asked = asked.map_err(|e| Error::new(Code::RESOURCE_EXHAUSTED, format!("no thread to ask the plugin: {e}")))?;
        let specs = asked.join().unwrap_or_else(|_| Err(Error::internal("the thread that asked the plugin panicked")))?;
        if let Some(place) = place {
            declared::keep(&place, &specs);
        }
        Ok(specs)
    }

    /// By its schema, which the host has done; the rest its start says.
    fn check(&self, _: &Value) -> Result<()> {
        Ok(())
    }

    fn start(&self, cx: PluginContext, config: Value, terms: Terms) -> BoxFuture<'static, Result<Instance>> {
        let inner = self.0.clone();
        Box::pin(async move {
            inner.may_run(&terms)?;
            inner.start(cx, config, &terms).await
        })
    }
}

impl Inner {
    fn id(&self) -> &str {
        &self.folder.manifest.id
    }

    /// Whoever requires a wall gets none here.
    fn may_run(&self, terms: &Terms) -> Result<()> {
        if terms.sandbox != Sandbox::Required {
            return Ok(());
        }
        let message = "its sandbox is required, and nothing holds a library: it is code inside this program";
        let help = format!("bespoke config set plugins.{}.sandbox auto; or take a build of it for another tier", self.id());
        Err(Error::new(Code::PERMISSION_DENIED, message).with_help(help))
    }

    fn open(&self, host: Arc<dyn HostApi>) -> Result<(Arc<copies::Copy>, Opened)> {
        let copy = copies::load(&self.file, &self.grounds.cache, self.id())?;
        let opened = thread::open(&copy, self.id(), host)?;
        Ok((copy, opened))
    }

    /// Opens an instance only to ask what the plugin contributes.
    fn ask(&self, limit: Duration) -> Result<Vec<Spec>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|e| Error::new(Code::RESOURCE_EXHAUSTED, format!("no runtime to ask the plugin: {e}")))?;
        runtime.block_on(async {
            // What loading it takes counts, as it does for the host.
            let until = Instant::now() + limit;
            let (_, opened) = self.open(Arc::new(Asker::new(self.id())))?;
            let hello = match tokio::time::timeout_at(until.into(), opened.proxy.describe(self.id())).await {
                Ok(hello) => hello,
                Err(_) => Err(too_slow("did not say hello", limit)),
            };
            Ok(hello.map_err(|e| not_up(&e, Code::LOAD_FAILED))?.specs)
        })
    }

    /// How long a start may take: a little less than the host waits, so that it is this that ends it, and says why.
    fn limit(&self, terms: &Terms) -> Duration {
        let limit = terms.limits.start_timeout_ms.map_or(START, |ms| Duration::from_millis(ms.into()));
        limit - (limit / 10).min(Duration::from_millis(500))
    }

    async fn start(self: Arc<Self>, cx: PluginContext, config: Value, terms: &Terms) -> Result<Instance> {
        let manifest = &self.folder.manifest;
        let limit = self.limit(terms);
        let until = Instant::now() + limit;
        let (copy, opened) = self.open(cx.host().clone())?;
        let Opened { proxy, inline, closed } = opened;
        // Also when nobody waits for the start any more.
        let mut unless_up = Ends(Some(inline));
        let options = StartOptions::new(self.id(), config)
            .data_dir(cx.data_dir().cloned())
            .cpu_budget(cx.cpu_budget())
            .models(manifest.models.iter().map(|model| model.file.clone()).collect())
            .runtimes(manifest.runtimes.clone());
        let started = match tokio::time::timeout_at(until.into(), proxy.start(options)).await {
            Ok(started) => started,
            Err(_) => Err(too_slow("did not start", limit)),
        };
        let Instance { contributions, life: plugin } = started.map_err(|e| not_up(&e, Code::INITIALIZE_FAILED))?;
        let Some(inline) = unless_up.0.take() else { return Err(Error::internal("the instance was ended")) };
        let life = Arc::new(DylibLife { plugin, inline, closed, copy, file: self.file.clone() });
        Ok(Instance { contributions, life })
    }
}

/// Ends an instance whose start came to nothing.
struct Ends(Option<Inline<Stepped>>);

impl Drop for Ends {
    fn drop(&mut self) {
        if let Some(inline) = self.0.take() {
            inline.end(Error::new(Code::PLUGIN_CRASHED, "its start came to nothing").retryable());
        }
    }
}

/// A plugin that ends before it serves has not crashed: it does not start.
fn not_up(error: &Error, code: Code) -> Error {
    if error.code() == Code::PLUGIN_CRASHED { Error::new(code, error.message()) } else { error.clone() }
}

fn too_slow(what: &str, limit: Duration) -> Error {
    let message = format!("{what} within {:.1} s, and was ended", limit.as_secs_f64());
    Error::new(Code::INITIALIZE_FAILED, message)
        .with_help("raise start_timeout_ms under [resources] in its manifest, or plugins.start_timeout_ms")
}
