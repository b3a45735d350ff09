//! Looking up: which files are accepted, and how a changed one is noticed.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
};

use bespoke_fetch::{Class, Error, Source, Store};

use crate::{
    server::{Server, correct},
    workbench::{Workbench, content, ensure, pin, write},
};

#[test]
fn search_folders_hold_files_with_and_without_the_sub_folder() {
    for place in ["sub/model.bin", "model.bin"] {
        let bench = Workbench::new();
        let (empty, folder) = (bench.beside("empty"), bench.beside("models"));
        write(&folder.join(place), &content());
        let store = Store::new(bench.root()).with_search([empty, folder.clone()]);
        let located = store.find("sub", &pin(&content(), vec![])).unwrap();
        assert_eq!(located.path, folder.join(place));
        assert!(located.rejected.is_empty());
    }
}

#[test]
fn a_wrong_file_is_named_and_never_used() {
    let bench = Workbench::new();
    let (first, second) = (bench.beside("first"), bench.beside("second"));
    let mut other = content();
    other[0] ^= 1;
    write(&first.join("model.bin"), &other);
    write(&first.join("sub/model.bin"), b"a placeholder");
    let pin = pin(&content(), vec![]);
    let store = Store::new(bench.root()).with_search([first.clone(), second.clone()]);
    let error = store.find("sub", &pin).unwrap_err();
    assert_eq!(error.class(), Class::Verification);
    let text = error.to_string();
    assert!(text.contains("first/sub/model.bin has 13 bytes, pinned are 300000"), "{text}");
    assert!(text.contains("first/model.bin has sha256") && text.contains("delete it"), "{text}");

    write(&second.join("model.bin"), &content());
    let located = store.find("sub", &pin).unwrap();
    assert_eq!((located.path, located.rejected.len()), (second.join("model.bin"), 2));
}

#[test]
fn a_missing_file_is_not_found_and_says_where_it_was_looked_for() {
    let bench = Workbench::new();
    let store = Store::new(bench.root()).with_search([bench.beside("models")]);
    let error = store.find("sub", &pin(&content(), vec![])).unwrap_err();
    assert!(matches!(&error, Error::NotFound { looked_in, .. } if looked_in.len() == 3), "{error}");
    assert_eq!(error.class(), Class::NotFound);
    assert!(!bench.root().exists(), "looking up creates nothing");
}

#[test]
fn a_file_that_is_no_file_is_named_and_does_not_block() {
    let bench = Workbench::new();
    fs::create_dir_all(bench.target()).unwrap();
    let store = Store::new(bench.root());
    let error = store.find("sub", &pin(&content(), vec![])).unwrap_err();
    assert!(error.to_string().contains("is not a regular file"), "{error}");
    #[cfg(unix)]
    {
        fs::remove_dir(bench.target()).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(bench.target()).status().unwrap().success());
        let error = store.find("sub", &pin(&content(), vec![])).unwrap_err();
        assert!(error.to_string().contains("is not a regular file"), "{error}");
    }
}

#[test]
fn a_verified_file_that_changes_is_noticed_and_replaced() {
    let (bench, server) = (Workbench::new(), Server::start(|r| correct(r, &content())));
    let pin = pin(&content(), vec![Source::url(server.url("m"))]);
    let fetcher = bench.fetcher();
    ensure(&fetcher, &pin).unwrap();
    let modified = fs::metadata(bench.target()).unwrap().modified().unwrap();

    // The same length, and the modification time set back: on Unix the change time still tells.
    let mut file = File::options().write(true).open(bench.target()).unwrap();
    file.seek(SeekFrom::Start(77)).unwrap();
    file.write_all(&[content()[77] ^ 1]).unwrap();
    if cfg!(unix) {
        file.set_modified(modified).unwrap();
    }
    drop(file);
    let error = fetcher.store.find("sub", &pin).unwrap_err();
    assert!(matches!(error, Error::Rejected { .. }), "{error}");

    let plan = fetcher.plan("sub", std::slice::from_ref(&pin)).unwrap();
    assert_eq!(plan.missing[0].rejected.len(), 1);
    ensure(&fetcher, &pin).unwrap();
    assert_eq!(fs::read(bench.target()).unwrap(), content());
    assert_eq!(server.seen().len(), 2);
}
