//! What every test here needs: a host with the tool, servers on loopback, an answer in words.

use std::{sync::Arc, time::Duration};

use bespoke_host::{Config, Host, Selection};
use bespoke_http::{
    Client,
    testing::{Names, Server},
};
use bespoke_plugin_api::{
    CallCx, ToolCall, ToolOutput,
    serde_json::{Value, json},
};
use bespoke_tool_fetch::BESPOKE_PLUGIN;

/// Longer than anything here takes, so that a hang fails instead of hanging.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A host with the tool, whose table in the configuration is this.
pub(crate) async fn host(table: &str, names: &Names) -> Host {
    let config = Config::parse("bespoke.toml", &format!("[plugins.fetch]\n{table}\n")).unwrap();
    let client = Client::builder().network(names.clone()).build();
    let host = Host::builder().config(config).plugins([&BESPOKE_PLUGIN]).http(Arc::new(client)).build().unwrap();
    host.start(Selection::All).await;
    host
}

pub(crate) async fn fetch(host: &Host, args: Value) -> ToolOutput {
    let cx = CallCx::new();
    let called = host.call_tool(&cx, ToolCall::new("1", "fetch", args));
    tokio::time::timeout(LONG, called).await.expect("this takes far too long").expect("the tool answers").1
}

/// What the model is told of a page.
pub(crate) async fn get(host: &Host, url: &str) -> String {
    told(&fetch(host, json!({ "url": url })).await)
}

/// With the random word of the marks made plain.
pub(crate) fn told(output: &ToolOutput) -> String {
    let text = output.to_text();
    match text.find("; ends at ") {
        Some(at) => text.replace(&text[at + 10..at + 22], "RANDOM"),
        None => text,
    }
}

/// A server that redirects from `/to/<hex>` to what the digits mean, and answers everything else with `reached`.
pub(crate) async fn redirecting() -> Server {
    Server::start(|mut peer, _| async move {
        let request = peer.request().await?;
        let path = request.split(' ').nth(1).unwrap_or_default();
        let answer = match path.strip_prefix("/to/") {
            Some(digits) => {
                let bytes: Vec<u8> =
                    digits.as_bytes().chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect();
                [b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nconnection: close\r\nlocation: ".as_slice(), &bytes, b"\r\n\r\n"].concat()
            }
            None => b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 7\r\nconnection: close\r\n\r\nreached".to_vec(),
        };
        peer.send(&answer).await
    })
    .await
}

/// The address on `host` that redirects there.
pub(crate) fn to(host: &str, location: &str) -> String {
    format!("http://{host}/to/{}", location.bytes().map(|b| format!("{b:02x}")).collect::<String>())
}

/// The head of a 200 with this type.
pub(crate) fn page(content_type: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
