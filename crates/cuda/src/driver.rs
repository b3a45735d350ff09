//! Which driver and which devices this machine has. It computes nothing on them.

#![allow(unsafe_code, reason = "C functions of the driver")]

use std::{
    any::Any,
    ffi::{CStr, c_int},
    panic::catch_unwind,
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use cudarc::driver::sys::{CUdevice_attribute_enum as Attribute, CUuuid};

use crate::{
    api::{Api, NO_DEVICE, SUCCESS},
    nvml,
};

/// How long a driver may take to answer. One that is healthy takes a second at most, after the start of a machine some more; one whose
/// device hangs never answers.
pub const LIMIT: Duration = Duration::from_secs(15);

/// The oldest driver that the libraries in use run with: CUDA 12.
pub const OLDEST: (u32, u32) = (12, 0);

/// The driver of this machine, and at least one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// The newest CUDA that it runs, such as (13, 0).
    pub cuda_version: (u32, u32),
    /// Its own version, such as `580.95.05`, where NVML says it.
    pub driver_version: Option<String>,
    /// What programs may compute on, in the order of CUDA.
    pub devices: Vec<Device>,
}

/// A device of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its number for CUDA, from 0.
    pub index: u32,
    /// Its name, such as `NVIDIA L4`.
    pub name: String,
    /// What tells it from all others, without the word `GPU-` before it.
    pub uuid: String,
    /// Its compute capability, such as (9, 0).
    pub capability: (u32, u32),
    /// Its memory in bytes.
    pub memory_total: u64,
    /// How much of it is free, in bytes.
    pub memory_free: Option<u64>,
    /// How much of the last moment it was busy, in percent.
    pub utilization: Option<u8>,
    /// How warm it is, in °C.
    pub temperature: Option<u32>,
}

/// Why there is nothing to compute on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// There is no driver library.
    #[error("there is no NVIDIA driver: no library libcuda can be opened")]
    Library,
    /// The driver library lacks a function that every driver of the last years has.
    #[error("the NVIDIA driver cannot be used: its library has no {0}")]
    Symbol(&'static str),
    /// The driver is older than [`OLDEST`].
    #[error(
        "the NVIDIA driver is too old: it runs CUDA {}.{}, and {}.{} is needed",
        found.0, found.1, OLDEST.0, OLDEST.1
    )]
    TooOld {
        /// The newest CUDA that it runs.
        found: (u32, u32),
    },
    /// There is a driver, and no device that this program may use.
    #[error("the NVIDIA driver (CUDA {}.{}) has no device", cuda_version.0, cuda_version.1)]
    Device {
        /// The newest CUDA that the driver runs.
        cuda_version: (u32, u32),
    },
    /// The driver refused, in its own words.
    #[error("the NVIDIA driver failed in {function}: {words}")]
    Failed {
        /// What was called.
        function: &'static str,
        /// The number of the error.
        code: i32,
        /// Its name and text.
        words: String,
    },
    /// The driver did not answer.
    #[error("the NVIDIA driver has not answered for {:.1} s", .0.as_secs_f32())]
    Late(Duration),
    /// A fault of the probe itself.
    #[error("asking the NVIDIA driver failed: {0}")]
    Panicked(String),
}

impl Missing {
    /// What a person can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Missing::Library => {
                "install NVIDIA's driver for this system, version 525 or later; in a container, start it with the devices (such as `--gpus all`)"
            }
            Missing::Symbol(_) | Missing::TooOld { .. } => "update NVIDIA's driver to version 525 or later",
            Missing::Device { .. } => "run `nvidia-smi -L` to see the devices; the variable CUDA_VISIBLE_DEVICES may hide them",
            Missing::Failed { .. } | Missing::Late(_) => {
                "run `nvidia-smi`; after an update of the driver the machine has to be started again"
            }
            Missing::Panicked(_) => "run `nvidia-smi`; if that works, this is a defect of ours",
        }
    }
}

impl Driver {
    /// Which generation of NVIDIA's libraries it runs: 12 or 13. A driver runs all that are not newer, so what lies beyond runs 13.
    pub fn cuda_set(&self) -> u32 {
        if self.cuda_version.0 >= 13 { 13 } else { 12 }
    }
}

/// Asks the driver. Loads libcuda and, when that has devices, NVML; nothing else. Makes no context. Blocks: milliseconds without a driver,
/// up to a second with one, [`LIMIT`] at most.
///
/// # Errors
/// What is missing. Another call may find it.
pub fn probe() -> Result<Driver, Missing> {
    probe_within(LIMIT)
}

