//! Which hosts and addresses one plugin may reach: the entries of its list, read, and the refusals, in words.
//!
//! **Invariant:** a name that no entry names is not looked up: with a lookup, a plugin could send what it knows.
//!
//! **Invariant:** a host is allowed for an address, never by its name alone. A name that leads to several addresses is refused
//! when one of them is: a public name with a private address beside it is how a check is turned around, and dropping the one
//! would leave the order of a lookup to decide where a request goes.

use std::net::IpAddr;

use bespoke_host::{AllowedHost, HostsKey, HttpAllowed};
use bespoke_plugin_api::{Code, Error, Result};
use ipnet::IpNet;
use url::Url;

use crate::{
    address::Leads,
    target::{Host, Target},
};

/// A list that was read.
pub(crate) struct Policy {
    allowed: HttpAllowed,
    rules: Vec<Rule>,
}

struct Rule {
    hosts: Hosts,
    ports: Ports,
    private: bool,
}

enum Hosts {
    Any,
    /// Those below a name; with the dot in front.
    Below(String),
    Name(String),
    Address(IpAddr),
    Range(IpNet),
}

#[derive(Clone, Copy)]
enum Ports {
    /// 80 and 443.
    Web,
    One(u16),
    Any,
}

impl Policy {
    /// Reads a list.
    ///
    /// # Errors
    /// `INVALID_PARAMS` for an entry that is no host, with the key that holds it.
    pub(crate) fn new(allowed: HttpAllowed) -> Result<Self> {
        let rules = allowed.hosts.iter().map(|entry| Rule::parse(entry, &allowed.plugin)).collect::<Result<_>>()?;
        Ok(Policy { allowed, rules })
    }

    /// Whether a host may be looked up: a lookup tells a name to others, so the name must be listed. What entries for addresses and
    /// ranges open, they open of names that are listed.
    pub(crate) fn check(&self, target: &Target) -> Result<()> {
        let name = match &target.host {
            Host::Name(name) => name,
            Host::Address(address) => return self.check_address(target, *address),
        };
        if self.rules.iter().any(|rule| rule.ports.covers(target.port) && rule.names(name)) {
            return Ok(());
        }
        Err(self.not_listed(target, self.rules.iter().any(|rule| rule.names(name)), false))
    }

    /// Whether all addresses of a host may be connected to.
    pub(crate) fn check_addresses(&self, target: &Target, addresses: &[IpAddr]) -> Result<()> {
        addresses.iter().try_for_each(|address| self.check_address(target, address.to_canonical()))
    }

    fn check_address(&self, target: &Target, address: IpAddr) -> Result<()> {
        let leads = Leads::of(address);
        let mut listed = false;
        for rule in self.rules.iter().filter(|rule| rule.ports.covers(target.port)) {
            let Some(by) = rule.covers(&target.host, address) else { continue };
            listed = true;
            let open = match leads {
                Leads::Public => true,
                Leads::Private(_) => rule.private,
                Leads::Odd(_) => rule.private && by != By::Name,
                Leads::Metadata => rule.private && by == By::Address,
                Leads::Nowhere(_) => false,
            };
            if open {
                return Ok(());
            }
        }
        let other_port = || self.rules.iter().any(|rule| rule.covers(&target.host, address).is_some());
        Err(match leads {
            Leads::Nowhere(what) => self.refused(target, address, what),
            // Without the command that would open it: whoever wants this address knows why, and nobody else should be led there.
            Leads::Metadata => self.refused(target, address, "where a cloud machine gets its credentials"),
            _ if !listed => self.not_listed(target, other_port(), leads != Leads::Public),
            Leads::Public => Error::internal("a public address that is listed was refused"),
            Leads::Private(what) => self.not_public(target, address, what, false),
            Leads::Odd(what) => self.not_public(target, address, what, true),
        })
    }

    /// The error of a host that no entry names, or only for another port; `private` when it is at a private address.
    fn not_listed(&self, target: &Target, other_port: bool, private: bool) -> Error {
        let mut places: Vec<&str> = self.allowed.keys.iter().map(|key| key.key.as_str()).collect();
        if places.is_empty() {
            places.push("plugin.toml");
        }
        let verb = if places.len() == 1 { "does" } else { "do" };
        let what = if other_port { format!("it for port {}", target.port) } else { "it".to_owned() };
        let message =
            format!("plugin `{}` may not send requests to {target}: {} {verb} not list {what}", self.allowed.plugin, places.join(" and "));
        // The key that opens enough, and no more, goes first.
        let key = self.allowed.keys.iter().find(|key| key.private == private).or(self.allowed.keys.first());
        let entry = entry(&target.host, target.port);
        let error = Error::new(Code::PERMISSION_DENIED, message);
        match key {
            Some(key) => opened_by(error, key, target, &entry),
            None => error.with_help(format!("add \"{entry}\" to network_access under [permissions] in plugin.toml")),
        }
    }

    /// The error of an address that only an entry for private addresses opens; `itself` when that must name the address.
    fn not_public(&self, target: &Target, address: IpAddr, what: &str, itself: bool) -> Error {
        let host = if itself { Host::Address(address) } else { target.host.clone() };
        let entry = entry(&host, target.port);
        let error = self.refused(target, address, what);
        match self.allowed.keys.iter().find(|key| key.private) {
            Some(key) => opened_by(error, key, &Target { host, ..target.clone() }, &entry),
            None => error
                .with_help(format!("add {{ host = \"{entry}\", private = true }} to network_access under [permissions] in plugin.toml")),
        }
    }

