//! What NVML, NVIDIA's library for monitoring, says beyond the driver: its version, and what is free and busy. All of it is optional.

use nvml_wrapper::{Nvml, enum_wrappers::device::TemperatureSensor};

use crate::Device;

/// Fills in what NVML knows of the devices, and gives the version of the driver. A machine without NVML, and a device that does not
/// say, leave the fields empty.
pub(crate) fn complete(devices: &mut [Device]) -> Option<String> {
    let nvml = Nvml::init().ok()?;
    for device in devices {
        // The numbers of NVML are not those of CUDA, which sorts otherwise and hides what CUDA_VISIBLE_DEVICES leaves out. A slice
        // of a device has the same UUID behind another word.
        let Ok(found) =
            nvml.device_by_uuid(format!("GPU-{}", device.uuid)).or_else(|_| nvml.device_by_uuid(format!("MIG-{}", device.uuid)))
        else {
            continue;
        };
        device.memory_free = found.memory_info().ok().map(|memory| memory.free);
        device.utilization = found.utilization_rates().ok().and_then(|rates| u8::try_from(rates.gpu.min(100)).ok());
        device.temperature = found.temperature(TemperatureSensor::Gpu).ok();
    }
    nvml.sys_driver_version().ok()
}
