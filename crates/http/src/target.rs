//! Where a request goes: the URL, read as browsers read it, and every odd form of it refused or made plain.

use std::{fmt, net::IpAddr};

use bespoke_plugin_api::{Error, Result};
use hyper::Uri;
use url::{Position, Url};

/// Longer URLs are refused by many servers anyway, in bytes.
const LONGEST_URL: usize = 16 << 10;

/// A name or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// In lower case, IDNA applied, without the dot at the end.
    Name(String),
    /// However it was spelled.
    Address(IpAddr),
}

impl Host {
    /// `None` when nothing is left of it.
    pub(crate) fn of(host: url::Host<&str>) -> Option<Self> {
        Some(match host {
            url::Host::Domain(name) => Host::Name(Some(name.strip_suffix('.').unwrap_or(name)).filter(|name| !name.is_empty())?.to_owned()),
            url::Host::Ipv4(v4) => Host::Address(v4.into()),
            // The mapped form is one more spelling of an IPv4 address.
            url::Host::Ipv6(v6) => Host::Address(IpAddr::V6(v6).to_canonical()),
        })
    }
}

impl fmt::Display for Host {
    /// As it stands in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(v4)) => write!(f, "{v4}"),
            Host::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
        }
    }
}

/// The part of a URL that says where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl Target {
    /// Reads a URL; also the one that is sent, made of its parts.
    ///
    /// Errors repeat nothing of the URL: a path or a query can be a key.
    pub(crate) fn parse(url: &str) -> Result<(Self, Uri)> {
        let wrong = |what: &str| Error::invalid_params(format!("the URL of the request {what}"));
        if url.len() > LONGEST_URL {
            return Err(wrong(&format!("has {} bytes; at most {LONGEST_URL} are sent", url.len())));
        }
        // Browsers drop some of these without a word, and a check elsewhere may not.
        if url.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(wrong("holds a space, a control character or a backslash; percent-encode it"));
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("is not absolute; begin with https://"))?;
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(wrong("has a scheme other than http and https"));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(wrong("holds a user name; send it in the header `authorization`"));
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err(wrong("names no host"));
        }
        let url = Url::parse(url).map_err(|e| wrong(&format!("cannot be read: {e}")))?;
        let host = url.host().and_then(Host::of).ok_or_else(|| wrong("names no host"))?;
        let port = url.port_or_known_default().unwrap_or_default();
        if port == 0 {
            return Err(wrong("names port 0, which no server has"));
        }
        let target = Target { tls: url.scheme() == "https", host, port };
        let uri = format!("{}{}", target.origin(), &url[Position::BeforePath..Position::AfterQuery]);
        let uri = uri.parse().map_err(|e| wrong(&format!("cannot be sent: {e}")))?;
        Ok((target, uri))
    }

    /// Of a URI that [`parse`](Self::parse) made.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let tls = uri.scheme_str()? == "https";
        let host = uri.host()?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = bare.parse().map_or_else(|_| Host::Name(bare.to_owned()), Host::Address);
        Some(Target { tls, host, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }) })
    }

    /// Scheme, host, and the port where it is not the scheme's own.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{self}")
    }
}

impl fmt::Display for Target {
    /// Host, and the port where it is not the scheme's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)?;
        if self.port == if self.tls { 443 } else { 80 } { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}
