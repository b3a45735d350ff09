//! Verifying: each file that is missing, wrong or extra is named, and a pack with one is not used until it is repaired.

use std::{fs, sync::atomic::AtomicBool};

use bespoke_runtimes::{Error, Packs, Phase, Spec, State, Verified};
use expect_test::expect;

use crate::{
    index::Index,
    kit::{Bench, Kit, install, packs as packs_at},
};

fn verify(packs: &Packs, spec: Spec) -> Vec<Verified> {
    packs.verify(spec, None, &mut |_| {}, &AtomicBool::new(false)).unwrap()
}

#[test]
fn every_file_that_is_not_as_it_was_is_named() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCuda, None).unwrap();
    assert_eq!(verify(&packs, Spec::OnnxCuda)[0].problems, []);

    let folder = bench.root().join("onnx/cuda/1.0.0+cu13");
    let library = folder.join("lib/libort.so");
    let mut bytes = fs::read(&library).unwrap();
    bytes[30_000] ^= 1;
    fs::write(&library, bytes).unwrap();
    // The size is the same: a listing cannot tell.
    assert_eq!(packs.row(Spec::OnnxCuda).state, State::Installed);
    fs::remove_file(folder.join("licenses/LICENSE")).unwrap();
    fs::write(folder.join("nvidia/dnn/lib/libdnn.so.9"), b"cut").unwrap();
    fs::write(folder.join("lib/libextra.so"), b"not ours").unwrap();

    let verified = verify(&packs, Spec::OnnxCuda);
    let words: Vec<String> = verified[0].problems.iter().map(ToString::to_string).collect();
    expect![[r#"
        nvidia/dnn/lib/libdnn.so.9 has 3 bytes instead of 60000
        lib/libort.so has other bytes than were installed
        licenses/LICENSE is missing
        lib/libextra.so was not installed"#]]
    .assert_eq(&words.join("\n"));
    let State::Broken(why) = packs.row(Spec::OnnxCuda).state else { panic!("not broken") };
    assert_eq!(why, words[0]);
    assert!(matches!(packs.find(Spec::OnnxCuda), Err(Error::Broken { .. })));

    install(&packs, Spec::OnnxCuda, None).unwrap();
    assert_eq!(verify(&packs, Spec::OnnxCuda)[0].problems, []);
    packs.find(Spec::OnnxCuda).unwrap();
    assert!(!folder.join("lib/libextra.so").exists());
}

#[test]
fn what_was_written_to_since_is_read_before_it_is_loaded_and_repaired_by_install() {
    for path in ["lib/libort.so", "nvidia/cu13/lib/libblas.so.13"] {
        let bench = Bench::new();
        let kit = Kit::new();
        let index = Index::start(&kit);
        let packs = bench.packs(&kit, Some(&index));
        install(&packs, Spec::OnnxCuda, None).unwrap();
        packs.find(Spec::OnnxCuda).unwrap();
        let file = bench.root().join("onnx/cuda/1.0.0+cu13").join(path);
        let right = fs::read(&file).unwrap();
        let mut wrong = right.clone();
        wrong[1000] ^= 1;
        fs::write(&file, &wrong).unwrap();
        let error = packs.find(Spec::OnnxCuda).unwrap_err();
        assert!(matches!(&error, Error::Broken { why, .. } if why.starts_with(path)), "{error}");
        // Written to, and right: nothing is wrong with it.
        fs::write(&file, &right).unwrap();
        packs.find(Spec::OnnxCuda).unwrap();
        fs::write(&file, &wrong).unwrap();
        install(&packs, Spec::OnnxCuda, None).unwrap();
        packs.find(Spec::OnnxCuda).unwrap();
        assert_eq!(fs::read(&file).unwrap(), right);
    }
}

#[test]
fn a_changed_byte_alone_is_found_and_repaired_also_in_what_is_shared() {
    for path in ["lib/libort.so", "nvidia/cu13/lib/libblas.so.13"] {
        let bench = Bench::new();
        let kit = Kit::new();
        let index = Index::start(&kit);
        let packs = bench.packs(&kit, Some(&index));
        install(&packs, Spec::OnnxCuda, None).unwrap();
        install(&packs, Spec::XlaCuda, None).unwrap();
        let file = bench.root().join("onnx/cuda/1.0.0+cu13").join(path);
        let right = fs::read(&file).unwrap();
        let mut wrong = right.clone();
        wrong[7] ^= 1;
        fs::write(&file, &wrong).unwrap();
        assert_eq!(verify(&packs, Spec::OnnxCuda)[0].problems.len(), 1, "{path}");
        // The other one has the same file, where it is shared, and says so.
        let shared = path.starts_with("nvidia");
        assert_eq!(verify(&packs, Spec::XlaCuda)[0].problems.len(), usize::from(shared), "{path}");
        install(&packs, Spec::OnnxCuda, None).unwrap();
        install(&packs, Spec::XlaCuda, None).unwrap();
        for spec in [Spec::OnnxCuda, Spec::XlaCuda] {
            assert_eq!(verify(&packs, spec)[0].problems, [], "{path} {spec}");
            packs.find(spec).unwrap();
        }
        assert_eq!(fs::read(&file).unwrap(), right);
    }
}

#[test]
fn what_was_found_wrong_and_is_right_again_is_used_again() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCpu, None).unwrap();
    let extra = bench.root().join("onnx/cpu/1.0.0/lib/libextra.so");
    fs::write(&extra, b"x").unwrap();
    assert_eq!(verify(&packs, Spec::OnnxCpu)[0].problems[0].to_string(), "lib/libextra.so was not installed");
    assert!(packs.find(Spec::OnnxCpu).is_err());
    fs::remove_file(extra).unwrap();
    verify(&packs, Spec::OnnxCpu);
    packs.find(Spec::OnnxCpu).unwrap();
}

