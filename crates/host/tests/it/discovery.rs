//! What is known before anything runs: manifests, names, needs; and how the registry is asked.

use bespoke_host::{Candidate, Host, Selection, Tier};
use bespoke_plugin_api::{
    CallCx, Descriptor, Kind, Package, Plugin, PluginApi, PluginContext, Result, Tool, ToolOutput, ToolRequest, ToolSpec, Vad, async_trait,
    serde,
};
use expect_test::expect;

use crate::kit::{Plug, call, line, says, started, table, told};

#[derive(serde::Deserialize, Default)]
#[serde(crate = "bespoke_plugin_api::serde", deny_unknown_fields, default)]
struct EchoConfig {
    word: String,
}

struct Echo(String);

impl Plugin for Echo {
    type Config = EchoConfig;

    fn register(api: &mut PluginApi<Self>) {
        api.tool(ToolSpec::new("echo", "Says a word."), |echo| std::sync::Arc::new(EchoTool(echo.0.clone())));
    }

    async fn start(_: PluginContext, config: EchoConfig) -> Result<Self> {
        Ok(Echo(config.word))
    }
}

struct EchoTool(String);

#[async_trait]
impl Tool for EchoTool {
    async fn call(&self, _: &CallCx, _: ToolRequest) -> Result<ToolOutput> {
        Ok(ToolOutput::text(self.0.clone()))
    }
}

const MANIFEST: &str = "id = \"echo\"\ndescription = \"Says a word.\"\nauthor = \"The example authors\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n\n[[provides]]\nkind = \"tool\"\nname = \"echo\"\n";

static ECHO: Descriptor = Descriptor::of::<Echo>(
    "echo",
    Package { name: "tool-echo", version: "0.3.0", license: "MPL-2.0", manifest: MANIFEST, config_schema: "{}" },
);

#[tokio::test]
async fn a_descriptor_is_found_started_configured_and_called() {
    let config = bespoke_host::Config::parse("bespoke.toml", "[plugins.echo]\nword = 'ahoy'\n").unwrap();
    let host = Host::builder().config(config).plugins([&ECHO]).build().unwrap();
    assert_eq!(host.manifest("echo").unwrap().license, "MPL-2.0", "inherited from the crate");
    host.start(Selection::All).await;
    assert_eq!(call(&host, "echo").await.unwrap(), "ahoy");
    let row = &host.rows()[0];
    assert_eq!((row.id.as_str(), row.tier, row.version.as_str(), row.health.as_str()), ("echo", Tier::Compiled, "0.3.0", "ok"));
    assert_eq!((&row.kinds[..], &row.provides[..]), (&["tool".to_owned()][..], &["tool:echo".to_owned()][..]));
    assert_eq!((row.calls, row.errors, row.in_flight), (1, 0, 0));
    assert!(row.started_ms.is_some());
}

