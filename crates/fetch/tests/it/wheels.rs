//! Unpacking wheels: where they may come from, and archives that were made to do harm.

use std::{
    fs,
    io::{Cursor, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use bespoke_fetch::{Class, Error, Failure, Fetcher, Index, Member, Phase, Progress, Unpacked, Wheel};
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::workbench::{Workbench, content, digest, write};

pub(crate) const FILE: &str = "some_model-1.0-py3-none-any.whl";

/// A pin of `bytes` as a wheel, of which one member is wanted.
pub(crate) fn pinned(bytes: &[u8]) -> Wheel {
    Wheel {
        project: "Some.Model".to_owned(),
        version: "1.0".to_owned(),
        file: FILE.to_owned(),
        size: bytes.len() as u64,
        sha256: digest(bytes),
        members: vec![Member { name: "m/lib.so.1".to_owned(), to: "lib/lib.so".to_owned(), size: 300_000 }],
    }
}

pub(crate) fn good() -> Vec<u8> {
    archive(|zip, plain| {
        entry(zip, "m/lib.so.1", plain, &content());
        entry(zip, "m/other", plain, b"not wanted");
    })
}

pub(crate) fn unpack(fetcher: &Fetcher, wheel: &Wheel, into: &Path) -> Result<Vec<Unpacked>, Error> {
    fetcher.unpack(wheel, into, &mut |_| {}, &AtomicBool::new(false))
}

/// A fetcher with neither index nor pip.
pub(crate) fn alone(bench: &Workbench) -> Fetcher {
    let mut fetcher = bench.fetcher();
    fetcher.tools.pip = vec![vec!["/nowhere/pip".into()]];
    fetcher
}

pub(crate) fn listing(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listing(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

fn archive(fill: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>, SimpleFileOptions)) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    fill(&mut zip, SimpleFileOptions::default());
    zip.finish().unwrap().into_inner()
}

fn entry(zip: &mut ZipWriter<Cursor<Vec<u8>>>, name: &str, options: SimpleFileOptions, bytes: &[u8]) {
    zip.start_file(name, options).unwrap();
    zip.write_all(bytes).unwrap();
}

/// `bytes` with every occurrence of one thing in place of another.
fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<_> = bytes.windows(from.len()).enumerate().filter(|(_, window)| *window == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

#[test]
fn a_wheel_comes_out_of_a_folder_a_file_or_a_renamed_file() {
    let bench = Workbench::new();
    let folder = bench.beside("from");
    write(&folder.join(FILE), &good());
    write(&bench.beside("renamed").join("download"), &good());
    let (folder_file, renamed) = (folder.join(FILE), bench.beside("renamed").join("download"));
    for (at, from) in [folder, folder_file, renamed].into_iter().enumerate() {
        let mut fetcher = alone(&bench).with_from(bench.beside("empty")).with_from(&from);
        fetcher.offline = at == 0;
        let into = bench.beside(&format!("into-{at}"));
        let mut phases = Vec::new();
        let mut report = |p: Progress<'_>| {
            phases.push(p.phase);
            assert_eq!(p.file, FILE);
        };
        let unpacked = fetcher.unpack(&pinned(&good()), &into, &mut report, &AtomicBool::new(false)).unwrap();
        assert_eq!(unpacked, [Unpacked { to: "lib/lib.so".to_owned(), size: 300_000, sha256: digest(&content()) }]);
        assert_eq!(listing(&into), [into.join("lib"), into.join("lib/lib.so")], "nothing else");
        assert_eq!(fs::read(into.join("lib/lib.so")).unwrap(), content());
        phases.dedup();
        assert_eq!(phases, [Phase::Verifying, Phase::Extracting, Phase::Done]);
        assert!(bench.files().is_empty() && from.exists(), "what a user gave is left alone");
    }
}

#[test]
fn without_any_way_the_error_names_the_settings() {
    let bench = Workbench::new();
    let into = bench.beside("into");
    let text = unpack(&alone(&bench), &pinned(&good()), &into).unwrap_err().to_string();
    let settings = ["--index-url", "plugins.index_url", "BESPOKE_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"];
    for told in settings.iter().chain(&["python3-pip", "--from FILE", FILE]) {
        assert!(text.contains(told), "{told}: {text}");
    }
    let mut offline = alone(&bench);
    offline.offline = true;
    let error = unpack(&offline, &pinned(&good()), &into).unwrap_err();
    assert_eq!(error.class(), Class::NotFound);
    assert!(error.to_string().contains("--from DIR"), "{error}");
    let error = unpack(&offline.with_from("/no/such/folder"), &pinned(&good()), &into).unwrap_err();
    assert!(error.to_string().contains("/no/such/folder"), "{error}");
}

#[test]
fn a_wrong_wheel_in_a_folder_is_refused() {
    let bench = Workbench::new();
    let (folder, into) = (bench.beside("from"), bench.beside("into"));
    let mut other = good();
    other[40] ^= 1;
    for (bytes, told) in [(other, "has sha256"), (good()[1..].to_vec(), "bytes, pinned are"), (b"<html>".to_vec(), "has 6 bytes")] {
        write(&folder.join(FILE), &bytes);
        let mut fetcher = alone(&bench).with_from(&folder);
        fetcher.offline = true;
        let error = unpack(&fetcher, &pinned(&good()), &into).unwrap_err();
        assert_eq!(error.class(), Class::Verification);
        assert!(error.to_string().contains(told) && error.to_string().contains("from/some_model"), "{error}");
        assert!(listing(&into).is_empty() && bench.files().is_empty());
    }
}

/// Each of them has the pinned digest: who made the pin was deceived.
#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let lib: fn(&mut ZipWriter<Cursor<Vec<u8>>>, SimpleFileOptions) = |zip, plain| entry(zip, "m/lib.so.1", plain, &content());
    let beside = |name: &'static str| {
        archive(|zip, plain| {
            lib(zip, plain);
            entry(zip, name, plain, b"evil");
        })
    };
    let zeros = vec![0; 50_000_000];
    let bomb = archive(|zip, plain| entry(zip, "m/lib.so.1", plain, &zeros));
    assert!(bomb.len() < 200_000, "highly compressed");
    let declared_small = replaced(bomb.clone(), &50_000_000_u32.to_le_bytes(), &300_000_u32.to_le_bytes());
    let mut cut = good();
    cut.truncate(cut.len() - 30);
    let mut garbled = good();
    garbled[100_000..100_100].fill(0xff);
    let cases = [
        ("a climbing name", beside("../evil"), "\"../evil\", which leaves its folder"),
        ("a neighbour with the same beginning", beside("../into-evil/x"), "leaves its folder"),
        ("a name that climbs in the middle", beside("m/../../evil"), "leaves its folder"),
        ("an absolute name", beside("/tmp/evil"), "leaves its folder"),
        ("backslashes", beside("..\\evil"), "leaves its folder"),
        ("the member twice", replaced(beside("m/lib.so.2"), b"m/lib.so.2", b"m/lib.so.1"), "names a file twice"),
        ("a link", archive(|zip, plain| zip.add_symlink("m/lib.so.1", "/etc/passwd", plain).unwrap()), "no regular file"),
        ("a folder", archive(|zip, plain| zip.add_directory("m/lib.so.1", plain).unwrap()), "no regular file"),
        ("another name", archive(|zip, plain| entry(zip, "m/lib.so", plain, &content())), "no regular file \"m/lib.so.1\""),
        ("another size", archive(|zip, plain| entry(zip, "m/lib.so.1", plain, b"short")), "has 5 bytes in it, pinned are 300000"),
        ("a bomb", bomb, "has 50000000 bytes in it"),
        ("a bomb that says it is small", declared_small, "larger than its declared"),
        ("the beginning of an archive", cut, "cannot be used"),
        ("a broken stream", garbled, "cannot be used"),
        ("an error page", b"<html>503</html>".to_vec(), "cannot be used"),
    ];
    for (what, bytes, told) in cases {
        let bench = Workbench::new();
        let (folder, into) = (bench.beside("from"), bench.beside("into"));
        write(&folder.join(FILE), &bytes);
        let mut largest = 0;
        let mut fetcher = alone(&bench).with_from(&folder);
        fetcher.offline = true;
        let mut report = |_: Progress<'_>| {
            largest = fs::metadata(into.join("lib/lib.so")).map_or(0, |m| m.len()).max(largest);
        };
        let error = fetcher.unpack(&pinned(&bytes), &into, &mut report, &AtomicBool::new(false)).expect_err(what);
        assert_eq!(error.class(), Class::Verification, "{what}: {error}");
        assert!(error.to_string().contains(told), "{what}: {error}");
        assert!(largest <= 300_000, "{what}: {largest}");
        assert!(listing(&into).is_empty() && bench.files().is_empty(), "{what}: {:?}", listing(&into));
        let beside = listing(into.parent().unwrap()).into_iter().filter(|path| !path.starts_with(bench.root()));
        assert!(beside.eq([folder.clone(), folder.join(FILE), into]), "{what}: nothing beside the folder");
    }
}

