//! What is listed: of an empty folder, of what is installed, bundled, broken, and of no use.

use std::fs;

use bespoke_runtimes::{Error, Features, Packs, Platform, Row, Set, Spec, State, Table};
use expect_test::expect;

use crate::{
    index::Index,
    kit::{Bench, Kit, install},
};

fn shown(packs: &Packs) -> String {
    let line = |row: Row| {
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        format!(
            "{:<10} {:<24} {:<13} {:?} size {} download {}\n",
            row.spec,
            format!("{:?}", row.state),
            text(row.version),
            row.versions,
            text(row.size.map(|n| n.to_string())),
            text(row.download.map(|n| n.to_string()))
        )
    };
    packs.rows().into_iter().map(line).collect()
}

#[test]
fn an_empty_folder_has_what_the_table_offers() {
    let bench = Bench::new();
    let packs = bench.packs(&Kit::new(), None);
    expect![[r#"
        onnx:cpu   Available                1.0.0         [] size 120000 download 120388
        onnx:cuda  Available                1.0.0+cu13    [] size 480000 download 481638
        xla:cpu    NotForPlatform           -             [] size - download -
        xla:cuda   Available                2.0+cu13      [] size 420000 download 421520
        xla:tpu    NotForPlatform           -             [] size - download -
        cuda:nvrtc Available                13.2+cu13     [] size 180000 download 180626
    "#]]
    .assert_eq(&shown(&packs));
    assert!(!bench.root().exists(), "listing makes nothing");
}

#[test]
fn without_a_feature_a_pack_says_so_and_is_not_installed() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let mut packs = bench.packs(&kit, Some(&index));
    packs.features = Features { onnx: false, ..Features::ALL };
    assert_eq!(packs.row(Spec::OnnxCpu).state, State::NeedsFeature("onnx"));
    assert_eq!(packs.row(Spec::XlaCuda).state, State::Available);
    let error = install(&packs, Spec::OnnxCpu, None).unwrap_err();
    assert_eq!(error.to_string(), "onnx:cpu needs a program with the feature onnx; build one with `--features onnx`");
    assert!(index.seen().is_empty());
}

#[test]
fn on_a_system_without_wheels_a_pack_says_where_there_are_some() {
    let bench = Bench::new();
    let mut packs = Packs::new(bench.root());
    packs.features = Features::ALL;
    packs.platform = Some(Platform::MacosAarch64);
    assert_eq!(packs.row(Spec::OnnxCpu).state, State::Available);
    assert_eq!(packs.row(Spec::OnnxCuda).state, State::NotForPlatform);
    let error = packs.plan(Spec::XlaCpu, None).unwrap_err();
    assert_eq!(error.to_string(), "xla:cpu is not there for macos-aarch64; it is there for linux-x86_64, linux-aarch64");
    packs.platform = None;
    assert_eq!(packs.row(Spec::OnnxCpu).state, State::NotForPlatform);
    assert!(matches!(packs.plan(Spec::OnnxCpu, None), Err(Error::Platform { .. })));
}

#[test]
fn what_is_installed_is_listed_with_its_versions() {
    let bench = Bench::new();
    for version in ["1.0.0", "1.1.0"] {
        let kit = Kit::of(version);
        let index = Index::start(&kit);
        install(&bench.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap();
    }
    let row = bench.packs(&Kit::of("1.1.0"), None).row(Spec::OnnxCpu);
    assert_eq!(row.state, State::Installed);
    assert_eq!(row.version.as_deref(), Some("1.1.0"));
    assert_eq!(row.versions, ["1.0.0", "1.1.0"]);
    assert_eq!(row.previous.as_deref(), Some("1.0.0"));
    assert_eq!(row.size, Some(120_000));
    assert_eq!(row.download, None);
    assert_eq!(row.path, Some(bench.root().join("onnx/cpu/1.1.0")));
}

#[test]
fn only_what_is_older_than_the_pinned_version_is_outdated() {
    let bench = Bench::new();
    let kit = Kit::of("1.9.0");
    let index = Index::start(&kit);
    install(&bench.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap();
    install(&bench.packs(&kit, Some(&index)), Spec::OnnxCuda, None).unwrap();
    for (pinned, outdated) in [("1.28.0", true), ("1.9.0", false), ("1.8.0", false)] {
        let packs = bench.packs(&Kit::of(pinned), None);
        for spec in [Spec::OnnxCpu, Spec::OnnxCuda] {
            assert_eq!(packs.row(spec).outdated, outdated, "{spec} {pinned}");
        }
        // What is not installed cannot be updated, however old the bundled one is.
        let row = Bench::new().packs(&Kit::of(pinned), None).with_bundled(bench.root()).row(Spec::OnnxCpu);
        assert_eq!((row.pinned.as_deref(), row.version.as_deref(), row.outdated), (Some(pinned), Some("1.9.0"), false));
    }
    // The other set of NVIDIA's libraries is no update.
    install(&bench.packs(&kit, Some(&index)), Spec::OnnxCuda, Some(Set::Cu12)).unwrap();
    assert!(!bench.packs(&Kit::of("1.28.0"), None).row(Spec::OnnxCuda).outdated);
}

#[test]
fn a_file_that_is_gone_or_cut_is_seen_by_a_listing() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCpu, None).unwrap();
    let library = bench.root().join("onnx/cpu/1.0.0/lib/libort.so");
    fs::write(&library, b"short").unwrap();
    assert_eq!(packs.row(Spec::OnnxCpu).state, State::Broken("lib/libort.so has 5 bytes instead of 60000".to_owned()));
    fs::remove_file(&library).unwrap();
    assert_eq!(packs.row(Spec::OnnxCpu).state, State::Broken("lib/libort.so is missing".to_owned()));
    let error = packs.find(Spec::OnnxCpu).unwrap_err();
    assert_eq!(
        error.to_string(),
        "onnx:cpu 1.0.0 is broken: lib/libort.so is missing; run `bespoke plugin install onnx:cpu`, which repairs it"
    );
}

#[test]
fn records_that_nobody_can_read_are_no_reason_to_fail() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    install(&packs, Spec::OnnxCpu, None).unwrap();
    let folder = bench.root().join("onnx/cpu");
    for (file, text) in
        [("1.0.0/pack.json", "{"), ("1.0.0/pack.json", "[]"), ("active.json", "not json"), ("active.json", "{\"version\": \"../..\"}")]
    {
        fs::write(folder.join(file), text).unwrap();
        assert_ne!(packs.row(Spec::OnnxCpu).state, State::Installed, "{file} {text}");
        assert!(packs.find(Spec::OnnxCpu).is_err(), "{file} {text}");
        install(&packs, Spec::OnnxCpu, None).unwrap();
        assert_eq!(packs.row(Spec::OnnxCpu).state, State::Installed, "{file} {text}");
    }
}