/// Verifies `onnx:cpu`, whose library is wrong, while another process holds the lock until `meanwhile` is over.
fn verify_beside(meanwhile: impl FnOnce(&Bench, &Packs)) -> (Bench, Packs, Result<Vec<Verified>, Error>) {
    verify_beside_with(|_| {}, meanwhile)
}

fn verify_beside_with(before: impl FnOnce(&Bench), meanwhile: impl FnOnce(&Bench, &Packs)) -> (Bench, Packs, Result<Vec<Verified>, Error>) {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCpu, None).unwrap();
    let folder = bench.root().join("onnx/cpu/1.0.0");
    fs::write(folder.join("lib/libort.so"), b"cut").unwrap();
    before(&bench);
    let held = fs::File::create(bench.root().join(".locks/packs.lock")).unwrap();
    held.lock().unwrap();
    let mut other = Some((held, meanwhile));
    let mut report = |p: bespoke_runtimes::Progress<'_>| {
        if p.phase == Phase::Waiting
            && let Some((held, meanwhile)) = other.take()
        {
            assert!(!folder.join("wrong.json").exists(), "marked without the lock");
            meanwhile(&bench, &packs);
            drop(held);
        }
    };
    let verified = packs.verify(Spec::OnnxCpu, None, &mut report, &AtomicBool::new(false));
    assert!(other.is_none(), "nobody waited for the lock");
    (bench, packs, verified)
}

#[test]
fn what_is_repaired_meanwhile_is_not_marked() {
    let (bench, packs, verified) = verify_beside(|bench, packs| {
        // What a repair does: a whole folder in place of the broken one.
        let elsewhere = bench.folder.path().join("elsewhere");
        let kit = Kit::new();
        let index = Index::start(&kit);
        install(&packs_at(&elsewhere, &kit.table, Some(&index.url())), Spec::OnnxCpu, None).unwrap();
        fs::remove_dir_all(packs.root().join("onnx")).unwrap();
        fs::rename(elsewhere.join("onnx"), packs.root().join("onnx")).unwrap();
    });
    assert_eq!(verified.unwrap()[0].problems, []);
    assert!(!bench.root().join("onnx/cpu/1.0.0/wrong.json").exists());
    packs.find(Spec::OnnxCpu).unwrap();
}

#[test]
fn what_stays_wrong_is_marked_and_what_is_gone_is_not() {
    let (bench, packs, verified) = verify_beside(|_, _| {});
    assert_eq!(verified.unwrap()[0].problems.len(), 1);
    assert!(bench.root().join("onnx/cpu/1.0.0/wrong.json").is_file());
    assert!(packs.find(Spec::OnnxCpu).is_err());

    let (bench, _, verified) = verify_beside(|_, packs| fs::remove_dir_all(packs.root().join("onnx")).unwrap());
    assert!(matches!(verified, Err(Error::NoVersion { .. })), "{verified:?}");
    assert_eq!(bench.files(), [] as [&str; 0]);
}

