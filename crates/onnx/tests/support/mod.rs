//! An ONNX Runtime library for tests: `ORT_DYLIB_PATH` if set, else installed with pip once into the
//! build folder. A test that needs it is never left out because it is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The version that is pinned: the last one without telemetry, and the one the figures were measured with.
const VERSION: &str = "1.28.0";

/// The library file or its folder, ready for `Runtime::get`.
pub(crate) fn onnxruntime() -> PathBuf {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("onnxruntime-{VERSION}"));
    let library = cache.join("onnxruntime").join("capi");
    if !library.is_dir() {
        install(&cache);
    }
    assert!(library.is_dir(), "{} lacks onnxruntime/capi; remove the folder and run again", cache.display());
    library
}

fn install(cache: &Path) {
    // Installed beside and renamed, so that two test programs never see half of it.
    let staging = cache.with_extension(std::process::id().to_string());
    let python = if cfg!(windows) { "python" } else { "python3" };
    let output = Command::new(python)
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target"])
        .arg(&staging)
        .arg(format!("onnxruntime=={VERSION}"))
        .output()
        .unwrap_or_else(|error| panic!("{python} -m pip, which fetches ONNX Runtime for the tests: {error}"));
    assert!(
        output.status.success(),
        "pip install onnxruntime=={VERSION} failed; set ORT_DYLIB_PATH to a library instead:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    if std::fs::rename(&staging, cache).is_err() {
        // Another test program was faster; its copy is the same.
        let _ = std::fs::remove_dir_all(&staging);
    }
}
