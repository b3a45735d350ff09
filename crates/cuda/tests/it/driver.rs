//! What is told of a driver. None of these machines has one: it is built here, and behaves as its variables say.

use std::time::Duration;

use bespoke_cuda::{Missing, probe, probe_within};
use expect_test::{Expect, expect};

use crate::support::{Machine, here};

/// A driver that cannot be opened, under every name that is tried.
fn spoilt() -> Machine {
    let machine = Machine::bare("cuda-spoilt");
    for name in ["cuda", "nvcuda"].into_iter().flat_map(cudarc::get_lib_name_candidates) {
        std::fs::write(machine.library(&name), "no library").expect("a file");
    }
    machine
}

/// What `probe` says, and what it advises.
fn told() -> String {
    match probe() {
        Ok(driver) => format!("{driver:?}, set {}", driver.cuda_set()),
        Err(missing) => format!("{missing} | {}", missing.help()),
    }
}

#[test]
fn tells_devices_and_what_is_missing() {
    const TEST: &str = "driver::tells_devices_and_what_is_missing";
    here(TEST, told);
    let check = |machine: Machine, wanted: Expect| wanted.assert_eq(&machine.run(TEST));
    check(
        Machine::with_driver("cuda-13", &[]).nvml(),
        expect![[
            r#"Driver { cuda_version: (13, 0), driver_version: Some("580.95.05"), devices: [Device { index: 0, name: "Fake A", uuid: "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff", capability: (9, 0), memory_total: 17179869184, memory_free: None, utilization: None, temperature: None }, Device { index: 1, name: "Fake B", uuid: "f1f2f3f4-f5f6-f7f8-f9fa-fbfcfdfeff00", capability: (9, 0), memory_total: 34359738368, memory_free: Some(21474836480), utilization: Some(37), temperature: Some(41) }] }, set 13"#
        ]],
    );
    check(
        Machine::with_driver("cuda-12", &["WITHOUT_SLICES"]).set("FAKE_CUDA_VERSION", "12080").set("FAKE_CUDA_DEVICES", "1"),
        expect![[
            r#"Driver { cuda_version: (12, 8), driver_version: None, devices: [Device { index: 0, name: "Fake A", uuid: "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff", capability: (9, 0), memory_total: 17179869184, memory_free: None, utilization: None, temperature: None }] }, set 12"#
        ]],
    );
    check(
        Machine::with_driver("cuda-14", &[]).set("FAKE_CUDA_VERSION", "14010").set("FAKE_CUDA_DEVICES", "1"),
        expect![[
            r#"Driver { cuda_version: (14, 1), driver_version: None, devices: [Device { index: 0, name: "Fake A", uuid: "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff", capability: (9, 0), memory_total: 17179869184, memory_free: None, utilization: None, temperature: None }] }, set 13"#
        ]],
    );
    check(
        Machine::with_driver("cuda-11", &[]).set("FAKE_CUDA_VERSION", "11040"),
        expect!["the NVIDIA driver is too old: it runs CUDA 11.4, and 12.0 is needed | update NVIDIA's driver to version 525 or later"],
    );
    check(
        Machine::with_driver("cuda-nonsense", &[]).set("FAKE_CUDA_VERSION", "-5"),
        expect!["the NVIDIA driver is too old: it runs CUDA 0.0, and 12.0 is needed | update NVIDIA's driver to version 525 or later"],
    );
    check(
        Machine::with_driver("cuda-no-device", &[]).set("FAKE_CUDA_INIT", "100"),
        expect![
            "the NVIDIA driver (CUDA 13.0) has no device | run `nvidia-smi -L` to see the devices; the variable CUDA_VISIBLE_DEVICES may hide them"
        ],
    );
    check(
        Machine::with_driver("cuda-zero", &[]).set("FAKE_CUDA_DEVICES", "0"),
        expect![
            "the NVIDIA driver (CUDA 13.0) has no device | run `nvidia-smi -L` to see the devices; the variable CUDA_VISIBLE_DEVICES may hide them"
        ],
    );
    check(
        Machine::with_driver("cuda-negative", &[]).set("FAKE_CUDA_DEVICES", "-1"),
        expect![
            "the NVIDIA driver (CUDA 13.0) has no device | run `nvidia-smi -L` to see the devices; the variable CUDA_VISIBLE_DEVICES may hide them"
        ],
    );
    check(
        Machine::with_driver("cuda-mismatch", &[]).set("FAKE_CUDA_INIT", "803"),
        expect![
            "the NVIDIA driver failed in cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): system has unsupported display driver / cuda driver combination | run `nvidia-smi`; after an update of the driver the machine has to be started again"
        ],
    );
    // A code that no version of CUDA has yet, and a driver that has no words.
    check(
        Machine::with_driver("cuda-unknown", &[]).set("FAKE_CUDA_INIT", "918273"),
        expect![
            "the NVIDIA driver failed in cuInit: error 918273 | run `nvidia-smi`; after an update of the driver the machine has to be started again"
        ],
    );
    check(
        Machine::with_driver("cuda-wordless", &["WITHOUT_WORDS"]).set("FAKE_CUDA_INIT", "803"),
        expect![
            "the NVIDIA driver failed in cuInit: error 803 | run `nvidia-smi`; after an update of the driver the machine has to be started again"
        ],
    );
    check(
        Machine::with_driver("cuda-symbol", &["WITHOUT_MEMORY"]),
        expect![
            "the NVIDIA driver cannot be used: its library has no cuDeviceTotalMem_v2 | update NVIDIA's driver to version 525 or later"
        ],
    );
    check(
        spoilt(),
        expect![
            "there is no NVIDIA driver: no library libcuda can be opened | install NVIDIA's driver for this system, version 525 or later; in a container, start it with the devices (such as `--gpus all`)"
        ],
    );
    // NVML that does not start takes nothing away but what it would have said.
    check(
        Machine::with_driver("cuda-nvml-fails", &[]).nvml().set("FAKE_NVML_INIT", "9").set("FAKE_CUDA_DEVICES", "1"),
        expect![[
            r#"Driver { cuda_version: (13, 0), driver_version: None, devices: [Device { index: 0, name: "Fake A", uuid: "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff", capability: (9, 0), memory_total: 17179869184, memory_free: None, utilization: None, temperature: None }] }, set 13"#
        ]],
    );
    check(
        Machine::with_driver("cuda-name", &[]).set("FAKE_CUDA_ENDLESS_NAME", "1").set("FAKE_CUDA_DEVICES", "1"),
        expect![[
            r#"Driver { cuda_version: (13, 0), driver_version: None, devices: [Device { index: 0, name: "", uuid: "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff", capability: (9, 0), memory_total: 17179869184, memory_free: None, utilization: None, temperature: None }] }, set 13"#
        ]],
    );
}

