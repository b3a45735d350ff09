//! The plugin `cuda`: asks the driver at the start and when somebody asks, checks the compiler once.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bespoke_cuda::{Missing, Nvrtc, SAXPY, probe, probe_within};
use bespoke_plugin_api::{
    Accelerator, AcceleratorSpec, CallCx, Code, Device, Error, Facts, Health, Level, Plugin, PluginApi, PluginContext, Reload, Result,
    Timestamp, async_trait,
};

use crate::{
    Config,
    seen::{Compiler, Seen},
};

/// How long a start waits for the driver; half of what a start may take. Who asks later waits longer.
const AT_START: Duration = Duration::from_secs(5);

/// From which age on what was seen is looked up again when somebody asks how the plugin does.
const FRESH: Duration = Duration::from_secs(10);

/// What a kernel is compiled for where there is no device: an architecture that CUDA 12 and 13 both know.
const WITHOUT_DEVICE: (u32, u32) = (9, 0);

/// One instance.
pub struct Cuda {
    cx: PluginContext,
    state: Arc<Mutex<State>>,
}

struct State {
    seen: Seen,
    at: Timestamp,
    /// Somebody is looking, so that no second one does.
    looking: bool,
}

impl Plugin for Cuda {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.accelerator(AcceleratorSpec::new("cuda"), |plugin| Arc::new(Devices(plugin.clone())));
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        let found = found(&cx, config.nvrtc);
        let (driver, compiler) = cx
            .blocking(move || {
                let driver = probe_within(AT_START);
                let capability = driver.as_ref().ok().and_then(|d| d.devices.first()).map_or(WITHOUT_DEVICE, |device| device.capability);
                let compiler = check(found, capability);
                (driver, compiler)
            })
            .await?;
        match &driver {
            Ok(driver) => {
                cx.log(Level::Info, &format!("{} devices, CUDA {}.{}", driver.devices.len(), driver.cuda_version.0, driver.cuda_version.1))
            }
            Err(missing) => cx.log(Level::Info, &missing.to_string()),
        }
        let state = State { seen: Seen { driver, allowed: config.devices, compiler }, at: cx.now(), looking: false };
        Ok(Cuda { cx, state: Arc::new(Mutex::new(state)) })
    }

    async fn reconfigure(&self, new: Config) -> Result<Reload> {
        lock(&self.state).seen.allowed = new.devices;
        Ok(Reload::Applied)
    }

    fn health(&self) -> Health {
        self.look_again();
        lock(&self.state).seen.health()
    }

    fn facts(&self) -> Facts {
        lock(&self.state).seen.facts()
    }
}

bespoke_plugin_api::plugin!("cuda", Cuda);

impl Cuda {
    /// Looks beside the caller, when what was seen is old, and tells the host if that changes how the plugin does.
    fn look_again(&self) {
        {
            let mut state = lock(&self.state);
            let age = state.at.until(self.cx.now());
            if state.looking || age < FRESH {
                return;
            }
            state.looking = true;
        }
        let (cx, state) = (self.cx.clone(), self.state.clone());
        self.cx.spawn(async move {
            let answer = cx.blocking(probe).await;
            let (before, after) = {
                let mut state = lock(&state);
                let before = state.seen.health();
                if let Ok(driver) = answer {
                    state.seen.driver = driver;
                }
                state.at = cx.now();
                state.looking = false;
                (before, state.seen.health())
            };
            if before != after {
                cx.report_health(after);
            }
        });
    }
}

struct Devices(Arc<Cuda>);

#[async_trait]
impl Accelerator for Devices {
    async fn devices(&self, cx: &CallCx) -> Result<Vec<Device>> {
        cx.check()?;
        let Cuda { cx: host, state } = &*self.0;
        let driver = host.blocking(probe).await?;
        let mut state = lock(state);
        state.seen.driver = driver;
        state.at = host.now();
        match &state.seen.driver {
            Ok(_) | Err(Missing::Device { .. }) => Ok(state.seen.devices().map(shown).collect()),
            Err(missing) => Err(missing_error(missing)),
        }
    }
}

fn shown(device: &bespoke_cuda::Device) -> Device {
    let (major, minor) = device.capability;
    let mut shown = Device::new(device.index, &device.name).memory(device.memory_total).capability(format!("{major}.{minor}"));
    shown.memory_free = device.memory_free;
    shown.utilization = device.utilization;
    shown
}

fn missing_error(missing: &Missing) -> Error {
    let error = Error::new(Code::DEPENDENCY_MISSING, missing.to_string()).with_help(missing.help());
    // A driver that is busy with a device may answer the next time.
    if matches!(missing, Missing::Late(_)) { error.retryable() } else { error }
}

/// Where the compiler lies and what is loaded before it, or why there is none.
struct Found {
    library: PathBuf,
    preload: Vec<PathBuf>,
    origin: String,
}

fn found(cx: &PluginContext, configured: Option<PathBuf>) -> std::result::Result<Found, String> {
    if let Some(library) = configured {
        return Ok(Found { library, preload: Vec::new(), origin: "plugins.cuda.nvrtc".into() });
    }
    match cx.runtime("cuda:nvrtc") {
        Ok(pack) => {
            Ok(Found { library: pack.library, preload: pack.preload, origin: format!("cuda:nvrtc {}, {}", pack.version, pack.origin) })
        }
        Err(e) => Err(match e.help() {
            Some(help) => format!("{}; {help}", e.message()),
            None => e.message().to_owned(),
        }),
    }
}

/// Compiles a kernel for a device of that capability. Blocks.
fn check(found: std::result::Result<Found, String>, capability: (u32, u32)) -> Compiler {
    let Found { library, preload, origin } = match found {
        Ok(found) => found,
        Err(reason) => return Compiler::Absent(reason),
    };
    let started = Instant::now();
    let compiled = Nvrtc::load(&library, &preload).map_err(|e| e.to_string()).and_then(|nvrtc| {
        let (major, minor) = capability;
        let architecture =
            nvrtc.architecture(capability).ok_or_else(|| format!("it knows no architecture as old as compute {major}.{minor}"))?;
        nvrtc.compile(SAXPY, &architecture).map_err(|e| e.to_string())?;
        Ok((nvrtc.version(), architecture))
    });
    match compiled {
        Ok((version, architecture)) => Compiler::Works { library, origin, version, architecture, took: started.elapsed() },
        Err(reason) => Compiler::Broken { library, origin, reason },
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Every change of the state is one assignment.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_testkit::check_config_schema;

    use super::*;

    #[test]
    fn the_schema_is_fresh() {
        check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
