//! What was not granted is refused where the host answers, whatever the guest asks: a component has no other way out.

use std::sync::Arc;

use bespoke_host::{HttpAllowed, HttpClient};
use bespoke_plugin_api::{BoxFuture, Code, Error, HttpReply, HttpRequest, Result, serde_json::json};

use crate::kit::{World, act, echo, within};

/// Answers for the hosts that the plugin may reach, as the program's client does.
struct Web;

impl HttpClient for Web {
    fn send(&self, allowed: HttpAllowed, request: HttpRequest) -> BoxFuture<'static, Result<HttpReply>> {
        let open = allowed.hosts.iter().any(|host| request.url.contains(&host.pattern));
        Box::pin(async move {
            if open {
                Ok(HttpReply::new(204, Vec::new(), Box::pin(futures_util::stream::empty())))
            } else {
                Err(Error::new(Code::PERMISSION_DENIED, "not that one"))
            }
        })
    }
}

const ASKS: &str = r#"[permissions]
network_access = ["allowed.example"]
secrets = ["token"]
reasons = { network_access = "asks", secrets = "logs in" }
[resources]
network_per_s = 2
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_granted_is_refused_and_what_was_is_not() {
    let world = World::new().http(Arc::new(Web));
    let config = "[plugins.acts]\nsecrets = { token = \"abc\" }\n";
    let url = |name: &str| json!({ "do": "http", "url": format!("http://{name}/") });
    let secret = |name: &str| json!({ "do": "secret", "name": name });

    // It asks for nothing.
    let host = world.host([world.acts()]).await;
    for args in [url("allowed.example"), secret("token"), json!({ "do": "call", "name": "other" })] {
        let error = act(&host, "acts", args.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::PERMISSION_DENIED, "{args}: {error:?}");
        assert_eq!(echo(&host).await.unwrap(), "7");
    }
    within(host.shutdown()).await;

    // It asks, and was granted.
    let host = world.host_with(config, [world.acts_with(ASKS)]).await;
    assert_eq!(act(&host, "acts", url("allowed.example")).await.as_deref(), Ok("204"));
    assert_eq!(act(&host, "acts", url("other.example")).await.unwrap_err().code(), Code::PERMISSION_DENIED);
    assert_eq!(act(&host, "acts", secret("token")).await.as_deref(), Ok("abc"));
    assert_eq!(act(&host, "acts", secret("another")).await.unwrap_err().code(), Code::PERMISSION_DENIED);
    // Not as often as it likes.
    let mut codes = Vec::new();
    for _ in 0..50 {
        codes.extend(act(&host, "acts", url("allowed.example")).await.err().map(|e| e.code()));
    }
    assert!(codes.len() > 10 && codes.iter().all(|code| *code == codes[0]) && codes[0] != Code::PLUGIN_CRASHED, "{codes:?}");
    assert_eq!(echo(&host).await.unwrap(), "7");
    within(host.shutdown()).await;
}
