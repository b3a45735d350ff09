//! What is not built, and what whoever asked for it is told: before anything is compiled, wherever it can be known.

use std::fs;

use bespoke_builder::{Class, Request, Tier};

use crate::kit::{CHIMES, Crate, built, refused};

const ALL: &str = "tiers = [\"compiled\", \"dylib\", \"wasm\", \"process\"]";

#[test]
fn a_folder_that_is_no_crate_or_no_plugin() {
    let empty = tempfile::tempdir().unwrap();
    let error = refused(empty.path(), Tier::Process);
    assert_eq!(error.class(), Class::NotFound);
    assert!(error.to_string().ends_with("has no Cargo.toml: what is built is a crate of Rust"), "{error}");
    assert!(error.help().unwrap().starts_with("bespoke plugin load "));

    let library = Crate::new(ALL, "");
    fs::remove_file(library.path().join("plugin.toml")).unwrap();
    let error = refused(library.path(), Tier::Process);
    assert_eq!(error.class(), Class::NotFound);
    assert!(error.to_string().contains("has no plugin.toml: the manifest says what the plugin is"), "{error}");

    let error = refused(&empty.path().join("nowhere"), Tier::Process);
    assert_eq!(error.class(), Class::NotFound);
    assert!(error.to_string().ends_with("nowhere is no folder"), "{error}");
}

#[test]
fn a_broken_cargo_toml() {
    let broken = Crate::new(ALL, "");
    broken.write("Cargo.toml", "[package]\nname = \"small\nversion = \"1.0.0\"\n");
    let error = refused(broken.path(), Tier::Dylib).to_string();
    assert!(error.contains("cargo cannot read") && error.contains("invalid"), "{error}");
}

#[test]
fn a_broken_manifest_with_its_line() {
    let broken = Crate::new("tiers = [\"librarry\"]", "");
    let error = refused(broken.path(), Tier::Dylib).to_string();
    assert!(error.contains("plugin.toml:6:") && error.contains("librarry"), "{error}");
}

#[test]
fn a_crate_that_is_not_written_against_the_api() {
    let stranger = Crate::new(ALL, "");
    stranger.write("Cargo.toml", "[workspace]\n[package]\nname = \"small\"\nversion = \"1.0.0\"\nedition = \"2024\"\nlicense = \"MIT\"\n");
    let error = refused(stranger.path(), Tier::Process).to_string();
    assert!(error.ends_with("it does not depend on bespoke-plugin-api, which a plugin is written against"), "{error}");

    let program = Crate::new(ALL, "");
    fs::rename(program.path().join("src/lib.rs"), program.path().join("src/main.rs")).unwrap();
    let error = refused(program.path(), Tier::Process).to_string();
    assert!(error.contains("it is no library"), "{error}");
}

/// As the examples of a checkout, copied to somewhere else.
#[test]
fn a_dependency_that_leads_nowhere_with_what_to_write() {
    let copied = Crate::new(ALL, "");
    let text = |dependency: &str| {
        format!(
            "[workspace]\n[package]\nname = \"small\"\nversion = \"1.0.0\"\nedition = \"2024\"\nlicense = \"MIT\"\n\
             {dependency}"
        )
    };
    let cases = [
        (
            "[dependencies]\nbespoke-plugin-api = { path = \"../nowhere/plugin-api\" }\n",
            8,
            "bespoke-plugin-api",
            "nowhere/plugin-api",
            "bespoke-plugin-api = { path = \"CHECKOUT/crates/plugin-api\" }",
        ),
        ("[dependencies.mine]\npath = \"../nowhere/mine\"\n", 7, "mine", "nowhere/mine", "mine = { path = \"/ABSOLUTE/PATH\" }"),
    ];
    for (dependency, line, name, path, help) in cases {
        copied.write("Cargo.toml", &text(dependency));
        let error = refused(copied.path(), Tier::Dylib);
        assert_eq!(error.class(), Class::Unsolvable);
        let folder = fs::canonicalize(copied.path()).unwrap();
        let (around, folder) = (folder.parent().unwrap().display(), folder.display());
        let words = format!("{folder}/Cargo.toml:{line}: `{name}` leads nowhere: there is no {around}/{path}/Cargo.toml");
        assert_eq!(error.to_string(), words);
        assert!(error.help().unwrap().contains(help), "{:?}", error.help());
    }
    copied.write("Cargo.toml", "[package]\nname = \"small\"\nversion.workspace = true\nedition = \"2024\"\n");
    let error = refused(copied.path(), Tier::Dylib);
    assert!(error.help().is_some_and(|help| help.contains(".workspace = true")), "{error} {:?}", error.help());
}

