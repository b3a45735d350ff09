//! A plugin in a folder, as the host sees it: what it contributes, whether a configuration fits, and a process for each start.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bespoke_host::{Artifact, Grounds, PluginFolder, Sandbox, Terms};
use bespoke_manifest::{Dialect, Permissions, Run};
use bespoke_plugin_api::{BoxFuture, Code, Error, HostApi, Instance, PluginContext, Result, Spec, serde_json::Value};
use bespoke_plugin_proxy::StartOptions;
use bespoke_tier::{Asker, declared, start};

use crate::{
    child::Launch,
    life::ProcessLife,
    program::Program,
    pump::{self, Handle},
    python,
    schema::Schema,
    watch::Patience,
};

/// How long a child that failed has to go before its failure is told.
const GONE: Duration = Duration::from_secs(1);

/// A plugin that runs in a process of its own.
#[derive(Debug, Clone)]
pub struct ProcessPlugin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PluginFolder,
    grounds: Grounds,
    patience: Patience,
    schema: OnceLock<Result<Option<Schema>>>,
}

impl ProcessPlugin {
    /// The plugin in a folder. Looks at nothing yet.
    pub fn new(folder: &PluginFolder, grounds: &Grounds) -> Self {
        Self::with_patience(folder, grounds, Patience::default())
    }

    /// The same, with another idea of how long is too long.
    pub fn with_patience(folder: &PluginFolder, grounds: &Grounds, patience: Patience) -> Self {
        let schema = OnceLock::new();
        ProcessPlugin(Arc::new(Inner { folder: folder.clone(), grounds: grounds.clone(), patience, schema }))
    }
}

impl Artifact for ProcessPlugin {
    fn look(&self) -> Result<()> {
        Program::look(&self.0.folder)
    }

    fn prepare(&self, tell: &dyn Fn(&str)) -> Result<()> {
        let inner = &self.0;
        // Whatever else is wrong, its start says.
        if !inner.grounds.install_dependencies || python::interpreter().is_err() {
            return Ok(());
        }
        match Program::find(&inner.folder, &inner.grounds) {
            Err(error) if error.code() == Code::DEPENDENCY_MISSING => {
                tell(&format!("{} {}; they are installed now, which may take minutes", inner.id(), error.message()));
                inner.install()
            }
            _ => Ok(()),
        }
    }

    /// From what it said before, as long as nothing in its folder has changed. Otherwise a process is started and asked, behind a wall
    /// that grants nothing: to say what it contributes it needs nothing. It ends when it has answered.
    fn declare(&self, terms: &Terms) -> Result<Vec<Spec>> {
        let inner = self.0.clone();
        let program = Program::find(&inner.folder, &inner.grounds)?;
        let id = inner.id();
        let stamp = declared::stamp(program.path());
        let place = stamp.and_then(|stamp| {
            let besides = [python::sdk_digest().as_bytes(), program.path().as_os_str().as_encoded_bytes(), &stamp];
            declared::place(&inner.grounds.cache, id, &inner.folder.path, &besides)
        });
        let (asking, terms, limit) = (inner.clone(), bare(terms), start::limit(terms));
        declared::or_ask(place, id, move || {
            let launch = program.launch(&asking.folder, &asking.grounds, None, &[], &terms)?;
            asking.ask(launch, limit)
        })
    }

