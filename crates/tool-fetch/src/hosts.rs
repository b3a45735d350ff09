//! The form of the entries of `allow` and `allow_private`, so that a mistake is told when the configuration is read. What they open
//! is for the host's client to say, which reads them again at each request.

use std::net::IpAddr;

use bespoke_plugin_api::serde::{Deserialize, Deserializer, de::Error};
use url::Url;

/// Reads a list whose entries all have the form of one.
///
/// # Errors
/// Says which entry, counted from 1; not repeated, as a URL can hold a password.
pub(crate) fn entries<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<String>, D::Error> {
    let list = Vec::<String>::deserialize(list)?;
    match list.iter().position(|entry| !is_entry(entry)) {
        None => Ok(list),
        Some(at) => Err(D::Error::custom(format_args!(
            "entry {} is no host, URL or range of addresses; write a host such as example.com, *.example.com, 10.0.0.5:8080 or [::1], \
             a URL, or a range such as 10.0.0.0/8",
            at + 1
        ))),
    }
}

/// Whether a text is a URL, a range, an address or a name, the last three with a port or without.
fn is_entry(text: &str) -> bool {
    let text = text.trim();
    if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return false;
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let web = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        return web
            && !authority.is_empty()
            && !authority.contains('@')
            && Url::parse(text).is_ok_and(|url| url.host().is_some_and(is_host) && url.port() != Some(0));
    }
    if is_range(text) || text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let (host, port) = match text.rfind(':').filter(|at| !text[*at..].contains(']')) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    if !port.is_none_or(is_port) {
        return false;
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    is_range(bare.unwrap_or(host))
        || url::Host::parse(host).is_ok_and(|host| match &host {
            url::Host::Domain(name) => is_host(url::Host::Domain(name)),
            _ => true,
        })
}

/// An address, a slash, and how many of its bits count.
fn is_range(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn is_port(text: &str) -> bool {
    text == "*" || text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A name is `*`, begins with `*.`, or has no star.
fn is_host(host: url::Host<&str>) -> bool {
    let url::Host::Domain(name) = host else { return true };
    let bare = name.strip_suffix('.').unwrap_or(name);
    match bare.strip_prefix('*') {
        // Without its dot, `*.` would be `*`.
        Some(_) if name.ends_with('.') => false,
        Some(below) => below.is_empty() || below.len() > 1 && below.starts_with('.') && !below.contains('*'),
        None => !bare.is_empty() && !bare.contains('*'),
    }
}
