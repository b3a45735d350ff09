//! One kernel on a device, to see that it computes. No way to run others: what computes for plugins is a runtime.

#![allow(unsafe_code, reason = "C functions of the driver")]

use std::ffi::{c_uint, c_void};

use cudarc::driver::sys::{CUcontext, CUdevice, CUdeviceptr, CUmodule};

use crate::{
    Device, Missing, Nvrtc, NvrtcError,
    api::{Api, Code, SUCCESS},
};

/// `out[i] = a * x[i] + y[i]`, as CUDA C++ for [`Nvrtc::compile`](crate::Nvrtc::compile).
pub const SAXPY: &str = r#"
extern "C" __global__ void saxpy(float a, const float* x, const float* y, float* out, unsigned int n) {
    unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a * x[i] + y[i];
}
"#;

/// Why a kernel did not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// There is nothing to run it on.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The kernel does not compile for the device.
    #[error(transparent)]
    Nvrtc(#[from] NvrtcError),
    /// The two vectors differ in length, are empty, or are longer than the kernel counts.
    #[error("{x} and {y} numbers: it takes two vectors of one length, from 1 to 2^31")]
    Length {
        /// Length of the one.
        x: usize,
        /// Length of the other.
        y: usize,
    },
    /// The driver refused.
    #[error("device {device}: {function} failed: {words}")]
    Failed {
        /// Number of the device.
        device: u32,
        /// What was called.
        function: &'static str,
        /// What it answered, in the driver's words.
        words: String,
    },
}

/// Compiles [`SAXPY`] for a device of [`probe`](crate::probe) and runs it there: `a * x + y`. Blocks, without a limit of its own, and
/// holds a context of the device while it does.
///
/// # Errors
/// No driver, vectors that do not fit, a compiler that does not know the device, or what the driver says.
pub fn saxpy(nvrtc: &Nvrtc, device: &Device, a: f32, x: &[f32], y: &[f32]) -> Result<Vec<f32>, RunError> {
    let fits = x.len() == y.len() && (1..=1 << 31).contains(&x.len());
    let n = c_uint::try_from(x.len()).ok().filter(|_| fits).ok_or(RunError::Length { x: x.len(), y: y.len() })?;
    let api = Api::open().map_err(Missing::Symbol)?.ok_or(Missing::Library)?;
    let image = nvrtc.image(SAXPY, device.capability)?;
    let check = Check { api: &api, device: device.index };
    // SAFETY: the only argument is 0, as it must be.
    check.done("cuInit", unsafe { (api.init)(0) })?;
    let context = Context::new(&check)?;
    let module = Module::new(&context, &image)?;
    let mut function = std::ptr::null_mut();
    // SAFETY: a place for one handle, a module that is loaded, and a constant name.
    check.done("cuModuleGetFunction", unsafe { (api.module_function)(&mut function, module.handle, c"saxpy".as_ptr()) })?;

    let bytes = size_of_val(x);
    let (on_x, on_y, on_out) = (Memory::new(&context, bytes)?, Memory::new(&context, bytes)?, Memory::new(&context, bytes)?);
    for (memory, values) in [(&on_x, x), (&on_y, y)] {
        // SAFETY: `bytes` were allocated, and `values` has as many.
        check.done("cuMemcpyHtoD_v2", unsafe { (api.to_device)(memory.pointer, values.as_ptr().cast(), bytes) })?;
    }
    // The driver reads what these point to before it returns; their types are those of the kernel's parameters, one by one.
    let mut parameters: [*mut c_void; 5] = [
        (&raw const a).cast_mut().cast(),
        (&raw const on_x.pointer).cast_mut().cast(),
        (&raw const on_y.pointer).cast_mut().cast(),
        (&raw const on_out.pointer).cast_mut().cast(),
        (&raw const n).cast_mut().cast(),
    ];
    const BLOCK: c_uint = 256;
    let no_stream = std::ptr::null_mut();
    // SAFETY: the function is the kernel above, which stays within `n` numbers of each vector; the module is loaded until after the
    // result is here.
    check.done("cuLaunchKernel", unsafe {
        (api.launch)(function, n.div_ceil(BLOCK), 1, 1, BLOCK, 1, 1, 0, no_stream, parameters.as_mut_ptr(), std::ptr::null_mut())
    })?;
    // SAFETY: waits for the context of this thread.
    check.done("cuCtxSynchronize", unsafe { (api.synchronize)() })?;
    let mut out = vec![0.0_f32; x.len()];
    // SAFETY: `bytes` were allocated on the device, and `out` has as many.
    check.done("cuMemcpyDtoH_v2", unsafe { (api.to_host)(out.as_mut_ptr().cast(), on_out.pointer, bytes) })?;
    Ok(out)
}

