//! What computes the probability of speech of one window: ONNX Runtime or our own code, behind one
//! interface. Cutting streams into windows and deciding on speech is elsewhere.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bespoke_onnx::{OnnxError, Runtime, Session};
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

/// Makes engines of one model, and remembers why it makes that kind.
pub struct Engines {
    model: Model,
    kind: EngineKind,
    reason: String,
    runtime: Option<&'static Runtime>,
    networks: [OnceLock<Arc<Network>>; 2],
    /// Sessions that no stream uses now; making one takes tens of milliseconds.
    idle: Arc<Mutex<Vec<Session>>>,
}

impl Engines {
    /// Chooses the engine. `onnxruntime` names the library of ONNX Runtime or its folder.
    ///
    /// # Errors
    /// [`EngineChoice::Ort`] without a library that loads and takes the model. [`EngineChoice::Auto`]
    /// falls back to the built-in engine and says why in [`Engines::reason`].
    pub fn new(model: Model, choice: EngineChoice, onnxruntime: Option<PathBuf>) -> Result<Self, EngineError> {
        let mut engines = Self {
            model,
            kind: EngineKind::Builtin,
            reason: String::new(),
            runtime: None,
            networks: [const { OnceLock::new() }; 2],
            idle: Arc::default(),
        };
        let loaded = match choice {
            EngineChoice::Builtin => None,
            _ => Some(engines.load_runtime(onnxruntime.as_deref())),
        };
        match (choice, loaded) {
            (_, Some(Ok(runtime))) => {
                engines.kind = EngineKind::Ort;
                engines.reason = format!(
                    "ONNX Runtime {} from {} ({})",
                    runtime.version().unwrap_or("of unknown version"),
                    runtime.path().display(),
                    runtime.origin()
                );
            }
            (EngineChoice::Ort, Some(Err(error))) => return Err(error),
            (_, unloaded) => {
                let simd = engines.network(Rate::Hz16000)?.simd().name();
                engines.reason = match unloaded {
                    Some(Err(error)) => format!("own code ({simd}): {error}"),
                    _ => format!("own code ({simd}), as configured"),
                };
            }
        }
        Ok(engines)
    }

    /// Which kind of engine is made.
    pub fn kind(&self) -> EngineKind {
        self.kind
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
        match self.runtime {
            None => Ok(Box::new(Builtin::new(self.network(rate)?))),
            Some(runtime) => {
                let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let session = idle.map_or_else(|| runtime.session(self.model.bytes()), Ok)?;
                Ok(Box::new(Ort::new(session, rate, Arc::downgrade(&self.idle))?))
            }
        }
    }

    /// Loads the library and runs one window, so that a library that cannot run this model is noticed
    /// here, and the first window of a stream is not slow.
    fn load_runtime(&mut self, path: Option<&std::path::Path>) -> Result<&'static Runtime, EngineError> {
        let runtime = Runtime::get(path)?;
        self.runtime = Some(runtime);
        let silence = [0.0; Rate::Hz16000.window()];
        let tried = self.open(Rate::Hz16000).and_then(|mut engine| engine.window(&silence));
        if tried.is_err() {
            self.runtime = None;
        }
        tried.map(|_| runtime)
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