#[test]
fn a_pipe_in_an_archive_is_no_file() {
    let fifo = archive(|zip, plain| entry(zip, "m/lib.so.1", plain.unix_permissions(0o644), &content()));
    // The mode stands in the upper half of the external attributes: S_IFREG | 0644, then S_IFIFO | 0644.
    let fifo = replaced(fifo, &(0o100_644_u32 << 16).to_le_bytes(), &(0o010_644_u32 << 16).to_le_bytes());
    let bench = Workbench::new();
    write(&bench.beside("from").join(FILE), &fifo);
    let error = unpack(&alone(&bench).with_from(bench.beside("from")), &pinned(&fifo), &bench.beside("into")).unwrap_err();
    assert!(error.to_string().contains("no regular file"), "{error}");
}

#[test]
fn names_that_leave_the_folder_are_refused_before_anything_is_done() {
    let bench = Workbench::new();
    let folder = bench.beside("from");
    write(&folder.join(FILE), &good());
    let fetcher = alone(&bench).with_from(folder);
    let wheel = pinned(&good());
    type Change = fn(&mut Wheel);
    let changes: [(Change, &str); 11] = [
        (|w| w.members[0].to = "../lib.so".to_owned(), "leaves its folder"),
        (|w| w.members[0].to = "../into-evil/lib.so".to_owned(), "leaves its folder"),
        (|w| w.members[0].to = "/etc/lib.so".to_owned(), "absolute"),
        (|w| w.members[0].name = "../x".to_owned(), "inside the archive"),
        (|w| w.members.push(w.members[0].clone()), "stands twice"),
        (|w| w.members.clear(), "members is empty"),
        (|w| w.file = "../some_model-1.0-py3-none-any.whl".to_owned(), "no wheel's file name"),
        (|w| w.file = "other-1.0-py3-none-any.whl".to_owned(), "not a wheel of"),
        (|w| w.version = "1.1".to_owned(), "not a wheel of"),
        (|w| w.project = "--evil".to_owned(), "one exact version"),
        (|w| w.size = 0, "size is 0"),
    ];
    for (change, told) in changes {
        let mut wheel = wheel.clone();
        change(&mut wheel);
        let error = unpack(&fetcher, &wheel, &bench.beside("into")).unwrap_err();
        assert_eq!(error.class(), Class::Invalid);
        assert!(error.to_string().contains(told), "{told}: {error}");
        assert!(listing(&bench.beside("into")).is_empty() && !bench.root().exists());
    }
}

