//! What aisopod did wrong with plugins, each defect by its number. Defects 5, 6, 8 and 13, about commands, are tried in `commands`, 10 in
//! `hooks`, 14 with the whole program. That each feature builds, which is 2, is a chore of xtask: it builds each of them alone.

use std::{fs, path::Path};

use bespoke_host::{Grounds, open_folder};
use bespoke_plugin_api::{CallCx, Code, HookReply, HookSpec, ToolCall, ToolOutput, ToolSpec, serde_json::json};
use expect_test::expect;

use crate::kit::{BEFORE, Plug, before_run, call, row, says, started, strict, table, told, within};

#[tokio::test]
async fn defect_1_what_a_plugin_registers_is_what_the_program_calls() {
    let hook = HookSpec::new("h", BEFORE);
    let host = started("", [Plug::new("a").provides(says("x", "well")).hook(hook, |_, _| async { Ok(HookReply::veto("no")) })]).await;
    assert_eq!(call(&host, "x").await.unwrap(), "well");
    let outcome = within(host.hooks().run(&CallCx::new(), BEFORE, || before_run("hi"))).await;
    assert!(format!("{outcome:?}").contains("Vetoed"), "{outcome:?}");
}

/// Sources of this workspace, tests aside.
fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn defect_3_no_pointer_is_taken_for_an_arc() {
    let mut found = Vec::new();
    for krate in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap().map(|entry| entry.unwrap().path().join("src")) {
        if krate.is_dir() {
            sources(&krate, &mut found);
        }
    }
    assert!(found.len() > 300, "{} files", found.len());
    let takes: Vec<_> = found.iter().filter(|(_, text)| text.contains("Arc::from_raw(")).map(|(path, _)| path).collect();
    assert_eq!(takes, [""; 0]);
}

#[test]
fn defect_4_a_library_with_trait_objects_of_rust_is_listed_and_never_opened() {
    let folder = tempfile::tempdir().unwrap();
    let pod = folder.path().join("pod");
    fs::create_dir_all(&pod).unwrap();
    let manifest =
        "[plugin]\nid = \"pod\"\nname = \"Pod\"\nversion = \"1.0.0\"\ndescription = \"A test.\"\nauthor = \"x\"\nentry_point = \"pod\"\n";
    fs::write(pod.join("aisopod.plugin.toml"), manifest).unwrap();
    // Whoever opens it would say that it is no library.
    fs::write(pod.join("libpod.so"), "no library").unwrap();
    let found = open_folder(&pod, &Grounds::new(folder.path().join("cache")));
    let (state, why) = found.artifact.refusal().expect("it is refused");
    assert_eq!(state.name(), "failed", "{why}");
    assert!(why.message().contains("whose interface holds only for the compiler that built both"), "{why}");
    assert_eq!(found.id, "pod");
}

#[tokio::test]
async fn defect_7_the_version_of_a_plugin_is_its_own_and_only_the_protocol_is_compared() {
    let manifest = |protocol: &str| {
        format!(
            "id = \"a\"\ndescription = \"A test.\"\nauthor = \"x\"\nprotocol = \"{protocol}\"\ntiers = [\"compiled\"]\n[[provides]]\nkind = \"tool\"\nname = \"x\"\n"
        )
    };
    for version in ["0.0.1", "0.9.0", "99.0.0"] {
        let host = started("", [Plug::new("a").version(version).manifest(&manifest("1")).provides(says("x", "well"))]).await;
        assert_eq!(call(&host, "x").await.unwrap(), "well", "{version}");
    }
    let host = started("", [Plug::new("a").version("1.0.0").manifest(&manifest("2")).provides(says("x", "well"))]).await;
    assert_eq!(row(&host, "a").state.name(), "failed");
    assert!(row(&host, "a").reason.unwrap().contains("protocol"), "{}", table(&host));
}

#[tokio::test]
async fn defect_9_an_integer_is_a_whole_number() {
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    let tool =
        strict(ToolSpec::new("count", "Counts.").input(schema), |_, args| async move { Ok(ToolOutput::text(args["n"].to_string())) });
    let host = started("", [Plug::new("a").provides(tool)]).await;
    let counted = |n| {
        let host = host.clone();
        async move {
            within(host.call_tool(&CallCx::new(), ToolCall::new("1", "count", json!({ "n": n })))).await.map(|(_, output)| output.to_text())
        }
    };
    for n in [json!(3), json!(-3), json!(9_007_199_254_740_993_u64)] {
        assert_eq!(counted(n.clone()).await.unwrap(), n.to_string());
    }
    for n in [json!(3.5), json!("3"), json!(true), json!(null)] {
        assert_eq!(counted(n.clone()).await.unwrap_err().code(), Code::INVALID_PARAMS, "{n}");
    }
}

#[tokio::test]
async fn defect_11_who_does_not_come_up_leaves_nothing_behind_and_takes_nobody_down() {
    let broken = Plug::new("b").provides(says("y", "never")).starts(|_, _| async { Err(bespoke_plugin_api::Error::internal("no disk")) });
    let host = started("", [Plug::new("a").provides(says("x", "well")), broken, Plug::new("c").provides(says("z", "too"))]).await;
    expect![[r#"
        a ready
        b failed: no disk
        c ready
    "#]]
    .assert_eq(&table(&host));
    assert_eq!((call(&host, "x").await.unwrap().as_str(), call(&host, "z").await.unwrap().as_str()), ("well", "too"));
    assert!(told(&call(&host, "y").await.unwrap_err()).contains("there is x, z"), "{}", told(&call(&host, "y").await.unwrap_err()));
    within(host.shutdown()).await;
    assert_eq!((row(&host, "a").state.name(), row(&host, "b").state.name()), ("stopped", "failed"));
}

#[tokio::test]
async fn defect_12_one_manifest_that_cannot_be_read_hides_no_other() {
    let host = started("", [Plug::new("a").manifest("id = [not toml"), Plug::new("b").provides(says("x", "well"))]).await;
    assert_eq!((row(&host, "a").state.name(), row(&host, "b").state.name()), ("failed", "ready"));
    assert!(row(&host, "a").reason.unwrap().contains("test-a/plugin.toml"));
    assert_eq!(call(&host, "x").await.unwrap(), "well");
}