    fn refused(&self, target: &Target, address: IpAddr, what: &str) -> Error {
        let why = match &target.host {
            Host::Address(_) => format!("it is {what}"),
            Host::Name(_) => format!("it leads to {address}, {what}"),
        };
        Error::new(Code::PERMISSION_DENIED, format!("plugin `{}` may not send requests to {target}: {why}", self.allowed.plugin))
    }
}

/// What of a rule covers an address.
#[derive(PartialEq, Eq)]
enum By {
    Name,
    Range,
    Address,
}

impl Rule {
    fn parse(entry: &AllowedHost, plugin: &str) -> Result<Self> {
        let (hosts, ports) = pattern(entry.pattern.trim()).ok_or_else(|| {
            // Not repeated: a URL can hold a password.
            let message =
                format!("{}: an entry is no host, URL or range of addresses that plugin `{plugin}` could be allowed", entry.source);
            Error::invalid_params(message)
                .with_help("write a host such as example.com, *.example.com, 10.0.0.5:8080 or [::1], a URL, or a range such as 10.0.0.0/8")
        })?;
        Ok(Rule { hosts, ports, private: entry.private })
    }

    fn names(&self, name: &str) -> bool {
        match &self.hosts {
            Hosts::Any => true,
            Hosts::Below(above) => name.len() > above.len() && name.ends_with(above),
            Hosts::Name(listed) => listed == name,
            Hosts::Address(_) | Hosts::Range(_) => false,
        }
    }

    fn covers(&self, host: &Host, address: IpAddr) -> Option<By> {
        match &self.hosts {
            Hosts::Address(listed) => (*listed == address).then_some(By::Address),
            Hosts::Range(range) => range.contains(&address).then_some(By::Range),
            Hosts::Any => Some(By::Name),
            Hosts::Below(_) | Hosts::Name(_) => matches!(host, Host::Name(name) if self.names(name)).then_some(By::Name),
        }
    }
}

impl Ports {
    fn covers(self, port: u16) -> bool {
        match self {
            Ports::Web => port == 80 || port == 443,
            Ports::One(one) => one == port,
            Ports::Any => true,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => Some(Ports::Any),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok().filter(|port| *port > 0).map(Ports::One),
            _ => None,
        }
    }
}

/// Reads an entry: a URL, a range, an address or a name, the last three with a port.
fn pattern(text: &str) -> Option<(Hosts, Ports)> {
    if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return None;
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let url = Url::parse(text).ok().filter(|_| web && !authority.is_empty() && !authority.contains('@'))?;
        return Some((named(url.host()?)?, url.port_or_known_default().filter(|port| *port > 0).map(Ports::One)?));
    }
    if let Ok(range) = text.parse::<IpNet>() {
        return Some((Hosts::Range(range), Ports::Web));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((Hosts::Address(address.to_canonical()), Ports::Web));
    }
    let (host, ports) = match text.rfind(':').filter(|at| !text[*at..].contains(']')) {
        Some(at) => (&text[..at], Ports::parse(&text[at + 1..])?),
        None => (text, Ports::Web),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Ok(range) = bare.unwrap_or(host).parse::<IpNet>() {
        return Some((Hosts::Range(range), ports));
    }
    let parsed = url::Host::parse(host).ok()?;
    let borrowed = match &parsed {
        url::Host::Domain(name) => url::Host::Domain(name.as_str()),
        url::Host::Ipv4(v4) => url::Host::Ipv4(*v4),
        url::Host::Ipv6(v6) => url::Host::Ipv6(*v6),
    };
    Some((named(borrowed)?, ports))
}

fn named(host: url::Host<&str>) -> Option<Hosts> {
    if matches!(host, url::Host::Domain(name) if name.ends_with('.') && name.contains('*')) {
        // Without its dot, `*.` would be `*`.
        return None;
    }
    Some(match Host::of(host)? {
        Host::Address(address) => Hosts::Address(address),
        Host::Name(name) if name == "*" => Hosts::Any,
        Host::Name(name) => match name.strip_prefix('*') {
            Some(below) if below.starts_with('.') && !below.contains('*') && below.len() > 1 => Hosts::Below(below.to_owned()),
            Some(_) => return None,
            None if name.contains('*') => return None,
            None => Hosts::Name(name),
        },
    })
}

/// The entry that would allow a host.
fn entry(host: &Host, port: u16) -> String {
    if port == 80 || port == 443 { host.to_string() } else { format!("{host}:{port}") }
}

/// An error with the command for the person at the machine, and, as data, what of it may be told to anybody: the entry that is
/// missing and its key, without the rest of the list.
fn opened_by(error: Error, key: &HostsKey, target: &Target, entry: &str) -> Error {
    let host = if key.written.is_some() { entry.to_owned() } else { target.origin() };
    error.with_help(set(key, target, entry)).with_data(serde_json::json!({ "host": host, "key": key.key }))
}

/// The command that adds an entry to a key.
fn set(key: &HostsKey, target: &Target, entry: &str) -> String {
    let value = match &key.written {
        // What holds a password is not repeated.
        Some(list) if list.iter().any(|item| item.contains(['@', '\''])) => {
            return format!("add \"{entry}\" to {} in bespoke.toml", key.key);
        }
        Some(list) => serde_json::json!(list.iter().map(String::as_str).chain([entry]).collect::<Vec<_>>()).to_string(),
        None => target.origin(),
    };
    format!("bespoke config set {} '{value}'", key.key)
}
