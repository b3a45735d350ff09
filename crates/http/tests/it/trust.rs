//! TLS: whom the client trusts.

use std::{sync::Arc, time::Duration};

use bespoke_host::{HttpAllowed, HttpClient};
use bespoke_http::{
    Client,
    testing::{Names, Server},
};
use bespoke_plugin_api::HttpRequest;
use expect_test::expect;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer},
};

use crate::kit::{told, within};

/// A server with a certificate for `tls.test` that nobody signed, and the certificate.
async fn server() -> (Server, Vec<u8>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["tls.test".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::start(move |peer, _| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(peer.into_stream()).await?;
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret").await?;
            stream.shutdown().await
        }
    })
    .await;
    (server, cert.der().to_vec())
}

#[tokio::test]
async fn a_certificate_is_trusted_for_its_name_when_its_root_is() {
    let (server, root) = server().await;
    let plain = Server::start(|mut peer, _| async move { peer.send("HTTP/1.1 400 Bad Request\r\n\r\n").await }).await;
    let network = Names::new().public("tls.test", server.address()).public("other.test", server.address());
    let network = network.name("plain.test", &["93.184.216.35"]).route("93.184.216.35:443", plain.address());
    let trusting = Client::builder().network(network.clone()).roots([root]).build();
    let machine = Client::builder().network(network).build();
    let get = async |client: &Client, url: &str| {
        let allowed = HttpAllowed::new("test").host("*");
        let request = HttpRequest::new("GET", url).timeout(Duration::from_secs(10));
        match within(client.send(allowed, request)).await {
            Ok(mut reply) => format!("{:?}\n", within(reply.read(6)).await.unwrap()),
            Err(error) => told(&error),
        }
    };
    let mut said = get(&trusting, "https://tls.test/").await;
    said += &get(&trusting, "https://other.test/").await;
    said += &get(&trusting, "https://93.184.216.34/").await;
    said += &get(&trusting, "https://plain.test/").await;
    expect![[r#"
        b"secret"
        NETWORK_FAILED other.test could not be reached: its TLS is not to be trusted: invalid peer certificate: certificate not valid for name "other.test"; certificate is only valid for DnsName("tls.test")
            help: openssl s_client -connect other.test:443
        NETWORK_FAILED 93.184.216.34 could not be reached: its TLS is not to be trusted: invalid peer certificate: certificate not valid for name "93.184.216.34"; certificate is only valid for DnsName("tls.test")
            help: openssl s_client -connect 93.184.216.34:443
        NETWORK_FAILED plain.test could not be reached: its TLS is not to be trusted: received corrupt message of type InvalidContentType
            help: openssl s_client -connect plain.test:443
    "#]].assert_eq(&said);
    let said = get(&machine, "https://tls.test/").await;
    assert!(said.starts_with("NETWORK_FAILED tls.test could not be reached: "), "{said}");
    assert_eq!(server.accepted(), 4);
}