#[test]
fn a_driver_that_hangs_is_left_behind_once() {
    const TEST: &str = "driver::a_driver_that_hangs_is_left_behind_once";
    here(TEST, || {
        let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        let limit = Duration::from_millis(300);
        let first = probe_within(limit);
        assert!(matches!(first, Err(Missing::Late(_))), "{first:?}");
        let before = threads();
        for _ in 0..20 {
            assert!(matches!(probe_within(limit), Err(Missing::Late(_))));
        }
        assert_eq!(threads(), before, "each call has left a thread behind");
        "late".into()
    });
    assert_eq!(Machine::with_driver("cuda-hangs", &[]).set("FAKE_CUDA_HANGS", "1").run(TEST), "late");
}

#[test]
fn many_callers_get_the_same_answer() {
    const TEST: &str = "driver::many_callers_get_the_same_answer";
    here(TEST, || {
        let callers: Vec<_> = (0..16).map(|_| std::thread::spawn(|| (0..50).map(|_| probe()).collect::<Vec<_>>())).collect();
        let answers: Vec<_> = callers.into_iter().flat_map(|caller| caller.join().expect("no panic")).collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        format!("{} × {}", answers.len(), answers[0].as_ref().map_or(0, |driver| driver.devices.len()))
    });
    assert_eq!(Machine::with_driver("cuda-many", &[]).run(TEST), "800 × 2");
}
