//! What kind of address this is. Which kinds may be reached is the policy's to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address leads to, by the registries of special-purpose addresses (RFC 6890 and its updates), with the words for
/// people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leads {
    /// To the internet.
    Public,
    /// To this machine or its own network.
    Private(&'static str),
    /// Nowhere that a name should lead to: only a listed address or range opens it.
    Odd(&'static str),
    /// To the service that hands out a cloud machine's credentials: only the very address, listed, opens it.
    Metadata,
    /// To no server at all.
    Nowhere(&'static str),
}

/// Where clouds answer with metadata and credentials: EC2 and most others, ECS, EKS, Azure's wire server, Alibaba, Oracle.
const METADATA_V4: &[Ipv4Addr] = &[
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];

/// The same over IPv6: EC2, EKS, Google.
const METADATA_V6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

impl Leads {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6),
        }
    }
}

fn of_v4(v4: Ipv4Addr) -> Leads {
    if METADATA_V4.contains(&v4) {
        return Leads::Metadata;
    }
    match v4.octets() {
        [0, ..] => Leads::Nowhere("an unspecified address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Leads::Private("a private address"),
        [100, 64..=127, ..] => Leads::Private("a shared address of a carrier's network"),
        [127, ..] => Leads::Private("a loopback address"),
        [169, 254, ..] => Leads::Odd("a link-local address"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Leads::Odd("an address for documentation"),
        [192, 0, 0, _] | [192, 88, 99, _] => Leads::Odd("an address for protocols"),
        [198, 18..=19, ..] => Leads::Odd("an address for benchmarks"),
        [224..=239, ..] => Leads::Nowhere("a multicast address"),
        [255, 255, 255, 255] => Leads::Nowhere("the broadcast address"),
        [240..=255, ..] => Leads::Odd("a reserved address"),
        _ => Leads::Public,
    }
}

fn of_v6(v6: Ipv6Addr) -> Leads {
    if METADATA_V6.contains(&v6) {
        return Leads::Metadata;
    }
    let embedded = |high: u16, low: u16| of_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Leads::Nowhere("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Leads::Private("a loopback address"),
        // Mapped; the deprecated compatible and translated forms; NAT64; 6to4: they lead where the IPv4 address inside does.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded(high, low),
        // Teredo hides the client's address, inverted, in the last bits, and its server's before.
        [0x2001, 0, ..] => Leads::Odd("a tunnelled address"),
        [0x64, 0xff9b, 1, ..] => Leads::Odd("a translated address"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Leads::Odd("an address for documentation"),
        [0x2001, 2, 0, ..] => Leads::Odd("an address for benchmarks"),
        [0x2001, 0..=0x1ff, ..] => Leads::Odd("an address for protocols"),
        [0xfc00..=0xfdff, ..] => Leads::Private("a private address"),
        // Names of a home network have such addresses beside their others. No cloud serves metadata there.
        [0xfe80..=0xfebf, ..] => Leads::Private("a link-local address"),
        [0xfec0..=0xfeff, ..] => Leads::Private("a private address"),
        [0xff00..=0xffff, ..] => Leads::Nowhere("a multicast address"),
        // All that was ever given out for the internet.
        [0x2000..=0x3fff, ..] => Leads::Public,
        _ => Leads::Odd("a reserved address"),
    }
}
