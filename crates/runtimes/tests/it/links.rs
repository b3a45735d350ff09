//! Links that a stranger put where packs are written, read and removed: none is followed out of the folder.

use std::{fs, os::unix::fs::symlink, sync::atomic::AtomicBool};

use bespoke_fetch::Class;
use bespoke_runtimes::{Error, Spec, State, Wrong};

use crate::{
    index::Index,
    kit::{Bench, Kit, install},
};

/// A folder outside with a file, which has to be there afterwards.
fn outside(bench: &Bench) -> std::path::PathBuf {
    let outside = bench.folder.path().join("outside");
    fs::create_dir_all(outside.join("cpu/1.0.0/lib")).unwrap();
    fs::write(outside.join("cpu/1.0.0/lib/precious"), b"mine").unwrap();
    outside
}

#[test]
fn nothing_is_installed_or_removed_through_a_link() {
    for link in ["onnx", "onnx/cpu", "onnx/cpu/1.0.0", ".installing", ".locks"] {
        let bench = Bench::new();
        let outside = outside(&bench);
        let kit = Kit::new();
        let index = Index::start(&kit);
        let place = bench.root().join(link);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(&outside, &place).unwrap();
        let packs = bench.packs(&kit, Some(&index));
        let error = install(&packs, Spec::OnnxCpu, None).unwrap_err();
        assert!(matches!(&error, Error::Link { path } if *path == place), "{link}: {error}");
        assert_eq!(error.class(), Class::Local);
        for version in [None, Some("1.0.0")] {
            assert!(packs.uninstall(Spec::OnnxCpu, version).is_err(), "{link}");
        }
        assert_eq!(fs::read(outside.join("cpu/1.0.0/lib/precious")).unwrap(), b"mine", "{link}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{link}");
        // Once it is gone, all is well.
        fs::remove_file(&place).unwrap();
        install(&packs, Spec::OnnxCpu, None).unwrap();
    }
}

#[test]
fn a_shared_wheel_is_neither_written_nor_collected_through_a_link() {
    for link in ["nvidia", "nvidia/nvidia-blas", "nvidia/nvidia-blas/13.1"] {
        let bench = Bench::new();
        let outside = outside(&bench);
        let kit = Kit::new();
        let index = Index::start(&kit);
        let place = bench.root().join(link);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(&outside, &place).unwrap();
        let packs = bench.packs(&kit, Some(&index));
        let error = install(&packs, Spec::OnnxCuda, None).unwrap_err();
        assert!(matches!(&error, Error::Link { path } if *path == place), "{link}: {error}");
        // Others do not suffer, and nothing is collected there.
        install(&packs, Spec::OnnxCpu, None).unwrap();
        packs.uninstall(Spec::OnnxCpu, None).map(drop).unwrap_or_else(|e| assert!(matches!(e, Error::Link { .. }), "{e}"));
        assert_eq!(fs::read(outside.join("cpu/1.0.0/lib/precious")).unwrap(), b"mine", "{link}");
    }
}

#[test]
fn a_file_of_a_pack_that_leads_out_is_not_used() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCpu, None).unwrap();
    let library = bench.root().join("onnx/cpu/1.0.0/lib/libort.so");
    let elsewhere = bench.folder.path().join("libevil.so");
    // Of the right size, so that only the place tells.
    fs::rename(&library, &elsewhere).unwrap();
    symlink(&elsewhere, &library).unwrap();
    let words = "lib/libort.so is a link that leads out of the folder of runtimes";
    assert_eq!(packs.row(Spec::OnnxCpu).state, State::Broken(words.to_owned()));
    assert!(packs.find(Spec::OnnxCpu).is_err());
    let verified = packs.verify(Spec::OnnxCpu, None, &mut |_| {}, &AtomicBool::new(false)).unwrap();
    assert!(matches!(&verified[0].problems[0].wrong, Wrong::Misplaced(_)));
    install(&packs, Spec::OnnxCpu, None).unwrap();
    packs.find(Spec::OnnxCpu).unwrap();
    // The link went, and not what it led to.
    assert!(elsewhere.is_file());
}

#[test]
fn a_link_inside_a_pack_is_removed_and_not_followed() {
    let bench = Bench::new();
    let outside = outside(&bench);
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCpu, None).unwrap();
    symlink(&outside, bench.root().join("onnx/cpu/1.0.0/lib/more")).unwrap();
    packs.uninstall(Spec::OnnxCpu, None).unwrap();
    assert_eq!(bench.files(), [] as [&str; 0]);
    assert_eq!(fs::read(outside.join("cpu/1.0.0/lib/precious")).unwrap(), b"mine");
}

#[test]
fn a_version_is_a_name_and_no_path() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCpu, None).unwrap();
    for version in ["", ".", "..", "../cpu", "../../..", "/etc", "1.0.0/lib", "1.0.0\0"] {
        let error = packs.uninstall(Spec::OnnxCpu, Some(version)).unwrap_err();
        assert!(matches!(error, Error::NoVersion { .. }), "{version:?}: {error}");
    }
    packs.find(Spec::OnnxCpu).unwrap();
}

#[test]
fn a_record_that_names_places_elsewhere_is_not_believed() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCpu, None).unwrap();
    let record = bench.root().join("onnx/cpu/1.0.0/pack.json");
    let text = fs::read_to_string(&record).unwrap();
    for place in ["../../../../outside", "/etc/passwd", "lib/../../x"] {
        fs::write(&record, text.replace("lib/libort.so", place)).unwrap();
        let error = packs.find(Spec::OnnxCpu).unwrap_err();
        assert!(matches!(error, Error::Broken { .. }), "{place}: {error}");
    }
}
