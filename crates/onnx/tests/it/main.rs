//! ONNX Runtime found, loaded and run for real; and every way in which it is not there.
//!
//! One library per process: the cases that need an order stand in one test.

#[path = "../support/mod.rs"]
mod support;

use bespoke_onnx::{NotFound, OnnxError, Origin, Runtime, Tensor};

#[test]
fn failures_leave_the_process_able_to_load_and_run() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let missing = folder.path().join("libonnxruntime.so");
    let error = Runtime::get(Some(&missing)).expect_err("missing");
    assert!(matches!(&error, OnnxError::NotFound(NotFound::NoSuchFile { origin: Origin::Explicit, .. })), "{error}");

    std::fs::write(&missing, b"not a library").expect("written");
    let error = Runtime::get(Some(&missing)).expect_err("no library");
    assert!(matches!(&error, OnnxError::Load { path, .. } if *path == missing), "{error}");

    // A real library, but another one.
    if cfg!(target_os = "linux") {
        let foreign = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"];
        for path in foreign.iter().map(std::path::Path::new).filter(|path| path.is_file()) {
            let error = Runtime::get(Some(path)).expect_err("foreign");
            assert!(error.to_string().contains("OrtGetApiBase"), "{error}");
        }
    }
    assert!(Runtime::loaded().is_none());

    let library = support::onnxruntime();
    let runtime = Runtime::get(Some(&library)).expect("loads");
    assert!(runtime.path().is_absolute());
    assert_eq!(runtime.origin(), Origin::Explicit);
    assert!(std::ptr::eq(runtime, Runtime::get(Some(&library)).expect("the same")));
    assert!(std::ptr::eq(runtime, Runtime::get(None).expect("the same")));
    let version = runtime.version().expect("its build says");
    let minor: u32 = version.split('.').nth(1).expect("has a minor version").parse().expect("a number");
    assert_eq!(runtime.may_report_home(), minor >= 29 && !bespoke_onnx::telemetry_disabled());

    let other = folder.path().join("other.so");
    std::fs::write(&other, b"").expect("written");
    assert!(matches!(Runtime::get(Some(&other)), Err(OnnxError::AlreadyLoaded { .. })));

    assert!(matches!(runtime.session(b"no model"), Err(OnnxError::Model(_))));
    let mut session = runtime.session(&doubling_model()).expect("a valid model");
    assert_eq!(session.inputs(), ["x"]);
    assert_eq!(session.outputs().collect::<Vec<_>>(), ["y"]);
    let mut x = Tensor::f32(&[1, 2], vec![1.0, -3.0]).expect("two elements");
    assert_eq!(session.run([&x]).expect("runs").f32("y").expect("an output"), [2.0, -6.0]);
    x.as_f32_mut().copy_from_slice(&[0.5, 0.0]);
    let outputs = session.run([&x]).expect("runs again");
    assert_eq!(outputs.f32("y").expect("an output"), [1.0, 0.0]);
    assert!(matches!(outputs.f32("z"), Err(OnnxError::Run(_))));
    drop(outputs);
    assert!(matches!(session.run([&x, &x]), Err(OnnxError::Run(_))));
    let wrong = Tensor::f32(&[1, 3], vec![0.0; 3]).expect("three elements");
    assert!(matches!(session.run([&wrong]), Err(OnnxError::Run(_))));
    assert!(Tensor::f32(&[2, 2], vec![0.0; 3]).is_err());
}

/// `y = x + x` over f32 [1, 2], written as protobuf by hand.
fn doubling_model() -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(bytes.len()).expect("short")], bytes].concat()
    }
    let dimension = |n: u8| field(1, &[8, n]);
    let shape = field(2, &[dimension(1), dimension(2)].concat());
    let tensor_type = field(2, &field(1, &[&[8, 1][..], &shape].concat()));
    let value = |name: &str| [field(1, name.as_bytes()), tensor_type.clone()].concat();
    let node = [field(1, b"x"), field(1, b"x"), field(2, b"y"), field(4, b"Add")].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &value("x")), field(12, &value("y"))].concat();
    [&[8, 8][..], &field(7, &graph), &field(8, &[16, 13])].concat()
}
