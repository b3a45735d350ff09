//! What every test here needs: a client, a list, an error in words.

use std::{
    future::{Future, poll_fn},
    time::Duration,
};

use bespoke_host::{HttpAllowed, HttpClient};
use bespoke_http::Client;
use bespoke_plugin_api::{Error, HttpReply, HttpRequest, Result, bytes::Bytes};

/// Longer than anything here takes, so that a hang fails instead of hanging.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("this takes far too long")
}

/// A list with all of loopback in it.
pub(crate) fn loopback() -> HttpAllowed {
    HttpAllowed::new("test").private("127.0.0.0/8:*")
}

pub(crate) async fn get(client: &Client, url: impl Into<String>) -> Result<HttpReply> {
    within(client.send(loopback(), HttpRequest::new("GET", url))).await
}

/// The next piece of a body.
pub(crate) async fn next(reply: &mut HttpReply) -> Option<Result<Bytes>> {
    poll_fn(|cx| reply.body.as_mut().poll_next(cx)).await
}

/// An error as a person sees it.
pub(crate) fn told(error: &Error) -> String {
    let help = error.help().map_or(String::new(), |help| format!("\n    help: {help}"));
    format!("{} {}{help}\n", error.kind(), error.message())
}
