//! Installing: what lies where afterwards, what is not done twice, and what an error leaves.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use bespoke_fetch::Class;
use bespoke_runtimes::{Error, Outcome, Phase, Set, Spec};
use expect_test::expect;

use crate::{
    child::Steps,
    index::{Answer, Index},
    kit::{Bench, Kit, content, install},
};

#[test]
fn a_pack_lies_where_its_plugin_looks_and_shares_what_is_nvidias() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    let done = install(&packs, Spec::XlaCuda, None).unwrap();
    assert_eq!((done.outcome, done.version.as_str(), done.size), (Outcome::Installed, "2.0+cu13", 7 * 60_000));
    expect![[r#"
        nvidia/nvidia-blas/13.1/cu13/bin/nvidia-blas
        nvidia/nvidia-blas/13.1/cu13/lib/libblas.so.13
        nvidia/nvidia-blas/13.1/licenses/nvidia-blas/License.txt
        nvidia/nvidia-blas/13.1/wheel.json
        nvidia/nvidia-rtc/13.2/cu13/bin/nvidia-rtc
        nvidia/nvidia-rtc/13.2/cu13/lib/librtc.so.13
        nvidia/nvidia-rtc/13.2/licenses/nvidia-rtc/License.txt
        nvidia/nvidia-rtc/13.2/wheel.json
        xla/cuda/2.0+cu13/lib/xla_cuda13/plugin.so
        xla/cuda/2.0+cu13/licenses/nvidia-blas/License.txt
        xla/cuda/2.0+cu13/licenses/nvidia-rtc/License.txt
        xla/cuda/2.0+cu13/nvidia/cu13/bin/nvidia-blas
        xla/cuda/2.0+cu13/nvidia/cu13/bin/nvidia-rtc
        xla/cuda/2.0+cu13/nvidia/cu13/lib/libblas.so.13
        xla/cuda/2.0+cu13/nvidia/cu13/lib/librtc.so.13
        xla/cuda/2.0+cu13/pack.json
        xla/cuda/active.json"#]]
    .assert_eq(&bench.files().join("\n"));

    let folder = bench.root().join("xla/cuda/2.0+cu13");
    // What a plugin finds by its RPATH.
    assert!(folder.join("lib/xla_cuda13/../../nvidia/cu13/lib/libblas.so.13").is_file());
    let found = packs.find(Spec::XlaCuda).unwrap();
    assert_eq!(found.library, folder.join("lib/xla_cuda13/plugin.so"));
    assert_eq!(found.preload, [folder.join("nvidia/cu13/lib/libblas.so.13")]);
    assert_eq!((found.set, found.folder.as_path()), (Some(Set::Cu13), folder.as_path()));
    assert_eq!(fs::read(found.library).unwrap(), content("pjrt-cuda 2.0 pjrt/plugin.so"));
}

#[cfg(unix)]
#[test]
fn packs_link_to_one_copy_and_fetch_it_once() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    for hard_links in [true, false] {
        let bench = Bench::new();
        let kit = Kit::new();
        let index = Index::start(&kit);
        let mut packs = bench.packs(&kit, Some(&index));
        packs.hard_links = hard_links;
        for spec in [Spec::XlaCuda, Spec::OnnxCuda, Spec::CudaNvrtc] {
            install(&packs, spec, None).unwrap();
            assert_eq!(packs.find(spec).unwrap().spec, spec);
        }
        let blas = index.files().into_iter().filter(|seen| seen.what == kit.file("nvidia-blas")).count();
        assert_eq!(blas, 1);
        let path = |of: &str| bench.root().join(of);
        let (one, other) =
            (path("xla/cuda/2.0+cu13/nvidia/cu13/lib/libblas.so.13"), path("onnx/cuda/1.0.0+cu13/nvidia/cu13/lib/libblas.so.13"));
        assert_eq!(fs::metadata(&one).unwrap().ino(), fs::metadata(&other).unwrap().ino());
        assert_eq!(fs::symlink_metadata(&one).unwrap().is_symlink(), !hard_links);
        assert_eq!(fs::metadata(path("onnx/cuda/1.0.0+cu13/nvidia/cu13/bin/nvidia-blas")).unwrap().permissions().mode() & 0o777, 0o755);
        // A pack without wheels of its own.
        assert!(packs.find(Spec::CudaNvrtc).unwrap().library.ends_with("cuda/nvrtc/13.2+cu13/nvidia/cu13/lib/librtc.so.13"));
    }
}

#[test]
fn a_second_run_asks_nobody() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    install(&bench.packs(&kit, Some(&index)), Spec::OnnxCuda, None).unwrap();
    drop(index);
    let mut packs = bench.packs(&kit, None);
    packs.free_space = |_| Some(0);
    let done = install(&packs, Spec::OnnxCuda, None).unwrap();
    assert_eq!(done.outcome, Outcome::AlreadyInstalled);
    assert_eq!(done.folder, bench.root().join("onnx/cuda/1.0.0+cu13"));
}

