//! What plugins serve over HTTP, behind one listener. It mounts endpoints; it knows no channel and no agent.
//!
//! An endpoint `inbox` of the plugin `example` is at `/hooks/example/inbox`. Its plugin gets method, path with query, headers and the raw
//! body, and answers with a status, headers and a body; which methods there are, and who may ask, is for the endpoint to say. What the
//! gateway itself answers is JSON: `{"error":{"code":"NOT_FOUND","message":"…"}}`.
//!
//! | Status | When |
//! |---|---|
//! | 400, 431, 414 | what came is no request; its head is over 32 KiB or 64 headers |
//! | 404 | nothing is mounted there |
//! | 408 | head or body took longer than `read_timeout_ms` |
//! | 413 | the body is longer than the endpoint takes |
//! | 500 | the plugin failed, panicked, or answered what no server may say |
//! | 503 | too many connections or requests at once; the plugin does not run, or blocks; `Retry-After` says when to come again |
//! | 504 | the plugin took longer than `answer_timeout_ms` |
//!
//! What a plugin says of its failure stays in the log: whoever asks may be anybody.
//!
//! **Invariant:** a peer costs at most one connection, one head, one body of the endpoint's limit, and the times of the configuration.
//! **Invariant:** it listens where only this machine reaches it, unless the configuration says `public`.

use std::{fmt, io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use bespoke_host::Host;
use bespoke_plugin_api::{CancelToken, Code, Error, Result};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

mod config;
mod connection;
mod router;
mod service;

pub use config::GatewayConfig;

use crate::service::Service;

/// JSON Schema of the section `[gateway]`.
pub const CONFIG_SCHEMA: &str = include_str!("../config.schema.json");

/// Connections that are told that there are too many, at once; those beyond are closed without a word.
const MOST_REFUSED: usize = 32;
/// How long to wait when no more connections can be taken at all, such as without file descriptors.
const BREATH: Duration = Duration::from_millis(50);
/// Beyond the times of the configuration, for a connection to end by itself.
const GRACE: Duration = Duration::from_secs(1);

/// A listener that is open, and takes nobody before [`serve`](Gateway::serve).
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    host: Host,
    config: GatewayConfig,
}

impl Gateway {
    /// Opens the listener.
    ///
    /// # Errors
    /// `INVALID_PARAMS`, as [`GatewayConfig::check`]; `CONFLICT` where somebody else listens.
    pub async fn bind(host: Host, config: GatewayConfig) -> Result<Self> {
        config.check()?;
        let wanted = config.address()?;
        let refused = |error: std::io::Error| {
            let code = if error.kind() == ErrorKind::AddrInUse { Code::CONFLICT } else { Code::NETWORK_FAILED };
            Error::new(code, format!("the gateway cannot listen at {wanted}: {error}"))
                .with_help("choose another port: bespoke config set gateway.listen 127.0.0.1:8791; port 0 takes a free one")
        };
        let listener = TcpListener::bind(wanted).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Gateway { listener, address, host, config })
    }

    /// Where it listens, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is cancelled, and then what was asked before, for as long as the configuration gives one request.
    pub async fn serve(self, stop: CancelToken) {
        let Gateway { listener, host, config, .. } = self;
        let places = Arc::new(Semaphore::new(config.max_connections as usize));
        let refusals = Arc::new(Semaphore::new(MOST_REFUSED));
        let service = Arc::new(Service::new(host, &config));
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
                // So that those which have ended are not gathered.
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            };
            let stream: TcpStream = match stream {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Of a connection that is gone already there is nothing to say; without descriptors it helps to wait.
                    tracing::debug!(%error, "a connection could not be taken");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            match places.clone().try_acquire_owned() {
                Ok(place) => {
                    let served = connection::serve(stream, service.clone(), config.read_timeout(), stop.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                Err(_) => {
                    if let Ok(refusal) = refusals.clone().try_acquire_owned() {
                        connections.spawn(async move {
                            connection::refuse(stream).await;
                            drop(refusal);
                        });
                    }
                }
            }
        }
        // From here on nobody comes in; each connection has heard of it and ends after what it is at.
        drop(listener);
        let longest = config.read_timeout() + config.answer_timeout() + GRACE;
        let ending = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(longest, ending).await.is_err() {
            tracing::warn!(left = connections.len(), "connections of the gateway did not end and are cut");
        }
        connections.shutdown().await;
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("address", &self.address).finish_non_exhaustive()
    }
}
