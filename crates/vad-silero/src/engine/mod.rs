//! What computes the probability of speech of one window: ONNX Runtime or our own code, behind one
//! interface. Cutting streams into windows and deciding on speech is elsewhere.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bespoke_onnx::{Device, NoCuda, OnnxError, Places, Provider, Runtime, Session, settle};
use bespoke_plugin_api::serde::{self, Deserialize};

pub use self::builtin::{Builtin, Network, Simd};
use self::ort::Ort;
use crate::Rate;
use crate::model::Model;

mod builtin;
mod ort;

/// One stream of one engine: a recurrent network and its state.
///
/// **Invariant:** a window is exactly [`Rate::window`] finite samples; the engine keeps the context
/// and the state itself, so windows come in order and without gaps.
pub trait Engine: Send {
    /// Which engine this is.
    fn kind(&self) -> EngineKind;

    /// The rate of its windows.
    fn rate(&self) -> Rate;

    /// The probability, 0 to 1, that the next window holds speech.
    ///
    /// # Errors
    /// A window of a wrong length (then the state is as before), or a failed run.
    fn window(&mut self, window: &[f32]) -> Result<f32, EngineError>;

    /// Forgets everything heard so far.
    fn reset(&mut self);
}

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// ONNX Runtime.
    Ort,
    /// Our own code.
    Builtin,
}

impl EngineKind {
    /// Name for people and for output: `ort` or `builtin`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ort => "ort",
            Self::Builtin => "builtin",
        }
    }
}

/// Which engine is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(crate = "serde", rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
pub enum EngineChoice {
    /// ONNX Runtime where a library is found that runs the model, else the built-in one.
    #[default]
    Auto,
    /// ONNX Runtime or nothing.
    Ort,
    /// Our own code.
    Builtin,
}

/// Why an engine cannot be made or has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// ONNX Runtime is not there or refused the model.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The model is valid, but nothing the engine can run.
    #[error("the built-in engine cannot run this model: {0}; use engine = \"ort\"")]
    Unsupported(String),
    /// A window of a wrong length.
    #[error("a window at {rate} Hz has {expected} samples, not {got}")]
    WindowLength {
        /// The rate of the engine in Hz.
        rate: u32,
        /// What it takes.
        expected: usize,
        /// What it got.
        got: usize,
    },
    /// A run failed.
    #[error("the network could not be run: {0}")]
    Run(String),
}

/// What is wanted of the engines.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which engine.
    pub engine: EngineChoice,
    /// Where it runs. The built-in engine runs on the processor only.
    pub device: Device,
    /// Whether CUDA, where it is the device, must run.
    pub device_required: bool,
    /// Where ONNX Runtime may lie.
    pub places: Places,
}

impl Wanted {
    /// This engine, on any device, without packs of ONNX Runtime.
    pub fn new(engine: EngineChoice) -> Self {
        Self { engine, device: Device::Auto, device_required: false, places: Places::new(None) }
    }
}

/// Makes engines of one model, and remembers why it makes that kind.
pub struct Engines {
    model: Model,
    reason: String,
    onnx: Option<Onnx>,
    no_cuda: Option<NoCuda>,
    networks: [OnceLock<Arc<Network>>; 2],
}

/// ONNX Runtime, after it has run a window of the model.
pub struct Onnx {
    runtime: &'static Runtime,
    provider: Provider,
    after_restart: Option<std::path::PathBuf>,
    /// Sessions that no stream uses now; making one takes tens of milliseconds.
    idle: Arc<Mutex<Vec<Session>>>,
}

