//! What whoever writes a plugin's folder may try, through the tier as it is: links, names, manifests, lists of packages. Each of these was
//! a way out once.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use bespoke_host::{Artifact, Candidate, Host, PluginFolder, State, Terms, open_folder};
use bespoke_plugin_api::{Code, serde_json::json};
use bespoke_tier_process::{Patience, ProcessPlugin};

use crate::kit::{World, act, row, within};

/// The interpreter itself, not a script that looks for it.
fn python() -> PathBuf {
    let said = Command::new("python3").args(["-c", "import os, sys; print(os.path.realpath(sys.executable))"]).output().unwrap();
    PathBuf::from(String::from_utf8(said.stdout).unwrap().trim())
}

/// A folder that no plugin was given, with a secret in it.
fn secret(world: &World) -> PathBuf {
    let folder = fs::canonicalize(world.path()).unwrap().join("elsewhere");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("secret"), "the secret").unwrap();
    folder
}

/// The guest, started by this command, with more in its manifest.
fn started_by(world: &World, id: &str, command: &[&str], extra: &str) -> Candidate {
    let plugin = world.plugin_with(id, "ok", extra);
    let folder = PathBuf::from(&plugin.origin).parent().unwrap().to_owned();
    let manifest = fs::read_to_string(folder.join("plugin.toml")).unwrap();
    let old = format!("[\"python3\", \"guest.py\", \"ok\", \"{id}\", \"{id}\"]");
    let words: Vec<_> = command.iter().chain(&["guest.py", "ok", id, id]).map(|word| format!("{word:?}")).collect();
    assert!(manifest.contains(&old));
    world.candidate(folder, &manifest.replace(&old, &format!("[{}]", words.join(", "))))
}

async fn run(host: &Host, id: &str, code: &str) -> String {
    act(host, id, json!({ "do": "python", "code": code })).await.unwrap()
}