#[tokio::test]
async fn the_registry_is_asked_by_type_and_says_what_there_is() {
    let host = started("", [Plug::new("a").provides(says("one", "1")).provides(says("two", "2"))]).await;
    assert!(host.registry().get::<dyn Tool>("one").is_some_and(|slot| slot.is_ready() && slot.plugin() == "a"));
    assert!(host.registry().get::<dyn Vad>("one").is_none());
    let mut said = told(&host.registry().find::<dyn Tool>("three").unwrap_err());
    said += &told(&host.registry().find::<dyn Vad>("one").unwrap_err());
    expect![[r#"
        PLUGIN_NOT_FOUND no tool named `three`; there is one, two
            help: bespoke plugin list
        PLUGIN_NOT_FOUND no vad named `one`; there is none in this program
            help: bespoke plugin list
    "#]]
    .assert_eq(&said);
    assert_eq!(
        format!("{:?} {:?}", host.registry(), host.registry().all::<dyn Tool>()),
        r#"["tool:one", "tool:two"] [tool:one of a, tool:two of a]"#
    );
}

#[tokio::test]
async fn a_duplicate_id_names_both_crates_and_the_first_one_serves() {
    let mut second: Candidate = Plug::new("a").provides(says("y", "second")).into();
    second.origin = "test-b".into();
    let host = Host::builder().plugins([Candidate::from(Plug::new("a").provides(says("x", "first"))), second]).build().unwrap();
    host.start(Selection::All).await;
    expect![[r#"
        a ready
        a failed: the id `a` is taken: both test-a and test-b claim it; that of test-a counts
            fix: build with one of the two
    "#]]
    .assert_eq(&table(&host));
    assert_eq!(call(&host, "x").await.unwrap(), "first");
}

#[tokio::test]
async fn a_duplicate_name_within_a_kind_names_both_plugins() {
    let host = started("", [Plug::new("b").provides(says("x", "b")), Plug::new("a").provides(says("x", "a")), Plug::new("c")]).await;
    expect![[r#"
        a ready
        b failed: tool `x` is provided by both `a` and `b`; that of `a` counts
            fix: bespoke config set plugins.a.enabled false
        c ready
    "#]]
    .assert_eq(&table(&host));
    assert_eq!(call(&host, "x").await.unwrap(), "a");
    // Switched off, the first one no longer stands in the way.
    let host =
        started("[plugins.a]\nenabled = false\n", [Plug::new("b").provides(says("x", "b")), Plug::new("a").provides(says("x", "a"))]).await;
    expect![[r#"
        a disabled: switched off in the configuration
            fix: bespoke config set plugins.a.enabled true
        b ready
    "#]]
    .assert_eq(&table(&host));
    assert_eq!(call(&host, "x").await.unwrap(), "b");
}

#[tokio::test]
async fn what_is_declared_must_be_registered_and_the_other_way_round() {
    let declares_more = Plug::new("more").provides(says("x", "")).extra("[[provides]]\nkind = \"vad\"\nname = \"ear\"\n");
    let declares_less = Plug::new("less").provides(says("y", "")).provides(says("z", "")).registers(|mut specs| {
        specs.push(specs[0].clone());
        specs
    });
    let declares_nothing = Plug::new("bare").registers(|_| vec![says("w", "").spec()]);
    let host = started("", [declares_more, declares_less, declares_nothing]).await;
    expect![[r#"
        bare failed: test-bare/plugin.toml does not declare tool `w`, which register() contributes: add [[provides]] kind = "tool", name = "w"
        less failed: test-less/plugin.toml belongs to a plugin whose register() contributes tool `y` twice: contribute it once
        more failed: test-more/plugin.toml declares vad `ear`, which register() does not contribute: contribute it, or remove the entry
    "#]]
    .assert_eq(&table(&host));
    assert!(host.registry().names(bespoke_plugin_api::Kind::Tool).is_empty());
}

#[tokio::test]
async fn a_broken_manifest_is_told_with_file_line_and_key_and_stops_nobody_else() {
    let broken = MANIFEST.replace("kind = \"tool\"", "kind = \"tol\"").replace("author", "autor");
    let host = started(
        "",
        [
            Plug::new("echo").manifest(&broken),
            Plug::new("other").manifest(MANIFEST),
            Plug::new("toml").manifest("id = [\n"),
            Plug::new("well").provides(says("x", "well")),
        ],
    )
    .await;
    expect![[r#"
        echo failed: test-echo/plugin.toml:1:1: author: it is missing; say who wrote it
        test-echo/plugin.toml:3:1: autor: there is no such key; did you mean `author`?
        test-echo/plugin.toml:8:1: provides[0].kind: `tol` is no kind of contribution; did you mean `tool`?
        other failed: test-other/plugin.toml:1:1: id: it is `echo`, but the plugin registers as `other`
            fix: make the two equal
        toml failed: test-toml/plugin.toml:1:7: this is not TOML: unclosed array, expected `]`; mend the syntax
        well ready
    "#]]
    .assert_eq(&table(&host));
    assert_eq!(call(&host, "x").await.unwrap(), "well");
}

#[tokio::test]
async fn a_plugin_that_is_switched_off_is_not_run_and_says_how_to_switch_it_on() {
    let host =
        started("[plugins.a]\nenabled = false\nnonsense = 1\n", [Plug::new("a").registers(|_| panic!("it ran")).provides(says("x", ""))])
            .await;
    expect![[r#"
        a disabled: switched off in the configuration
            fix: bespoke config set plugins.a.enabled true
    "#]]
    .assert_eq(&table(&host));
    host.check_config().await.unwrap();
}

#[tokio::test]
async fn a_name_belongs_to_whoever_may_serve_it() {
    let two = || [Plug::new("a").provides(says("x", "a's")), Plug::new("b").provides(says("x", "b's"))];
    // The advice of a clash of names: switch the first one off. Then the second one is the one to start, and the default.
    let host = started("[plugins.a]\nenabled = false\n", two()).await;
    assert_eq!(host.provider_of(Kind::Tool, "x").as_deref(), Some("b"));
    assert_eq!(host.default_names(Kind::Tool), ["x"]);
    assert_eq!(call(&host, "x").await.unwrap(), "b's");
    // With both switched off nobody serves it, and the first one says why.
    let host = started("[plugins.a]\nenabled = false\n[plugins.b]\nenabled = false\n", two()).await;
    assert!(host.default_names(Kind::Tool).is_empty());
    assert_eq!(
        told(&host.find::<dyn Tool>("x").unwrap_err()).lines().next(),
        Some("NOT_READY a: is disabled: switched off in the configuration")
    );
}

#[tokio::test]
async fn needs_that_cannot_be_met_are_refused_with_the_reason() {
    let host = started(
        "[plugins.off]\nenabled = false\n",
        [
            Plug::new("missing").needs("nobody", ""),
            Plug::new("old").version("0.9.3"),
            Plug::new("picky").needs("old", "version = \"^1\""),
            Plug::new("content").needs("old", "version = \"0.9\"").needs("nobody", "optional = true").needs("picky", "optional = true"),
            Plug::new("behind").needs("picky", ""),
            Plug::new("off"),
            Plug::new("waits-for-off").needs("off", ""),
        ],
    )
    .await;
    expect![[r#"
        behind failed: needs `picky`, which is failed: needs `old` ^1, but 0.9.3 is here
            fix: build with a version of `old` that fits
        content ready
        missing failed: needs `nobody`, which is not in this program
            fix: build with the feature `nobody`
        off disabled: switched off in the configuration
            fix: bespoke config set plugins.off.enabled true
        old ready
        picky failed: needs `old` ^1, but 0.9.3 is here
            fix: build with a version of `old` that fits
        waits-for-off failed: needs `off`, which is disabled: switched off in the configuration
            fix: bespoke config set plugins.off.enabled true
    "#]]
    .assert_eq(&table(&host));
}

#[tokio::test]
async fn a_circle_of_needs_is_shown_and_nobody_waits_for_it() {
    let host = started(
        "",
        [
            Plug::new("a").needs("b", ""),
            Plug::new("b").needs("c", ""),
            Plug::new("c").needs("a", ""),
            Plug::new("d").needs("a", ""),
            Plug::new("e"),
        ],
    )
    .await;
    expect![[r#"
        a failed: waits for itself: a → b → c → a
            fix: take one [[requires]] out of the circle
        b failed: waits for itself: b → c → a → b
            fix: take one [[requires]] out of the circle
        c failed: waits for itself: c → a → b → c
            fix: take one [[requires]] out of the circle
        d failed: needs a circle that waits for itself: a → b → c → a
            fix: take one [[requires]] out of the circle
        e ready
    "#]]
    .assert_eq(&table(&host));
}

#[tokio::test]
async fn a_missing_row_is_a_row_like_the_others() {
    let row = bespoke_host::Row::missing("whisper", vec!["stt".into()], "not in this binary", "cargo build --features whisper");
    assert_eq!(line(&row), "whisper missing: not in this binary\n    fix: cargo build --features whisper\n");
    let json = serde_json::to_value(&row).unwrap();
    assert_eq!((json["tier"].as_str(), json["state"].as_str(), json["health"].as_str()), (Some("none"), Some("missing"), Some("unknown")));
}
