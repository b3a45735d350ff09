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
use bespoke_tier::{Asker, declared, start};

use crate::{
    copies,
    instance::Stepped,
    life::DylibLife,
    thread::{self, Opened},
};

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
    fn look(&self) -> Result<()> {
        copies::look(&self.0.file, &self.0.folder.path)
    }

    /// From what it said before, as long as nothing in its folder has changed; only then without loading it. To ask it, an instance is
    /// opened that is not started.
    fn declare(&self, terms: &Terms) -> Result<Vec<Spec>> {
        let inner = self.0.clone();
        inner.may_run(terms)?;
        let id = inner.id();
        let place = declared::place(&inner.grounds.cache, id, &inner.folder.path, &[b"dylib"]);
        let (asking, limit) = (inner.clone(), start::limit(terms));
        declared::or_ask(place, id, move || asking.ask(limit))
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
        let copy = copies::load(&self.file, &self.folder.path, &self.grounds.cache, self.id())?;
        let opened = thread::open(&copy, self.id(), host).map_err(|e| start::with_logs(e, self.id()))?;
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
                Err(_) => Err(start::too_slow("did not say hello", limit, None)),
            };
            Ok(hello.map_err(|e| start::not_up(e, Code::LOAD_FAILED, self.id()))?.specs)
        })
    }

    async fn start(self: Arc<Self>, cx: PluginContext, config: Value, terms: &Terms) -> Result<Instance> {
        let manifest = &self.folder.manifest;
        let limit = start::limit(terms);
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
            Err(_) => Err(start::too_slow("did not start", limit, None)),
        };
        let Instance { contributions, life: plugin } = started.map_err(|e| start::not_up(e, Code::INITIALIZE_FAILED, self.id()))?;
        let Some(inline) = unless_up.0.take() else { return Err(Error::internal("the instance was ended")) };
        let life = Arc::new(DylibLife { plugin, inline, closed, copy });
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
