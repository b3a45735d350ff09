//! A plugin in a folder, as the host sees it: what it contributes, and an instance of its component for each start.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bespoke_host::{Artifact, Grounds, PluginFolder, Terms};
use bespoke_manifest::Permissions;
use bespoke_plugin_api::{BoxFuture, Code as ErrorCode, Error, HostApi, Instance, PluginContext, Result, Spec, serde_json::Value};
use bespoke_plugin_proxy::{Inline, Proxy, StartOptions};
use bespoke_tier::{Asker, declared, start};

use crate::{
    code::{self, Code},
    guest::Guest,
    hosted::Hosted,
    life::WasmLife,
    limits::{Gauge, Limits},
    wasi,
};

/// Components from this size on take long enough to compile that somebody should be told.
const LARGE: u64 = 4 << 20;

/// A plugin that runs as a wasm component.
#[derive(Clone)]
pub struct WasmPlugin(Arc<Inner>);

impl std::fmt::Debug for WasmPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WasmPlugin").field(&self.0.file).finish()
    }
}

struct Inner {
    folder: PluginFolder,
    grounds: Grounds,
    limits: Limits,
    file: PathBuf,
    /// Whether its manifest asks for WASI.
    wasi: bool,
    /// The code that was used last: the next start finds it without reading the cache.
    last: Mutex<Option<Arc<Code>>>,
}

impl WasmPlugin {
    /// The plugin in a folder. Looks at nothing yet.
    ///
    /// # Errors
    /// `LOAD_FAILED` when its manifest names no component.
    pub fn new(folder: &PluginFolder, grounds: &Grounds) -> Result<Self> {
        Self::with_limits(folder, grounds, Limits::default())
    }

    /// The same, with other limits where the manifest and the configuration say nothing.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_limits(folder: &PluginFolder, grounds: &Grounds, limits: Limits) -> Result<Self> {
        let Some(component) = &folder.manifest.wasm else {
            let error = Error::new(ErrorCode::LOAD_FAILED, "its manifest does not say which file the component is");
            return Err(error.with_help("write [wasm] file = \"plugin.wasm\" into plugin.toml"));
        };
        if component.wasi && !wasi::HERE {
            let error =
                Error::new(ErrorCode::LOAD_FAILED, "its manifest asks for WASI (wasi = true under [wasm]), which is not in this program");
            return Err(error.with_help(grounds.build_with(&["wasi"])));
        }
        let file = folder.path.join(&component.file);
        let (folder, grounds, wasi) = (folder.clone(), grounds.clone(), component.wasi);
        Ok(WasmPlugin(Arc::new(Inner { folder, grounds, limits, file, wasi, last: Mutex::default() })))
    }
}

impl Artifact for WasmPlugin {
    fn look(&self) -> Result<()> {
        code::look(&self.0.file, &self.0.folder.path, self.0.limits.artifact)
    }

    /// Compiles it, unless that was done before: a start has little time.
    fn prepare(&self, tell: &dyn Fn(&str)) -> Result<()> {
        let inner = &self.0;
        let large = std::fs::metadata(&inner.file).is_ok_and(|meta| meta.len() >= LARGE);
        if large && inner.last().is_none() {
            tell(&format!("{} is large; where it was not compiled before, that may take a minute", inner.id()));
        }
        runtime()?.block_on(inner.code()).map(drop)
    }

    /// From what it said before, as long as nothing in its folder has changed. Otherwise an instance is made and asked, which has nothing and
    /// nobody; it ends when it has answered.
    fn declare(&self, terms: &Terms) -> Result<Vec<Spec>> {
        let inner = self.0.clone();
        let id = inner.id();
        let place = declared::stamp(&inner.file)
            .and_then(|stamp| declared::place(&inner.grounds.cache, id, &inner.folder.path, &[b"wasm", &stamp]));
        let (asking, terms) = (inner.clone(), terms.clone());
        declared::or_ask(place, id, move || asking.ask(&terms))
    }

    /// The host itself checks the schemas of our own dialect, and a component has no other.
    fn check(&self, _config: &Value) -> Result<()> {
        Ok(())
    }