#[test]
fn what_cannot_be_written_and_what_is_cancelled_leave_nothing() {
    let bench = Workbench::new();
    let folder = bench.beside("from");
    write(&folder.join(FILE), &good());
    let fetcher = alone(&bench).with_from(folder);
    let blocked = bench.beside("blocked");
    write(&blocked.join("lib"), b"a file in place of the folder");
    let error = unpack(&fetcher, &pinned(&good()), &blocked).unwrap_err();
    assert_eq!(error.class(), Class::Local, "{error}");
    assert!(error.to_string().contains("blocked/lib"), "{error}");

    let (into, cancel) = (bench.beside("into"), AtomicBool::new(false));
    let mut report = |p: Progress<'_>| cancel.store(p.phase == Phase::Extracting && p.done > 100_000, Ordering::Relaxed);
    let error = fetcher.unpack(&pinned(&good()), &into, &mut report, &cancel).unwrap_err();
    assert_eq!(error.class(), Class::Cancelled);
    assert!(listing(&into).is_empty());
}

#[cfg(unix)]
#[test]
fn a_link_that_lies_in_the_way_is_replaced_and_not_followed() {
    let bench = Workbench::new();
    let (folder, into, victim) = (bench.beside("from"), bench.beside("into"), bench.beside("victim").join("file"));
    write(&folder.join(FILE), &good());
    write(&victim, b"precious");
    fs::create_dir(into.join("lib")).unwrap();
    std::os::unix::fs::symlink(&victim, into.join("lib/lib.so")).unwrap();
    unpack(&alone(&bench).with_from(folder), &pinned(&good()), &into).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!(fs::symlink_metadata(into.join("lib/lib.so")).unwrap().is_file());
}

