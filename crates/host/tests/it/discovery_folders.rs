//! Plugins in folders: what is found, what of it runs, and what the rest is told.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bespoke_host::{
    Ability, Artifact, BESPOKE_TIERS_V1, Candidate, Config, Grounds, Host, PluginFolder, Selection, State, Tier, TierDriver, discover,
    find, open_folder,
};
use bespoke_plugin_api::{Code, Error, Result, linkme};
use expect_test::expect;
use tempfile::TempDir;

use crate::kit::{Plug, says};

/// A tier that opens every folder, but those that hold a file `broken`. This program has no other.
#[allow(unsafe_code, reason = "linkme places the element in a link section")]
#[linkme::distributed_slice(BESPOKE_TIERS_V1)]
#[linkme(crate = bespoke_plugin_api::linkme)]
static FOLDERS: Option<TierDriver> = Some(TierDriver { tier: Tier::Process, open, abilities });

fn open(folder: &PluginFolder, grounds: &Grounds) -> Result<Arc<dyn Artifact>> {
    if folder.path.join("broken").exists() {
        return Err(Error::new(Code::LOAD_FAILED, "there is no program in it").with_help("build it"));
    }
    let mut plug = Plug::new(&folder.manifest.id);
    for tool in folder.manifest.provides.iter().filter_map(|p| p.name.clone()) {
        plug = plug.provides(says(&tool, if grounds.install_dependencies { "installed" } else { "as it is" }));
    }
    Ok(Arc::new(plug))
}

fn abilities() -> Vec<Ability> {
    Vec::new()
}

/// A folder of plugins.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn put(&self, file: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn plugin(&self, folder: &str, id: &str, more: &str) -> &Self {
        self.put(&format!("{folder}/plugin.toml"), native(id, "process", more))
    }

    /// What a person would see of it, without the place of the folder.
    fn told(&self, candidates: Vec<Candidate>) -> String {
        rows(candidates, "").replace(&*self.0.path().to_string_lossy(), "…")
    }
}

fn native(id: &str, tier: &str, more: &str) -> String {
    format!(
        "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\ndescription = \"A test.\"\nauthor = \"The example authors\"\nprotocol = \"1\"\n\
         tiers = [\"{tier}\"]\n{more}"
    )
}

fn grounds() -> Grounds {
    Grounds::new(PathBuf::from("/nowhere")).rebuild(|features| format!("cargo build --features {}", features.join(",")))
}

fn rows(candidates: Vec<Candidate>, config: &str) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = Config::parse("bespoke.toml", config).unwrap();
        let host = Host::builder().config(config).plugins(candidates).build().unwrap();
        host.start(Selection::All).await;
        let line = |row: bespoke_host::Row| {
            let why = row.reason.map_or(String::new(), |why| format!(" {why}"));
            let fix = row.fix.map_or(String::new(), |fix| format!("\n    fix: {fix}"));
            format!("{} {} {} {}{why}{fix}\n", row.id, row.tier.name(), row.version, row.state.name())
        };
        let rows = host.rows().into_iter().map(line).collect();
        host.shutdown().await;
        rows
    })
}