impl Onnx {
    /// The library.
    pub fn runtime(&self) -> &'static Runtime {
        self.runtime
    }

    /// Where it runs.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// The library that would be used instead after a restart.
    pub fn after_restart(&self) -> Option<&std::path::Path> {
        self.after_restart.as_deref()
    }

    /// A library that runs this model, with the first session. It has run a window, so that one that
    /// cannot is noticed here, and the first window of a stream is not slow.
    fn new(model: &Model, wanted: &Wanted) -> Result<(Self, Option<NoCuda>), (EngineError, Option<NoCuda>)> {
        let settled = settle(&wanted.places, wanted.device, wanted.device_required, |runtime, provider| {
            let idle = Arc::new(Mutex::new(Vec::new()));
            let session = runtime.session(model.bytes(), provider)?;
            Ort::new(session, Rate::Hz16000, Arc::downgrade(&idle))?.window(&[0.0; Rate::Hz16000.window()])?;
            Ok::<_, EngineError>(idle)
        })?;
        let onnx = Self { runtime: settled.runtime, provider: settled.provider, after_restart: settled.after_restart, idle: settled.value };
        Ok((onnx, settled.no_cuda))
    }

    fn open(&self, model: &Model, rate: Rate) -> Result<Ort, EngineError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let session = idle.map_or_else(|| self.runtime.session(model.bytes(), self.provider), Ok)?;
        Ort::new(session, rate, Arc::downgrade(&self.idle))
    }
}

impl std::fmt::Display for Onnx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let version = self.runtime.version().unwrap_or("of unknown version");
        let (path, origin) = (self.runtime.path().display(), self.runtime.origin());
        write!(f, "ONNX Runtime {version} on {} from {path} ({origin})", self.provider)
    }
}

impl Engines {
    /// Chooses the engine.
    ///
    /// # Errors
    /// [`EngineChoice::Ort`] without a library that loads and takes the model, and CUDA that is required
    /// and does not run. [`EngineChoice::Auto`] falls back to the built-in engine and says why in
    /// [`Engines::reason`].
    pub fn new(model: Model, wanted: &Wanted) -> Result<Self, EngineError> {
        let must_cuda = wanted.device == Device::Cuda && wanted.device_required;
        let mut engines = Self { model, reason: String::new(), onnx: None, no_cuda: None, networks: [const { OnceLock::new() }; 2] };
        let why = match wanted.engine {
            EngineChoice::Builtin => {
                let no_cuda = NoCuda::Load("engine = \"builtin\" runs on the processor".into());
                if must_cuda {
                    return Err(OnnxError::Cuda(no_cuda).into());
                }
                engines.no_cuda = (wanted.device == Device::Cuda).then_some(no_cuda);
                "as configured".to_owned()
            }
            choice => match Onnx::new(&engines.model, wanted) {
                Ok((onnx, no_cuda)) => {
                    engines.reason = onnx.to_string();
                    engines.onnx = Some(onnx);
                    engines.no_cuda = no_cuda;
                    return Ok(engines);
                }
                Err((error, _)) if choice == EngineChoice::Ort || must_cuda => return Err(error),
                Err((error, no_cuda)) => {
                    engines.no_cuda = no_cuda;
                    error.to_string()
                }
            },
        };
        engines.reason = format!("own code ({}): {why}", engines.network(Rate::Hz16000)?.simd().name());
        Ok(engines)
    }

    /// Which kind of engine is made.
    pub fn kind(&self) -> EngineKind {
        if self.onnx.is_some() { EngineKind::Ort } else { EngineKind::Builtin }
    }

    /// ONNX Runtime, where that is the engine.
    pub fn onnx(&self) -> Option<&Onnx> {
        self.onnx.as_ref()
    }

    /// Why CUDA does not run, unless it does or was not to.
    pub fn no_cuda(&self) -> Option<&NoCuda> {
        self.no_cuda.as_ref()
    }

    /// Why that kind, in words.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// An engine with an empty state for a new stream.
    ///
    /// # Errors
    /// What the engine says.
    pub fn open(&self, rate: Rate) -> Result<Box<dyn Engine>, EngineError> {
        match &self.onnx {
            None => Ok(Box::new(Builtin::new(self.network(rate)?))),
            Some(onnx) => Ok(Box::new(onnx.open(&self.model, rate)?)),
        }
    }

    fn network(&self, rate: Rate) -> Result<Arc<Network>, EngineError> {
        let slot = &self.networks[usize::from(rate == Rate::Hz16000)];
        if let Some(network) = slot.get() {
            return Ok(network.clone());
        }
        let network = Arc::new(Network::new(&self.model, rate)?);
        Ok(slot.get_or_init(|| network).clone())
    }
}

fn check_length(window: &[f32], rate: Rate) -> Result<(), EngineError> {
    if window.len() == rate.window() {
        Ok(())
    } else {
        Err(EngineError::WindowLength { rate: rate.hz(), expected: rate.window(), got: window.len() })
    }
}
