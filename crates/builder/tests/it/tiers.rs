//! The example in each tier.

use std::{fs, path::Path};

use bespoke_builder::{Built, Request, Tier};
use bespoke_manifest::Manifest;

use crate::kit::{CHIMES, Crate, STOPWATCH, built};

/// The example, built where it goes by default, or for a test of its own.
fn chimes(tier: Tier) -> Built {
    let (result, said) = built(&Request::new(CHIMES, tier));
    let built = result.unwrap_or_else(|e| panic!("{e}\n{said:#?}"));
    assert_eq!((&*built.id, &*built.version, built.tier), ("chimes", "1.0.0", tier));
    assert!(built.bytes > 10_000, "{built:?}");
    built
}

fn manifest(built: &Built) -> Manifest {
    let path = built.path.join("plugin.toml");
    let manifest = Manifest::read(&path.to_string_lossy(), &fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(manifest.tiers, [built.tier]);
    assert_eq!((&*manifest.version.to_string(), &*manifest.license), ("1.0.0", "Apache-2.0"));
    assert!(built.path.join("config.schema.json").is_file());
    manifest
}

fn begins_with(path: &Path, magic: &[u8]) {
    let bytes = fs::read(path).unwrap();
    assert!(bytes.starts_with(magic), "{}: {:?}", path.display(), &bytes[..16]);
}

#[test]
fn as_a_dynamic_library() {
    let built = chimes(Tier::Dylib);
    let file = manifest(&built).dylib.unwrap().file;
    let library = fs::read(built.path.join(file)).unwrap();
    let symbol = b"bespoke_plugin_v1";
    assert!(library.windows(symbol.len()).any(|window| window == symbol));
}

#[cfg(unix)]
#[test]
fn the_same_again_leaves_the_folder_to_whoever_is_at_it() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let mut request = Request::new(CHIMES, Tier::Process);
    request.out = Some(folder.path().join("bells"));
    let number = || {
        let built = built(&request).0.unwrap();
        fs::metadata(built.path).unwrap().ino()
    };
    let first = number();
    assert_eq!(number(), first);
    // Another tier takes its place as a whole.
    request.tier = Tier::Dylib;
    let built = built(&request).0.unwrap();
    assert!(built.path.join("plugin.toml").is_file() && !built.path.join("plugin").exists());
}

#[test]
fn as_a_process() {
    let built = chimes(Tier::Process);
    assert!(manifest(&built).process.is_some());
    assert!(built.path.join(format!("plugin{}", std::env::consts::EXE_SUFFIX)).is_file());
}

/// A plugin that needs an operating system is none the less a plugin.
#[test]
fn a_native_one_as_a_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut request = Request::new(STOPWATCH, Tier::Process);
    request.out = Some(folder.path().join("here/stopwatch"));
    let (result, said) = built(&request);
    let built = result.unwrap_or_else(|e| panic!("{e}\n{said:#?}"));
    assert_eq!(built.path, folder.path().join("here/stopwatch"));
    assert_eq!(built.path.parent().unwrap().read_dir().unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn as_a_component() {
    let built = chimes(Tier::Wasm);
    let file = manifest(&built).wasm.unwrap().file;
    // A component, and not a module: layer 1.
    begins_with(&built.path.join(file), b"\0asm\x0d\0\x01\0");
}

/// The compiler takes it, and it would fail when it runs: whoever builds it is told where, after all that cargo says.
#[test]
fn as_a_component_with_a_clock_of_its_own() {
    let watch = Crate::new("", "").offline().beside(CHIMES);
    for file in ["src/lib.rs", "config.schema.json", "plugin.toml"] {
        let text = fs::read_to_string(Path::new(STOPWATCH).join(file)).unwrap();
        watch.write(file, &text.replace("\"dylib\"", "\"dylib\", \"wasm\""));
    }
    let (result, said) = built(&Request::new(watch.path(), Tier::Wasm));
    result.unwrap_or_else(|e| panic!("{e}\n{said:#?}"));
    let warning = said.last().unwrap();
    assert!(warning.starts_with("warning: ") && warning.contains("/src/lib.rs:"), "{warning}");
    assert!(warning.ends_with(": `Instant::now` panics in a component, which has no clock: use cx.now()"), "{warning}");
}