/// As [`probe`], with another limit. It counts from when the driver was asked, by whichever caller.
///
/// # Errors
/// As [`probe`]; [`Missing::Late`] sooner.
pub fn probe_within(limit: Duration) -> Result<Driver, Missing> {
    // One thread asks, however many wait: a driver that hangs holds one thread, not one a call.
    let mut desk = lock();
    let started = match desk.under_way {
        Some(started) => started,
        None => {
            let now = Instant::now();
            let asked = thread::Builder::new().name("cuda-probe".into()).spawn(|| {
                let answer = catch_unwind(ask).unwrap_or_else(|panic| Err(Missing::Panicked(message(&*panic))));
                let mut desk = lock();
                desk.under_way = None;
                desk.answered += 1;
                desk.answer = Some(answer);
                ANSWERED.notify_all();
            });
            if let Err(e) = asked {
                return Err(Missing::Panicked(format!("no thread for it: {e}")));
            }
            desk.under_way = Some(now);
            now
        }
    };
    let before = desk.answered;
    let left = limit.saturating_sub(started.elapsed());
    let (desk, _) = ANSWERED.wait_timeout_while(desk, left, |desk| desk.answered == before).unwrap_or_else(PoisonError::into_inner);
    match &desk.answer {
        Some(answer) if desk.answered != before => answer.clone(),
        _ => Err(Missing::Late(started.elapsed())),
    }
}

/// Where callers meet the one thread that asks. The driver is one for the process, and so is this.
struct Desk {
    under_way: Option<Instant>,
    answered: u64,
    answer: Option<Result<Driver, Missing>>,
}

static DESK: Mutex<Desk> = Mutex::new(Desk { under_way: None, answered: 0, answer: None });
static ANSWERED: Condvar = Condvar::new();

fn lock() -> std::sync::MutexGuard<'static, Desk> {
    // Nothing in the lock can be half done.
    DESK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

fn ask() -> Result<Driver, Missing> {
    let api = Api::open().map_err(Missing::Symbol)?.ok_or(Missing::Library)?;
    let mut version: c_int = 0;
    // SAFETY: a place for one int.
    check(&api, "cuDriverGetVersion", unsafe { (api.version)(&mut version) })?;
    let version = u32::try_from(version).unwrap_or_default();
    let cuda_version = (version / 1000, version % 1000 / 10);
    if cuda_version < OLDEST {
        return Err(Missing::TooOld { found: cuda_version });
    }
    // SAFETY: no argument but the flags, which must be 0. May be called more than once.
    match unsafe { (api.init)(0) } {
        NO_DEVICE => return Err(Missing::Device { cuda_version }),
        code => check(&api, "cuInit", code)?,
    }
    let mut count: c_int = 0;
    // SAFETY: a place for one int.
    check(&api, "cuDeviceGetCount", unsafe { (api.device_count)(&mut count) })?;
    let mut devices = (0..count.clamp(0, MOST)).map(|index| device(&api, index)).collect::<Result<Vec<_>, _>>()?;
    if devices.is_empty() {
        return Err(Missing::Device { cuda_version });
    }
    let driver_version = nvml::complete(&mut devices);
    Ok(Driver { cuda_version, driver_version, devices })
}

/// More devices than any machine has.
const MOST: c_int = 1024;

fn device(api: &Api, index: c_int) -> Result<Device, Missing> {
    let mut handle = 0;
    // SAFETY: a place for one handle.
    check(api, "cuDeviceGet", unsafe { (api.device)(&mut handle, index) })?;
    let mut name = [0_u8; 256];
    // SAFETY: the length is that of the buffer, and the handle is the driver's own. It ends the name with a zero.
    check(api, "cuDeviceGetName", unsafe { (api.device_name)(name.as_mut_ptr().cast(), name.len() as c_int, handle) })?;
    let name = CStr::from_bytes_until_nul(&name).map(CStr::to_string_lossy).unwrap_or_default().into_owned();
    let mut memory_total = 0_usize;
    // SAFETY: a place for one size.
    check(api, "cuDeviceTotalMem_v2", unsafe { (api.device_memory)(&mut memory_total, handle) })?;
    let mut uuid = CUuuid { bytes: [0; 16] };
    // SAFETY: a place for one UUID.
    check(api, "cuDeviceGetUuid", unsafe { (api.uuid)(&mut uuid, handle) })?;
    let attribute = |attribute: Attribute| {
        let mut value: c_int = 0;
        // SAFETY: a place for one int.
        check(api, "cuDeviceGetAttribute", unsafe { (api.device_attribute)(&mut value, attribute as _, handle) })?;
        Ok(u32::try_from(value).unwrap_or_default())
    };
    Ok(Device {
        index: u32::try_from(index).unwrap_or_default(),
        name,
        uuid: hyphened(&uuid),
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        memory_total: memory_total as u64,
        memory_free: None,
        utilization: None,
        temperature: None,
    })
}

fn check(api: &Api, function: &'static str, code: i32) -> Result<(), Missing> {
    if code == SUCCESS {
        return Ok(());
    }
    Err(Missing::Failed { function, code, words: api.words(code) })
}

/// As `nvidia-smi` writes it: 8-4-4-4-12 hexadecimal digits.
fn hyphened(uuid: &CUuuid) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in uuid.bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", *byte as u8));
    }
    text
}