#[test]
fn a_tier_that_the_manifest_does_not_list_with_the_line_to_change() {
    let native = Crate::new("tiers = [\"compiled\", \"process\"]", "");
    let error = refused(native.path(), Tier::Wasm);
    assert_eq!(error.class(), Class::Unsolvable);
    assert!(error.to_string().ends_with("plugin.toml:6: `small` does not ship as wasm: tiers = [\"compiled\", \"process\"]"), "{error}");
    let help = error.help().unwrap();
    assert!(help.starts_with("write tiers = [\"compiled\", \"wasm\", \"process\"] in line 6 of "), "{help}");
}

#[test]
fn a_dependency_that_needs_an_operating_system_by_its_name_and_its_way() {
    let plugin = Crate::new(ALL, "outer = { path = \"outer\" }").offline();
    plugin.library("outer", "mio = { path = \"../mio\" }", "");
    plugin.library("mio", "", "");
    let error = refused(plugin.path(), Tier::Wasm);
    assert_eq!(error.class(), Class::Unsolvable);
    let said = error.to_string();
    assert_eq!(said, "small is not portable: mio 0.1.0 is sockets of an operating system; use cx.http (small → outer → mio)");
    assert!(error.help().unwrap().contains("--tier process"));
}

#[test]
fn a_library_of_c_by_its_name() {
    let plugin = Crate::new(ALL, "thing-sys = { path = \"thing-sys\" }").offline();
    plugin.library("thing-sys", "", "links = \"thing\"\nbuild = \"build.rs\"");
    plugin.write("thing-sys/build.rs", "fn main() {}\n");
    let said = refused(plugin.path(), Tier::Wasm).to_string();
    assert_eq!(said, "small is not portable: thing-sys 0.1.0 is a library of C (small → thing-sys)");
}

/// What no list knows: the compiler says it, in many lines, and the first of them is shown with the crate that it is about.
#[test]
fn a_dependency_that_the_compiler_refuses() {
    let plugin = Crate::new(ALL, "pipes = { path = \"pipes\" }").offline().beside(CHIMES);
    plugin.library("pipes", "", "");
    plugin.write("pipes/src/lib.rs", "//! Pipes.\npub fn pipe() -> std::os::unix::net::UnixStream { todo!() }\n");
    let (result, said) = built(&Request::new(plugin.path(), Tier::Wasm));
    let error = result.expect_err("it is built");
    assert_eq!(error.class(), Class::Unsolvable, "{said:#?}");
    let error = error.to_string();
    assert!(error.starts_with("small is not portable: pipes 0.1.0 does not compile for wasm32: error"), "{error}");
    assert!(error.ends_with("(small → pipes)"), "{error}");
}

#[test]
fn what_is_not_ours_is_not_replaced() {
    let kept = tempfile::tempdir().unwrap();
    fs::write(kept.path().join("diary.txt"), "mine").unwrap();
    let mut request = Request::new(CHIMES, Tier::Process);
    request.out = Some(kept.path().to_owned());
    let (result, said) = built(&request);
    let error = result.expect_err("it is replaced");
    assert_eq!(error.class(), Class::Unsolvable, "{error} {said:#?}");
    assert!(error.to_string().contains("is in the way"), "{error}");
    assert_eq!(fs::read_to_string(kept.path().join("diary.txt")).unwrap(), "mine");
    assert!(!said.iter().any(|line| line.contains("Compiling")), "it is known before anything is built");
}
