//! The one HTTP client of a program: streaming, checked where it goes, over one TLS stack.
//!
//! A plugin asks its context for a request; the host says which hosts that plugin may reach ([`HttpAllowed`]); this client makes
//! the request. It knows no plugin.
//!
//! ```
//! use std::sync::Arc;
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let client = bespoke_http::Client::new();
//! let host = bespoke_host::Host::builder().http(Arc::new(client)).plugins(bespoke_plugin_api::compiled_in()).build()?;
//! # drop(host);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where a request may go
//!
//! The URL is read as browsers read it, so that `0x7f.1`, `①27.0.0.1` and `2130706433` are the address that they mean. Its host must be
//! in the plugin's list: a name by an entry that names it, an address by one that names or holds it. A name that is not listed is not
//! looked up, as a lookup tells it to others. Then the name is looked up, and **every** address is held against what the list grants:
//!
//! | Address | An entry opens it when |
//! |---|---|
//! | public | it names the host |
//! | loopback, private (RFC 1918, ULA), carrier's (100.64/10), IPv6 link-local | it names the host, and is for private addresses |
//! | IPv4 link-local, documentation, benchmarks, reserved, tunnels | it holds the address or a range, and is for private addresses |
//! | a cloud's metadata service | it is that address, and is for private addresses |
//! | unspecified, multicast, broadcast | never |
//!
//! An IPv4 address inside an IPv6 address (mapped, NAT64, 6to4) counts as that IPv4 address. One address that is refused refuses
//! the name. An entry that is an address or a range holds for listed names that lead there, too; it lists no name by itself.
//!
//! **Invariant:** the socket is connected to the very address that was checked. The name is not looked up again, and connections
//! are kept only for requests under an equal list.
//!
//! # What it does not do
//!
//! * Redirects are not followed: the plugin makes another request, which is checked as the first one was.
//! * No cookies, no cache, no decompression: a body is as long as it is on the wire, so its reader's limit holds.
//! * No proxy: the variables `HTTPS_PROXY` and `HTTP_PROXY` are not read. A proxy looks names up by itself, after any check here.
//! * No HTTP/2. The servers that plugins talk to speak HTTP/1.1, and one request at a time needs no more.
//!
//! # Limits
//!
//! Lookup, connection and TLS together take 10 s, the head of the answer 60 s unless the request says otherwise. A head has at
//! most 64 KiB and 128 headers. How long a body may take, and how long it may be, is for its reader to say: it is read as fast as
//! it is asked for, in pieces of at most 64 KiB, and dropping it closes the connection.
//!
//! # What has not left
//!
//! The error of a request for which there was no connection has `{"may_have_arrived": false}` in its data: it may be made again,
//! whatever it does there. Of any other failure nobody knows how far the request got. It is never sent twice from here.
//!
//! # Why hyper
//!
//! What a full client adds on top of it (redirects, cookies, proxies, decompression) is what must not happen here, and its hook
//! for name lookup sees neither the port nor the addresses that URLs spell out. Under hyper's pool lies one connector of ours, which
//! looks up, checks, connects and encrypts in one function. The crypto is that of the fetcher, ring; the roots are the machine's.

mod address;
mod body;
mod client;
mod connect;
mod network;
mod policy;
mod target;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;

pub use bespoke_host::HttpAllowed;
pub use client::{Client, ClientBuilder};
pub use network::{Network, System};
