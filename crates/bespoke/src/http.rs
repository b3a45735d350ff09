//! The HTTP client of plugins that call out. It comes with the features of those plugins.

use std::sync::Arc;

use bespoke_host::HostBuilder;
use bespoke_http::Client;

/// Gives the client to a host. Must be called inside a tokio runtime.
pub(crate) fn give(host: HostBuilder) -> HostBuilder {
    host.http(Arc::new(Client::new()))
}
