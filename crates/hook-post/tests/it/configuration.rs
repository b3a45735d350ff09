//! What a configuration that does not fit says, and where.

use bespoke_hook_post::BESPOKE_PLUGIN;
use bespoke_plugin_api::{
    Contribution, Hook, OnFailure,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{TestHost, block_on};

fn fault(entry: Value) -> String {
    let hooks = json!({ "hooks": [entry] });
    let cx = TestHost::new().context("post");
    let error = BESPOKE_PLUGIN.check(&hooks).err().unwrap_or_else(|| block_on(BESPOKE_PLUGIN.start(cx, hooks)).unwrap_err());
    assert_eq!(error.kind(), "INVALID_PARAMS");
    format!("{}: {}", error.data().unwrap()["path"].as_str().unwrap(), error.message())
}

#[test]
fn what_does_not_fit_is_told_with_its_key_and_without_its_address() {
    for (key, value, expected) in [
        ("hook", json!("after_agent_runs"), "hooks[0].hook: there is no hook \"after_agent_runs\"; did you mean `after_agent_run`?"),
        ("topics", json!(["step_*"]), "hooks[0].topics: before_agent_run has no topics; leave them out, or the hook"),
        ("name", json!(""), "hooks[0].name: \"\" is no name: write up to 64 small letters, digits, `-` and `_`"),
        ("url", json!("ftp://example.com/s3cret"), "hooks[0].url: the address has a scheme other than http and https"),
        ("url", json!("https://u:s3cret@example.com"), "hooks[0].url: the address holds a user name, which is not sent"),
        ("url", json!("https://example.com:s3cret/"), "hooks[0].url: the address is no URL: invalid port number"),
        ("timeout_ms", json!(3_600_001), "hooks[0].timeout_ms: `timeout_ms` is 3600001; it has to be from 10 to 3600000"),
        ("on_failure", json!("opne"), "hooks[0].on_failure: unknown variant `opne`, expected `open` or `closed`"),
    ] {
        let mut entry = json!({ "name": "guard", "hook": "before_agent_run", "url": "http://127.0.0.1/" });
        entry[key] = value;
        assert_eq!(fault(entry), expected);
    }
    let twice = json!({ "name": "a", "hook": "before_agent_run", "url": "http://127.0.0.1/" });
    let cx = TestHost::new().context("post");
    let error = block_on(BESPOKE_PLUGIN.start(cx, json!({ "hooks": [twice, twice] }))).unwrap_err();
    assert_eq!(error.message(), "`a` stands there twice");
}

#[test]
fn what_is_written_is_what_is_subscribed() {
    let host = TestHost::new();
    let hooks = json!({ "hooks": [
        { "name": "a", "hook": "before_message_send", "url": "http://127.0.0.1/", "priority": -3, "on_failure": "closed" },
        { "name": "b", "topics": ["plugin_*"], "url": "https://example.com/", "observer": true },
    ] });
    let _instance = block_on(BESPOKE_PLUGIN.start(host.context("post"), hooks)).unwrap();
    let published = host.published();
    let [Contribution::Hook(a, _), Contribution::Hook(b, _)] = &published[..] else { panic!("{published:?}") };
    assert_eq!((a.hook, a.priority, a.on_failure, a.observer), (Hook::BeforeMessageSend, -3, OnFailure::Closed, false));
    assert_eq!((b.hook, b.observer, &b.topics[..]), (Hook::OnEvent, true, &["plugin_".to_owned()][..]));
}
