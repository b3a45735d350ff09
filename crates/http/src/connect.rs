//! The connector under the pool: looks a host up, holds its addresses against the policy, connects to one of them.

use std::{
    error, fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bespoke_plugin_api::{BoxFuture, Code, Error, Result, serde_json::json};
use hyper::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use crate::{
    network::Network,
    policy::Policy,
    target::{Host, Target},
    tls::Tls,
};

/// Variables of the environment that somebody may expect to be read.
const PROXIES: &[&str] = &["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Makes the connections of one policy.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) policy: Arc<Policy>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) limit: Duration,
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<TokioIo<Stream>> {
        let target = Target::of(&uri).ok_or_else(|| Error::internal("a connection without a host"))?;
        let limit = self.limit;
        let late = || {
            let message = format!("{target} could not be reached within {} s", limit.as_secs_f32());
            Error::new(Code::EXECUTION_TIMEOUT, message).retryable()
        };
        match timeout(limit, self.connect_to(&target)).await {
            Ok(done) => done.map(TokioIo::new),
            Err(_) => Err(late()),
        }
        // Nothing of a request goes before there is a connection: whoever made it may make it again.
        .map_err(|error| {
            let mut data = error.data().cloned().unwrap_or_else(|| json!({}));
            // A refusal names its host there, and the key that would allow it.
            if let Some(data) = data.as_object_mut() {
                data.insert("may_have_arrived".into(), false.into());
            }
            error.with_data(data)
        })
    }

    async fn connect_to(&self, target: &Target) -> Result<Stream> {
        let failed = |what: &str, error: &io::Error| {
            let error = Error::new(Code::NETWORK_FAILED, format!("{target} could not be reached: {what}{error}")).retryable();
            match PROXIES.iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
                Some(name) => {
                    error.with_help(format!("connect this machine directly: requests of plugins use no proxy, and {name} is not read"))
                }
                None => error,
            }
        };
        let addresses = match &target.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.network.look_up(name).await.map_err(|e| failed("its name is not known: ", &e))?,
        };
        // Checked here, and connected to right below: nothing in between can change where the name leads.
        self.policy.check_addresses(target, &addresses)?;
        let stream = self.first(&addresses, target.port).await.map_err(|e| failed("", &e))?;
        if !target.tls {
            return Ok(Stream::Plain(stream));
        }
        let encrypted = self.tls.connect(&target.host, stream).await;
        encrypted.map(|stream| Stream::Tls(Box::new(stream))).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => {
                let message = format!("{target} could not be reached: its TLS is not to be trusted: {e}");
                Error::new(Code::NETWORK_FAILED, message).with_help(format!("openssl s_client -connect {}:{}", target.host, target.port))
            }
            _ => failed("TLS: ", &e),
        })
    }

    /// A connection to the first address that takes one. Each gets an equal share of the time, so that one that is silent
    /// does not use it up.
    async fn first(&self, addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
        let share = self.limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "its name leads nowhere");
        for address in addresses {
            match timeout(share, self.network.connect(SocketAddr::new(*address, port))).await {
                Ok(Ok(stream)) => {
                    // Small requests should not wait for more to come. Where that cannot be set, they do.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "nobody answers there"),
            }
        }
        Err(last)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Refused;
    type Future = BoxFuture<'static, Result<Self::Response, Refused>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connect = self.clone().connect(uri);
        Box::pin(async move { connect.await.map_err(Refused) })
    }
}

/// An error that travels through hyper, and is taken out of its chain of sources again.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Error);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.message())
    }
}

impl error::Error for Refused {}

/// A connection, encrypted or not.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
