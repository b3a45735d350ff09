//! Versions side by side: updating, going back, and the other generation of NVIDIA's libraries.

use std::{fs, sync::atomic::AtomicBool};

use bespoke_runtimes::{Error, Installed, Outcome, Packs, Set, Spec};

use crate::{
    index::Index,
    kit::{Bench, Kit, install},
};

fn update(packs: &Packs, spec: Spec) -> Result<Installed, Error> {
    update_to(packs, spec, None)
}

fn update_to(packs: &Packs, spec: Spec, set: Option<Set>) -> Result<Installed, Error> {
    packs.update(spec, set, &mut |_| {}, &AtomicBool::new(false))
}

#[test]
fn an_update_installs_beside_and_switches_and_going_back_is_instant() {
    let bench = Bench::new();
    let (old, new) = (Kit::of("1.9.0"), Kit::of("1.28.0"));
    let (old_index, index) = (Index::start(&old), Index::start(&new));
    assert!(matches!(update(&bench.packs(&old, Some(&old_index)), Spec::OnnxCpu), Err(Error::NotInstalled { .. })));
    install(&bench.packs(&old, Some(&old_index)), Spec::OnnxCpu, None).unwrap();

    let packs = bench.packs(&new, Some(&index));
    assert_eq!(packs.row(Spec::OnnxCpu).pinned.as_deref(), Some("1.28.0"));
    let done = update(&packs, Spec::OnnxCpu).unwrap();
    assert_eq!((done.outcome, done.version.as_str(), done.previous.as_deref()), (Outcome::Installed, "1.28.0", Some("1.9.0")));
    assert_eq!(packs.find(Spec::OnnxCpu).unwrap().version, "1.28.0");
    assert_eq!(update(&packs, Spec::OnnxCpu).unwrap().outcome, Outcome::AlreadyInstalled);
    drop(index);

    let back = packs.rollback(Spec::OnnxCpu).unwrap();
    assert_eq!((back.from.as_str(), back.to.as_str()), ("1.28.0", "1.9.0"));
    assert_eq!(packs.find(Spec::OnnxCpu).unwrap().version, "1.9.0");
    // Forward again, without a network: it lies there.
    let done = install(&packs, Spec::OnnxCpu, None).unwrap();
    assert_eq!((done.outcome, done.previous.as_deref()), (Outcome::Switched, Some("1.9.0")));
    packs.rollback(Spec::OnnxCpu).unwrap();
    assert_eq!(packs.rollback(Spec::OnnxCpu).unwrap().to, "1.28.0");
}

#[test]
fn a_program_that_is_older_than_the_pack_does_not_update_it_backwards() {
    let bench = Bench::new();
    let (old, new) = (Kit::of("1.9.0"), Kit::of("1.28.0"));
    let (old_index, index) = (Index::start(&old), Index::start(&new));
    install(&bench.packs(&new, Some(&index)), Spec::OnnxCpu, None).unwrap();
    let done = update(&bench.packs(&old, Some(&old_index)), Spec::OnnxCpu).unwrap();
    assert_eq!((done.outcome, done.version.as_str()), (Outcome::AlreadyInstalled, "1.28.0"));
    assert!(old_index.seen().is_empty());
    // Neither where the newer one is broken: the older one is put there when it is asked for.
    fs::remove_file(bench.root().join("onnx/cpu/1.28.0/lib/libort.so")).unwrap();
    let error = update(&bench.packs(&old, Some(&old_index)), Spec::OnnxCpu).unwrap_err();
    assert_eq!(
        error.to_string(),
        "onnx:cpu 1.9.0, which this program would install, is older than 1.28.0 in use, which is broken: lib/libort.so is missing; \
         to go there all the same, run `bespoke plugin install onnx:cpu`"
    );
    assert!(old_index.seen().is_empty());
}

#[test]
fn an_update_stays_in_the_set_in_use() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCuda, Some(Set::Cu12)).unwrap();
    assert_eq!(packs.row(Spec::OnnxCuda).pinned.as_deref(), Some("0.9+cu12"));
    assert_eq!(update(&packs, Spec::OnnxCuda).unwrap().version, "0.9+cu12");
    // Also when nobody can read of which it is.
    fs::write(bench.root().join("onnx/cuda/0.9+cu12/pack.json"), b"?").unwrap();
    assert_eq!(packs.row(Spec::OnnxCuda).pinned.as_deref(), Some("0.9+cu12"));
    let done = update(&packs, Spec::OnnxCuda).unwrap();
    assert_eq!((done.outcome, done.version.as_str()), (Outcome::Repaired, "0.9+cu12"));
}

#[test]
fn an_update_goes_to_the_set_that_is_named_unless_that_is_older() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCuda, Some(Set::Cu12)).unwrap();
    let done = update_to(&packs, Spec::OnnxCuda, Some(Set::Cu13)).unwrap();
    assert_eq!((done.outcome, done.version.as_str(), done.previous.as_deref()), (Outcome::Installed, "1.0.0+cu13", Some("0.9+cu12")));
    assert_eq!(update_to(&packs, Spec::OnnxCuda, Some(Set::Cu13)).unwrap().outcome, Outcome::AlreadyInstalled);

    let error = update_to(&packs, Spec::OnnxCuda, Some(Set::Cu12)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "onnx:cuda 0.9+cu12, which this program would install, is older than 1.0.0+cu13 in use; \
         to go there all the same, run `bespoke plugin install onnx:cuda --cuda 12`"
    );
    assert_eq!(packs.find(Spec::OnnxCuda).unwrap().version, "1.0.0+cu13");
    // A pack without sets is for each of them.
    install(&packs, Spec::OnnxCpu, None).unwrap();
    assert_eq!(update_to(&packs, Spec::OnnxCpu, Some(Set::Cu12)).unwrap().outcome, Outcome::AlreadyInstalled);
    assert!(matches!(update_to(&packs, Spec::XlaCpu, Some(Set::Cu12)), Err(Error::NotInstalled { .. })));
}

#[test]
fn going_back_needs_a_version_that_is_whole() {
    let bench = Bench::new();
    let (old, new) = (Kit::of("1.0.0"), Kit::of("1.1.0"));
    let (old_index, index) = (Index::start(&old), Index::start(&new));
    let packs = bench.packs(&new, Some(&index));
    assert!(matches!(packs.rollback(Spec::OnnxCpu), Err(Error::NotInstalled { .. })));
    install(&bench.packs(&old, Some(&old_index)), Spec::OnnxCpu, None).unwrap();
    let error = packs.rollback(Spec::OnnxCpu).unwrap_err();
    assert_eq!(error.to_string(), "onnx:cpu 1.0.0 has no version before it to go back to");
    install(&packs, Spec::OnnxCpu, None).unwrap();
    fs::remove_file(bench.root().join("onnx/cpu/1.0.0/lib/libort.so")).unwrap();
    assert!(matches!(packs.rollback(Spec::OnnxCpu), Err(Error::Broken { version, .. }) if version == "1.0.0"));
    assert_eq!(packs.find(Spec::OnnxCpu).unwrap().version, "1.1.0");
}