/// A mark of another process, for a file that was right when this one read it.
#[test]
fn a_mark_is_not_taken_away_unseen() {
    let (bench, packs, verified) = verify_beside(|_, packs| {
        let folder = packs.root().join("onnx/cpu/1.0.0");
        fs::write(folder.join("licenses/LICENSE"), b"cut").unwrap();
        fs::write(folder.join("wrong.json"), r#"[{ "path": "licenses/LICENSE", "wrong": "changed" }]"#).unwrap();
    });
    let paths: Vec<String> = verified.unwrap().remove(0).problems.into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["lib/libort.so", "licenses/LICENSE"]);
    let marked = fs::read_to_string(bench.root().join("onnx/cpu/1.0.0/wrong.json")).unwrap();
    assert!(marked.contains("LICENSE") && marked.contains("libort"), "{marked}");
    drop(packs);
}

#[test]
fn a_record_that_can_be_read_again_does_not_speak_for_the_files() {
    let (bench, packs, verified) = verify_beside_with(
        |bench| fs::write(bench.root().join("onnx/cpu/1.0.0/pack.json"), b"?").unwrap(),
        |bench, packs| {
            let elsewhere = bench.folder.path().join("elsewhere");
            let kit = Kit::new();
            let index = Index::start(&kit);
            install(&packs_at(&elsewhere, &kit.table, Some(&index.url())), Spec::OnnxCpu, None).unwrap();
            fs::copy(elsewhere.join("onnx/cpu/1.0.0/pack.json"), packs.root().join("onnx/cpu/1.0.0/pack.json")).unwrap();
        },
    );
    assert_eq!(verified.unwrap()[0].problems[0].path, "lib/libort.so");
    assert!(packs.find(Spec::OnnxCpu).is_err() && bench.root().join("onnx/cpu/1.0.0/wrong.json").is_file());
}

#[test]
fn a_pack_that_is_right_is_verified_without_the_lock() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCpu, None).unwrap();
    let held = fs::File::create(bench.root().join(".locks/packs.lock")).unwrap();
    held.lock().unwrap();
    let mut report = |p: bespoke_runtimes::Progress<'_>| assert_ne!(p.phase, Phase::Waiting);
    assert_eq!(packs.verify(Spec::OnnxCpu, None, &mut report, &AtomicBool::new(false)).unwrap()[0].problems, []);
}

#[test]
fn all_versions_are_verified_or_the_one_that_is_named() {
    let bench = Bench::new();
    for version in ["1.0.0", "1.1.0"] {
        let kit = Kit::of(version);
        let index = Index::start(&kit);
        install(&bench.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap();
    }
    let packs = bench.packs(&Kit::of("1.1.0"), None);
    assert_eq!(verify(&packs, Spec::OnnxCpu).iter().map(|v| v.version.as_str()).collect::<Vec<_>>(), ["1.0.0", "1.1.0"]);
    let one = packs.verify(Spec::OnnxCpu, Some("1.0.0"), &mut |_| {}, &AtomicBool::new(false)).unwrap();
    assert_eq!(one.len(), 1);
    let none = packs.verify(Spec::OnnxCpu, Some("2.0"), &mut |_| {}, &AtomicBool::new(false));
    assert!(matches!(none, Err(Error::NoVersion { .. })));
    assert!(matches!(packs.verify(Spec::XlaCpu, None, &mut |_| {}, &AtomicBool::new(false)), Err(Error::NotInstalled { .. })));
    assert!(matches!(packs.verify(Spec::OnnxCpu, None, &mut |_| {}, &AtomicBool::new(true)), Err(Error::Cancelled { .. })));
}

#[test]
fn what_is_bundled_is_verified_and_not_written_to() {
    let (bench, release) = (Bench::new(), Bench::new());
    let kit = Kit::new();
    let index = Index::start(&kit);
    install(&release.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap();
    let packs = bench.packs(&kit, None).with_bundled(release.root());
    let library = release.root().join("onnx/cpu/1.0.0/lib/libort.so");
    let mut bytes = fs::read(&library).unwrap();
    bytes[1] ^= 1;
    fs::write(&library, bytes).unwrap();
    let verified = verify(&packs, Spec::OnnxCpu);
    assert_eq!((verified[0].origin.as_str(), verified[0].problems.len()), ("bundled", 1));
    assert!(!release.root().join("onnx/cpu/1.0.0/wrong.json").exists());
}
