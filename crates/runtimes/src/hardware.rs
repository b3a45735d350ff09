//! What this machine has that a pack could use: NVIDIA's devices by their driver, TPUs by their files. Loads no runtime: whether there
//! is a TPU must not depend on the library that would use it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bespoke_cuda::{Driver, Missing};

use crate::spec::{Set, Spec};

/// What was found, and why not where nothing was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// NVIDIA's driver with its devices.
    pub nvidia: Result<Driver, Missing>,
    /// Google's TPUs.
    pub tpu: Result<Tpu, NoTpu>,
}

/// TPUs of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tpu {
    /// The device files that programs open.
    pub devices: Vec<PathBuf>,
}

/// Why there is no TPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoTpu {
    /// Nothing of the kind is on the bus.
    #[error("there is no TPU: no device of Google's that could be one is on the PCI bus")]
    Bus,
    /// There is a device, and no file to open it by.
    #[error("there is a TPU on the PCI bus, but neither /dev/accel0 nor a file in /dev/vfio; in a container, start it with the devices")]
    Files,
}

/// A pack that the hardware found can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Wanted {
    /// The pack.
    pub spec: Spec,
    /// For which generation of NVIDIA's libraries.
    pub set: Option<Set>,
}

/// CUDA 13 has no code for what is older.
const OLDEST_OF_13: (u32, u32) = (7, 5);
/// Google's number on the PCI bus.
const GOOGLE: &str = "0x1ae0";

impl Hardware {
    /// Asks the driver, which takes up to [`bespoke_cuda::LIMIT`], and looks at files.
    pub fn detect() -> Self {
        Hardware { nvidia: bespoke_cuda::probe(), tpu: Tpu::detect(Path::new("/")) }
    }

    /// Which generation of NVIDIA's libraries to install: 13 where the driver and every device run it, else 12; `None` without devices.
    pub fn set(&self) -> Option<Set> {
        let driver = self.nvidia.as_ref().ok()?;
        let new = driver.cuda_set() >= 13 && driver.devices.iter().all(|device| device.capability >= OLDEST_OF_13);
        Some(if new { Set::Cu13 } else { Set::Cu12 })
    }

    /// Of the packs that plugins of a program can use, those for hardware that was found. One for the processor is never among them:
    /// nothing was found that asks for it.
    pub fn wanted(&self, usable: impl IntoIterator<Item = Spec>) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = usable.into_iter().filter_map(|spec| self.want(spec)).collect();
        wanted.sort_by_key(|wanted| wanted.spec);
        wanted.dedup();
        wanted
    }

    fn want(&self, spec: Spec) -> Option<Wanted> {
        if spec.needs_nvidia() {
            self.set().map(|set| Wanted { spec, set: Some(set) })
        } else if spec.needs_tpu() {
            self.tpu.as_ref().ok().map(|_| Wanted { spec, set: None })
        } else {
            None
        }
    }
}

impl Tpu {
    /// Looks below `root`, which is `/` outside of tests.
    ///
    /// # Errors
    /// What is missing.
    pub fn detect(root: &Path) -> Result<Tpu, NoTpu> {
        let on_bus = entries(&root.join("sys/bus/pci/devices")).iter().any(|device| could_be_tpu(device));
        if !on_bus {
            return Err(NoTpu::Bus);
        }
        let mut devices = numbered(&root.join("dev"), "accel");
        devices.extend(numbered(&root.join("dev/vfio"), ""));
        if devices.is_empty() { Err(NoTpu::Files) } else { Ok(Tpu { devices }) }
    }
}

/// Google's network cards and disks in its cloud have the same vendor; their classes are 02 and 01.
fn could_be_tpu(device: &Path) -> bool {
    let read = |name: &str| fs::read_to_string(device.join(name)).unwrap_or_default();
    let class = read("class");
    read("vendor").trim() == GOOGLE && !["0x01", "0x02"].iter().any(|other| class.starts_with(other))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Files that are called `prefix` and a number. `/dev/accel` itself is a folder, for devices of others.
fn numbered(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let is = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(prefix));
        name.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    entries(folder).into_iter().filter(is).collect()
}
