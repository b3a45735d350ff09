//! For tests: names that lead where a test says, while every connection ends on loopback; and a server that sends scripted bytes.
//! Part of the crate only with the feature `testing`.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bespoke_plugin_api::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::Network;

/// A network of names and addresses that a test made up. What it does not know is not there; nothing leaves the machine.
#[derive(Clone, Default)]
pub struct Names {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// What each lookup of a name finds; the last one stays.
    names: HashMap<String, VecDeque<Vec<IpAddr>>>,
    routes: HashMap<SocketAddr, SocketAddr>,
    looked_up: Vec<String>,
    connected: Vec<SocketAddr>,
}

impl Names {
    /// An empty network. Addresses on loopback lead where they say.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a name for these addresses. A name that is given again is found so from its next lookup on.
    ///
    /// # Panics
    /// When one is no address.
    #[must_use]
    pub fn name(self, name: &str, addresses: &[&str]) -> Self {
        // As the docs say: a test that cannot be read should stop at once.
        let addresses = addresses.iter().map(|a| a.parse().unwrap_or_else(|_| panic!("{a} is no address"))).collect();
        self.lock().names.entry(name.to_owned()).or_default().push_back(addresses);
        self
    }

    /// With an address and port, such as `93.184.216.34:443`, that leads to a server on loopback.
    ///
    /// # Panics
    /// When it is no address with a port.
    #[must_use]
    pub fn route(self, address: &str, server: SocketAddr) -> Self {
        let from = address.parse().unwrap_or_else(|_| panic!("{address} is no address with a port"));
        self.lock().routes.insert(from, server);
        self
    }

    /// With a public name, at `93.184.216.34`, whose ports 80 and 443 lead to a server on loopback.
    #[must_use]
    pub fn public(self, name: &str, server: SocketAddr) -> Self {
        self.name(name, &["93.184.216.34"]).route("93.184.216.34:80", server).route("93.184.216.34:443", server)
    }

    /// The names that were looked up, in order.
    pub fn looked_up(&self) -> Vec<String> {
        self.lock().looked_up.clone()
    }

    /// The addresses that were connected to, in order, before they were routed.
    pub fn connected(&self) -> Vec<SocketAddr> {
        self.lock().connected.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network for Names {
    fn look_up(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut inner = self.lock();
        inner.looked_up.push(name.to_owned());
        let found = inner.names.get_mut(name).and_then(|queue| if queue.len() > 1 { queue.pop_front() } else { queue.front().cloned() });
        let found = found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name in this test"));
        Box::pin(async move { found })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        let mut inner = self.lock();
        inner.connected.push(address);
        let to = inner.routes.get(&address).copied().or(address.ip().is_loopback().then_some(address));
        Box::pin(async move {
            match to {
                Some(to) => TcpStream::connect(to).await,
                None => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "no route in this test")),
            }
        })
    }
}

/// A server on loopback that runs a script per connection. It ends when it is dropped, with all its connections.
pub struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    /// A server whose connections are handled by `script`, which is told the number of the connection, from 0.
    ///
    /// # Panics
    /// When loopback cannot be listened on.
    pub async fn start<F>(script: impl Fn(Peer, usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap_or_else(|e| panic!("no listener on loopback: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("a listener without an address: {e}"));
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            // Dropped with this task, and ends its connections then.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let n = count.fetch_add(1, Ordering::SeqCst);
                // What breaks a connection is for the client to notice.
                connections.spawn(script(Peer { stream, early: Vec::new() }, n));
            }
        });
        Server { address, accepted, task }
    }

    /// A server that answers every request with these bytes, and then closes.
    pub async fn of(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::start(move |mut peer, _| {
            let answer = answer.clone();
            async move {
                peer.request().await?;
                peer.send(&answer).await
            }
        })
        .await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL with a path that begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many connections there were.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection of a [`Server`].
pub struct Peer {
    stream: TcpStream,
    /// Read, but not asked for yet.
    early: Vec<u8>,
}

impl Peer {
    /// Reads one request: its head, and a body as long as `content-length` says. `UnexpectedEof` when the client closes first.
    ///
    /// # Errors
    /// What broke the connection.
    pub async fn request(&mut self) -> io::Result<String> {
        let mut wanted = None;
        loop {
            if wanted.is_none()
                && let Some(end) = self.early.windows(4).position(|four| four == b"\r\n\r\n")
            {
                let head = String::from_utf8_lossy(&self.early[..end]);
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
                });
                wanted = Some(end + 4 + length.unwrap_or(0));
            }
            if let Some(wanted) = wanted.filter(|wanted| self.early.len() >= *wanted) {
                let request = self.early.drain(..wanted).collect::<Vec<u8>>();
                return Ok(String::from_utf8_lossy(&request).into_owned());
            }
            if self.stream.read_buf(&mut self.early).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// What broke the connection.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Completes when the client has closed the connection.
    pub async fn closed(&mut self) {
        let mut bytes = [0; 1024];
        while self.stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
    }

    /// The connection itself.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}