async fn reads(host: &Host, id: &str, path: &Path) -> String {
    run(host, id, &format!("out = open({:?}).read()", path.display().to_string())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_looks_like_that_of_an_interpreter_opens_nothing() {
    let world = World::new();
    let secret = secret(&world);
    let plugins = ["links", "settings"].map(|id| {
        let plugin = started_by(&world, id, &["./bin/python3"], "");
        let folder = PathBuf::from(&plugin.origin).parent().unwrap().to_owned();
        fs::create_dir(folder.join("bin")).unwrap();
        symlink(python(), folder.join("bin/python3")).unwrap();
        if id == "links" {
            symlink(&secret, folder.join("lib")).unwrap();
            symlink(&secret, folder.join("lib64")).unwrap();
        } else {
            fs::write(folder.join("pyvenv.cfg"), format!("home = {}\n", secret.join("bin").display())).unwrap();
            fs::create_dir(secret.join("bin")).unwrap();
            fs::create_dir(secret.join("lib")).unwrap();
            fs::write(secret.join("lib/secret"), "the secret").unwrap();
        }
        plugin
    });
    let host = world.host(plugins).await;
    // An interpreter in the folder that is none of its own runs all the same, with what that one needs.
    assert!(reads(&host, "links", &secret.join("secret")).await.starts_with("PermissionError"));
    assert!(reads(&host, "settings", &secret.join("lib/secret")).await.starts_with("PermissionError"));
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_command_names_runs_before_its_wall_stands() {
    let world = World::new();
    let secret = secret(&world);
    let marker = secret.join("marker");
    let evil = secret.join("python-evil");
    fs::write(&evil, format!("#!/bin/sh\necho escaped > {}\n", marker.display())).unwrap();
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
    let absolute = started_by(&world, "absolute", &[&evil.display().to_string()], "");
    let linked = started_by(&world, "linked", &["./python-evil"], "");
    symlink(&evil, PathBuf::from(&linked.origin).parent().unwrap().join("python-evil")).unwrap();
    let host = world.host([absolute, linked]).await;
    for id in ["absolute", "linked"] {
        let row = row(&host, id);
        assert_eq!(row.state, State::Failed, "{row:?}");
        assert!(row.reason.as_ref().is_some_and(|reason| reason.contains("python-evil")), "{row:?}");
    }
    assert!(!marker.exists());
    within(host.shutdown()).await;
}

/// What was granted is what was there when it was shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_the_place_of_a_granted_path_leads_nowhere() {
    let world = World::new();
    let secret = secret(&world);
    let granted = fs::canonicalize(world.path()).unwrap().join("granted");
    fs::create_dir_all(granted.join("notes")).unwrap();
    fs::write(granted.join("notes/mine"), "mine").unwrap();
    let show = |name: &str| format!("{:?}", granted.join(name).display().to_string());
    let extra = format!(
        "[permissions]\nwrite_files = [{}]\nread_files = [{}, {}]\nreasons.write_files = \"w\"\nreasons.read_files = \"r\"",
        show(""),
        show("notes"),
        show("later")
    );
    let plugin = world.plugin_with("mover", "ok", &extra);
    let host = world.host([plugin.clone()]).await;
    assert_eq!(reads(&host, "mover", &granted.join("notes/mine")).await, "mine");
    let code = format!(
        "import os; d, s = {}, {:?}; os.rename(d + '/notes', d + '/old'); os.symlink(s, d + '/notes'); os.symlink(s, d + '/later'); out = 1",
        show(""),
        secret.display().to_string()
    );
    assert_eq!(run(&host, "mover", &code).await, "1");
    within(host.shutdown()).await;
    let host = world.host_as_granted("", vec![plugin]).await;
    for name in ["notes/secret", "later/secret"] {
        let said = reads(&host, "mover", &granted.join(name)).await;
        assert!(said.starts_with("PermissionError"), "{name}: {said}");
    }
    assert!(reads(&host, "mover", &secret.join("secret")).await.starts_with("PermissionError"));
    assert_eq!(reads(&host, "mover", &granted.join("old/mine")).await, "mine");
    within(host.shutdown()).await;
}

/// A plugin in Python that needs what stands in a requirements.txt, asked with leave to install.
fn needs(world: &World, lines: &str) -> Candidate {
    let folder = world.path().join("plugins/needy");
    fs::create_dir_all(&folder).unwrap();
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/sdk/tests/guide");
    let manifest = fs::read_to_string(format!("{guide}/block_01.json")).unwrap().replace("my_tts_plugin", "needy");
    fs::write(folder.join("manifest.json"), manifest).unwrap();
    fs::copy(format!("{guide}/block_02.python"), folder.join("__init__.py")).unwrap();
    if !lines.is_empty() {
        fs::write(folder.join("requirements.txt"), lines).unwrap();
    }
    open_folder(&folder, &world.grounds().install_dependencies(true))
}

async fn installed(plugin: &Candidate) -> bespoke_plugin_api::Result<()> {
    let artifact = plugin.artifact.clone();
    let prepare = move || artifact.prepare(&|_| {}).and_then(|()| artifact.declare(&Terms::default()).map(drop));
    tokio::task::spawn_blocking(prepare).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_requirements_are_packages_and_no_options() {
    let world = World::new();
    let marker = secret(&world).join("log");
    for line in [
        format!("--log={}", marker.display()),
        format!("--target={}", marker.display()),
        "-e .".into(),
        format!("thing @ file://{}", marker.display()),
        "file:thing.whl".into(),
        "./thing".into(),
    ] {
        let e = installed(&needs(&world, &format!("{line}\n"))).await.unwrap_err();
        assert_eq!(e.code(), Code::MANIFEST_INVALID, "{line}: {e}");
        assert!(e.message().contains("requirements.txt:1"), "{line}: {e}");
    }
    assert!(!marker.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_requirements_is_a_file_of_the_plugin() {
    let world = World::new();
    let secret = secret(&world);
    let plugin = needs(&world, "");
    let list = world.path().join("plugins/needy/requirements.txt");
    symlink(secret.join("secret"), &list).unwrap();
    let e = installed(&plugin).await.unwrap_err();
    assert!(!e.message().contains("the secret"), "{e}");
    fs::remove_file(&list).unwrap();
    // Nobody ever writes into it.
    assert!(Command::new("mkfifo").arg(&list).status().unwrap().success());
    let e = within(installed(&plugin)).await.unwrap_err();
    assert_eq!(e.code(), Code::MANIFEST_INVALID, "{e}");
}

/// A package that has to be built runs code of its author to say what it is called.
#[tokio::test(flavor = "multi_thread")]
async fn no_code_of_a_package_runs_while_it_is_installed() {
    let world = World::new();
    let secret = secret(&world);
    let marker = secret.join("built");
    let package = secret.join("thing-1.0");
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("pyproject.toml"), "[build-system]\nrequires = []\nbuild-backend = \"back\"\nbackend-path = [\".\"]\n").unwrap();
    fs::write(package.join("PKG-INFO"), "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n").unwrap();
    fs::write(package.join("back.py"), format!("open({:?}, 'w').close()\n", marker.display().to_string())).unwrap();
    let tar = ["-czf", "thing-1.0.tar.gz", "thing-1.0"];
    assert!(Command::new("tar").args(tar).current_dir(&secret).status().unwrap().success());
    // SAFETY: this test is alone in its process, and nothing else reads the environment yet.
    #[allow(unsafe_code, reason = "what pip is told by its user is part of what is tested")]
    unsafe {
        std::env::set_var("PIP_NO_INDEX", "1");
        std::env::set_var("PIP_FIND_LINKS", &secret);
    }
    let e = installed(&needs(&world, "thing==1.0\n")).await.unwrap_err();
    assert_eq!(e.code(), Code::DEPENDENCY_MISSING, "{e}");
    assert!(e.message().contains("thing==1.0"), "it is pip that refuses it: {e}");
    assert!(!marker.exists());
}

/// An index that never answers holds up nobody for longer than an installation may take, and nothing of pip is left.
#[tokio::test(flavor = "multi_thread")]
async fn an_installation_ends_with_its_time() {
    let world = World::new();
    let index = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: this test is alone in its process, and nothing else reads the environment yet.
    #[allow(unsafe_code, reason = "what pip is told by its user is part of what is tested")]
    unsafe {
        std::env::set_var("PIP_INDEX_URL", format!("http://{}/", index.local_addr().unwrap()));
        std::env::set_var("PIP_DEFAULT_TIMEOUT", "300");
    }
    needs(&world, "thing==1.0\n");
    let folder = world.path().join("plugins/needy");
    let manifest = bespoke_manifest::Manifest::read("manifest.json", &fs::read_to_string(folder.join("manifest.json")).unwrap()).unwrap();
    let folder = PluginFolder::new(folder, std::sync::Arc::new(manifest));
    let grounds = world.grounds().install_dependencies(true);
    let plugin = ProcessPlugin::with_patience(&folder, &grounds, Patience::default().install(std::time::Duration::from_secs(8)));
    let e = tokio::task::spawn_blocking(move || Artifact::prepare(&plugin, &|_| {})).await.unwrap().unwrap_err();
    assert!(e.message().contains("too long"), "{e}");
    let left: Vec<_> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|line| line.contains(&world.path().display().to_string()))
        .collect();
    assert_eq!(left, [""; 0]);
}
