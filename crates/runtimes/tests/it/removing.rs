//! Removing: what goes, what stays, and what is in use afterwards.

use std::{fs, path::PathBuf};

use bespoke_fetch::Class;
use bespoke_runtimes::{Error, Set, Spec};

use crate::{
    index::Index,
    kit::{Bench, Kit, install, sha256},
};

#[test]
fn what_another_pack_shares_stays_until_that_goes_too() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCuda, None).unwrap();
    install(&packs, Spec::XlaCuda, None).unwrap();

    let removed = packs.uninstall(Spec::OnnxCuda, None).unwrap();
    assert_eq!(removed.versions, ["1.0.0+cu13"]);
    // Two files of its own, three that only it used.
    assert_eq!(removed.freed, 5 * 60_000);
    assert!(!bench.root().join("nvidia/nvidia-dnn").exists());
    assert!(bench.root().join("nvidia/nvidia-blas/13.1").exists());
    packs.find(Spec::XlaCuda).unwrap();
    assert!(matches!(packs.find(Spec::OnnxCuda), Err(Error::NotInstalled { .. })));

    packs.uninstall(Spec::XlaCuda, None).unwrap();
    assert_eq!(bench.files(), [] as [&str; 0]);
    let error = packs.uninstall(Spec::XlaCuda, None).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.class()),
        ("xla:cuda is not installed; run `bespoke plugin install xla:cuda`", Class::NotFound)
    );
}

#[test]
fn one_version_goes_and_the_one_before_it_is_used_again() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCuda, Some(Set::Cu12)).unwrap();
    install(&packs, Spec::OnnxCuda, Some(Set::Cu13)).unwrap();
    let error = packs.uninstall(Spec::OnnxCuda, Some("3.0")).unwrap_err();
    assert_eq!(error.to_string(), "onnx:cuda 3.0 is not installed; installed are 0.9+cu12, 1.0.0+cu13");
    let removed = packs.uninstall(Spec::OnnxCuda, Some("1.0.0+cu13")).unwrap();
    assert_eq!(removed.active.as_deref(), Some("0.9+cu12"));
    assert_eq!(packs.find(Spec::OnnxCuda).unwrap().set, Some(Set::Cu12));
    assert_eq!(packs.row(Spec::OnnxCuda).previous, None);
    assert!(!bench.root().join("nvidia/nvidia-blas").exists());
}

#[test]
fn one_that_is_not_in_use_goes_and_nothing_else_changes() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCuda, Some(Set::Cu12)).unwrap();
    install(&packs, Spec::OnnxCuda, Some(Set::Cu13)).unwrap();
    let removed = packs.uninstall(Spec::OnnxCuda, Some("0.9+cu12")).unwrap();
    assert_eq!(removed.active.as_deref(), Some("1.0.0+cu13"));
    assert_eq!(packs.find(Spec::OnnxCuda).unwrap().version, "1.0.0+cu13");
    assert!(matches!(packs.rollback(Spec::OnnxCuda), Err(Error::NoPrevious { .. })));
}

#[test]
fn what_is_broken_can_be_removed() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCuda, None).unwrap();
    fs::remove_file(bench.root().join("onnx/cuda/1.0.0+cu13/pack.json")).unwrap();
    let removed = packs.uninstall(Spec::OnnxCuda, None).unwrap();
    assert_eq!(removed.versions, ["1.0.0+cu13"]);
    assert_eq!(bench.files(), [] as [&str; 0]);
}

#[test]
fn while_one_pack_cannot_be_read_nothing_shared_is_collected() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCuda, None).unwrap();
    install(&packs, Spec::XlaCuda, None).unwrap();
    fs::write(bench.root().join("xla/cuda/2.0+cu13/pack.json"), b"?").unwrap();
    packs.uninstall(Spec::OnnxCuda, None).unwrap();
    assert!(bench.root().join("nvidia/nvidia-blas/13.1").exists());
    install(&packs, Spec::XlaCuda, None).unwrap();
    assert!(!bench.root().join("nvidia/nvidia-dnn").exists(), "collected once all can be read");
}

#[test]
fn what_another_pack_has_downloaded_so_far_is_kept() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCpu, None).unwrap();
    install(&packs, Spec::OnnxCuda, None).unwrap();
    // An update of the one that broke off, and an installation of another.
    let newer = Kit::of("1.1.0");
    let (own, old, theirs) = (part(&bench, &newer, "ort"), part(&bench, &kit, "ort"), part(&bench, &kit, "pjrt-cuda"));
    bench.packs(&newer, None).uninstall(Spec::OnnxCpu, None).unwrap();
    assert_eq!([&own, &old, &theirs].map(|path| path.exists()), [false, false, true]);

    // One version that goes says nothing of the next one.
    let own = part(&bench, &newer, "ort-gpu");
    bench.packs(&newer, None).uninstall(Spec::OnnxCuda, Some("1.0.0+cu13")).unwrap();
    assert_eq!([&own, &theirs].map(|path| path.exists()), [true, true]);

    // Nor does an installation that fails: what it was at goes, and the rest stays.
    let error = {
        let own = part(&bench, &kit, "ort");
        let mut packs = bench.packs(&kit, Some(&index));
        packs.free_space = |_| Some(0);
        let error = install(&packs, Spec::OnnxCpu, None).unwrap_err();
        assert!(!own.exists());
        error
    };
    assert!(matches!(error, Error::Space { .. }), "{error}");
    assert!(theirs.exists());
}

/// What an interrupted download of a wheel leaves.
fn part(bench: &Bench, kit: &Kit, project: &str) -> PathBuf {
    let wheel = kit.wheels.iter().find(|wheel| wheel.project == project).unwrap();
    let name = format!("{}.{}.part", wheel.file, &sha256(&wheel.bytes).to_string()[..16]);
    let path = bench.root().join(".partial/.wheels").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &wheel.bytes[..100]).unwrap();
    path
}
