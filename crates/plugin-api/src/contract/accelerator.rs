//! Accelerators: devices that engines may run on.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::builder;
use crate::{CallCx, Result};

/// What the host is told of an accelerator before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AcceleratorSpec {
    /// Its name, such as `cuda`.
    pub name: String,
}

impl AcceleratorSpec {
    /// An accelerator of that name.
    pub fn new(name: impl Into<String>) -> Self {
        AcceleratorSpec { name: name.into() }
    }
}

/// One device that was really found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Device {
    /// Its number.
    pub index: u32,
    /// Its name as the driver gives it.
    pub name: String,
    /// Its memory in bytes, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// How much of it is free now, in bytes, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free: Option<u64>,
    /// How much of the last moment it was busy, in percent, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization: Option<u8>,
    /// What code it runs, in the words of its maker, such as `9.0` for an NVIDIA H100; where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
}

impl Device {
    /// A device.
    pub fn new(index: u32, name: impl Into<String>) -> Self {
        Device { index, name: name.into(), memory: None, memory_free: None, utilization: None, capability: None }
    }
}

builder!(Device {
    /// Its memory in bytes.
    memory: u64 => Some(memory),
    /// What is free of it, in bytes.
    memory_free: u64 => Some(memory_free),
    /// How busy it is, in percent.
    utilization: u8 => Some(utilization),
    /// What code it runs.
    capability: impl Into<String> => Some(capability.into()),
});

/// The contract of an accelerator.
#[async_trait]
pub trait Accelerator: Send + Sync {
    /// The devices of this machine; empty when there is a driver but no device.
    ///
    /// # Errors
    /// `DEPENDENCY_MISSING` when there is no driver, with what to install.
    async fn devices(&self, cx: &CallCx) -> Result<Vec<Device>>;
}