#[test]
fn the_steps_are_told_in_order_and_their_bytes_add_up() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    let total = packs.plan(Spec::OnnxCuda, None).unwrap().download;
    let (mut steps, mut last) = (Steps::default(), 0);
    let mut report = |p: bespoke_runtimes::Progress<'_>| {
        assert!(p.pack_done >= last && p.pack_done <= p.pack_total, "{p:?}");
        assert!(p.pack_total == total || p.phase == Phase::Waiting, "{p:?}");
        last = p.pack_done;
        steps.next(&p);
    };
    packs.install(Spec::OnnxCuda, None, &mut report, &AtomicBool::new(false)).unwrap();
    assert_eq!(last, total);
    expect![[r#"
        Downloading nvidia_blas-13.1-py3-none-manylinux_2_17_x86_64.whl
        Unpacking nvidia_blas-13.1-py3-none-manylinux_2_17_x86_64.whl
        Flushing nvidia_blas-13.1-py3-none-manylinux_2_17_x86_64.whl
        Placing nvidia_blas-13.1-py3-none-manylinux_2_17_x86_64.whl
        Downloading nvidia_dnn-9.0-py3-none-manylinux_2_17_x86_64.whl
        Unpacking nvidia_dnn-9.0-py3-none-manylinux_2_17_x86_64.whl
        Flushing nvidia_dnn-9.0-py3-none-manylinux_2_17_x86_64.whl
        Placing nvidia_dnn-9.0-py3-none-manylinux_2_17_x86_64.whl
        Downloading ort_gpu-1.0.0-py3-none-manylinux_2_17_x86_64.whl
        Unpacking ort_gpu-1.0.0-py3-none-manylinux_2_17_x86_64.whl
        Linking nvidia_blas-13.1-py3-none-manylinux_2_17_x86_64.whl
        Linking nvidia_dnn-9.0-py3-none-manylinux_2_17_x86_64.whl
        Flushing 
        Placing 
        Switching 
        Done "#]]
    .assert_eq(&steps.seen.join("\n"));
}

#[test]
fn two_installers_at_once_fetch_each_wheel_once() {
    let bench = Bench::new();
    let kit = Kit::new();
    let go_on = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&go_on);
    let index = Index::answering(&kit, move |_| Answer::Half(Arc::clone(&flag)));
    let work = || {
        let packs = bench.packs(&kit, Some(&index));
        // The other one waits: now this one may finish.
        packs.install(
            Spec::XlaCuda,
            None,
            &mut |p| {
                go_on.fetch_or(p.phase == Phase::Waiting, Ordering::Relaxed);
            },
            &AtomicBool::new(false),
        )
    };
    let outcomes = thread::scope(|scope| [scope.spawn(work), scope.spawn(work)].map(|t| t.join().unwrap().unwrap().outcome));
    assert!(outcomes.contains(&Outcome::Installed) && outcomes.contains(&Outcome::AlreadyInstalled), "{outcomes:?}");
    assert!(go_on.load(Ordering::Relaxed), "the two did meet");
    assert_eq!(index.files().len(), 3);
}