    fn start(&self, cx: PluginContext, config: Value, terms: Terms) -> BoxFuture<'static, Result<Instance>> {
        let inner = self.0.clone();
        Box::pin(async move { inner.start(cx, config, terms).await })
    }
}

impl Inner {
    fn id(&self) -> &str {
        &self.folder.manifest.id
    }

    async fn code(&self) -> Result<Arc<Code>> {
        let code = code::load(&self.file, &self.folder.path, self.wasi, &self.grounds.cache, &self.limits).await?;
        *self.last() = Some(code.clone());
        Ok(code)
    }

    fn last(&self) -> MutexGuard<'_, Option<Arc<Code>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an instance only to ask what the plugin contributes.
    fn ask(&self, terms: &Terms) -> Result<Vec<Spec>> {
        let begun = Instant::now();
        runtime()?.block_on(async {
            let code = self.code().await?;
            let host: Arc<dyn HostApi> = Arc::new(Asker::new(self.id()));
            let made = make(&code, host, self.limits.under(&terms.limits), Arc::default(), &Permissions::default())?;
            let limit = start::limit(terms);
            let left = limit.saturating_sub(begun.elapsed());
            let hello = match tokio::time::timeout(left, made.proxy.describe(self.id())).await {
                Ok(hello) => hello,
                Err(_) => Err(start::too_slow("did not say hello", limit, None)),
            };
            Ok(hello.map_err(|e| start::not_up(e, ErrorCode::LOAD_FAILED, self.id()))?.specs)
        })
    }

    async fn start(&self, cx: PluginContext, config: Value, terms: Terms) -> Result<Instance> {
        let begun = Instant::now();
        let code = self.code().await?;
        let limits = self.limits.under(&terms.limits);
        let gauge = Arc::<Gauge>::default();
        let Made { proxy, handle } = make(&code, cx.host().clone(), limits, gauge.clone(), &terms.granted)?;
        let manifest = &self.folder.manifest;
        // Paths are of no use to it: it cannot open them. It is told of models and runtimes all the same, so that it can say what is missing.
        let files = manifest.models.iter().map(|model| model.file.clone()).collect();
        let options = StartOptions::new(self.id(), config).models(files).runtimes(manifest.runtimes.clone());
        let limit = start::limit(&terms);
        let started = match tokio::time::timeout(limit.saturating_sub(begun.elapsed()), proxy.start(options)).await {
            Ok(started) => started,
            Err(_) => Err(start::too_slow("did not start", limit, None)),
        };
        match started {
            Ok(Instance { contributions, life }) => {
                let life = Arc::new(WasmLife::new(life, handle, limits, gauge, &code));
                Ok(Instance { contributions, life })
            }
            Err(error) => {
                handle.end(error.clone());
                Err(start::not_up(error, ErrorCode::INITIALIZE_FAILED, self.id()))
            }
        }
    }
}

/// For a thread without one.
fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.map_err(|e| Error::new(ErrorCode::RESOURCE_EXHAUSTED, format!("no runtime to compile the plugin or ask it: {e}")))
}

struct Made {
    proxy: Proxy,
    handle: Arc<Inline<Guest>>,
}

/// An instance, and the task that goes on with its steps.
fn make(code: &Arc<Code>, host: Arc<dyn HostApi>, limits: Limits, gauge: Arc<Gauge>, granted: &Permissions) -> Result<Made> {
    let host: Arc<dyn HostApi> = Arc::new(Hosted::new(host));
    let own = host.clone();
    let (proxy, handle) = Inline::start(host, |mailbox, _| Ok(Guest::new(code.clone(), own, mailbox, limits, gauge, granted)))?;
    let handle = Arc::new(handle);
    let (pump, unless_over) = (handle.pump(), Orphaned(Some(handle.clone())));
    tokio::spawn(async move {
        let mut unless_over = unless_over;
        pump.await;
        unless_over.0 = None;
    });
    Ok(Made { proxy, handle })
}

/// An instance whose runtime ends is ended with it: nobody would go on with its steps.
struct Orphaned(Option<Arc<Inline<Guest>>>);

impl Drop for Orphaned {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.end(Error::new(ErrorCode::PLUGIN_CRASHED, "the runtime that it was started on has ended").retryable());
        }
    }
}
