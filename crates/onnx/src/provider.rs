//! Where a model runs: on the processor or, where it really comes up, on CUDA. It decides by trying,
//! and says what came of it; what is tried is the caller's.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::search::{self, Origin, Places};
use crate::{Current, OnnxError, Runtime};

/// How long NVIDIA's driver may take to say what devices there are: half of what a plugin has to start.
const LIMIT: Duration = Duration::from_secs(5);

/// Where somebody wants a model to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// On CUDA where its pack is there and comes up, else on the processor; both are fine.
    #[default]
    Auto,
    /// On the processor.
    Cpu,
    /// On CUDA; elsewhere only if that is not required.
    Cuda,
}

/// Where a session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The processor.
    Cpu,
    /// A device of NVIDIA.
    Cuda,
}

impl Provider {
    /// Name for people and for output: `cpu` or `cuda`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why CUDA does not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoCuda {
    /// There is no driver, or it has no device, or it does not answer.
    #[error(transparent)]
    NoDevice(bespoke_cuda::Missing),
    /// There is no library with CUDA; why, and what would bring one.
    #[error("{0}")]
    NoPack(String),
    /// The library that was named has no CUDA.
    #[error("{path} ({origin}) is a build without CUDA", path = path.display())]
    WithoutCuda {
        /// The library.
        path: PathBuf,
        /// Who named it.
        origin: Origin,
    },
    /// The library, or one that it needs, does not load.
    #[error("{0}")]
    Load(String),
    /// The provider did not come up, or the attempt failed on it.
    #[error("{0}")]
    Provider(String),
}

/// What [`settle`] came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settled<T> {
    /// What the attempt gave.
    pub value: T,
    /// The library that it runs in.
    pub runtime: &'static Runtime,
    /// Where it runs.
    pub provider: Provider,
    /// Why not on CUDA, unless it was not to.
    pub no_cuda: Option<NoCuda>,
    /// A library that would be used instead after a restart.
    pub after_restart: Option<PathBuf>,
}

/// Runs `attempt` where `device` says: on CUDA, and where that fails and is not required, on the
/// processor. The attempt makes a session and runs it once, so that what it says is true.
///
/// # Errors
/// [`OnnxError::Cuda`] where CUDA is wanted, `required` and does not run; else what kept the processor from running it, and why
/// CUDA did not.
pub fn settle<T, E>(
    places: &Places,
    device: Device,
    required: bool,
    mut attempt: impl FnMut(&'static Runtime, Provider) -> Result<T, E>,
) -> Result<Settled<T>, (E, Option<NoCuda>)>
where
    E: From<OnnxError> + fmt::Display,
{
    let mut no_cuda = None;
    if device != Device::Cpu {
        match on_cuda(places, device, &mut attempt) {
            Ok(settled) => return Ok(settled),
            Err(why) if device == Device::Cuda && required => return Err((OnnxError::Cuda(why.clone()).into(), Some(why))),
            Err(why) => no_cuda = Some(why),
        }
    }
    // What CUDA left loaded is there to stay, and runs on the processor as well.
    let tried = matches!(no_cuda, Some(NoCuda::WithoutCuda { .. } | NoCuda::Provider(_)));
    let current = match Runtime::loaded().filter(|_| tried) {
        Some(runtime) => Ok(Current { runtime, after_restart: None }),
        None => Runtime::get(places, false),
    };
    let tried = current.map_err(E::from).and_then(|current| Ok((attempt(current.runtime, Provider::Cpu)?, current)));
    match tried {
        Ok((value, Current { runtime, after_restart })) => Ok(Settled { value, runtime, provider: Provider::Cpu, no_cuda, after_restart }),
        Err(error) => Err((error, no_cuda)),
    }
}

fn on_cuda<T, E: fmt::Display>(
    places: &Places,
    device: Device,
    attempt: &mut impl FnMut(&'static Runtime, Provider) -> Result<T, E>,
) -> Result<Settled<T>, NoCuda> {
    let no_pack = || NoCuda::NoPack(places.cuda.as_ref().err().cloned().unwrap_or_default());
    let found = search::find(places, true);
    // Nobody asked for it: then only a pack is a reason to look further.
    if device == Device::Auto && !found.as_ref().is_ok_and(|found| found.cuda.is_some()) {
        return Err(no_pack());
    }
    // Without a device the libraries of a pack, which are gigabytes, would be loaded for nothing.
    bespoke_cuda::probe_within(LIMIT).map_err(NoCuda::NoDevice)?;
    let found = found.map_err(|error| match error {
        search::NotFound::Nowhere { .. } => no_pack(),
        named => NoCuda::Load(named.to_string()),
    })?;
    let current = Runtime::get(places, true).map_err(|error| NoCuda::Load(error.to_string()))?;
    let runtime = current.runtime;
    if !runtime.built_with_cuda() {
        return Err(match (current.after_restart, found.origin) {
            (Some(asked), _) => NoCuda::Load(OnnxError::AlreadyLoaded { loaded: runtime.path().to_owned(), asked }.to_string()),
            (None, origin @ (Origin::Explicit | Origin::Environment)) => NoCuda::WithoutCuda { path: runtime.path().to_owned(), origin },
            (None, _) => no_pack(),
        });
    }
    let value = attempt(runtime, Provider::Cuda).map_err(|error| NoCuda::Provider(error.to_string()))?;
    Ok(Settled { value, runtime, provider: Provider::Cuda, no_cuda: None, after_restart: current.after_restart })
}
