//! The functions of the driver that we call, looked up one by one. It decides nothing.

#![allow(unsafe_code, reason = "C functions of a library that is opened at run time")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use cudarc::driver::sys::{self, CUcontext, CUdevice, CUdeviceptr, CUfunction, CUmodule, CUstream, CUuuid};

/// `CUresult` as what it is in C: a number, so that a driver newer than we know may answer anything.
pub(crate) type Code = c_int;

/// `CUDA_SUCCESS`.
pub(crate) const SUCCESS: Code = 0;
/// `CUDA_ERROR_NO_DEVICE`.
pub(crate) const NO_DEVICE: Code = 100;

macro_rules! table {
    ($($(#[$doc:meta])* $field:ident = $symbol:literal: fn($($arg:ty),*);)*) => {
        /// A driver whose functions are all there.
        pub(crate) struct Api {
            $($(#[$doc])* pub(crate) $field: unsafe extern "C" fn($($arg),*) -> Code,)*
            /// Devices that are a slice of another have their own UUID from CUDA 11.4 on; older ones have the first form only.
            pub(crate) uuid: unsafe extern "C" fn(*mut CUuuid, CUdevice) -> Code,
            error_name: Option<unsafe extern "C" fn(Code, *mut *const c_char) -> Code>,
            error_text: Option<unsafe extern "C" fn(Code, *mut *const c_char) -> Code>,
        }

        impl Api {
            /// The driver of this machine: `Ok(None)` without one, `Err` names a function that it lacks.
            pub(crate) fn open() -> Result<Option<Self>, &'static str> {
                // SAFETY: opens libcuda, if there is one, and closes it again. Its initialisers are NVIDIA's, and run in any program
                // that uses the driver.
                if !unsafe { sys::is_culib_present() } {
                    return Ok(None);
                }
                // SAFETY: as above; cudarc keeps it open for good. It panics only when the library vanished since the line before.
                let library = unsafe { sys::culib() };
                // The signatures are those of cuda.h, with `CUresult` as the int that it is; the library is never closed, so the
                // pointers stay good.
                Ok(Some(Api {
                    // SAFETY: the type is that of the field, as above.
                    $($field: *unsafe { library.get($symbol.as_bytes()) }.map_err(|_| $symbol)?,)*
                    // SAFETY: as above.
                    uuid: *unsafe { library.get(b"cuDeviceGetUuid_v2").or_else(|_| library.get(b"cuDeviceGetUuid")) }
                        .map_err(|_| "cuDeviceGetUuid")?,
                    // SAFETY: as above.
                    error_name: unsafe { library.get(b"cuGetErrorName") }.ok().map(|f| *f),
                    // SAFETY: as above.
                    error_text: unsafe { library.get(b"cuGetErrorString") }.ok().map(|f| *f),
                }))
            }
        }
    };
}

table! {
    /// The newest CUDA that the driver runs. May be called before `init`.
    version = "cuDriverGetVersion": fn(*mut c_int);
    init = "cuInit": fn(c_uint);
    device_count = "cuDeviceGetCount": fn(*mut c_int);
    device = "cuDeviceGet": fn(*mut CUdevice, c_int);
    device_name = "cuDeviceGetName": fn(*mut c_char, c_int, CUdevice);
    device_memory = "cuDeviceTotalMem_v2": fn(*mut usize, CUdevice);
    device_attribute = "cuDeviceGetAttribute": fn(*mut c_int, c_uint, CUdevice);
    context_retain = "cuDevicePrimaryCtxRetain": fn(*mut CUcontext, CUdevice);
    context_release = "cuDevicePrimaryCtxRelease_v2": fn(CUdevice);
    context_set = "cuCtxSetCurrent": fn(CUcontext);
    synchronize = "cuCtxSynchronize": fn();
    module_load = "cuModuleLoadData": fn(*mut CUmodule, *const c_void);
    module_unload = "cuModuleUnload": fn(CUmodule);
    module_function = "cuModuleGetFunction": fn(*mut CUfunction, CUmodule, *const c_char);
    alloc = "cuMemAlloc_v2": fn(*mut CUdeviceptr, usize);
    free = "cuMemFree_v2": fn(CUdeviceptr);
    to_device = "cuMemcpyHtoD_v2": fn(CUdeviceptr, *const c_void, usize);
    to_host = "cuMemcpyDtoH_v2": fn(*mut c_void, CUdeviceptr, usize);
    launch = "cuLaunchKernel": fn(
        CUfunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, CUstream, *mut *mut c_void, *mut *mut c_void
    );
}

impl Api {
    /// What a code means, in the driver's own words where it has some.
    pub(crate) fn words(&self, code: Code) -> String {
        let ask = |function: Option<unsafe extern "C" fn(Code, *mut *const c_char) -> Code>| {
            let mut text = std::ptr::null();
            // SAFETY: `text` is a place for one pointer; the strings that come back are constants of the driver.
            let known = unsafe { function?(code, &mut text) } == SUCCESS && !text.is_null();
            // SAFETY: not null, ends with a zero, and lives as long as the driver.
            known.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        match (ask(self.error_name), ask(self.error_text)) {
            (Some(name), Some(text)) => format!("{name} ({code}): {text}"),
            (Some(name), None) => format!("{name} ({code})"),
            _ => format!("error {code}"),
        }
    }
}
