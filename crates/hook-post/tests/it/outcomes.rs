//! What a server answers, and what becomes of it where it fails open and where it fails closed.

use std::{fmt::Write as _, sync::Arc};

use bespoke_hook_post::BESPOKE_PLUGIN;
use bespoke_host::{Config, Host, Outcome, Selection};
use bespoke_plugin_api::{CallCx, Hook, HookEvent};

use crate::server::{Does, LIMIT, Server, header};

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it hangs")
}

async fn host(url: &str, more: &str) -> Host {
    // So that a slow machine is not taken for a server that hangs.
    let limit = if more.contains("timeout_ms") { "" } else { "timeout_ms = 60000," };
    let mut file = String::from("[plugins.post]\n");
    writeln!(file, "hooks = [{{ name = 'guard', hook = 'before_agent_run', url = '{url}', {limit} {more} }}]").unwrap();
    if more.contains("closed") {
        file += "[plugins.post.secrets]\nsigning_key = 'k3y'\n";
    }
    let config = Config::parse("bespoke.toml", &file).unwrap();
    let client = Arc::new(bespoke_http::Client::new());
    let host = Host::builder().config(config).plugins([&BESPOKE_PLUGIN]).http(client).build().unwrap();
    within(host.start(Selection::All)).await;
    assert!(host.rows().iter().all(|row| row.reason.is_none()), "{:?}", host.rows());
    host
}

async fn ask(host: &Host) -> String {
    let event = || HookEvent::before_agent_run("s1", "hello");
    match within(host.hooks().run(&CallCx::new(), Hook::BeforeAgentRun, event)).await {
        None => "nobody".into(),
        Some(Outcome::Proceed(HookEvent::BeforeAgentRun { input, .. })) => input,
        Some(Outcome::Proceed(other)) => format!("{other:?}"),
        Some(Outcome::Vetoed { plugin, reason, .. }) => format!("{plugin} vetoed: {reason}"),
    }
}

/// What a user of the hook gets, open and closed.
async fn both(does: Does, more: &str) -> (String, String) {
    let server = Server::start(does).await;
    let open = ask(&host(&server.url, &format!("on_failure = 'open', {more}")).await).await;
    let closed = ask(&host(&server.url, &format!("on_failure = 'closed', {more}")).await).await;
    assert!(!closed.contains("s3cret") && !closed.contains("k3y"), "{closed}");
    (open, closed)
}

#[tokio::test]
async fn an_answer_is_the_same_open_and_closed() {
    for (status, body, expected) in [
        (200, "", "hello"),
        (202, r#"{"reply":"continue"}"#, "hello"),
        (200, r#"{"reply":"veto","reason":"not on Sundays"}"#, "post vetoed: not on Sundays"),
        (403, r#"{"reason":"no such thing"}"#, "post vetoed: no such thing"),
        (200, r#"{"reply":"replace","event":{"hook":"before_agent_run","session":"s1","input":"HELLO"}}"#, "HELLO"),
    ] {
        let (open, closed) = both(Does::says(status, body), "").await;
        assert_eq!((open.as_str(), closed.as_str()), (expected, expected), "{status} {body}");
    }
}

#[tokio::test]
async fn a_failure_goes_on_where_it_is_open_and_stops_where_it_is_closed() {
    for (does, why) in [
        (Does::says(500, ""), "the server of `guard` answered 500"),
        (Does::says(403, "no"), "the server of `guard` answered 403 without a reason"),
        (Does::says(200, "junk"), "the server of `guard` answered with what is no reply (no JSON)"),
        (
            Does::says(200, r#"{"reply":"perhaps"}"#),
            "the server of `guard` answered with a `reply` that is none of continue, veto and replace",
        ),
        (
            Does::says(200, r#"{"reply":"replace","event":{"hook":"on_gateway_start"}}"#),
            "answered before_agent_run with an event of on_gateway_start",
        ),
        (Does::Says("HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".into()), "answered 302"),
        (Does::Says("SSH-2.0-OpenSSH\r\n".into()), "guard"),
        (Does::Says(String::new()), "guard"),
        (Does::Floods, "the answer is longer than 4194304 bytes"),
    ] {
        let (open, closed) = both(does, "").await;
        assert_eq!(open, "hello", "{why}");
        assert!(closed.starts_with("post vetoed: `guard` could not decide and fails closed: ") && closed.contains(why), "{why}: {closed}");
    }
}

#[tokio::test]
async fn one_that_hangs_is_late_and_that_is_a_failure() {
    let (open, closed) = both(Does::Hangs, "timeout_ms = 300").await;
    assert_eq!(open, "hello");
    // Whoever of the clocks sees it first.
    assert!(closed.contains("no answer within") || closed.contains("did not answer within"), "{closed}");
}

#[tokio::test]
async fn one_that_is_not_there_is_a_failure() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(ask(&host(&url, "").await).await, "hello");
    let closed = ask(&host(&url, "on_failure = 'closed'").await).await;
    assert!(closed.starts_with("post vetoed: `guard` could not decide and fails closed: "), "{closed}");
}

#[tokio::test]
async fn what_is_sent_is_the_event_signed_where_there_is_a_key() {
    let server = Server::start(Does::says(204, "")).await;
    ask(&host(&server.url, "").await).await;
    ask(&host(&server.url, "on_failure = 'closed'").await).await;
    let seen = server.seen();
    let [plain, signed] = &seen[..] else { panic!("{seen:?}") };
    assert!(plain.starts_with("POST /hook?key=s3cret HTTP/1.1\r\n"), "{plain}");
    assert_eq!(header(plain, "content-type"), Some("application/json"));
    assert_eq!((header(plain, "x-bespoke-timestamp"), header(plain, "x-bespoke-signature")), (None, None));
    let body = signed.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(body, r#"{"hook":"before_agent_run","session":"s1","input":"hello"}"#);
    let timestamp = header(signed, "x-bespoke-timestamp").unwrap();
    let second: u64 = timestamp.parse().unwrap();
    assert_eq!(header(signed, "x-bespoke-signature"), Some(bespoke_signed::sign(b"k3y", second, body.as_bytes()).as_str()));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(second) < 300, "{second}");
}