#[test]
fn the_bundled_one_is_used_where_none_is_installed() {
    let (bench, release) = (Bench::new(), Bench::new());
    let kit = Kit::new();
    let index = Index::start(&kit);
    install(&release.packs(&kit, Some(&index)), Spec::OnnxCpu, None).unwrap();
    // A release may ship the folder of the version alone.
    fs::remove_file(release.root().join("onnx/cpu/active.json")).unwrap();
    let packs = bench.packs(&kit, Some(&index)).with_bundled(release.root());

    assert_eq!(packs.row(Spec::OnnxCpu).state, State::Bundled);
    let found = packs.find(Spec::OnnxCpu).unwrap();
    assert_eq!((found.origin.as_str(), found.library), ("bundled", release.root().join("onnx/cpu/1.0.0/lib/libort.so")));
    let error = packs.uninstall(Spec::OnnxCpu, None).unwrap_err();
    assert!(matches!(error, Error::Bundled { .. }), "{error}");

    install(&packs, Spec::OnnxCpu, None).unwrap();
    assert_eq!(packs.find(Spec::OnnxCpu).unwrap().origin.as_str(), "installed");
    // Better an old one than none, and it is said.
    fs::remove_file(bench.root().join("onnx/cpu/1.0.0/lib/libort.so")).unwrap();
    let found = packs.find(Spec::OnnxCpu).unwrap();
    assert_eq!((found.origin.as_str(), found.passed_over.as_deref()), ("bundled", Some("1.0.0 is broken: lib/libort.so is missing")));
}

#[test]
fn a_plan_counts_what_is_missing() {
    let bench = Bench::new();
    let kit = Kit::new();
    let index = Index::start(&kit);
    let packs = bench.packs(&kit, Some(&index));
    let size = |project: &str| kit.wheels.iter().find(|wheel| wheel.project == project).unwrap().bytes.len() as u64;

    let plan = packs.plan(Spec::OnnxCuda, None).unwrap();
    assert_eq!((plan.version.as_str(), plan.set, plan.installed), ("1.0.0+cu13", Some(Set::Cu13), false));
    assert_eq!(plan.download, size("ort-gpu") + size("nvidia-blas") + size("nvidia-dnn"));
    assert_eq!(plan.disk, 8 * 60_000);
    assert!(plan.peak > plan.disk + size("nvidia-blas") && plan.free.is_some());
    assert!(plan.wheels.iter().any(|wheel| wheel.license == "LicenseRef-NVIDIA"));

    install(&packs, Spec::OnnxCuda, None).unwrap();
    let plan = packs.plan(Spec::OnnxCuda, None).unwrap();
    assert_eq!((plan.installed, plan.download, plan.disk, plan.peak), (true, 0, 0, 0));
    // What the other has brought is not fetched again.
    let plan = packs.plan(Spec::XlaCuda, None).unwrap();
    assert_eq!(plan.download, size("pjrt-cuda") + size("nvidia-rtc"));
    assert_eq!(packs.plan(Spec::OnnxCuda, Some(Set::Cu12)).unwrap().version, "0.9+cu12");
    assert!(matches!(packs.plan(Spec::XlaCuda, Some(Set::Cu12)), Err(Error::Set { .. })));
}

#[test]
fn the_shipped_table_lists_without_a_folder() {
    let packs = Packs::new("nowhere/at/all").with_table(Table::shipped().clone());
    assert_eq!(packs.rows().len(), Spec::ALL.len());
    assert!(matches!(packs.find(Spec::XlaTpu), Err(Error::NotInstalled { .. })));
}
