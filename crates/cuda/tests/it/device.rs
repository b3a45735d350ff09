//! A kernel from source to result: on the devices of this machine where it has some, and on the fake driver in any case.

use bespoke_cuda::{Nvrtc, RunError, SAXPY, probe, saxpy};
use expect_test::expect;

use crate::support::{Machine, here, nvrtc};

/// Not a multiple of the block, so that the kernel's own limit counts. Every product and sum of these is exact in f32.
const LENGTH: u16 = 10_007;

fn vectors() -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let x: Vec<f32> = (0..LENGTH).map(f32::from).collect();
    let y: Vec<f32> = x.iter().map(|x| 0.5 - x).collect();
    let wanted = x.iter().zip(&y).map(|(x, y)| 2.0 * x + y).collect();
    (x, y, wanted)
}

#[test]
fn computes_on_every_device_of_this_machine() {
    let compiler = Nvrtc::load(&nvrtc(), &[]).unwrap();
    match probe() {
        Ok(driver) => {
            let (x, y, wanted) = vectors();
            for device in &driver.devices {
                let out = saxpy(&compiler, device, 2.0, &x, &y).unwrap_or_else(|e| panic!("{device:?}: {e}"));
                assert_eq!(out, wanted, "{device:?}");
                println!(
                    "ran on device {}, {}, CUDA {:?}: {LENGTH} numbers as they should be",
                    device.index, device.name, driver.cuda_version
                );
            }
        }
        Err(missing) => {
            assert!(compiler.compile(SAXPY, "compute_90").unwrap().text().contains("saxpy"));
            println!("compiled only: {missing}");
        }
    }
}

#[test]
fn every_call_reaches_the_driver_as_it_should() {
    const TEST: &str = "device::every_call_reaches_the_driver_as_it_should";
    here(TEST, || {
        let compiler = Nvrtc::load(&nvrtc(), &[]).unwrap();
        let driver = probe().unwrap();
        let (x, y, wanted) = vectors();
        // Twice: what the first left behind would end the second.
        for _ in 0..2 {
            match saxpy(&compiler, &driver.devices[1], 2.0, &x, &y) {
                Ok(out) => assert_eq!(out, wanted),
                Err(e) => return e.to_string(),
            }
        }
        "computed".to_owned()
    });
    let fake = |name: &str| Machine::with_driver(name, &[]);
    assert_eq!(fake("device-ok").run(TEST), "computed");
    // A device newer than the compiler takes PTX.
    assert_eq!(fake("device-new").set("FAKE_CUDA_MAJOR", "99").run(TEST), "computed");
    expect!["device 1: cuMemAlloc_v2 failed: error 2"].assert_eq(&fake("device-full").set("FAKE_CUDA_ALLOCATIONS", "2").run(TEST));
    expect!["device 1: cuCtxSynchronize failed: error 700"].assert_eq(&fake("device-fault").set("FAKE_CUDA_KERNEL", "700").run(TEST));
    expect![[r#"
        the kernel does not compile for compute_30:
        nvrtc: error: invalid value for --gpu-architecture (-arch)"#]]
    .assert_eq(&fake("device-old").set("FAKE_CUDA_MAJOR", "3").run(TEST));
}

#[test]
fn vectors_must_fit_each_other() {
    const TEST: &str = "device::vectors_must_fit_each_other";
    here(TEST, || {
        let compiler = Nvrtc::load(&nvrtc(), &[]).unwrap();
        let device = &probe().unwrap().devices[0];
        for (x, y) in [(vec![], vec![]), (vec![1.0], vec![1.0, 2.0])] {
            assert!(matches!(saxpy(&compiler, device, 1.0, &x, &y), Err(RunError::Length { .. })));
        }
        "refused".into()
    });
    assert_eq!(Machine::with_driver("device-vectors", &[]).run(TEST), "refused");
}