/// Downloads 11 kB out of the index that the environment names, or through pip where it names none.
#[test]
fn a_real_wheel_is_unpacked() {
    let bench = Workbench::new();
    let mut fetcher = bench.fetcher();
    fetcher.limits = bespoke_fetch::Limits::default();
    fetcher.index = Index::choose(None, None).unwrap();
    let wheel = Wheel {
        project: "six".to_owned(),
        version: "1.17.0".to_owned(),
        file: "six-1.17.0-py2.py3-none-any.whl".to_owned(),
        size: 11_050,
        sha256: "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274".parse().unwrap(),
        members: vec![Member { name: "six.py".to_owned(), to: "six.py".to_owned(), size: 34_703 }],
    };
    let into = bench.beside("into");
    let mut sources = Vec::new();
    let mut report = |p: Progress<'_>| {
        sources.push(p.source.to_owned());
    };
    let unpacked = fetcher.unpack(&wheel, &into, &mut report, &AtomicBool::new(false)).unwrap();
    let expected = "c51c91f703d3d4b3696c923cb5fec213e05e75d9215393befac7f2fa6a3904df";
    assert_eq!((unpacked[0].size, unpacked[0].sha256.to_string().as_str()), (34_703, expected));
    assert_eq!(fetcher.index.is_some(), sources.last().unwrap().contains("from the index"));
    assert!(bench.files().is_empty(), "the wheel is not kept");
}

#[test]
fn the_pip_stand_in_is_told_the_tags_of_the_wheel() {
    let bench = Workbench::new();
    let mut fetcher = bench.fetcher();
    fetcher.tools.pip = vec![vec!["/bin/sh".into(), "-c".into(), "echo \"$@\" >&2; exit 3".into(), "pip".into()]];
    let mut wheel = pinned(&good());
    wheel.file = "some_model-1.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl".to_owned();
    let error = unpack(&fetcher, &wheel, &bench.beside("into")).unwrap_err();
    let Error::Network { attempts, .. } = &error else { panic!("{error}") };
    let Failure::Tool { stderr, .. } = &attempts[0].failure else { panic!("{error}") };
    for word in ["--require-hashes", "--platform manylinux_2_27_x86_64 --platform manylinux_2_28_x86_64", "--python-version 3.12"] {
        assert!(stderr.contains(word), "{word}: {stderr}");
    }
}
