//! The plugin on machines with a driver, without one, with the compiler and without; none of them needs a device.

#![allow(clippy::print_stdout, reason = "a process apart answers on it, and a test says whether a device was there")]

#[path = "../../../cuda/tests/support/mod.rs"]
mod support;

use std::{path::Path, sync::Arc, time::Duration};

use bespoke_accel_cuda::BESPOKE_PLUGIN;
use bespoke_plugin_api::{Accelerator, CallCx, Contribution, Facts, Instance, RuntimePack, serde_json::json};
use bespoke_plugin_testkit::{Conformance, TestHost, block_on};
use expect_test::{Expect, expect};
use support::{Machine, here, nvrtc};

fn start(host: &Arc<TestHost>, config: bespoke_plugin_api::serde_json::Value) -> (Instance, Arc<dyn Accelerator>) {
    let instance = block_on(BESPOKE_PLUGIN.start(host.context("cuda"), config)).expect("it always starts");
    let [Contribution::Accelerator(_, accelerator)] = &instance.contributions[..] else { panic!("{instance:?}") };
    let accelerator = accelerator.clone();
    (instance, accelerator)
}

fn pack(library: &Path) -> RuntimePack {
    RuntimePack::new("cuda:nvrtc", "13.5.37+cu13", "installed", library.parent().unwrap_or(library), library)
}

/// What the plugin says of itself and of its devices, one line each. How long a compilation took differs.
fn told(instance: &Instance, accelerator: &Arc<dyn Accelerator>) -> String {
    let facts: Facts = instance.life.facts();
    let devices = block_on(accelerator.devices(&CallCx::new()));
    let mut lines = vec![match devices {
        Ok(devices) => devices.iter().map(|device| format!("{}\n", json!(device))).collect::<String>(),
        Err(e) => format!("{:?} {}: {}\n", e.code(), e.message(), e.help().unwrap_or_default()),
    }];
    lines.push(format!("{:?}\n", instance.life.health()));
    for (name, value) in facts {
        let value = value.replace(env!("CARGO_TARGET_TMPDIR"), "TMP");
        lines.push(format!("{name}: {}\n", value.split(" compiled in ").next().unwrap_or_default()));
    }
    lines.concat()
}

