//! Plugins in Python: the SDK that the program carries, an interpreter, and packages of their own.

use std::fs;

use bespoke_host::{State, Terms, open_folder};
use bespoke_plugin_api::{
    CallCx, Code, Tts, TtsOptions,
    serde_json::{Value, json},
};

use crate::kit::{World, row, within};

/// The plugin of App Factory's guide, as it stands there.
fn guide(world: &World) -> std::path::PathBuf {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/sdk/tests/guide");
    let folder = world.path().join("plugins/my_tts_plugin");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(format!("{guide}/block_01.json"), folder.join("manifest.json")).unwrap();
    fs::copy(format!("{guide}/block_02.python"), folder.join("__init__.py")).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_of_the_guide_runs_as_it_is_written() {
    let world = World::new();
    let plugin = open_folder(&guide(&world), &world.grounds());
    let id = plugin.id.clone();
    let host = world.host_with(&format!("[plugins.{id}]\nvoice = \"anna\""), [plugin]).await;
    assert_eq!(row(&host, &id).state, State::Ready, "{:?}", row(&host, &id));
    let tts = host.find::<dyn Tts>(&id).unwrap();
    let voices = within(tts.call(&CallCx::new(), |tts, cx| async move { tts.voices(&cx).await })).await.unwrap();
    assert_eq!(voices.iter().map(|voice| voice.id.as_str()).collect::<Vec<_>>(), ["default"]);
    let mut speech = tts.lease().unwrap().open(&TtsOptions::default()).unwrap();
    speech.push("Good morning.").unwrap();
    speech.finish().unwrap();
    let mut pieces = 0;
    while let Some(piece) = within(std::future::poll_fn(|cx| speech.poll_next(cx))).await {
        piece.unwrap();
        pieces += 1;
    }
    assert!(pieces > 0);
    let voices = within(host.invoke(&CallCx::new(), &id, "get_voices", json!({}))).await.unwrap();
    assert_eq!(voices[0]["name"], json!("Default Voice"), "{voices}");
    // Nothing around its folder was looked at: what is told as refused is what the plugin itself tried.
    let around = fs::canonicalize(world.path()).unwrap();
    let tried: Vec<_> = host.used(&id).into_iter().filter(|used| used.refused > 0).map(|used| used.item).collect();
    let ours = tried.iter().filter(|item| around.starts_with(item) || item.starts_with(&around.display().to_string()));
    assert_eq!(Vec::from_iter(ours), [""; 0], "{tried:?}");
    within(host.shutdown()).await;
    assert_eq!(row(&host, &id).state, State::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_configuration_is_held_against_its_schema_before_it_sees_it() {
    let world = World::new();
    let plugin = open_folder(&guide(&world), &world.grounds());
    let e = plugin.artifact.check(&json!({ "voice": 7 })).unwrap_err();
    assert_eq!((e.code(), &e.data().unwrap()["path"]), (Code::INVALID_PARAMS, &json!("voice")));
    let id = plugin.id.clone();
    let host = world.host_with(&format!("[plugins.{id}]\nvoice = 7"), [plugin]).await;
    let row = row(&host, &id);
    assert_eq!(row.state, State::Failed);
    assert!(row.reason.as_ref().is_some_and(|reason| reason.contains("bespoke.toml:2")), "{:?}", row.reason);
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_that_it_needs_are_named_and_not_installed_unasked() {
    let world = World::new();
    let folder = guide(&world);
    fs::write(folder.join("requirements.txt"), "# what it needs\nno-such-package>=2\n").unwrap();
    let plugin = open_folder(&folder, &world.grounds());
    let id = plugin.id.clone();
    let host = world.host([plugin]).await;
    let row = row(&host, &id);
    assert_eq!(row.state, State::Failed);
    assert!(row.reason.as_ref().is_some_and(|reason| reason.contains("no-such-package>=2")), "{:?}", row.reason);
    assert!(row.fix.as_ref().is_some_and(|fix| fix.contains("pip install 'no-such-package>=2'")), "{:?}", row.fix);
    assert!(!world.path().join("cache/venv").exists());
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_are_installed_into_an_environment_of_its_own_when_asked() {
    let world = World::new();
    let folder = guide(&world);
    // A package that lies here: nothing is asked of a network.
    let package = world.path().join("made_here");
    fs::create_dir_all(&package).unwrap();
    let wheel = package.join("made_here-1.0-py3-none-any.whl");
    let make = "import sys, zipfile\nw = zipfile.ZipFile(sys.argv[1], 'w')\nw.writestr('made_here.py', 'WORD = \"made here\"\\n')\n\
                w.writestr('made_here-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: made-here\\nVersion: 1.0\\n')\n\
                w.writestr('made_here-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
                w.writestr('made_here-1.0.dist-info/RECORD', '')\nw.close()\n";
    assert!(std::process::Command::new("python3").args(["-c", make]).arg(&wheel).status().unwrap().success());
    fs::write(folder.join("requirements.txt"), "made-here==1.0\n").unwrap();
    // SAFETY: this test is alone in its process, and nothing else reads the environment yet.
    #[allow(unsafe_code, reason = "what pip is told by its user is part of what is tested")]
    unsafe {
        std::env::set_var("PIP_NO_INDEX", "1");
        std::env::set_var("PIP_FIND_LINKS", &package);
    }
    let script = folder.join("__init__.py");
    let text = fs::read_to_string(&script).unwrap();
    fs::write(&script, format!("import made_here\n{text}\n    async def word(self):\n        return made_here.WORD\n")).unwrap();

    let plugin = open_folder(&folder, &world.grounds().install_dependencies(true));
    let id = plugin.id.clone();
    let artifact = plugin.artifact.clone();
    within(tokio::task::spawn_blocking(move || artifact.prepare(&|_| {}))).await.unwrap().unwrap();
    let host = world.host([plugin]).await;
    assert_eq!(row(&host, &id).state, State::Ready, "{:?}", row(&host, &id));
    let word: Value = within(host.invoke(&CallCx::new(), &id, "word", json!({}))).await.unwrap();
    assert_eq!(word, json!("made here"));
    within(host.shutdown()).await;
    // The next one finds it there, and needs no leave.
    let again = open_folder(&folder, &world.grounds());
    assert!(tokio::task::spawn_blocking(move || again.artifact.declare(&Terms::default())).await.unwrap().is_ok());
}
