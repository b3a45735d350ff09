//! What aisopod did wrong with plugins, each defect by its number. Defects 5, 6, 8 and 13, about commands, are tried in `commands`, 10 in
//! `hooks`, 14 with the whole program. 2, 3 and 4 cannot be written down here: each feature is built alone, and no trait object and no
//! pointer of Rust leaves a library.

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
