//! Disks that are full, and folders that cannot be written to.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, thread};

use bespoke_fetch::Class;
use bespoke_runtimes::{Error, Outcome, Spec};

use crate::{
    child,
    index::Index,
    kit::{Bench, Kit, Wheel, content, install},
};

#[test]
fn a_disk_that_is_too_full_is_known_before_anything_is_asked() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let mut packs = bench.packs(&kit, Some(&index));
    packs.free_space = |_| Some(100_000);
    let error = install(&packs, Spec::OnnxCpu, None).unwrap_err();
    assert!(matches!(error, Error::Space { free: 100_000, .. }), "{error}");
    let root = bench.root();
    assert_eq!(
        error.to_string(),
        format!(
            "onnx:cpu needs 1.3 MB on the disk of {}, and 0.1 MB are free; free some space, or set plugins.dir to a folder on another disk",
            root.display()
        )
    );
    assert!(index.seen().is_empty());
    assert_eq!(bench.files(), [] as [&str; 0]);
}

/// A limit on the size of files stands in for a disk that fills up: a write fails in the middle, as it does there.
#[test]
fn a_disk_that_fills_up_leaves_nothing() {
    // One fails while the wheel is written, the other while it is unpacked: zeros are small in a wheel.
    let zeros = vec![0; 2_000_000];
    for (name, bytes) in [("solid", [content("a"), content("b"), content("c"), content("d"), content("e")].concat()), ("zeros", zeros)] {
        let bench = Bench::new();
        let kit = Kit::single(Wheel::of("ort", "1.0.0", vec![("ort/libort.so", "lib/libort.so", bytes)]));
        let index = Index::start(&kit);
        let installer = child::command(&bench.root(), &kit.table, &index.url(), Spec::OnnxCpu);
        let mut limited = Command::new("sh");
        // In units of 512 bytes, or of 1024; the signal would end the process before it can clean up.
        limited.args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\""]);
        limited.arg(installer.get_program()).args(installer.get_args());
        limited.envs(installer.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let failed = limited.output().unwrap();
        let words = String::from_utf8_lossy(&failed.stderr).into_owned() + &String::from_utf8_lossy(&failed.stdout);
        assert!(!failed.status.success(), "{name}: {words}");
        assert!(words.contains("check permissions and free space"), "{name}: {words}");
        assert_eq!(bench.files(), [] as [&str; 0], "{name}");
        install(&bench.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap();
        assert_eq!(bench.hidden(), [] as [&str; 0], "{name}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named_and_can_be_read() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    fs::create_dir(bench.root()).unwrap();
    fs::set_permissions(bench.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    set_mode(&bench, 0o555);
    as_nobody(|| {
        let error = install(&bench.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap_err();
        assert_eq!(error.class(), Class::Local, "{error}");
        let words = error.to_string();
        assert!(words.contains(&bench.root().display().to_string()) && words.contains("ermission denied"), "{words}");
    });
    set_mode(&bench, 0o755);
    assert_eq!(bench.files(), [] as [&str; 0]);
    assert!(index.seen().is_empty());

    install(&bench.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap();
    set_mode(&bench, 0o555);
    as_nobody(|| {
        let packs = bench.packs(&kit, Some(&index));
        packs.find(Spec::OnnxCpu).unwrap();
        assert_eq!(install(&packs, Spec::OnnxCpu, None).unwrap().outcome, Outcome::AlreadyInstalled);
        assert_eq!(packs.uninstall(Spec::OnnxCpu, None).unwrap_err().class(), Class::Local);
        packs.find(Spec::OnnxCpu).unwrap();
    });
    set_mode(&bench, 0o755);
}

fn set_mode(bench: &Bench, mode: u32) {
    fs::set_permissions(bench.root(), fs::Permissions::from_mode(mode)).unwrap();
}

/// Permissions do not bind root. A thread can be somebody else.
fn as_nobody(work: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let work = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65_534)).unwrap();
            }
            work();
        });
        work.join().unwrap();
    });
}
