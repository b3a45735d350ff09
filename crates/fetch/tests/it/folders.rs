//! The way without network: loose files, wheels and npm archives in a folder.

use std::{
    fs,
    io::{Cursor, Write as _},
    path::Path,
};

use bespoke_fetch::{Class, Error, Package, Source};

use crate::workbench::{Workbench, content, ensure, pin, write};

/// A wheel with these members.
pub(crate) fn wheel(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// An npm archive with these members.
pub(crate) fn tarball(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        // Written as raw bytes: the builder itself refuses a name that climbs.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn a_loose_file_is_copied_from_both_places() {
    for place in ["sub/model.bin", "model.bin"] {
        let bench = Workbench::new();
        let folder = bench.beside("from");
        write(&folder.join(place), &content());
        let mut fetcher = bench.fetcher().with_from(&folder);
        fetcher.offline = true;
        let plan = fetcher.plan("sub", &[pin(&content(), vec![])]).unwrap();
        assert_eq!(plan.missing[0].local, Some(folder.join(place)));
        assert_eq!((plan.download(), plan.size()), ((0, true), 300_000));
        assert_eq!(ensure(&fetcher, &pin(&content(), vec![])).unwrap(), bench.target());
        fs::remove_dir_all(folder).unwrap();
        assert_eq!(fs::read(bench.target()).unwrap(), content(), "a copy, not a link");
    }
}

#[test]
fn a_wheel_and_a_tarball_in_a_folder_serve_their_members() {
    let half = content().len() / 2;
    let (a, b) = (&content()[..half], &content()[half..]);
    let junk: &[u8] = b"junk";
    let evil: (&str, &[u8]) = ("../evil", b"x");
    let whole = &content()[..];
    let padded = [junk, whole, junk].concat();
    let member = |mut package: Package, members: &[&str], range| {
        package.members = members.iter().map(ToString::to_string).collect();
        package.range = range;
        package
    };
    let wheel_file = wheel(&[("m/one", whole), ("m/a", a), ("m/b", b), ("m/padded", &padded), evil]);
    let tar_file = tarball(&[evil, ("package/b", b), ("package/a", a), ("./package/one", whole), ("package/padded", &padded)]);
    let pip = Package::new("some-model==1.0", ["m/one"]);
    let npm = Package::new("@who/some-model@1.0.0", ["package/one"]);
    let range = Some((4, 4 + whole.len() as u64));
    for source in [
        Source::Pip(pip.clone()),
        Source::Pip(member(pip.clone(), &["m/a", "m/b"], None)),
        Source::Pip(member(pip.clone(), &["m/padded"], range)),
        Source::Npm(npm.clone()),
        Source::Npm(member(npm.clone(), &["package/a", "package/b"], None)),
        Source::Npm(member(npm.clone(), &["package/padded"], range)),
    ] {
        let bench = Workbench::new();
        let folder = bench.beside("from");
        write(&folder.join("some_model-1.0-py3-none-any.whl"), &wheel_file);
        write(&folder.join("who-some-model-1.0.0.tgz"), &tar_file);
        let mut fetcher = bench.fetcher();
        fetcher.offline = true;
        // Archives are found in search folders as in folders to copy from.
        fetcher.store.search.push(folder);
        ensure(&fetcher, &pin(&content(), vec![source.clone()])).unwrap_or_else(|e| panic!("{source:?}: {e}"));
        assert_eq!(fs::read(bench.target()).unwrap(), content());
        assert_eq!(bench.files(), ["sub/model.bin"], "no other member was written");
        assert!(!bench.root().parent().unwrap().join("evil").exists());
    }
}

#[test]
fn archives_that_do_not_hold_the_file_are_refused_with_the_reason() {
    let link = |entry: tar::EntryType, name: &str| {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(entry);
        header.set_size(0);
        tar.append_link(&mut header, name, "/etc/passwd").unwrap();
        tar.into_inner().unwrap().finish().unwrap()
    };
    let whole = content();
    let mut cut = tarball(&[("package/one", &whole)]);
    cut.truncate(cut.len() / 2);
    let mut other = whole.clone();
    other[5] ^= 1;
    for (archive, told) in [
        (tarball(&[("package/two", &whole)]), "no regular file \"package/one\""),
        (link(tar::EntryType::Symlink, "package/one"), "no regular file"),
        (link(tar::EntryType::Link, "package/one"), "no regular file"),
        (cut, "cannot be used"),
        (b"<html>not found</html>".to_vec(), "cannot be used"),
        (tarball(&[("package/one", &other)]), "has sha256"),
        (tarball(&[("package/one", &whole[1..])]), "has 299999 bytes"),
        (tarball(&[("package/one", &[&whole[..], b"x"].concat())]), "has 300001 bytes"),
    ] {
        let error = refusal("who-model-1.0.0.tgz", &archive, Source::npm("@who/model@1.0.0", "package/one"));
        assert_eq!(error.class(), Class::Verification);
        let text = error.to_string();
        assert!(text.contains(told) && text.contains("who-model-1.0.0.tgz"), "{told}: {text}");
    }
    let mut cut = wheel(&[("m/one", &whole)]);
    cut.truncate(cut.len() - 10);
    for (archive, told) in
        [(wheel(&[("m/two", &whole)]), "no regular file \"m/one\""), (wheel(&[("m/one", &other)]), "has sha256"), (cut, "cannot be used")]
    {
        let error = refusal("model-1.0-py3-none-any.whl", &archive, Source::pip("model==1.0", "m/one"));
        assert_eq!(error.class(), Class::Verification);
        assert!(error.to_string().contains(told), "{told}: {error}");
    }
}

#[test]
fn a_wrong_file_in_a_folder_is_named_and_the_next_one_is_used() {
    let bench = Workbench::new();
    let (bad, good) = (bench.beside("bad"), bench.beside("good"));
    write(&bad.join("model.bin"), b"other");
    let mut fetcher = bench.fetcher().with_from(&bad);
    fetcher.offline = true;
    let error = ensure(&fetcher, &pin(&content(), vec![])).unwrap_err();
    assert!(matches!(&error, Error::Verification { attempts, .. } if Path::new(&attempts[0].source) == bad.join("model.bin")));
    write(&good.join("sub/model.bin"), &content());
    ensure(&fetcher.with_from(good), &pin(&content(), vec![])).unwrap();
}

#[test]
fn offline_downloads_nothing() {
    let bench = Workbench::new();
    let server = crate::server::Server::start(|r| crate::server::correct(r, &content()));
    let mut fetcher = bench.fetcher().with_from(bench.beside("from"));
    fetcher.offline = true;
    let pin = pin(&content(), vec![Source::url(server.url("m"))]);
    assert_eq!(ensure(&fetcher, &pin).unwrap_err().class(), Class::NotFound);
    assert!(server.seen().is_empty());
}

fn refusal(name: &str, archive: &[u8], source: Source) -> Error {
    let bench = Workbench::new();
    let folder = bench.beside("from");
    write(&folder.join(name), archive);
    let mut fetcher = bench.fetcher().with_from(folder);
    fetcher.offline = true;
    let error = ensure(&fetcher, &pin(&content(), vec![source])).unwrap_err();
    assert!(bench.files().is_empty(), "{name}: {:?}", bench.files());
    error
}