#[derive(Clone, Copy)]
struct Check<'a> {
    api: &'a Api,
    device: u32,
}

impl Check<'_> {
    fn done(&self, function: &'static str, code: Code) -> Result<(), RunError> {
        if code == SUCCESS {
            return Ok(());
        }
        Err(RunError::Failed { device: self.device, function, words: self.api.words(code) })
    }
}

/// The device's primary context, which is this thread's until it is dropped.
struct Context<'a> {
    check: &'a Check<'a>,
    device: CUdevice,
}

impl<'a> Context<'a> {
    fn new(check: &'a Check<'a>) -> Result<Self, RunError> {
        let mut device: CUdevice = 0;
        // SAFETY: a place for one handle.
        check.done("cuDeviceGet", unsafe { (check.api.device)(&mut device, i32::try_from(check.device).unwrap_or(i32::MAX)) })?;
        let mut handle: CUcontext = std::ptr::null_mut();
        // SAFETY: a place for one handle, and a device of the driver.
        check.done("cuDevicePrimaryCtxRetain", unsafe { (check.api.context_retain)(&mut handle, device) })?;
        let context = Context { check, device };
        // SAFETY: a context that was retained.
        check.done("cuCtxSetCurrent", unsafe { (check.api.context_set)(handle) })?;
        Ok(context)
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: takes the context from this thread, then releases what was retained, once. There is nobody to tell of an error.
        unsafe {
            (self.check.api.context_set)(std::ptr::null_mut());
            (self.check.api.context_release)(self.device);
        }
    }
}

/// A loaded kernel. Within a context, which outlives it.
struct Module<'a> {
    context: &'a Context<'a>,
    handle: CUmodule,
}

impl<'a> Module<'a> {
    fn new(context: &'a Context<'a>, image: &[u8]) -> Result<Self, RunError> {
        let mut handle: CUmodule = std::ptr::null_mut();
        // SAFETY: a place for one handle, and what the compiler made: machine code knows its length, PTX ends with a zero.
        context.check.done("cuModuleLoadData", unsafe { (context.check.api.module_load)(&mut handle, image.as_ptr().cast()) })?;
        Ok(Module { context, handle })
    }
}

impl Drop for Module<'_> {
    fn drop(&mut self) {
        // SAFETY: a module that was loaded, unloaded once, in its context.
        unsafe { (self.context.check.api.module_unload)(self.handle) };
    }
}

/// Memory of the device. Within a context, which outlives it.
struct Memory<'a> {
    context: &'a Context<'a>,
    pointer: CUdeviceptr,
}

impl<'a> Memory<'a> {
    fn new(context: &'a Context<'a>, bytes: usize) -> Result<Self, RunError> {
        let mut pointer: CUdeviceptr = 0;
        // SAFETY: a place for one pointer.
        context.check.done("cuMemAlloc_v2", unsafe { (context.check.api.alloc)(&mut pointer, bytes) })?;
        Ok(Memory { context, pointer })
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        // SAFETY: memory that was allocated, freed once, in its context.
        unsafe { (self.context.check.api.free)(self.pointer) };
    }
}
