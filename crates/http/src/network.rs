//! Names and sockets: the two things of the machine that the client needs, so that tests can say where a name leads.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use bespoke_plugin_api::BoxFuture;
use tokio::net::TcpStream;

/// Looks names up, and connects to what was found and checked. Both are called inside the client's runtime.
pub trait Network: Send + Sync + 'static {
    /// The addresses of a name, best first.
    fn look_up(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;

    /// A connection to an address.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>>;
}

/// The machine's own resolver and sockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Network for System {
    fn look_up(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let name = name.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect()) })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(address))
    }
}
