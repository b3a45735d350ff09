//! NVRTC: CUDA C++ to PTX, at run time. It needs neither a driver nor a device.

#![allow(unsafe_code, reason = "C functions of a library that is opened at run time")]

use std::{
    borrow::Cow,
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::{Path, PathBuf},
    ptr,
};

use bespoke_library::Library;

/// A kernel in NVIDIA's assembly for virtual devices, which a driver makes one for its device of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ptx(CString);

impl Ptx {
    /// Its text.
    pub fn text(&self) -> Cow<'_, str> {
        self.0.to_string_lossy()
    }
}

/// Why there is no compiler, or no kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NvrtcError {
    /// A library cannot be loaded.
    #[error("{} cannot be loaded: {reason}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// A library is not NVRTC, or too old.
    #[error("{} is no NVRTC of CUDA 12 or later: it has no {symbol}", path.display())]
    Symbol {
        /// The file.
        path: PathBuf,
        /// The function that it lacks.
        symbol: &'static str,
    },
    /// The source or the architecture holds a zero byte.
    #[error("the {0} holds a zero byte")]
    Zero(&'static str),
    /// The compiler found the source wrong.
    #[error("the kernel does not compile for {arch}:\n{log}")]
    Compile {
        /// The architecture.
        arch: String,
        /// What the compiler wrote, the beginning of it.
        log: String,
    },
    /// The compiler failed for another reason.
    #[error("NVRTC failed in {function}: {words}")]
    Failed {
        /// What was called.
        function: &'static str,
        /// What it answered.
        words: String,
    },
}

/// The compiler, loaded for the life of the process.
pub struct Nvrtc {
    path: PathBuf,
    version: (u32, u32),
    architectures: Vec<u32>,
    api: Api,
    // Never closed: it keeps threads and memory of its own, which outlive a close.
}

impl Nvrtc {
    /// Loads the compiler from an absolute path, after the libraries of `preload`, in that order: those that it asks for by name only.
    ///
    /// # Errors
    /// A file that is not there, is no library, or no NVRTC.
    pub fn load(library: &Path, preload: &[PathBuf]) -> Result<Self, NvrtcError> {
        for path in preload {
            open(path)?;
        }
        let handle = open(library)?;
        let api = Api::of(handle).map_err(|symbol| NvrtcError::Symbol { path: library.into(), symbol })?;
        let (mut major, mut minor): (c_int, c_int) = (0, 0);
        // SAFETY: places for two ints.
        api.check("nvrtcVersion", unsafe { (api.version)(&mut major, &mut minor) })?;
        let version = (u32::try_from(major).unwrap_or_default(), u32::try_from(minor).unwrap_or_default());
        let architectures = api.architectures()?;
        Ok(Nvrtc { path: library.into(), version, architectures, api })
    }

    /// The library.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version, such as (13, 5).
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// The name of the newest architecture that it compiles for and that a device of this capability runs, such as `compute_90`; `None`
    /// when it has dropped all that are old enough.
    pub fn architecture(&self, capability: (u32, u32)) -> Option<String> {
        let wanted = number(capability);
        self.architectures.iter().filter(|one| **one <= wanted).max().map(|one| format!("compute_{one}"))
    }

    /// Compiles CUDA C++ for an architecture such as `compute_90`. Blocks for tens of milliseconds and more.
    ///
    /// # Errors
    /// [`NvrtcError::Compile`] with the compiler's log.
    pub fn compile(&self, source: &str, arch: &str) -> Result<Ptx, NvrtcError> {
        let source = CString::new(source).map_err(|_| NvrtcError::Zero("source"))?;
        let program = self.program(&source, arch)?;
        let ptx = program.output("nvrtcGetPTX", self.api.ptx_size, self.api.ptx)?;
        Ok(Ptx(CStr::from_bytes_until_nul(&ptx).unwrap_or_default().to_owned()))
    }

    /// Compiles CUDA C++ for one device. Machine code where the compiler knows the device: a driver takes that from any compiler of its
    /// major version, and PTX only from one that is not newer than itself.
    pub(crate) fn image(&self, source: &str, capability: (u32, u32)) -> Result<Vec<u8>, NvrtcError> {
        let number = number(capability);
        let arch = match self.architecture(capability) {
            _ if self.architectures.contains(&number) => format!("sm_{number}"),
            Some(older) => older,
            // The compiler says what is wrong with it.
            None => format!("compute_{number}"),
        };
        let source = CString::new(source).map_err(|_| NvrtcError::Zero("source"))?;
        let program = self.program(&source, &arch)?;
        if arch.starts_with("sm_") {
            return program.output("nvrtcGetCUBIN", self.api.cubin_size, self.api.cubin);
        }
        program.output("nvrtcGetPTX", self.api.ptx_size, self.api.ptx)
    }

    fn program<'a>(&'a self, source: &'a CStr, arch: &str) -> Result<Program<'a>, NvrtcError> {
        let option = CString::new(format!("--gpu-architecture={arch}")).map_err(|_| NvrtcError::Zero("architecture"))?;
        let program = Program::new(&self.api, source)?;
        let options = [option.as_ptr()];
        // SAFETY: a program that was created and not destroyed; as many options as said, which outlive the call.
        let code = unsafe { (self.api.compile)(program.handle, 1, options.as_ptr()) };
        if code == COMPILATION || code == INVALID_OPTION {
            let log = program.output("nvrtcGetProgramLog", self.api.log_size, self.api.log)?;
            let log = String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default());
            let log = log.trim_end();
            let log = if log.is_empty() { self.api.words(code) } else { log.chars().take(LONGEST_LOG).collect() };
            return Err(NvrtcError::Compile { arch: arch.into(), log });
        }
        self.api.check("nvrtcCompileProgram", code)?;
        Ok(program)
    }
}

