//! What plugins serve over HTTP: the listener, while something is served. What it answers is in `bespoke-gateway`.

use std::{net::SocketAddr, sync::Arc};

use bespoke_host::Host;
use bespoke_plugin_api::{CancelToken, HttpEndpoint};
use tokio::{sync::Mutex, task::JoinHandle};

use crate::{exit::Failure, gate::GatewayConfig};

/// The listener, while a plugin wants one. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate(Arc<Mutex<Option<Open>>>);

#[derive(Debug)]
struct Open {
    config: GatewayConfig,
    address: SocketAddr,
    stop: CancelToken,
    served: JoinHandle<()>,
}

impl Gate {
    /// Listens where the configuration says, as long as a plugin serves something, or is about to. Where it listens then, unless nothing is
    /// served; and why that is not as the configuration says: where it listened before it listens on, as far as that can be.
    pub(super) async fn settle(&self, host: &Host, config: &GatewayConfig) -> (Option<SocketAddr>, Option<Failure>) {
        let mut open = self.0.lock().await;
        let is_wanted = host.registry().all::<dyn HttpEndpoint>().iter().any(bespoke_host::Slot::is_expected);
        match &*open {
            Some(listening) if is_wanted && listening.config == *config => return (Some(listening.address), None),
            // Two do not listen at one place; at another, the old one goes when the new one is there.
            Some(listening) if !is_wanted || listening.config.listen == config.listen => close(&mut open).await,
            _ => {}
        }
        if !is_wanted {
            return (None, None);
        }
        let gateway = match bespoke_gateway::Gateway::bind(host.clone(), config.clone()).await {
            Ok(gateway) => gateway,
            Err(error) => return (open.as_ref().map(|listening| listening.address), Some(error.into())),
        };
        close(&mut open).await;
        let (address, stop) = (gateway.address(), CancelToken::new());
        let served = tokio::spawn(gateway.serve(stop.clone()));
        *open = Some(Open { config: config.clone(), address, stop, served });
        (Some(address), None)
    }

    /// Answers what was asked, and listens no more.
    pub(super) async fn close(&self) {
        close(&mut *self.0.lock().await).await;
    }
}

async fn close(open: &mut Option<Open>) {
    if let Some(Open { stop, served, .. }) = open.take() {
        stop.cancel();
        // An error: it broke, and is over all the same.
        let _ = served.await;
    }
}
