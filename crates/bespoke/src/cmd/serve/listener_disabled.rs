//! What plugins serve over HTTP, in a binary without a listener: nothing.

use std::net::SocketAddr;

use bespoke_host::Host;

use crate::{exit::Failure, gate::GatewayConfig};

/// There is no listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate;

impl Gate {
    pub(super) async fn settle(&self, _: &Host, _: &GatewayConfig) -> (Option<SocketAddr>, Option<Failure>) {
        (None, None)
    }

    pub(super) async fn close(&self) {}
}
