//! ONNX Runtime found, loaded and run for real; and every way in which it is not there.
//!
//! One library per process: the cases that need an order stand in one test, and those that need an
//! environment of their own in a process of their own.

#![allow(clippy::print_stdout, reason = "a process apart answers on it")]

#[cfg(target_os = "linux")]
#[path = "../../../cuda/tests/support/mod.rs"]
mod machine;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use bespoke_onnx::{
    Device, LIBRARY_VAR, NO_TELEMETRY, NoCuda, NotFound, OnnxError, Origin, Pack, Places, Provider, ROOT_VAR, Runtime, Session, Telemetry,
    Tensor, find, settle,
};
use support::apart;

#[test]
fn failures_leave_the_process_able_to_load_and_run() {
    if !apart("failures_leave_the_process_able_to_load_and_run", &[(NO_TELEMETRY, Some("1".into())), (LIBRARY_VAR, None)]) {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let missing = folder.path().join("libonnxruntime.so");
    let at = |path: &Path| Places::new(Some(path.to_owned()));
    let error = Runtime::get(&at(&missing), false).expect_err("missing");
    assert!(matches!(&error, OnnxError::NotFound(NotFound::NoSuchFile { origin: Origin::Explicit, .. })), "{error}");

    std::fs::write(&missing, b"not a library").expect("written");
    let error = Runtime::get(&at(&missing), false).expect_err("no library");
    assert!(matches!(&error, OnnxError::Load { path, .. } if *path == missing), "{error}");

    // The loader would map the half that is there and be killed at the other.
    let bytes = std::fs::read(support::library()).expect("a library");
    std::fs::write(&missing, &bytes[..bytes.len() / 2]).expect("written");
    let error = Runtime::get(&at(&missing), false).expect_err("half a library");
    assert!(!cfg!(target_os = "linux") || error.to_string().contains("cut off"), "{error}");

    // A real library, but another one.
    if cfg!(target_os = "linux") {
        let foreign = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"];
        for path in foreign.iter().map(Path::new).filter(|path| path.is_file()) {
            let error = Runtime::get(&at(path), false).expect_err("foreign");
            assert!(error.to_string().contains("OrtGetApiBase"), "{error}");
        }
    }
    assert!(Runtime::loaded().is_none());

    let places = at(&support::onnxruntime());
    let runtime = Runtime::get(&places, false).expect("loads").runtime;
    assert!(runtime.path().is_absolute());
    assert_eq!(runtime.origin(), Origin::Explicit);
    assert!(std::ptr::eq(runtime, Runtime::get(&places, false).expect("the same").runtime));
    let version = runtime.version().expect("its build says");
    let minor: u32 = version.split('.').nth(1).expect("has a minor version").parse().expect("a number");
    assert_eq!(runtime.telemetry(), if minor >= 29 { Telemetry::Off } else { Telemetry::Absent });

    // A second library: refused where it was named, else a matter of a restart.
    let other = folder.path().join("other.so");
    std::fs::write(&other, b"").expect("written");
    let error = Runtime::get(&at(&other), false).expect_err("another one");
    assert!(matches!(&error, OnnxError::AlreadyLoaded { asked, .. } if *asked == other), "{error}");
    assert!(error.to_string().contains("restart to use"), "{error}");
    let pack = Places { cpu: Ok(pack(&other, "2.0.0")), ..Places::new(None) };
    let current = Runtime::get(&pack, false).expect("the one that is loaded");
    assert!(std::ptr::eq(runtime, current.runtime));
    assert_eq!(current.after_restart, Some(other));

    assert!(matches!(runtime.session(b"no model", Provider::Cpu), Err(OnnxError::Model(_))));
    let mut session = runtime.session(&doubling_model(TWO), Provider::Cpu).expect("a valid model");
    assert!(session.inputs().eq(["x"]) && session.outputs().eq(["y"]));
    let mut x = Tensor::f32(&[1, 2], vec![1.0, -3.0]).expect("two elements");
    let mut y = Tensor::f32(&[1, 2], vec![0.0; 2]).expect("two elements");
    session.run([&x], [&mut y]).expect("runs");
    assert_eq!(y.as_f32(), [2.0, -6.0]);
    x.as_f32_mut().copy_from_slice(&[0.5, 0.0]);
    session.run([&x], [&mut y]).expect("runs again");
    assert_eq!(y.as_f32(), [1.0, 0.0]);
    // Where the model leaves the length open, an output of another length is noticed only as it is written.
    let mut open = runtime.session(&doubling_model(&field(2, b"N")), Provider::Cpu).expect("a valid model");
    for session in [&mut session, &mut open] {
        refusals(session, &x, &mut y);
        session.run([&x], [&mut y]).expect("still runs");
        assert_eq!(y.as_f32(), [1.0, 0.0]);
    }
    let wide = Tensor::f32(&[1, 3], vec![1.0; 3]).expect("three elements");
    assert!(session.run([&wide], [&mut y]).is_err() && open.run([&wide], [&mut y]).is_err());
}

fn refusals(session: &mut Session, x: &Tensor, y: &mut Tensor) {
    let refused = |outcome: Result<(), OnnxError>, word: &str| {
        let error = outcome.expect_err(word);
        assert!(matches!(error, OnnxError::Run(_)) && error.to_string().contains(word), "{error}");
    };
    refused(session.run([x, x], [y]), "1 inputs, not 2");
    refused(session.run([x], []), "1 outputs, not 0");
    let mut whole = Tensor::i64(&[1, 2], vec![0; 2]).expect("two elements");
    refused(session.run([&whole], [y]), "x is no tensor of");
    refused(session.run([x], [&mut whole]), "y is no tensor of");
    for (shape, length) in [(&[1, 3][..], 3), (&[1, 1], 1), (&[2], 2), (&[1, 0], 0)] {
        let mut other = Tensor::f32(shape, vec![0.0; length]).expect("as many as the shape says");
        assert!(matches!(session.run([x], [&mut other]), Err(OnnxError::Run(_))), "{shape:?}");
        assert!(other.as_f32().iter().all(|&value| value == 0.0));
    }
    assert!(Tensor::f32(&[2, 2], vec![0.0; 3]).is_err());
}

/// Every place names a library of its own; the variables come from the environment of a process.
#[test]
fn the_environment_names_the_library_or_its_folder() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let lib = folder.path().join("release/lib");
    std::fs::create_dir_all(&lib).expect("made");
    for place in [folder.path().join("libonnxruntime.so"), lib.join("libonnxruntime.so")] {
        std::fs::write(place, b"").expect("written");
    }
    let test = "the_environment_names_the_library_or_its_folder";
    let release = folder.path().join("release");
    for (file, root) in [(Some(folder.path().to_owned()), Some(release.clone())), (None, Some(release))] {
        if apart(test, &[(LIBRARY_VAR, file), (ROOT_VAR, root)]) {
            let found = find(&Places::new(None), false).expect("named");
            let want = if std::env::var_os(LIBRARY_VAR).is_some() { Origin::Environment } else { Origin::Root };
            assert_eq!(found.origin, want);
            assert!(Places::new(None).any_named());
            return;
        }
    }
}

