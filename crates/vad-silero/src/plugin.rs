//! The plugin `silero`: finds the model, chooses the engine, says which one runs and why.

use std::path::PathBuf;
use std::sync::Arc;

use bespoke_plugin_api::{
    Code, Duplex, Error, Facts, Health, Plugin, PluginApi, PluginContext, Reload, Result, Vad, VadEvent, VadOptions, VadSpec,
};

use crate::stream::{LiveOptions, Stream};
use crate::{Config, EngineChoice, EngineError, EngineKind, Engines, Model, ModelError, Rate};

/// The file in the manifest.
#[cfg(not(feature = "bundled"))]
const MODEL_FILE: &str = "silero_vad.onnx";

/// One instance, with its model loaded.
pub struct Silero {
    cx: PluginContext,
    engines: Engines,
    live: Arc<LiveOptions>,
    sample_rate: Option<u32>,
    /// Where the model came from.
    source: String,
    /// A library was named and does not run, so that another engine does.
    degraded: Option<String>,
}

impl Plugin for Silero {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.vad(VadSpec::new("silero"), |silero| Arc::new(Detector(silero.clone())));
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        let live = Arc::new(LiveOptions::new(config.speech()?));
        let place = place(&cx, config.model_file)?;
        let (choice, library) = (config.engine, config.onnxruntime);
        let named = library.is_some() || std::env::var_os(bespoke_onnx::LIBRARY_VAR).is_some_and(|value| !value.is_empty());
        let source = place.to_string();
        // Reading, checking and laying out the model takes tens of milliseconds.
        let engines = cx.blocking(move || make(&place, choice, library)).await??;
        let degraded = (choice == EngineChoice::Auto && named && engines.kind() == EngineKind::Builtin)
            .then(|| format!("the ONNX Runtime library that was named does not run; {}", engines.reason()));
        Ok(Silero { cx, engines, live, sample_rate: config.sample_rate, source, degraded })
    }

    async fn reconfigure(&self, new: Config) -> Result<Reload> {
        self.live.set(new.speech()?);
        Ok(Reload::Applied)
    }

    fn health(&self) -> Health {
        self.degraded.clone().map_or(Health::Ok, Health::Degraded)
    }

    fn facts(&self) -> Facts {
        let model = self.engines.model();
        Facts::from([
            ("engine".into(), self.engines.kind().name().into()),
            ("engine_reason".into(), self.engines.reason().into()),
            ("model".into(), model.checkpoint().into()),
            ("model_sha256".into(), model.sha256().into()),
            ("model_source".into(), self.source.clone()),
        ])
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

/// Where the model lies.
enum Place {
    File(PathBuf),
    #[cfg(feature = "bundled")]
    Bundled,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            #[cfg(feature = "bundled")]
            Self::Bundled => f.write_str("bundled"),
        }
    }
}

#[cfg(feature = "bundled")]
fn place(_cx: &PluginContext, configured: Option<PathBuf>) -> Result<Place> {
    Ok(configured.map_or(Place::Bundled, Place::File))
}

#[cfg(not(feature = "bundled"))]
fn place(cx: &PluginContext, configured: Option<PathBuf>) -> Result<Place> {
    configured.map_or_else(|| cx.model(MODEL_FILE), Ok).map(Place::File)
}

fn make(place: &Place, choice: EngineChoice, library: Option<PathBuf>) -> Result<Engines> {
    let model = match place {
        Place::File(path) => Model::read(path),
        #[cfg(feature = "bundled")]
        Place::Bundled => Model::bundled(),
    };
    Engines::new(model.map_err(model_error)?, choice, library).map_err(engine_error)
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
    match error {
        EngineError::Onnx(_) => Error::new(Code::INITIALIZE_FAILED, message).with_help("set plugins.silero.engine = \"builtin\""),
        _ => Error::internal(message),
    }
}
