//! A binary without the feature `http` makes no requests; the host says so to a plugin that asks.

use bespoke_host::HostBuilder;

/// See the feature `http`.
pub(crate) fn give(host: HostBuilder) -> HostBuilder {
    host
}