/// This library has no CUDA, and the machine may have no driver: whichever is missing is named, and the processor runs.
#[test]
fn what_keeps_cuda_from_running_is_named() {
    if !apart("what_keeps_cuda_from_running_is_named", &[(NO_TELEMETRY, Some("1".into())), (LIBRARY_VAR, None)]) {
        return;
    }
    let library = support::library();
    let explicit = Places::new(Some(library.clone()));
    let installed = Places { explicit: None, cpu: Ok(pack(&library, "1.28.0")), cuda: Err("onnx:cuda is not installed".into()) };
    let broken = Places { cuda: Ok(pack(Path::new("/nowhere/libonnxruntime.so"), "1.28.0")), ..installed.clone() };
    let run = |places: &Places, device, required| {
        settle(places, device, required, |runtime, provider| {
            let mut session = runtime.session(&doubling_model(TWO), provider)?;
            assert_eq!(session.provider(), provider);
            let x = Tensor::f32(&[1, 2], vec![1.0, 2.0])?;
            let mut y = Tensor::f32(&[1, 2], vec![0.0; 2])?;
            session.run([&x], [&mut y])?;
            Ok::<_, OnnxError>(y.as_f32().to_vec())
        })
        .map_err(|(error, _)| error)
    };
    let no_device = |why: &NoCuda| matches!(why, NoCuda::NoDevice(_));

    let settled = run(&installed, Device::Auto, true).expect("asks for nothing");
    assert_eq!((settled.provider, settled.value), (Provider::Cpu, vec![2.0, 4.0]));
    assert_eq!(settled.runtime.origin(), Origin::Installed);
    assert_eq!(settled.no_cuda, Some(NoCuda::NoPack("onnx:cuda is not installed".into())));
    assert_eq!(run(&installed, Device::Cpu, true).expect("runs").no_cuda, None);

    let why = run(&installed, Device::Cuda, false).expect("runs").no_cuda.expect("a reason");
    assert!(no_device(&why) || why == NoCuda::NoPack("onnx:cuda is not installed".into()), "{why}");
    let why = run(&explicit, Device::Cuda, false).expect("runs").no_cuda.expect("a reason");
    assert!(no_device(&why) || matches!(&why, NoCuda::WithoutCuda { path, .. } if *path == library), "{why}");
    let why = run(&broken, Device::Auto, false).expect("runs").no_cuda.expect("a reason");
    assert!(matches!(&why, NoCuda::NoPack(_) | NoCuda::Load(_)) || no_device(&why), "{why}");

    let error = run(&installed, Device::Cuda, true).expect_err("required");
    assert!(error.to_string().starts_with("CUDA does not run: "), "{error}");
}

