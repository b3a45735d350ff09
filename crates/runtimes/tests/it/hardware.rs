//! TPUs by their files, below made-up roots; and what the hardware found asks for.

use std::fs;

use bespoke_cuda::{Device, Driver, Missing};
use bespoke_runtimes::{Hardware, NoTpu, Set, Spec, Tpu, Wanted};

fn machine(devices: &[(&str, &str)], files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (number, (vendor, class)) in devices.iter().enumerate() {
        let device = root.path().join(format!("sys/bus/pci/devices/0000:00:{number:02x}.0"));
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("vendor"), format!("{vendor}\n")).unwrap();
        fs::write(device.join("class"), format!("{class}\n")).unwrap();
    }
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    root
}

#[test]
fn a_tpu_is_told_by_its_devices() {
    const TPU: (&str, &str) = ("0x1ae0", "0xff0000");
    for (name, devices, files, found) in [
        ("an old one", &[TPU, TPU][..], &["dev/accel0", "dev/accel1"][..], Ok(2)),
        ("a new one", &[TPU][..], &["dev/vfio/0", "dev/vfio/vfio"][..], Ok(1)),
        ("in a container without its devices", &[TPU][..], &["dev/null"][..], Err(NoTpu::Files)),
        (
            "a virtual machine in the same cloud",
            &[("0x1ae0", "0x020000"), ("0x1ae0", "0x010802")][..],
            &["dev/vfio/0"][..],
            Err(NoTpu::Bus),
        ),
        ("somebody else's accelerator", &[("0x8086", "0x120000")][..], &["dev/accel/accel0"][..], Err(NoTpu::Bus)),
        ("nothing", &[][..], &[][..], Err(NoTpu::Bus)),
    ] {
        let machine = machine(devices, files);
        assert_eq!(Tpu::detect(machine.path()).map(|tpu| tpu.devices.len()), found, "{name}");
    }
}

fn nvidia(cuda_version: (u32, u32), capabilities: &[(u32, u32)]) -> Hardware {
    let device = |(index, capability): (usize, &(u32, u32))| Device {
        index: index as u32,
        name: "a device".to_owned(),
        uuid: String::new(),
        capability: *capability,
        memory_total: 0,
        memory_free: None,
        utilization: None,
        temperature: None,
    };
    let devices = capabilities.iter().enumerate().map(device).collect();
    Hardware { nvidia: Ok(Driver { cuda_version, driver_version: None, devices }), tpu: Err(NoTpu::Bus) }
}

#[test]
fn driver_and_devices_decide_between_cuda_12_and_13() {
    for (driver, devices, set) in [
        ((13, 0), &[(9, 0)][..], Set::Cu13),
        ((13, 2), &[(7, 5), (8, 6)][..], Set::Cu13),
        ((12, 9), &[(9, 0)][..], Set::Cu12),
        // CUDA 13 has no code for it, whatever the driver.
        ((13, 0), &[(9, 0), (7, 0)][..], Set::Cu12),
        ((14, 0), &[(9, 0)][..], Set::Cu13),
    ] {
        assert_eq!(nvidia(driver, devices).set(), Some(set), "{driver:?} {devices:?}");
    }
}

#[test]
fn only_what_was_found_and_can_be_used_is_wanted() {
    let nothing = Hardware { nvidia: Err(Missing::Library), tpu: Err(NoTpu::Bus) };
    assert_eq!(nothing.wanted(Spec::ALL), []);
    assert_eq!(nothing.set(), None);

    let old = nvidia((12, 4), &[(8, 0)]);
    let shown = |wanted: Vec<Wanted>| wanted.into_iter().map(|w| (w.spec, w.set)).collect::<Vec<_>>();
    assert_eq!(shown(old.wanted([Spec::OnnxCuda, Spec::OnnxCpu, Spec::OnnxCuda])), [(Spec::OnnxCuda, Some(Set::Cu12))]);
    assert_eq!(shown(old.wanted([Spec::XlaTpu])), []);

    let root = machine(&[("0x1ae0", "0x088000")], &["dev/accel0"]);
    let tpu = Hardware { nvidia: Err(Missing::Library), tpu: Tpu::detect(root.path()) };
    assert_eq!(shown(tpu.wanted(Spec::ALL)), [(Spec::XlaTpu, None)]);
}
