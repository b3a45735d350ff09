//! A process that is killed with SIGKILL at every step of an installation: what it leaves is nothing or all, and the next run works.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bespoke_runtimes::{Outcome, Spec, State};

use crate::{
    child::{self, Steps},
    index::{Answer, Index, wait_for},
    kit::{Bench, Kit, install},
};

/// How many steps an installation has.
fn steps(kit: &Kit, before: Option<&Kit>, spec: Spec) -> usize {
    let bench = Bench::new();
    prepare(&bench, before, spec);
    let index = Index::start(kit);
    let mut steps = Steps::default();
    bench
        .packs(kit, Some(&index))
        .install(
            spec,
            None,
            &mut |p| {
                steps.next(&p);
            },
            &AtomicBool::new(false),
        )
        .unwrap();
    steps.seen.len()
}

fn prepare(bench: &Bench, before: Option<&Kit>, spec: Spec) {
    if let Some(before) = before {
        let index = Index::start(before);
        install(&bench.packs(before, Some(&index)), spec, None).unwrap();
    }
}

#[test]
fn killed_at_any_step_nothing_is_half_installed() {
    let kit = Kit::new();
    let steps = steps(&kit, None, Spec::OnnxCuda);
    assert!(steps >= 10, "{steps} steps");
    for step in 1..=steps {
        let bench = Bench::new();
        let index = Index::start(&kit);
        let killed = child::start(&bench.root(), &kit.table, &index.url(), Spec::OnnxCuda, Some(step)).wait_with_output().unwrap();
        assert_eq!(signal(killed.status), Some(9), "step {step}: {}", String::from_utf8_lossy(&killed.stderr));

        // Either it is there as a whole, or not at all.
        let packs = bench.packs(&kit, Some(&index));
        match packs.row(Spec::OnnxCuda).state {
            State::Installed => packs.find(Spec::OnnxCuda).map(drop).unwrap(),
            State::Available => assert!(packs.find(Spec::OnnxCuda).is_err(), "step {step}"),
            other => panic!("step {step}: {other:?}"),
        }
        install(&packs, Spec::OnnxCuda, None).unwrap();
        let verified = packs.verify(Spec::OnnxCuda, None, &mut |_| {}, &AtomicBool::new(false)).unwrap();
        assert_eq!(verified[0].problems, [], "step {step}");
        install(&packs, Spec::OnnxCpu, None).unwrap();
        assert_eq!(bench.hidden(), [] as [&str; 0], "step {step}");
    }
}

#[test]
fn killed_while_it_updates_the_old_version_stays_in_use_until_the_new_one_is() {
    let (old, new) = (Kit::of("1.0.0"), Kit::of("1.1.0"));
    for step in 1..=steps(&new, Some(&old), Spec::OnnxCpu) {
        let bench = Bench::new();
        prepare(&bench, Some(&old), Spec::OnnxCpu);
        let index = Index::start(&new);
        let killed = child::start(&bench.root(), &new.table, &index.url(), Spec::OnnxCpu, Some(step)).wait_with_output().unwrap();
        assert_eq!(signal(killed.status), Some(9), "step {step}: {}", String::from_utf8_lossy(&killed.stderr));
        let packs = bench.packs(&new, Some(&index));
        let found = packs.find(Spec::OnnxCpu).unwrap();
        assert!(["1.0.0", "1.1.0"].contains(&found.version.as_str()), "step {step}");
        let done = packs.update(Spec::OnnxCpu, None, &mut |_| {}, &AtomicBool::new(false)).unwrap();
        assert_eq!(done.version, "1.1.0", "step {step}");
        assert_eq!(packs.find(Spec::OnnxCpu).unwrap().version, "1.1.0", "step {step}");
        assert_eq!(bench.hidden(), [] as [&str; 0], "step {step}");
    }
}

#[test]
fn killed_from_outside_in_the_middle_of_a_download_it_is_resumed() {
    let bench = Bench::new();
    let kit = Kit::new();
    let go_on = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&go_on);
    let index = Index::answering(&kit, move |seen| if seen.from.is_none() { Answer::Half(Arc::clone(&flag)) } else { Answer::Right });
    let mut killed = child::start(&bench.root(), &kit.table, &index.url(), Spec::OnnxCpu, None);
    wait_for("half a wheel", || {
        bench
            .files()
            .iter()
            .any(|name| name.starts_with(".partial/") && bench.root().join(name).metadata().is_ok_and(|part| part.len() > 40_000))
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    go_on.store(true, Ordering::Relaxed);
    let done = install(&bench.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap();
    assert_eq!(done.outcome, Outcome::Installed);
    assert!(index.files()[1].from.is_some_and(|from| from > 40_000), "{:?}", index.files());
    assert_eq!(bench.hidden(), [] as [&str; 0]);
}

#[test]
fn two_processes_install_once() {
    let bench = Bench::new();
    let kit = Kit::new();
    let go_on = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&go_on);
    let index = Index::answering(&kit, move |_| Answer::Half(Arc::clone(&flag)));
    let other = child::start(&bench.root(), &kit.table, &index.url(), Spec::XlaCuda, None);
    wait_for("the other's download", || !index.files().is_empty());
    let packs = bench.packs(&kit, Some(&index));
    let done = packs.install(Spec::XlaCuda, None, &mut |_| go_on.store(true, Ordering::Relaxed), &AtomicBool::new(false)).unwrap();
    let other = other.wait_with_output().unwrap();
    assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stderr));
    assert_eq!(done.outcome, Outcome::AlreadyInstalled);
    assert_eq!(index.files().len(), 3);
}

fn signal(status: std::process::ExitStatus) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal()
}

#[test]
fn what_a_dead_run_left_is_gone_before_the_next_one_needs_the_room() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let left = bench.root().join(".installing/new-dead/lib/libort.so");
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    std::fs::write(&left, vec![0; 1000]).unwrap();
    let mut steps = 0;
    let mut report = |_: bespoke_runtimes::Progress<'_>| {
        steps += 1;
        assert!(!left.exists());
    };
    bench.packs(&kit, Some(&index)).install(Spec::OnnxCpu, None, &mut report, &AtomicBool::new(false)).unwrap();
    assert!(steps > 0);
}
