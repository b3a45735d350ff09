//! TLS: rustls over ring, with the roots that the machine trusts, as the fetcher has it.

use std::{io, sync::Arc};

use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{net::TcpStream, sync::OnceCell};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName},
    },
};

use crate::target::Host;

/// Made on the first use: reading the machine's roots takes a while.
#[derive(Default)]
pub(crate) struct Tls {
    /// Trusted instead of the machine's, if there are any.
    roots: Vec<CertificateDer<'static>>,
    config: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    #[cfg(feature = "testing")]
    pub(crate) fn with_roots(roots: Vec<CertificateDer<'static>>) -> Self {
        Tls { roots, config: OnceCell::new() }
    }

    pub(crate) async fn connect(&self, host: &Host, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.config.get_or_try_init(|| config(self.roots.clone())).await?.clone();
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| io::Error::other("no certificate can be for this name"))?,
            Host::Address(address) => ServerName::from(*address),
        };
        TlsConnector::from(config).connect(name, stream).await
    }
}

async fn config(roots: Vec<CertificateDer<'static>>) -> io::Result<Arc<ClientConfig>> {
    let make = move || {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions()?;
        let builder = if roots.is_empty() {
            builder.with_platform_verifier()?
        } else {
            let mut store = RootCertStore::empty();
            roots.into_iter().try_for_each(|root| store.add(root))?;
            builder.with_root_certificates(store)
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    };
    let made = tokio::task::spawn_blocking(make).await.map_err(io::Error::other)?;
    made.map_err(|e: tokio_rustls::rustls::Error| io::Error::other(e))
}
