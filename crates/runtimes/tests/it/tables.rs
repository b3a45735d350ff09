//! The table that is compiled in, and tables that are refused.

use std::{collections::BTreeSet, fmt::Write as _};

use bespoke_runtimes::{Error, Table};
use expect_test::expect;

use crate::kit::Kit;

#[test]
fn the_table_of_the_program_is_what_it_says() {
    let mut shown = String::new();
    for pack in Table::shipped().packs() {
        let (download, unpacked) = (pack.download() / 1_000_000, pack.unpacked() / 1_000_000);
        let bundle = if pack.not_redistributable().next().is_none() { "may be bundled" } else { "downloaded only" };
        writeln!(
            shown,
            "{:<10} {:<13} {:<13} {download:>4} MB, {unpacked:>4} MB unpacked, {:>2} wheels, {bundle}",
            pack.spec,
            pack.version,
            pack.platform,
            pack.all().count()
        )
        .unwrap();
    }
    expect![[r#"
        onnx:cpu   1.28.0        linux-x86_64    19 MB,   24 MB unpacked,  1 wheels, may be bundled
        onnx:cpu   1.28.0        linux-aarch64   17 MB,   21 MB unpacked,  1 wheels, may be bundled
        onnx:cpu   1.28.0        macos-aarch64   19 MB,   30 MB unpacked,  1 wheels, may be bundled
        onnx:cuda  1.28.0+cu13   linux-x86_64  1561 MB, 2469 MB unpacked,  8 wheels, downloaded only
        onnx:cuda  1.26.0+cu12   linux-x86_64  2026 MB, 3286 MB unpacked,  8 wheels, downloaded only
        xla:cpu    0.0.1         linux-x86_64    63 MB,  259 MB unpacked,  1 wheels, downloaded only
        xla:cpu    0.0.1         linux-aarch64   49 MB,  200 MB unpacked,  1 wheels, downloaded only
        xla:cuda   0.12.0.1+cu13 linux-x86_64  2497 MB, 3487 MB unpacked, 14 wheels, downloaded only
        xla:cuda   0.12.0.1+cu13 linux-aarch64 2716 MB, 3649 MB unpacked, 14 wheels, downloaded only
        xla:cuda   0.12.0.1+cu12 linux-x86_64  3261 MB, 4781 MB unpacked, 13 wheels, downloaded only
        xla:cuda   0.12.0.1+cu12 linux-aarch64 3207 MB, 4611 MB unpacked, 13 wheels, downloaded only
        xla:tpu    0.0.51        linux-x86_64   204 MB,  575 MB unpacked,  1 wheels, downloaded only
        cuda:nvrtc 13.5.37+cu13  linux-x86_64    58 MB,  148 MB unpacked,  1 wheels, downloaded only
        cuda:nvrtc 13.5.37+cu13  linux-aarch64   56 MB,  136 MB unpacked,  1 wheels, downloaded only
        cuda:nvrtc 12.9.86+cu12  linux-x86_64    89 MB,  227 MB unpacked,  1 wheels, downloaded only
        cuda:nvrtc 12.9.86+cu12  linux-aarch64   44 MB,  108 MB unpacked,  1 wheels, downloaded only
    "#]]
    .assert_eq(&shown);
}

#[test]
fn nothing_of_nvidia_or_google_is_passed_on() {
    for pinned in Table::shipped().packs().iter().flat_map(|pack| pack.all()) {
        let theirs = pinned.wheel.project.starts_with("nvidia-") || pinned.wheel.project == "libtpu";
        assert!(!(theirs && pinned.redistribute), "{}", pinned.wheel.file);
        assert_eq!(pinned.license.starts_with("LicenseRef-"), theirs, "{}", pinned.wheel.file);
    }
}

#[test]
fn what_is_passed_on_has_its_notices() {
    let wheels = || Table::shipped().packs().iter().flat_map(|pack| pack.all());
    assert!(wheels().any(|pinned| pinned.redistribute));
    for pinned in wheels().filter(|pinned| pinned.redistribute) {
        assert!(pinned.wheel.members.iter().any(|member| member.to.starts_with("licenses/")), "{}", pinned.wheel.file);
    }
}

#[test]
fn every_wheel_has_a_digest_of_its_own_and_its_notices() {
    let wheels: BTreeSet<_> =
        Table::shipped().packs().iter().flat_map(|pack| pack.all()).map(|p| (p.wheel.file.clone(), p.wheel.sha256.to_string())).collect();
    let digests: BTreeSet<_> = wheels.iter().map(|(_, digest)| digest).collect();
    assert_eq!(wheels.len(), digests.len());
    for pinned in Table::shipped().packs().iter().flat_map(|pack| pack.all()) {
        // The wheels of XLA have no notice in them.
        let silent = pinned.license == "Apache-2.0";
        assert_eq!(pinned.wheel.members.iter().any(|member| member.to.starts_with("licenses/")), !silent, "{}", pinned.wheel.file);
    }
}

#[test]
fn the_source_names_no_address() {
    for text in [include_str!("../../pins.toml"), include_str!("../../tools/pins.py")] {
        assert!(!text.contains("://"), "an address");
    }
}

#[test]
fn a_table_that_cannot_be_right_is_refused() {
    let good = Kit::new().table;
    Table::parse(&good).unwrap();
    let cases: &[(&str, &str, &str)] = &[
        (
            "library = \"lib/libort.so\"",
            "library = \"lib/other.so\"",
            "onnx:cpu 1.0.0 for linux-x86_64: lib/other.so is in none of its wheels",
        ),
        (
            "version = \"1.0.0\"\nplatform",
            "version = \"../1\"\nplatform",
            "onnx:cpu ../1 for linux-x86_64: the version is no name of a folder",
        ),
        ("1.0.0+cu13", "1.0.0", "onnx:cuda 1.0.0 for linux-x86_64: the version does not name the set"),
        ("spec = \"onnx:cpu\"", "spec = \"onnx:cup\"", "did you mean onnx:cpu?"),
        ("to = \"lib/libort.so\"", "to = \"../libort.so\"", "../libort.so"),
        ("to = \"licenses/LICENSE\"", "to = \"pack.json\"", "\"pack.json\" is no place in a pack"),
        ("to = \"licenses/LICENSE\"", "to = \"lib/libort.so\"", "lib/libort.so"),
        ("redistribute = true", "redistribute = \"yes\"", "invalid type"),
        ("platform = \"linux-x86_64\"", "platform = \"beos\"", "unknown variant `beos`"),
        (
            "spec = \"cuda:nvrtc\"\nversion = \"13.2+cu13\"",
            "spec = \"onnx:cuda\"\nversion = \"13.2+cu13\"",
            "onnx:cuda stands twice for linux-x86_64",
        ),
    ];
    for (from, to, words) in cases {
        let Error::Table(why) = Table::parse(&good.replacen(from, to, 1)).unwrap_err() else { panic!("another error") };
        assert!(why.contains(words), "{words:?} is not in {why:?}");
    }
}
