//! Defects of the systems that these packs replace, each under its name.

use std::fs;

use bespoke_fetch::Class;
use bespoke_runtimes::{Outcome, Spec};

use crate::{
    index::{Answer, Index},
    kit::{Bench, Kit, install},
};

/// go-xla removed the folder of NVIDIA's libraries before it downloaded new ones.
#[test]
fn a_failed_installation_does_not_break_what_is_installed() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    install(&bench.packs(&kit, Some(&index)), Spec::OnnxCuda, None).unwrap();
    let before = bench.files();
    for status in [404, 403] {
        let index = Index::answering(&kit, move |_| Answer::Status(status));
        let packs = bench.packs(&kit, Some(&index));
        assert!(install(&packs, Spec::XlaCuda, None).is_err());
        assert_eq!(bench.files(), before);
        packs.find(Spec::OnnxCuda).unwrap();
    }
}

/// go-xla looked at no HTTP status, and kept an error page as the archive.
#[test]
fn an_error_page_is_no_archive() {
    let bench = Bench::new();
    let kit = Kit::new();
    for status in [404, 200] {
        let index =
            Index::answering(
                &kit,
                move |_| if status == 200 { Answer::Bytes(b"<html>log in</html>".to_vec()) } else { Answer::Status(status) },
            );
        let error = install(&bench.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap_err();
        assert!(matches!(error.class(), Class::Network | Class::Verification), "{error}");
        assert_eq!(bench.files(), [] as [&str; 0], "{status}");
    }
    let index = Index::start(&kit);
    install(&bench.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap();
}

/// go-xla failed for ever on a file in its cache that had gone bad.
#[test]
fn a_download_that_went_bad_is_fetched_again() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::answering(&kit, |_| Answer::Cut);
    install(&bench.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap_err();
    let parts: Vec<String> = bench.files().into_iter().filter(|name| name.starts_with(".partial/")).collect();
    assert_eq!(parts.len(), 1, "{parts:?}");
    let part = bench.root().join(&parts[0]);
    let length = fs::metadata(&part).unwrap().len() as usize;
    fs::write(&part, vec![7; length]).unwrap();
    let index = Index::start(&kit);
    install(&bench.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap();
    assert_eq!(bench.hidden(), [] as [&str; 0]);
}

/// go-xla took the newest version of what it found.
#[test]
fn a_newer_version_in_the_index_is_not_taken() {
    let bench = Bench::new();
    let (kit, mut both) = (Kit::of("1.0.0"), Kit::of("1.1.0"));
    both.wheels.extend(Kit::of("1.0.0").wheels.into_iter().filter(|wheel| wheel.project == "ort"));
    let index = Index::start(&both);
    install(&bench.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap();
    let asked: Vec<String> = index.files().into_iter().map(|seen| seen.what).collect();
    assert_eq!(asked, [kit.file("ort").to_owned()]);
}

/// go-xla did not look again after it had waited for its lock, and installed a second time.
#[test]
fn whoever_waited_looks_again() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    let lock = bench.root().join(".locks/packs.lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let mut held = Some(fs::File::create(&lock).unwrap());
    held.as_ref().unwrap().lock().unwrap();
    // While this one waits, another root stands in for the installer that holds the lock.
    let elsewhere = Bench::new();
    install(&elsewhere.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap();
    let asked = index.seen().len();
    let mut report = |_: bespoke_runtimes::Progress<'_>| {
        if held.take().is_some() {
            fs::rename(elsewhere.root().join("onnx"), bench.root().join("onnx")).unwrap();
        }
    };
    let done = packs.install(Spec::OnnxCpu, None, &mut report, &std::sync::atomic::AtomicBool::new(false)).unwrap();
    assert_eq!(done.outcome, Outcome::AlreadyInstalled);
    assert_eq!(index.seen().len(), asked);
}

/// aisopod and Termite had verbs for downloads without digests: here nothing comes in without one.
#[test]
fn every_file_that_is_installed_has_its_digest_written_down() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    install(&bench.packs(&kit, Some(&index)), Spec::OnnxCuda, None).unwrap();
    let text = fs::read_to_string(bench.root().join("onnx/cuda/1.0.0+cu13/pack.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let digests =
        |key: &str| record[key].as_array().unwrap().iter().filter(|entry| entry["sha256"].as_str().is_some_and(|s| s.len() == 64)).count();
    assert_eq!((digests("wheels"), digests("files")), (3, 8));
    assert_eq!(record["spec"], "onnx:cuda");
    assert!(record["installed"].as_u64().is_some_and(|when| when > 1_700_000_000));
}