#[test]
fn shows_what_the_machine_has() {
    const TEST: &str = "shows_what_the_machine_has";
    here(TEST, || {
        let config = std::env::var("CUDA_TEST_CONFIG").map_or(json!({}), |text| text.parse().expect("JSON"));
        let (instance, accelerator) = start(&TestHost::new(), config);
        told(&instance, &accelerator)
    });
    let check = |machine: Machine, wanted: Expect| wanted.assert_eq(&machine.run(TEST));
    let two = |name: &str| Machine::with_driver(name, &[]).nvml();
    check(
        two("accel-two"),
        expect![[r#"
        {"index":0,"name":"Fake A","memory":17179869184,"capability":"9.0"}
        {"index":1,"name":"Fake B","memory":34359738368,"memory_free":21474836480,"utilization":37,"capability":"9.0"}
        Ok
        cuda: 13.0
        cuda_libraries: CUDA 13
        device_0: Fake A, compute 9.0, 16.0 GiB
        device_1: Fake B, compute 9.0, 32.0 GiB, 20.0 GiB free, 37 % busy, 41 °C
        driver: 580.95.05
        nvrtc: cuda:nvrtc is not on this machine
    "#]],
    );
    check(
        two("accel-second").set("CUDA_TEST_CONFIG", r#"{"devices":[1]}"#),
        expect![[r#"
        {"index":1,"name":"Fake B","memory":34359738368,"memory_free":21474836480,"utilization":37,"capability":"9.0"}
        Ok
        cuda: 13.0
        cuda_libraries: CUDA 13
        device_1: Fake B, compute 9.0, 32.0 GiB, 20.0 GiB free, 37 % busy, 41 °C
        driver: 580.95.05
        nvrtc: cuda:nvrtc is not on this machine
    "#]],
    );
    check(
        two("accel-fourth").set("CUDA_TEST_CONFIG", r#"{"devices":[1,4]}"#),
        expect![[r#"
        {"index":1,"name":"Fake B","memory":34359738368,"memory_free":21474836480,"utilization":37,"capability":"9.0"}
        Degraded("plugins.cuda.devices names device 4; there are those from 0 to 1")
        cuda: 13.0
        cuda_libraries: CUDA 13
        device_1: Fake B, compute 9.0, 32.0 GiB, 20.0 GiB free, 37 % busy, 41 °C
        driver: 580.95.05
        nvrtc: cuda:nvrtc is not on this machine
    "#]],
    );
    check(
        two("accel-none").set("CUDA_TEST_CONFIG", r#"{"devices":[]}"#),
        expect![[r#"
        Degraded("plugins.cuda.devices is empty, so no device is shown")
        cuda: 13.0
        cuda_libraries: CUDA 13
        driver: 580.95.05
        nvrtc: cuda:nvrtc is not on this machine
    "#]],
    );
    check(
        two("accel-broken").set("CUDA_TEST_CONFIG", r#"{"nvrtc":"/nowhere/libnvrtc.so.13"}"#),
        expect![[r#"
            {"index":0,"name":"Fake A","memory":17179869184,"capability":"9.0"}
            {"index":1,"name":"Fake B","memory":34359738368,"memory_free":21474836480,"utilization":37,"capability":"9.0"}
            Degraded("NVRTC does not work: /nowhere/libnvrtc.so.13 cannot be loaded: No such file or directory (os error 2)")
            cuda: 13.0
            cuda_libraries: CUDA 13
            device_0: Fake A, compute 9.0, 16.0 GiB
            device_1: Fake B, compute 9.0, 32.0 GiB, 20.0 GiB free, 37 % busy, 41 °C
            driver: 580.95.05
            nvrtc: does not work: /nowhere/libnvrtc.so.13 cannot be loaded: No such file or directory (os error 2)
            nvrtc_library: /nowhere/libnvrtc.so.13 (plugins.cuda.nvrtc)
        "#]],
    );
    // A driver without a device is no error; one that is too old is.
    check(
        two("accel-empty").set("FAKE_CUDA_INIT", "100"),
        expect![[r#"
        Degraded("the NVIDIA driver (CUDA 13.0) has no device; run `nvidia-smi -L` to see the devices; the variable CUDA_VISIBLE_DEVICES may hide them")
        driver: the NVIDIA driver (CUDA 13.0) has no device
        nvrtc: cuda:nvrtc is not on this machine
    "#]],
    );
    check(
        two("accel-old").set("FAKE_CUDA_VERSION", "11080"),
        expect![[r#"
        DEPENDENCY_MISSING (-32051) the NVIDIA driver is too old: it runs CUDA 11.8, and 12.0 is needed: update NVIDIA's driver to version 525 or later
        Degraded("the NVIDIA driver is too old: it runs CUDA 11.8, and 12.0 is needed; update NVIDIA's driver to version 525 or later")
        driver: the NVIDIA driver is too old: it runs CUDA 11.8, and 12.0 is needed
        nvrtc: cuda:nvrtc is not on this machine
    "#]],
    );
}

#[test]
fn checks_the_compiler() {
    const TEST: &str = "checks_the_compiler";
    here(TEST, || {
        let host = TestHost::new();
        host.set_runtime(pack(&nvrtc()));
        let (instance, _) = start(&host, json!({}));
        let facts = instance.life.facts();
        let check = facts["nvrtc_check"].split(" compiled in ").next().unwrap_or_default().to_owned();
        let library = facts["nvrtc_library"].rsplit_once('/').map_or("", |(_, name)| name);
        format!("{check}; {library}; {:?}", instance.life.health())
    });
    let check = |machine: Machine, wanted: Expect| wanted.assert_eq(&machine.run(TEST));
    check(
        Machine::with_driver("accel-compiler", &[]),
        expect!["a kernel for compute_90; libnvrtc.so.13 (cuda:nvrtc 13.5.37+cu13, installed); Ok"],
    );
    check(
        Machine::with_driver("accel-compiler-75", &[]).set("FAKE_CUDA_MAJOR", "7").set("FAKE_CUDA_MINOR", "5"),
        expect!["a kernel for compute_75; libnvrtc.so.13 (cuda:nvrtc 13.5.37+cu13, installed); Ok"],
    );
    check(
        Machine::with_driver("accel-compiler-none", &[]).set("FAKE_CUDA_INIT", "100"),
        expect![[
            r#"a kernel for compute_90; libnvrtc.so.13 (cuda:nvrtc 13.5.37+cu13, installed); Degraded("the NVIDIA driver (CUDA 13.0) has no device; run `nvidia-smi -L` to see the devices; the variable CUDA_VISIBLE_DEVICES may hide them")"#
        ]],
    );
}

#[test]
fn sees_later_what_was_not_there_at_the_start() {
    const TEST: &str = "sees_later_what_was_not_there_at_the_start";
    here(TEST, || {
        let host = TestHost::new();
        let init = |code: &str| std::fs::write(std::env::var("FAKE_CUDA_INIT").expect("a file"), code).expect("written");
        init("803");
        let (instance, _) = start(&host, json!({}));
        let before = format!("{:?}", instance.life.health());
        init("0");
        let fresh = format!("{:?}", instance.life.health());
        host.advance(Duration::from_secs(11));
        // The first to ask after that time is answered as before, and sets off the look.
        let _ = instance.life.health();
        let mut after = String::new();
        for _ in 0..2_000 {
            after = format!("{:?} told {:?}", instance.life.health(), host.reported_health());
            if after.starts_with("Ok") && !after.ends_with("None") {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        format!("{before}\n{fresh}\n{after}\n")
    });
    let machine = Machine::with_driver("accel-later", &[]);
    let file = machine.library("init");
    expect![[r#"
        Degraded("the NVIDIA driver failed in cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): system has unsupported display driver / cuda driver combination; run `nvidia-smi`; after an update of the driver the machine has to be started again")
        Degraded("the NVIDIA driver failed in cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): system has unsupported display driver / cuda driver combination; run `nvidia-smi`; after an update of the driver the machine has to be started again")
        Ok told Some(Ok)
    "#]].assert_eq(&machine.set("FAKE_CUDA_INIT", file.to_str().expect("a path in UTF-8")).run(TEST));
}

#[test]
fn which_devices_are_shown_changes_while_it_runs() {
    const TEST: &str = "which_devices_are_shown_changes_while_it_runs";
    here(TEST, || {
        let (instance, accelerator) = start(&TestHost::new(), json!({}));
        let indices = || {
            let devices = block_on(accelerator.devices(&CallCx::new())).expect("devices");
            devices.iter().map(|device| device.index).collect::<Vec<_>>()
        };
        let before = indices();
        let reload = block_on(instance.life.reconfigure(json!({ "devices": [1] })));
        format!("{before:?} {reload:?} {:?}", indices())
    });
    assert_eq!(Machine::with_driver("accel-live", &[]).run(TEST), "[0, 1] Ok(Applied) [1]");
}

#[test]
fn behaves_the_same_in_every_tier() {
    const TEST: &str = "behaves_the_same_in_every_tier";
    // On this very machine only where it has no device: what is free and busy changes from call to call.
    let conforms = || Conformance::new(&BESPOKE_PLUGIN).check();
    here(TEST, || {
        conforms();
        "conforms".into()
    });
    match bespoke_cuda::probe() {
        Err(_) => conforms(),
        Ok(driver) => println!("not compared on this machine, which has devices that may be busy: {driver:?}"),
    }
    for (name, init) in [("accel-tiers", "0"), ("accel-tiers-empty", "100"), ("accel-tiers-failing", "803")] {
        assert_eq!(Machine::with_driver(name, &[]).nvml().set("FAKE_CUDA_INIT", init).run(TEST), "conforms");
    }
}
