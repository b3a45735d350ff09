//! The tool in every tier.

use bespoke_plugin_api::{Error, HttpReply, feed, serde_json::json};
use bespoke_plugin_testkit::{Clock, Conformance};
use bespoke_tool_fetch::BESPOKE_PLUGIN;

#[test]
fn behaves_the_same_in_every_tier() {
    let url = |path: &str| json!({ "url": format!("https://a.test/{path}") });
    Conformance::new(&BESPOKE_PLUGIN)
        .config(json!({ "allow": ["a.test"] }))
        .clock(Clock::Manual)
        .host(|host| {
            host.on_http_later(|request| {
                let (sender, body) = feed(usize::MAX);
                let (status, header) = match request.url.rsplit('/').next().unwrap() {
                    "slow" => return Box::pin(std::future::pending()),
                    "away" => (302, ("location", "/page")),
                    "down" => return Box::pin(std::future::ready(Err(Error::internal("no network")))),
                    "image" => (200, ("content-type", "image/png")),
                    _ => (200, ("content-type", "text/html")),
                };
                for n in 0..2000 {
                    sender.send(Ok(format!("<p>Line {n} <a href={n}>next</a>").into_bytes().into())).unwrap();
                }
                Box::pin(std::future::ready(Ok(HttpReply::new(status, vec![(header.0.into(), header.1.into())], Box::pin(body)))))
            });
        })
        .tool("fetch", url("page"))
        .tool("fetch", url("away"))
        .tool("fetch", url("down"))
        .tool("fetch", url("image"))
        .tool("fetch", json!({ "url": "file:///etc/passwd" }))
        .tool("fetch", json!({ "url": "https://a.test/page", "max_chars": 300 }))
        .slow_tool("fetch", url("slow"))
        .check();
}

#[test]
fn behaves_the_same_while_it_is_off() {
    Conformance::new(&BESPOKE_PLUGIN).check();
}