#[test]
fn a_lock_that_is_held_too_long_is_named() {
    let bench = Bench::new();
    let kit = Kit::new();
    let lock = bench.root().join(".locks/packs.lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let index = Index::start(&kit);
    let mut packs = bench.packs(&kit, Some(&index));
    packs.fetcher.limits.lock_wait = std::time::Duration::from_millis(120);
    let error = install(&packs, Spec::OnnxCpu, None).unwrap_err();
    assert!(matches!(&error, Error::Locked { lock: named, .. } if *named == lock), "{error}");
    assert_eq!(error.class(), Class::Conflict);
    drop(held);
    install(&packs, Spec::OnnxCpu, None).unwrap();
}

#[test]
fn what_lies_in_a_folder_is_installed_without_a_network() {
    for as_file in [false, true] {
        let bench = Bench::new();
        let kit = Kit::new();
        let folder = bench.folder.path().join("usb stick");
        kit.write(&folder);
        let mut packs = bench.packs(&kit, None);
        packs.fetcher.from = vec![if as_file { folder.join(kit.file("ort")) } else { folder.clone() }];
        let plan = packs.plan(Spec::OnnxCpu, None).unwrap();
        assert_eq!((plan.download, plan.wheels[0].local.clone()), (0, Some(folder.join(kit.file("ort")))));
        install(&packs, Spec::OnnxCpu, None).unwrap();
        packs.find(Spec::OnnxCpu).unwrap();
        // It is the user's.
        assert!(folder.join(kit.file("ort")).is_file());
    }
}

#[test]
fn without_network_and_without_a_copy_the_way_out_is_told() {
    let bench = Bench::new();
    let packs = bench.packs(&Kit::new(), None);
    let error = install(&packs, Spec::OnnxCpu, None).unwrap_err();
    assert_eq!(error.class(), Class::NotFound, "{error}");
    assert!(error.to_string().contains("--from"), "{error}");
    assert_eq!(bench.files(), [] as [&str; 0]);
}

#[test]
fn other_bytes_leave_nothing() {
    let bench = Bench::new();
    let kit = Kit::new();
    let dnn = kit.wheels.iter().find(|wheel| wheel.project == "nvidia-dnn").unwrap();
    let (name, mut wrong) = (dnn.file.clone(), dnn.bytes.clone());
    wrong[1000] ^= 1;
    let index = Index::answering(&kit, move |seen| if seen.what == name { Answer::Bytes(wrong.clone()) } else { Answer::Right });
    let error = install(&bench.packs(&kit, Some(&index)), Spec::OnnxCuda, None).unwrap_err();
    assert_eq!(error.class(), Class::Verification, "{error}");
    // Not even the wheel before it, which was right: nobody may come back to use it.
    assert_eq!(bench.files(), [] as [&str; 0]);
    let index = Index::start(&kit);
    install(&bench.packs(&kit, Some(&index)), Spec::OnnxCuda, None).unwrap();
}

#[test]
fn what_broke_off_goes_on_where_it_ended() {
    let bench = Bench::new();
    let kit = Kit::new();
    let name = kit.file("nvidia-dnn").to_owned();
    let broken = name.clone();
    let index = Index::answering(&kit, move |seen| if seen.what == broken { Answer::Status(503) } else { Answer::Right });
    let error = install(&bench.packs(&kit, Some(&index)), Spec::OnnxCuda, None).unwrap_err();
    assert_eq!(error.class(), Class::Network, "{error}");
    assert!(bench.packs(&kit, None).find(Spec::OnnxCuda).is_err());
    drop(index);
    // The wheel before it was complete, so it is not asked for again.
    let index = Index::start(&kit);
    install(&bench.packs(&kit, Some(&index)), Spec::OnnxCuda, None).unwrap();
    let asked: Vec<String> = index.files().into_iter().map(|seen| seen.what).collect();
    assert_eq!(asked, [name, kit.file("ort-gpu").to_owned()]);
    assert_eq!(bench.hidden(), [] as [&str; 0]);
}

#[test]
fn a_cancelled_download_is_resumed() {
    let bench = Bench::new();
    let kit = Kit::new();
    let stop = Arc::new(AtomicBool::new(false));
    let index = {
        let stop = Arc::clone(&stop);
        Index::answering(&kit, move |seen| if seen.from.is_none() { Answer::Half(Arc::clone(&stop)) } else { Answer::Right })
    };
    let packs = bench.packs(&kit, Some(&index));
    let cancel = AtomicBool::new(false);
    let mut report = |p: bespoke_runtimes::Progress<'_>| {
        if p.phase == Phase::Downloading && p.done > 10_000 {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    let error = packs.install(Spec::OnnxCpu, None, &mut report, &cancel).unwrap_err();
    assert_eq!(error.to_string(), "installing onnx:cpu was cancelled; what came from an index is continued by the next run");
    assert_eq!(error.class(), Class::Cancelled);
    stop.store(true, Ordering::Relaxed);
    install(&packs, Spec::OnnxCpu, None).unwrap();
    let ranges: Vec<bool> = index.files().iter().map(|seen| seen.from.is_some()).collect();
    assert_eq!(ranges, [false, true]);
    assert_eq!(bench.hidden(), [] as [&str; 0]);
}

#[test]
fn while_one_waits_for_the_lock_it_can_be_cancelled() {
    let bench = Bench::new();
    let kit = Kit::new();
    let lock = bench.root().join(".locks/packs.lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let packs = bench.packs(&kit, None);
    let cancel = AtomicBool::new(false);
    let error = packs.install(Spec::OnnxCpu, None, &mut |_| cancel.store(true, Ordering::Relaxed), &cancel).unwrap_err();
    assert_eq!(error.class(), Class::Cancelled);
}

#[test]
fn what_is_broken_is_repaired_by_installing_it() {
    for broken in ["lib/xla_cuda13/plugin.so", "nvidia/cu13/lib/libblas.so.13", "pack.json"] {
        let bench = Bench::new();
        let kit = Kit::new();
        let index = Index::start(&kit);
        let packs = bench.packs(&kit, Some(&index));
        install(&packs, Spec::XlaCuda, None).unwrap();
        let path = bench.root().join("xla/cuda/2.0+cu13").join(broken);
        fs::write(&path, b"broken").unwrap();
        let done = install(&packs, Spec::XlaCuda, None).unwrap();
        assert_eq!((done.outcome, done.previous), (Outcome::Repaired, None), "{broken}");
        let verified = packs.verify(Spec::XlaCuda, None, &mut |_| {}, &AtomicBool::new(false)).unwrap();
        assert_eq!(verified[0].problems, [], "{broken}");
        assert_eq!(bench.hidden(), [] as [&str; 0]);
    }
}
