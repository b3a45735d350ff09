//! What was seen of the driver and of the compiler, in the words of health and facts. It looks at nothing itself.

use std::{path::PathBuf, time::Duration};

use bespoke_cuda::{Device, Driver, Missing};
use bespoke_plugin_api::{Facts, Health};

/// What was seen last.
pub(crate) struct Seen {
    /// The driver's answer.
    pub(crate) driver: Result<Driver, Missing>,
    /// The devices to show; all when `None`.
    pub(crate) allowed: Option<Vec<u32>>,
    /// What became of the compiler.
    pub(crate) compiler: Compiler,
}

/// The compiler, checked at the start.
pub(crate) enum Compiler {
    /// It is not here, and nobody asked for it by path.
    Absent(String),
    /// It is here and does not work.
    Broken { library: PathBuf, origin: String, reason: String },
    /// It compiled a kernel.
    Works { library: PathBuf, origin: String, version: (u32, u32), architecture: String, took: Duration },
}

impl Seen {
    /// The devices to show.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Device> {
        let all = self.driver.as_ref().map(|driver| driver.devices.as_slice()).unwrap_or_default();
        all.iter().filter(|device| self.allowed.as_ref().is_none_or(|allowed| allowed.contains(&device.index)))
    }

    /// Degraded where something is missing, never failed: nothing depends on this plugin.
    pub(crate) fn health(&self) -> Health {
        let driver = match &self.driver {
            Ok(driver) => driver,
            Err(missing) => return Health::Degraded(format!("{missing}; {}", missing.help())),
        };
        let there = |index: &u32| driver.devices.iter().any(|device| device.index == *index);
        if let Some(absent) = self.allowed.iter().flatten().find(|index| !there(index)) {
            let last = driver.devices.len().saturating_sub(1);
            return Health::Degraded(format!("plugins.cuda.devices names device {absent}; there are those from 0 to {last}"));
        }
        if self.devices().next().is_none() {
            return Health::Degraded("plugins.cuda.devices is empty, so no device is shown".into());
        }
        if let Compiler::Broken { reason, .. } = &self.compiler {
            return Health::Degraded(format!("NVRTC does not work: {reason}"));
        }
        Health::Ok
    }

    /// What a person may want to know.
    pub(crate) fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        let mut say = |name: &str, value: String| facts.insert(name.to_owned(), value);
        match &self.driver {
            Ok(driver) => {
                say("driver", driver.driver_version.clone().unwrap_or_else(|| "of unknown version, because NVML does not say it".into()));
                say("cuda", version(driver.cuda_version));
                say("cuda_libraries", format!("CUDA {}", driver.cuda_set()));
            }
            Err(missing) => {
                say("driver", missing.to_string());
            }
        }
        for device in self.devices() {
            say(&format!("device_{}", device.index), words(device));
        }
        match &self.compiler {
            Compiler::Absent(reason) => {
                say("nvrtc", reason.clone());
            }
            Compiler::Broken { library, origin, reason } => {
                say("nvrtc", format!("does not work: {reason}"));
                say("nvrtc_library", format!("{} ({origin})", library.display()));
            }
            Compiler::Works { library, origin, version: number, architecture, took } => {
                say("nvrtc", version(*number));
                say("nvrtc_library", format!("{} ({origin})", library.display()));
                say("nvrtc_check", format!("a kernel for {architecture} compiled in {} ms", took.as_millis()));
            }
        }
        facts
    }
}

fn version((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

/// One line on a device: what is known of it.
fn words(device: &Device) -> String {
    let mut line = format!("{}, compute {}, {}", device.name, version(device.capability), gib(device.memory_total));
    if let Some(free) = device.memory_free {
        line += &format!(", {} free", gib(free));
    }
    if let Some(percent) = device.utilization {
        line += &format!(", {percent} % busy");
    }
    if let Some(degrees) = device.temperature {
        line += &format!(", {degrees} °C");
    }
    line
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