    fn check(&self, config: &Value) -> Result<()> {
        match self.0.schema.get_or_init(|| self.0.read_schema()) {
            Ok(Some(schema)) => schema.check(config),
            Ok(None) => Ok(()),
            Err(e) => Err(e.clone()),
        }
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

    /// For Python, an environment with its packages.
    fn install(&self) -> Result<()> {
        let Some(process) = self.folder.manifest.process.as_ref().filter(|process| matches!(process.run, Run::Python(_))) else {
            return Ok(());
        };
        let interpreter = python::interpreter()?;
        let requirements = python::requirements(&self.folder.path, &process.requirements)?;
        python::install(&interpreter, &requirements, self.id(), &self.grounds, self.patience.install)
    }

    /// That of a foreign manifest, which may say anything that a schema can. The host itself checks those of our own dialect.
    fn read_schema(&self) -> Result<Option<Schema>> {
        let manifest = &self.folder.manifest;
        match &manifest.config_schema {
            Some(schema) if manifest.dialect != Dialect::Native => Schema::new(schema).map(Some),
            _ => Ok(None),
        }
    }

    /// Starts a process only to ask what the plugin contributes.
    fn ask(&self, launch: Launch, limit: Duration) -> Result<Vec<Spec>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|e| Error::new(Code::RESOURCE_EXHAUSTED, format!("no runtime to ask the plugin: {e}")))?;
        runtime.block_on(async {
            let host: Arc<dyn HostApi> = Arc::new(Asker::new(self.id()));
            let (proxy, handle) = pump::start(self.id(), launch, host, self.patience).await?;
            let hello = match tokio::time::timeout(limit, proxy.describe(self.id())).await {
                Ok(hello) => hello,
                Err(_) => Err(too_slow("did not say hello", limit, &handle)),
            };
            handle.outbox.kill();
            handle.gone(GONE).await;
            Ok(hello.map_err(|e| start::not_up(e, Code::LOAD_FAILED, self.id()))?.specs)
        })
    }

    async fn start(self: Arc<Self>, cx: PluginContext, config: Value, terms: Terms) -> Result<Instance> {
        let manifest = &self.folder.manifest;
        let program = Program::find(&self.folder, &self.grounds)?;
        let files: Vec<String> = manifest.models.iter().map(|model| model.file.clone()).collect();
        // Those that are missing are told to the plugin, which may do without.
        let mut reads: Vec<PathBuf> = files.iter().filter_map(|file| cx.model(file).ok()).collect();
        let packs = manifest.runtimes.iter().filter_map(|spec| cx.runtime(spec).ok());
        reads.extend(packs.flat_map(|pack| std::iter::once(pack.folder).chain(pack.preload)));
        let data = cx.data_dir().cloned();
        let launch = program.launch(&self.folder, &self.grounds, data.as_deref(), &reads, &terms)?;
        let wall = wall(&launch, &terms);
        let (proxy, handle) = pump::start(self.id(), launch, cx.host().clone(), self.patience).await?;
        // Also when nobody waits for the start any more.
        let mut unless_up = Kills(Some(handle.clone()));
        let options = StartOptions::new(self.id(), config)
            .data_dir(data)
            .cpu_budget(cx.cpu_budget())
            .models(files)
            .runtimes(manifest.runtimes.clone());
        let limit = start::limit(&terms);
        let started = match tokio::time::timeout(limit, proxy.start(options)).await {
            Ok(started) => started,
            Err(_) => Err(too_slow("did not start", limit, &handle)),
        };
        match started {
            Ok(Instance { contributions, life }) => {
                unless_up.0 = None;
                let life = Arc::new(ProcessLife { plugin: life, handle, wall, patience: self.patience });
                Ok(Instance { contributions, life })
            }
            Err(error) => {
                drop(unless_up);
                handle.gone(GONE).await;
                Err(start::not_up(error, Code::INITIALIZE_FAILED, self.id()))
            }
        }
    }
}

/// Ends a process whose start came to nothing.
struct Kills(Option<Handle>);

impl Drop for Kills {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.outbox.kill();
        }
    }
}

fn too_slow(what: &str, limit: Duration, handle: &Handle) -> Error {
    start::too_slow(what, limit, handle.last.last().as_deref())
}

/// The same terms with nothing granted.
fn bare(terms: &Terms) -> Terms {
    let mut bare = terms.clone();
    bare.granted = Permissions::default();
    bare
}

/// What is around a process, in words.
fn wall(launch: &Launch, terms: &Terms) -> String {
    match (&launch.wall, terms.sandbox) {
        (None, _) => "none: its process is not supervised".to_owned(),
        (Some(_), Sandbox::Off) => "off, as it is configured; supervised".to_owned(),
        (Some((_, policy)), _) => {
            let missing: Vec<_> = bespoke_sandbox::missing(policy).into_iter().map(|part| part.part.name()).collect();
            if missing.is_empty() { "enforced".to_owned() } else { format!("in part; this machine lacks {}", missing.join(", ")) }
        }
    }
}
