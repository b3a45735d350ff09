//! The plugin `silero`: finds the model, chooses the engine, says which one runs and why.

use std::path::PathBuf;
use std::sync::Arc;

use bespoke_onnx::{Device, NoCuda, OnnxError, Pack, Places};
use bespoke_plugin_api::{
    Code, Duplex, Error, Facts, Health, Level, Plugin, PluginApi, PluginContext, Reload, Result, Vad, VadEvent, VadOptions, VadSpec,
};

use crate::stream::{LiveOptions, Stream};
use crate::{Config, EngineChoice, EngineError, EngineKind, Engines, Model, ModelError, Rate, Wanted};

/// The file in the manifest.
#[cfg(not(feature = "bundled"))]
const MODEL_FILE: &str = "silero_vad.onnx";

/// What brings ONNX Runtime with CUDA.
const INSTALL_CUDA: &str = "bespoke plugin install onnx:cuda";

/// One instance, with its model loaded.
pub struct Silero {
    cx: PluginContext,
    engines: Engines,
    live: Arc<LiveOptions>,
    sample_rate: Option<u32>,
    /// Where the model came from.
    source: String,
    /// Where the configuration wants it to run.
    device: Device,
    /// What was asked for and does not run, so that something else does.
    degraded: Option<String>,
}

impl Plugin for Silero {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.vad(VadSpec::new("silero"), |silero| Arc::new(Detector(silero.clone())));
    }

    /// A library that somebody named goes before every pack.
    fn uses_runtime(config: &Config, runtime: &str) -> bool {
        let named = config.onnxruntime.is_some() || std::env::var_os(bespoke_onnx::LIBRARY_VAR).is_some_and(|value| !value.is_empty());
        config.engine != EngineChoice::Builtin && !named && (runtime != "onnx:cuda" || Device::from(config.device) != Device::Cpu)
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        let live = Arc::new(LiveOptions::new(config.speech()?));
        let place = place(&cx, config.model_file)?;
        let source = place.to_string();
        let (choice, device, device_required) = (config.engine, Device::from(config.device), config.device_required);
        let asked = cx.clone();
        // Reading, checking and laying out the model takes tens of milliseconds, and a library may take longer.
        let (engines, named) = cx
            .blocking(move || {
                let places = places(&asked, config.onnxruntime);
                let named = places.any_named();
                let engines = make(&place, &Wanted { engine: choice, device, device_required, places })?;
                Ok::<_, Error>((engines, named))
            })
            .await??;
        let no_cuda = engines.no_cuda().filter(|_| device == Device::Cuda);
        let degraded = if let Some(why) = no_cuda {
            let engine = engines.kind().name();
            let message = format!("device = \"cuda\" does not run: {why}; the engine {engine} runs on the processor");
            cx.log(Level::Warn, &message);
            Some(message)
        } else {
            (choice == EngineChoice::Auto && named && engines.kind() == EngineKind::Builtin)
                .then(|| format!("the ONNX Runtime library that was named or installed does not run; {}", engines.reason()))
        };
        Ok(Silero { cx, engines, live, sample_rate: config.sample_rate, source, device, degraded })
    }

    async fn reconfigure(&self, new: Config) -> Result<Reload> {
        self.live.set(new.speech()?);
        Ok(Reload::Applied)
    }

    fn health(&self) -> Health {
        self.degraded.clone().map_or(Health::Ok, Health::Degraded)
    }

    fn facts(&self) -> Facts {
        let Self { engines, source, .. } = self;
        let model = engines.model();
        let mut facts = Facts::from([
            ("engine".into(), engines.kind().name().into()),
            ("engine_reason".into(), engines.reason().into()),
            ("device".into(), engines.onnx().map_or("cpu", |onnx| onnx.provider().name()).into()),
            ("model".into(), model.checkpoint().into()),
            ("model_sha256".into(), model.sha256().into()),
            ("model_source".into(), source.clone()),
        ]);
        if let Some(why) = engines.no_cuda().filter(|_| self.device != Device::Cpu) {
            facts.insert("device_reason".into(), format!("no CUDA: {why}"));
        }
        if let Some(onnx) = engines.onnx() {
            let runtime = onnx.runtime();
            facts.extend([
                ("onnxruntime".into(), runtime.version().unwrap_or("unknown version").into()),
                ("onnxruntime_library".into(), runtime.path().display().to_string()),
                ("onnxruntime_origin".into(), runtime.origin().to_string()),
                ("onnxruntime_telemetry".into(), runtime.telemetry().to_string()),
            ]);
            if let Some(library) = onnx.after_restart() {
                facts.insert("onnxruntime_after_restart".into(), library.display().to_string());
            }
        }
        facts
    }
}