#[test]
fn each_subfolder_with_a_manifest_is_a_plugin_and_one_that_is_bad_stops_no_other() {
    let folder = Folder::new();
    folder.plugin("good", "good", "[[provides]]\nkind = \"tool\"\nname = \"dig\"\n");
    folder.plugin("another-name", "named", "");
    folder.plugin("closed", "closed", "").put("closed/broken", "");
    folder.put("bad/plugin.toml", "id = \"bad\"\nversoin = \"1.0.0\"\n");
    folder.put("latin/plugin.toml", b"id = \"latin\"\nname = \"caf\xe9\"\n");
    folder.put("huge/plugin.toml", " ".repeat(2 << 20));
    folder.put("odd/plugin.toml/x", "");
    folder.put("wasm/plugin.toml", native("sandy", "wasm", ""));
    folder.put("in/plugin.toml", native("inside", "compiled", ""));
    folder.put("yaml/plugin.yaml", "name: old\n");
    folder.put("lao/plugin.toml", "[plugin]\nname = \"OldOne\"\nversion = \"1.0.0\"\n[[capabilities]]\nname = \"process\"\n");
    folder.put("aiso/aisopod.plugin.toml", "[plugin]\nid = \"pod\"\nname = \"Pod\"\nversion = \"1.0.0\"\nentry = \"lib.so\"\n");
    folder.put("tts_one/manifest.json", r#"{"name": "tts_one", "version": "1.0.0", "contract": "debug", "entry_point": "main"}"#);
    folder.put(
        "renamed/manifest.json",
        "{\n  \"name\": \"tts_two\", \"version\": \"1.0.0\", \"contract\": \"tts\", \"entry_point\": \"main\"}",
    );
    // No plugins.
    folder
        .put("README.md", "")
        .put("empty/readme", "")
        .put(".git/plugin.toml", "")
        .put("deep/er/plugin.toml", native("deep", "process", ""));
    expect![[r#"
        bad none  failed …/bad/plugin.toml:1:1: author: it is missing; say who wrote it
        …/bad/plugin.toml:1:1: description: it is missing; say in one line what the plugin is
        …/bad/plugin.toml:1:1: license: it is missing; write an SPDX expression such as license = "Apache-2.0"
        …/bad/plugin.toml:1:1: protocol: it is missing; write protocol = "1"
        …/bad/plugin.toml:1:1: tiers: it is missing; list those in which the plugin can ship: compiled, dylib, wasm, process
        …/bad/plugin.toml:1:1: version: it is missing; write version = "0.1.0"
        …/bad/plugin.toml:2:1: versoin: there is no such key; did you mean `version`?
        closed process 1.0.0 failed there is no program in it
            fix: build it
        good process 1.0.0 ready
        huge none  failed …/huge/plugin.toml: it has more than 1048576 bytes
            fix: write less
        inside compiled 1.0.0 missing ships compiled in only: a folder of it cannot be added to a program that is built
            fix: cargo build --features inside
        latin none  failed …/latin/plugin.toml: it is no UTF-8, in line 2
            fix: save it as UTF-8
        named process 1.0.0 ready
        odd none  failed …/odd/plugin.toml: it is no file
            fix: write a manifest
        old-one dylib 1.0.0 failed its manifest is LAO's: it is a library for LAO's own C interface, which would run inside the program
            fix: ask its author for a build with a plugin.toml, in the tier process
        pod dylib 1.0.0 failed its manifest is aisopod's: it is a Rust library for aisopod, whose interface holds only for the compiler that built both
            fix: ask its author for a build with a plugin.toml, in the tier process
        renamed none  failed …/renamed/manifest.json:2:3: name: it is `tts_two`, but the folder is `renamed`
            fix: give both the same name
        sandy wasm 1.0.0 missing this program was built without the tier `wasm`
            fix: cargo build --features wasm
        tts_one process 1.0.0 ready
        yaml none  failed …/yaml/plugin.yaml: manifests in YAML are not read
            fix: write the same as plugin.toml
    "#]].assert_eq(&folder.told(discover(&[folder.path()], &grounds())));
}

#[test]
fn folders_come_in_their_order_and_of_two_with_one_id_the_first_counts() {
    let (first, second) = (Folder::new(), Folder::new());
    first.plugin("z", "twice", "[[provides]]\nkind = \"tool\"\nname = \"a\"\n");
    second.plugin("a", "twice", "[[provides]]\nkind = \"tool\"\nname = \"b\"\n").plugin("b", "once", "");
    let found = || discover(&[first.path(), PathBuf::from("/no/such/folder"), second.path()], &grounds());
    let origins: Vec<_> = found().iter().map(|c| c.origin.clone()).collect();
    let expected = [first.path().join("z"), second.path().join("a"), second.path().join("b")].map(|p| p.display().to_string());
    assert_eq!(origins, expected);
    let told = rows(found(), "").replace(&first.path().display().to_string(), "1").replace(&second.path().display().to_string(), "2");
    expect![[r#"
        once process 1.0.0 ready
        twice process 1.0.0 ready
        twice process 1.0.0 failed the id `twice` is taken: both 1/z and 2/a claim it; that of 1/z counts
            fix: take one of the two away
    "#]]
    .assert_eq(&told);
    // What is in the program goes before what lies in a folder, whatever they are called.
    let compiled = Candidate { origin: "zzz".into(), ..Candidate::from(Plug::new("twice")) };
    let told = rows(found().into_iter().chain([compiled]).collect(), "");
    assert!(told.contains("twice compiled 1.0.0 ready\n") && told.matches("that of zzz counts").count() == 2, "{told}");
}

#[cfg(unix)]
#[test]
fn links_and_names_that_are_no_text() {
    use std::os::unix::{ffi::OsStrExt, fs::symlink};
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    elsewhere.plugin("real", "linked", "");
    symlink(elsewhere.path().join("real"), folder.path().join("link")).unwrap();
    symlink(folder.path().join("round"), folder.path().join("round")).unwrap();
    symlink("/no/such/place", folder.path().join("gone")).unwrap();
    folder.plugin("ok", "ok", "");
    let odd = folder.path().join(OsStr::from_bytes(b"b\xff\x1b[31md"));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("plugin.toml"), "id = 7").unwrap();
    fs::create_dir(folder.path().join("itself")).unwrap();
    symlink("plugin.toml", folder.path().join("itself/plugin.toml")).unwrap();
    let told = folder.told(discover(&[folder.path()], &grounds()));
    assert!(!told.contains('\u{1b}'), "{told:?}");
    expect![[r#"
        b��[31md none  failed …/b��[31md/plugin.toml:1:1: author: it is missing; say who wrote it
        …/b��[31md/plugin.toml:1:1: description: it is missing; say in one line what the plugin is
        …/b��[31md/plugin.toml:1:1: id: it is an integer; write a string in quotes
        …/b��[31md/plugin.toml:1:1: license: it is missing; write an SPDX expression such as license = "Apache-2.0"
        …/b��[31md/plugin.toml:1:1: protocol: it is missing; write protocol = "1"
        …/b��[31md/plugin.toml:1:1: tiers: it is missing; list those in which the plugin can ship: compiled, dylib, wasm, process
        …/b��[31md/plugin.toml:1:1: version: it is missing; write version = "0.1.0"
        gone none  failed …/gone: it cannot be read: No such file or directory (os error 2)
            fix: ls -ld …/gone
        itself none  failed …/itself: it cannot be read: Too many levels of symbolic links (os error 40)
            fix: ls -ld …/itself
        linked process 1.0.0 ready
        ok process 1.0.0 ready
        round none  failed …/round: it cannot be read: Too many levels of symbolic links (os error 40)
            fix: ls -ld …/round
    "#]]
    .assert_eq(&told);
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_has_a_row() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    folder.plugin("shut", "shut", "").plugin("open", "open", "");
    let rights = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    rights(&folder.path().join("shut"), 0o000);
    let may_read = fs::read_dir(folder.path().join("shut")).is_ok();
    let told = folder.told(discover(&[folder.path()], &grounds()));
    rights(&folder.path().join("shut"), 0o755);
    // Root reads everything.
    if !may_read {
        expect![[r#"
            open process 1.0.0 ready
            shut none  failed …/shut: it cannot be read: Permission denied (os error 13)
                fix: ls -ld …/shut
        "#]]
        .assert_eq(&told);
    }
    let file = Folder::new();
    file.put("plugins", "");
    let told = file.told(discover(&[file.path().join("plugins")], &grounds()));
    expect![[r#"
        plugins none  failed …/plugins: it cannot be read: Not a directory (os error 20)
            fix: ls -ld …/plugins
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_folder_alone_always_has_a_row() {
    let folder = Folder::new();
    folder.plugin("here", "here", "").put("empty/x", "");
    let told = |name: &str| folder.told(vec![open_folder(&folder.path().join(name), &grounds())]);
    expect![[r#"
        here process 1.0.0 ready
        empty none  failed …/empty: there is no manifest in it
            fix: write one of plugin.toml, manifest.json, aisopod.plugin.toml
        none none  failed …/none: there is no manifest in it
            fix: write one of plugin.toml, manifest.json, aisopod.plugin.toml
    "#]]
    .assert_eq(&format!("{}{}{}", told("here"), told("empty"), told("none")));
}

#[test]
fn a_thousand_folders_are_a_thousand_rows() {
    let folder = Folder::new();
    for n in 0..1000 {
        folder.plugin(&format!("p{n:04}"), &format!("p{n:04}"), "");
    }
    let found = discover(&[folder.path()], &grounds());
    assert_eq!(found.len(), 1000);
    assert!(found.is_sorted_by_key(|c| c.id.clone()) && found.iter().all(|c| c.manifest.is_ok()));
}

#[test]
fn a_schema_stands_in_the_manifest_or_beside_it() {
    let folder = Folder::new();
    folder.plugin("in", "in", "[config_schema]\ntype = \"object\"\nproperties.size = { type = \"integer\" }\n");
    folder.plugin("beside", "beside", "").put("beside/config.schema.json", r#"{"properties": {"size": {"type": "integer"}}}"#);
    folder.plugin("both", "both", "[config_schema]\ntype = \"object\"\n").put("both/config.schema.json", "{}");
    folder.plugin("host", "host-keys", "").put("host/config.schema.json", r#"{"properties": {"path": {"type": "string"}}}"#);
    folder.plugin("none", "no-json", "").put("none/config.schema.json", "{");
    let found = discover(&[folder.path()], &grounds());
    let schemas: BTreeMap<_, _> = found.iter().filter(|c| c.manifest.is_ok()).map(|c| (c.id.clone(), c.config_schema.clone())).collect();
    assert!(schemas["in"].contains("integer") && schemas["beside"].contains("integer") && schemas.len() == 2, "{schemas:?}");
    let config = "[plugins.in]\nsize = 'x'\n[plugins.beside]\nsize = 'x'\n";
    expect![[r#"
        beside process 1.0.0 failed bespoke.toml:4:1: plugins.beside.size: must be a whole number, is "x"
            fix: bespoke config check
        both process  failed …/both/config.schema.json: the manifest holds a schema, too
            fix: keep one of them
        host-keys process  failed …/host/config.schema.json: its property `path` is a key of the host in the table of every plugin
            fix: rename it: enabled, secrets, path, sandbox, allow_native, start, idle_stop_ms, command_timeout_ms, limits, auto_install_deps are the host's
        in process 1.0.0 failed bespoke.toml:2:1: plugins.in.size: must be a whole number, is "x"
            fix: bespoke config check
        no-json process  failed …/none/config.schema.json: it is no JSON: EOF while parsing an object at line 1 column 1
            fix: mend the syntax
    "#]]
    .assert_eq(&rows(found, config).replace(&folder.path().display().to_string(), "…"));
}

#[test]
fn the_configuration_names_folders() {
    let (own, dir, folder) = (Folder::new(), Folder::new(), Folder::new());
    let tool = "[[provides]]\nkind = \"tool\"\nname = \"deps\"\n";
    own.plugin("mine", "mine", tool);
    dir.plugin("yours", "yours", "");
    folder.plugin("ours", "ours", "");
    let text = format!(
        "[plugins]\ndir = '{}'\n[plugins.mine]\npath = '{own}/mine'\nauto_install_deps = true\n[plugins.lost]\npath = '{own}/lost'\n[plugins.other]\npath = '{own}/mine'\n",
        dir.path().display(),
        own = own.path().display(),
    );
    let config = Config::parse("bespoke.toml", &text).unwrap();
    let found = find(&config, &[folder.path()], &grounds());
    let told = rows(found.clone(), &text).replace(&own.path().display().to_string(), "…");
    expect![[r#"
        lost none  failed plugins.lost.path: …/lost is no folder
            fix: bespoke config unset plugins.lost.path
        mine process 1.0.0 ready
        other none  failed plugins.other.path: …/mine holds the plugin `mine`
            fix: bespoke config unset plugins.other.path
        ours process 1.0.0 ready
        yours process 1.0.0 ready
    "#]]
    .assert_eq(&told);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let said = runtime.block_on(async {
        let host = Host::builder().plugins(found).build().unwrap();
        host.start(Selection::All).await;
        assert_eq!(host.rows().iter().filter(|row| row.state == State::Ready).count(), 3);
        crate::kit::call(&host, "deps").await.unwrap()
    });
    assert_eq!(said, "installed", "its own table allows it");
}