/// What was said before the library is loaded holds; an empty value says nothing.
#[test]
fn a_release_that_reports_is_loaded_when_somebody_has_decided() {
    let test = "a_release_that_reports_is_loaded_when_somebody_has_decided";
    let home = tempfile::tempdir().expect("temporary folder");
    for value in [None, Some(""), Some("1"), Some("0")] {
        let variables = [
            (NO_TELEMETRY, value.map(PathBuf::from)),
            ("HOME", Some(home.path().to_owned())),
            ("XDG_CACHE_HOME", None),
            (LIBRARY_VAR, None),
        ];
        if apart(test, &variables) {
            let said = std::env::var(NO_TELEMETRY).unwrap_or_default();
            let file = support::library();
            let digits = file.to_str().expect("text").rsplit(".so.1.").next().unwrap_or_default();
            let minor: u32 = digits.split('.').next().and_then(|minor| minor.parse().ok()).unwrap_or_default();
            let loaded = Runtime::get(&Places::new(Some(file.clone())), false);
            let want = match (minor, &*said) {
                (29.., "") => {
                    let error = loaded.expect_err("nobody has decided");
                    assert!(matches!(&error, OnnxError::Telemetry { path } if *path == file), "{error}");
                    return;
                }
                (29.., "0") => Telemetry::Allowed,
                (29.., _) => Telemetry::Off,
                _ => Telemetry::Absent,
            };
            assert_eq!(loaded.expect("loads").runtime.telemetry(), want);
            // Where a release that reports keeps the id that it makes for the machine, unless it is told not to.
            let home = PathBuf::from(std::env::var_os("HOME").expect("set"));
            assert!(want == Telemetry::Allowed || home.read_dir().expect("a folder").next().is_none());
            return;
        }
    }
}