bespoke_plugin_api::plugin!("silero", Silero);

struct Detector(Arc<Silero>);

impl Vad for Detector {
    fn open(&self, options: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        let silero = &self.0;
        let rate = Rate::for_input(silero.sample_rate.unwrap_or(options.sample_rate));
        let engine = silero.engines.open(rate).map_err(engine_error)?;
        Ok(Box::new(Stream::new(silero.cx.clone(), engine, options.sample_rate, silero.live.clone())?))
    }
}

/// Where ONNX Runtime may lie: where the configuration says, and the packs that the host knows.
fn places(cx: &PluginContext, explicit: Option<PathBuf>) -> Places {
    let pack = |spec: &str| match cx.runtime(spec) {
        Ok(pack) => Ok(Pack { library: pack.library, version: pack.version, bundled: pack.origin == "bundled", preload: pack.preload }),
        Err(error) => {
            let help = error.help().map_or_else(|| format!("bespoke plugin install {spec}"), str::to_owned);
            Err(format!("{}; {help}", error.message()))
        }
    };
    Places { explicit, cpu: pack("onnx:cpu"), cuda: pack("onnx:cuda") }
}

/// Where the model lies.
enum Place {
    /// A file of the user's choice.
    Configured(PathBuf),
    /// The file of the manifest.
    #[cfg(not(feature = "bundled"))]
    Pinned(PathBuf),
    #[cfg(feature = "bundled")]
    Bundled,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Configured(path) => path.display().fmt(f),
            #[cfg(not(feature = "bundled"))]
            Self::Pinned(path) => path.display().fmt(f),
            #[cfg(feature = "bundled")]
            Self::Bundled => f.write_str("bundled"),
        }
    }
}

#[cfg(feature = "bundled")]
fn place(_cx: &PluginContext, configured: Option<PathBuf>) -> Result<Place> {
    Ok(configured.map_or(Place::Bundled, Place::Configured))
}

#[cfg(not(feature = "bundled"))]
fn place(cx: &PluginContext, configured: Option<PathBuf>) -> Result<Place> {
    configured.map_or_else(|| cx.model(MODEL_FILE).map(Place::Pinned), |path| Ok(Place::Configured(path)))
}

fn make(place: &Place, wanted: &Wanted) -> Result<Engines> {
    let model = match place {
        Place::Configured(path) => Model::read(path),
        #[cfg(not(feature = "bundled"))]
        Place::Pinned(path) => Model::read(path).and_then(|model| model.pinned(path)),
        #[cfg(feature = "bundled")]
        Place::Bundled => Model::bundled(),
    };
    Engines::new(model.map_err(model_error)?, wanted).map_err(engine_error)
}

fn model_error(error: ModelError) -> Error {
    let code = match error {
        ModelError::Io { .. } => Code::MODEL_NOT_FOUND,
        ModelError::Content { .. } => Code::INITIALIZE_FAILED,
    };
    Error::new(code, error.to_string()).with_help("bespoke plugin download-files silero")
}

fn engine_error(error: EngineError) -> Error {
    let message = error.to_string();
    let failed = |help: &str| Error::new(Code::INITIALIZE_FAILED, message.clone()).with_help(help);
    match error {
        EngineError::Onnx(OnnxError::Cuda(NoCuda::NoPack(_))) => failed(INSTALL_CUDA),
        EngineError::Onnx(OnnxError::Cuda(_)) => failed("set plugins.silero.device = \"auto\""),
        EngineError::Onnx(_) => failed("set plugins.silero.engine = \"builtin\""),
        _ => Error::internal(message),
    }
}
