//! NVRTC, which needs neither driver nor device.

use std::{path::Path, thread};

use bespoke_cuda::{Nvrtc, NvrtcError, SAXPY};
use expect_test::expect;

use crate::support::{Machine, nvrtc};

fn compiler() -> Nvrtc {
    Nvrtc::load(&nvrtc(), &[]).expect("the compiler of the test packs")
}

#[test]
fn compiles_for_architectures() {
    let compiler = compiler();
    assert!(compiler.version() >= (12, 0), "{compiler:?}");
    for arch in ["compute_75", "compute_90", "compute_120"] {
        let ptx = compiler.compile(SAXPY, arch).unwrap();
        let target = format!(".target {}", arch.replace("compute", "sm"));
        assert!(ptx.text().contains(".visible .entry saxpy(") && ptx.text().contains(&target), "{}", ptx.text());
    }
}

#[test]
fn knows_which_architecture_a_device_runs() {
    let compiler = compiler();
    let of = |major, minor| compiler.architecture((major, minor));
    assert_eq!(of(9, 0).as_deref(), Some("compute_90"));
    // Older than all it knows, between two, and newer than all.
    assert_eq!(of(2, 0), None);
    assert_eq!(of(9, 9).as_deref(), Some("compute_90"));
    let newest = of(u32::MAX, 9).unwrap();
    assert!(compiler.compile(SAXPY, &newest).is_ok(), "{newest}");
}

#[test]
fn a_kernel_that_is_wrong_gives_the_log_of_the_compiler() {
    let error = compiler().compile(&SAXPY.replace("out[i]", "output[i]"), "compute_90").unwrap_err();
    expect![[r#"
        the kernel does not compile for compute_90:
        kernel.cu(4): error: identifier "output" is undefined
              if (i < n) output[i] = a * x[i] + y[i];
                         ^

        1 error detected in the compilation of "kernel.cu"."#]]
    .assert_eq(&error.to_string());
    // Nothing else: the log of one that cannot end is cut.
    let endless = format!("{}\n", "undefined_name_of_nothing;".repeat(2_000));
    let NvrtcError::Compile { log, .. } = compiler().compile(&endless, "compute_90").unwrap_err() else { panic!("compiled") };
    assert!(log.len() <= 64 * 1024, "{} bytes", log.len());
}

#[test]
fn what_cannot_be_compiled_is_told() {
    let compiler = compiler();
    expect![[r#"
        the kernel does not compile for compute_1:
        nvrtc: error: invalid value for --gpu-architecture (-arch)"#]]
    .assert_eq(&compiler.compile(SAXPY, "compute_1").unwrap_err().to_string());
    expect!["the source holds a zero byte"].assert_eq(&compiler.compile("a\0b", "compute_90").unwrap_err().to_string());
    expect!["the architecture holds a zero byte"].assert_eq(&compiler.compile(SAXPY, "compute_90\0").unwrap_err().to_string());
}

#[test]
fn what_is_no_compiler_is_told() {
    let machine = Machine::with_driver("no-compiler", &[]);
    let folder = machine.library("");
    let text = machine.library("text.so");
    std::fs::write(&text, "no library").unwrap();
    let told = |library: &Path, preload: &[_]| {
        let error = Nvrtc::load(library, preload).unwrap_err().to_string();
        error.replace(folder.to_str().unwrap(), "FOLDER/")
    };
    expect!["libnvrtc.so.13 cannot be loaded: it is no absolute path"].assert_eq(&told(Path::new("libnvrtc.so.13"), &[]));
    expect!["FOLDER/absent.so cannot be loaded: No such file or directory (os error 2)"]
        .assert_eq(&told(&machine.library("absent.so"), &[]));
    expect!["FOLDER/text.so cannot be loaded: FOLDER/text.so: file too short"].assert_eq(&told(&text, &[]));
    expect!["FOLDER/libcuda.so is no NVRTC of CUDA 12 or later: it has no nvrtcVersion"]
        .assert_eq(&told(&machine.library("libcuda.so"), &[]));
    expect!["FOLDER/before.so cannot be loaded: No such file or directory (os error 2)"]
        .assert_eq(&told(&nvrtc(), &[machine.library("before.so")]));
}

#[test]
fn compiles_on_many_threads() {
    let compiler = compiler();
    let texts: Vec<_> = thread::scope(|scope| {
        let work: Vec<_> = (0..4).map(|_| scope.spawn(|| compiler.compile(SAXPY, "compute_90").unwrap())).collect();
        work.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(texts.iter().all(|ptx| *ptx == texts[0]));
}
