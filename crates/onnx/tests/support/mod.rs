//! An ONNX Runtime library for tests: the pack below `BESPOKE_TEST_RUNTIMES`, else `ORT_DYLIB_PATH`, else
//! installed with pip once into the build folder. A test that needs it is never left out because it is
//! missing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version that is pinned: the last one without telemetry, and the one the figures were measured with.
const VERSION: &str = "1.28.0";

/// Set in a process that runs one test alone.
const APART: &str = "BESPOKE_TEST_APART";

/// Where [`apart`] hands on what was named before it changed the environment.
const NAMED: &str = "BESPOKE_TEST_ONNXRUNTIME";

/// The library file or its folder, ready for `Places::new`.
pub(crate) fn onnxruntime() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) = set(NAMED) {
        return path;
    }
    if let Some(root) = set("BESPOKE_TEST_RUNTIMES") {
        return pack(&root.join("onnx/cpu"));
    }
    if let Some(path) = set("ORT_DYLIB_PATH") {
        return path;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("onnxruntime-{VERSION}"));
    let library = cache.join("onnxruntime").join("capi");
    if !library.is_dir() {
        install(&cache);
    }
    assert!(library.is_dir(), "{} lacks onnxruntime/capi; remove the folder and run again", cache.display());
    library
}

/// The library file itself.
pub(crate) fn library() -> PathBuf {
    bespoke_onnx::find(&bespoke_onnx::Places::new(Some(onnxruntime())), false).expect("a library").path
}

/// Makes a library that says it is this version of ONNX Runtime, and has nothing else of it.
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "shared by the tests of two crates")]
pub(crate) fn versioned(library: &Path, version: &str) {
    let source = library.with_extension("c");
    let text = format!(
        "#include <stdlib.h>\n\
         static const void *api(unsigned version) {{ (void)version; abort(); }}\n\
         static const char *said(void) {{ return \"{version}\"; }}\n\
         static struct {{ const void *(*api)(unsigned); const char *(*said)(void); }} base = {{ api, said }};\n\
         void *OrtGetApiBase(void) {{ return &base; }}\n"
    );
    std::fs::write(&source, text).expect("written");
    let output =
        Command::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(library).arg(source).output().expect("gcc, which this test needs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs the test of this name alone, in a process whose environment has these variables or lacks them. True in that process;
/// false in the one that started it, when it has ended well.
pub(crate) fn apart(test: &str, variables: &[(&str, Option<PathBuf>)]) -> bool {
    if std::env::var_os(APART).is_some_and(|name| name == *OsStr::new(test)) {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().expect("a test program"));
    command.env(NAMED, onnxruntime()).env(APART, test);
    for (name, value) in variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // The harness names a test by its path; a part of it that only this test has will do.
    let output = command.args([test, "--nocapture", "--test-threads=1"]).output().expect("starts itself");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{variables:?}: {}\n{text}", output.status);
    assert!(text.contains("1 passed"), "no test of that name ran:\n{text}");
    false
}

/// The folder of the latest version of a pack.
fn pack(device: &Path) -> PathBuf {
    let versions = device.read_dir().unwrap_or_else(|error| panic!("BESPOKE_TEST_RUNTIMES: {}: {error}", device.display()));
    let folders = versions.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
    folders.max().unwrap_or_else(|| panic!("BESPOKE_TEST_RUNTIMES: {} holds no version", device.display()))
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
