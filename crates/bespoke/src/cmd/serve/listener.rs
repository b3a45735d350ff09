//! What plugins serve over HTTP: the listener, while something is served. What it answers is in `bespoke-gateway`.

use std::{net::SocketAddr, sync::Arc};

use bespoke_host::Host;
use bespoke_plugin_api::{CancelToken, HttpEndpoint};
use tokio::{sync::Mutex, task::JoinHandle};

use crate::{exit::Result, gate::GatewayConfig};

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
    /// Listens where the configuration says, as long as a plugin serves something; where, unless nothing is served.
    ///
    /// # Errors
    /// When nobody can listen there. Then nobody does.
    pub(super) async fn settle(&self, host: &Host, config: &GatewayConfig) -> Result<Option<SocketAddr>> {
        let mut open = self.0.lock().await;
        let is_wanted = host.registry().all::<dyn HttpEndpoint>().iter().any(bespoke_host::Slot::is_ready);
        match &*open {
            Some(listening) if is_wanted && listening.config == *config => return Ok(Some(listening.address)),
            Some(_) => close(&mut open).await,
            None => {}
        }
        if !is_wanted {
            return Ok(None);
        }
        let gateway = bespoke_gateway::Gateway::bind(host.clone(), config.clone()).await?;
        let (address, stop) = (gateway.address(), CancelToken::new());
        let served = tokio::spawn(gateway.serve(stop.clone()));
        *open = Some(Open { config: config.clone(), address, stop, served });
        Ok(Some(address))
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