/// Libraries that say a version and end the process when they are asked for anything else.
#[cfg(target_os = "linux")]
#[test]
fn what_reports_or_may_is_not_loaded_while_nobody_has_decided() {
    let test = "what_reports_or_may_is_not_loaded_while_nobody_has_decided";
    for value in [None, Some("".into())] {
        if apart(test, &[(NO_TELEMETRY, value), (LIBRARY_VAR, None)]) {
            let folder = tempfile::tempdir().expect("temporary folder");
            for version in ["1.29.0", "1.130.1", "2.30.0", "nightly.30"] {
                let library = folder.path().join(format!("libonnxruntime.so.{version}"));
                support::versioned(&library, version);
                let error = Runtime::get(&Places::new(Some(library.clone())), false).expect_err(version);
                assert!(matches!(&error, OnnxError::Telemetry { path } if *path == library), "{version}: {error}");
                assert!(error.to_string().contains("set ORT_DISABLE_TELEMETRY=1"), "{error}");
            }
            // Without a doubt, what else is wrong with it is told.
            let library = folder.path().join("libonnxruntime.so.1.2.0");
            support::versioned(&library, "1.2.0");
            let error = Runtime::get(&Places::new(Some(library)), false).expect_err("too old");
            assert!(matches!(&error, OnnxError::Load { reason, .. } if reason.contains("1.2.0")), "{error}");
            assert!(Runtime::loaded().is_none());
            return;
        }
    }
}

/// The libraries of the pack with CUDA are no libraries, so that whoever loads one says so.
#[cfg(target_os = "linux")]
#[test]
fn a_pack_is_loaded_only_where_its_driver_has_a_device() {
    use machine::{Machine, here};
    const TEST: &str = "a_pack_is_loaded_only_where_its_driver_has_a_device";
    here(TEST, || {
        let folder = tempfile::tempdir().expect("temporary folder");
        let [library, needed] = ["libonnxruntime.so", "libneeded.so"].map(|name| folder.path().join(name));
        for path in [&library, &needed] {
            std::fs::write(path, "no library").expect("written");
        }
        let cuda = Pack { preload: vec![needed], ..pack(&library, "1.28.0") };
        let places = Places { explicit: None, cpu: Ok(pack(&support::library(), "1.28.0")), cuda: Ok(cuda) };
        let settled = settle(&places, Device::Auto, false, |_, provider| Ok::<_, OnnxError>(provider)).expect("the processor runs it");
        assert_eq!((settled.value, settled.runtime.origin()), (Provider::Cpu, Origin::Installed));
        settled.no_cuda.expect("a reason").to_string()
    });
    let said = |machine: Machine| machine.set(NO_TELEMETRY, "1").set(LIBRARY_VAR, "").run(TEST);
    let with_device = said(Machine::with_driver("onnx-device", &[]));
    assert!(with_device.contains("libneeded.so"), "{with_device}");
    let without = said(Machine::with_driver("onnx-no-device", &[]).set("FAKE_CUDA_INIT", "100"));
    assert_eq!(without, "the NVIDIA driver (CUDA 13.0) has no device");
    let hangs = said(Machine::with_driver("onnx-hangs", &[]).set("FAKE_CUDA_HANGS", "1"));
    assert!(hangs.starts_with("the NVIDIA driver has not answered for "), "{hangs}");
}

fn pack(library: &Path, version: &str) -> Pack {
    Pack { library: PathBuf::from(library), version: version.into(), bundled: false, preload: Vec::new() }
}

/// `y = x + x` over f32 [1, `length`], written as protobuf by hand.
fn doubling_model(length: &[u8]) -> Vec<u8> {
    let shape = field(2, &[field(1, &[8, 1]), field(1, length)].concat());
    let tensor_type = field(2, &field(1, &[&[8, 1][..], &shape].concat()));
    let value = |name: &str| [field(1, name.as_bytes()), tensor_type.clone()].concat();
    let node = [field(1, b"x"), field(1, b"x"), field(2, b"y"), field(4, b"Add")].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &value("x")), field(12, &value("y"))].concat();
    [&[8, 8][..], &field(7, &graph), &field(8, &[16, 13])].concat()
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).expect("short")], bytes].concat()
}

/// A dimension of two.
const TWO: &[u8] = &[8, 2];