/// As the compiler writes a capability: 90 for 9.0.
fn number(capability: (u32, u32)) -> u32 {
    capability.0.saturating_mul(10).saturating_add(capability.1)
}

impl std::fmt::Debug for Nvrtc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nvrtc").field("path", &self.path).field("version", &self.version).finish_non_exhaustive()
    }
}

/// Characters of a log that are kept: a template can fill megabytes.
const LONGEST_LOG: usize = 16 * 1024;

/// `NVRTC_ERROR_INVALID_OPTION`: an architecture that it does not know.
const INVALID_OPTION: c_int = 5;
/// `NVRTC_ERROR_COMPILATION`.
const COMPILATION: c_int = 6;

fn open(path: &Path) -> Result<&'static Library, NvrtcError> {
    bespoke_library::open(path).map_err(|error| NvrtcError::Load { path: error.path, reason: error.reason })
}

type Handle = *mut c_void;
type Size = unsafe extern "C" fn(Handle, *mut usize) -> c_int;
type Output = unsafe extern "C" fn(Handle, *mut c_char) -> c_int;

/// The functions that we call. A result is a number, as in C.
struct Api {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int,
    arch_count: unsafe extern "C" fn(*mut c_int) -> c_int,
    archs: unsafe extern "C" fn(*mut c_int) -> c_int,
    error_text: unsafe extern "C" fn(c_int) -> *const c_char,
    create: unsafe extern "C" fn(*mut Handle, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char) -> c_int,
    destroy: unsafe extern "C" fn(*mut Handle) -> c_int,
    compile: unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> c_int,
    ptx_size: Size,
    ptx: Output,
    cubin_size: Size,
    cubin: Output,
    log_size: Size,
    log: Output,
}

impl Api {
    fn of(library: &Library) -> Result<Self, &'static str> {
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the type of the field it is put into is the signature of nvrtc.h, with `nvrtcResult` as the int that it
                // is; the library is never closed.
                *unsafe { library.get($name.as_bytes()) }.map_err(|_| $name)?
            };
        }
        Ok(Api {
            version: symbol!("nvrtcVersion"),
            arch_count: symbol!("nvrtcGetNumSupportedArchs"),
            archs: symbol!("nvrtcGetSupportedArchs"),
            error_text: symbol!("nvrtcGetErrorString"),
            create: symbol!("nvrtcCreateProgram"),
            destroy: symbol!("nvrtcDestroyProgram"),
            compile: symbol!("nvrtcCompileProgram"),
            ptx_size: symbol!("nvrtcGetPTXSize"),
            ptx: symbol!("nvrtcGetPTX"),
            cubin_size: symbol!("nvrtcGetCUBINSize"),
            cubin: symbol!("nvrtcGetCUBIN"),
            log_size: symbol!("nvrtcGetProgramLogSize"),
            log: symbol!("nvrtcGetProgramLog"),
        })
    }

    fn architectures(&self) -> Result<Vec<u32>, NvrtcError> {
        let mut count: c_int = 0;
        // SAFETY: a place for one int.
        self.check("nvrtcGetNumSupportedArchs", unsafe { (self.arch_count)(&mut count) })?;
        let mut all = vec![0; usize::try_from(count).unwrap_or_default()];
        // SAFETY: as many places as it said that it has.
        self.check("nvrtcGetSupportedArchs", unsafe { (self.archs)(all.as_mut_ptr()) })?;
        Ok(all.into_iter().filter_map(|one| u32::try_from(one).ok()).collect())
    }

    fn check(&self, function: &'static str, code: c_int) -> Result<(), NvrtcError> {
        if code == 0 { Ok(()) } else { Err(NvrtcError::Failed { function, words: self.words(code) }) }
    }

    fn words(&self, code: c_int) -> String {
        // SAFETY: gives a constant of the library for any number.
        let text = unsafe { (self.error_text)(code) };
        if text.is_null() {
            return format!("error {code}");
        }
        // SAFETY: not null, ends with a zero, and is never freed.
        format!("{} ({code})", unsafe { CStr::from_ptr(text) }.to_string_lossy())
    }
}

/// A program of the compiler, destroyed with this. It does not copy the source, which therefore is held.
struct Program<'a> {
    api: &'a Api,
    handle: Handle,
    _source: &'a CStr,
}

impl<'a> Program<'a> {
    fn new(api: &'a Api, source: &'a CStr) -> Result<Self, NvrtcError> {
        let mut handle = ptr::null_mut();
        // SAFETY: a place for one handle, a source that outlives the program, a constant name, and no headers.
        let code = unsafe { (api.create)(&mut handle, source.as_ptr(), c"kernel.cu".as_ptr(), 0, ptr::null(), ptr::null()) };
        api.check("nvrtcCreateProgram", code)?;
        Ok(Program { api, handle, _source: source })
    }

    /// One of the outputs of a program, by its length and itself, with a zero at the end in any case.
    fn output(&self, function: &'static str, size: Size, output: Output) -> Result<Vec<u8>, NvrtcError> {
        let mut length = 0;
        // SAFETY: a program that was created and not destroyed, and a place for one size.
        self.api.check(function, unsafe { size(self.handle, &mut length) })?;
        let mut buffer = vec![0_u8; length.saturating_add(1)];
        // SAFETY: as above, and as much room as it said that it needs.
        self.api.check(function, unsafe { output(self.handle, buffer.as_mut_ptr().cast()) })?;
        Ok(buffer)
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: a program that was created, destroyed once.
        unsafe { (self.api.destroy)(&mut self.handle) };
    }
}
