//! Sets of client addresses, as CIDR blocks.
//!
//! Blocks are either nested or apart, so unions and intersections of sets are sets of the very same blocks. A set holds
//! no block that another of its own contains: two spellings of one set are equal.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// A CIDR block or one address. Host bits are cleared, and an IPv4 address in IPv6 clothes is an IPv4 address: that is
/// how the peers of a dual-stack socket are compared.
pub fn parse(raw: &str) -> Result<IpNet, String> {
    let text = raw.trim();
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().map_err(|_| {
            format!("\"{raw}\" is neither an address nor a CIDR block; write it like 10.0.0.0/8, 192.0.2.7 or fd00::/8")
        })?,
    };
    Ok(unmapped(net).trunc())
}

fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let inner = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    inner.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(net, IpNet::V4)
}

pub fn union(a: &BTreeSet<IpNet>, b: &BTreeSet<IpNet>) -> BTreeSet<IpNet> {
    outermost(a.union(b).copied().collect())
}

pub fn intersection(a: &BTreeSet<IpNet>, b: &BTreeSet<IpNet>) -> BTreeSet<IpNet> {
    let inside = |outer: &BTreeSet<IpNet>, net: &IpNet| outer.iter().any(|other| other.contains(net));
    a.iter().filter(|net| inside(b, net)).chain(b.iter().filter(|net| inside(a, net))).copied().collect()
}

/// Without the blocks that another one contains.
pub fn outermost(nets: BTreeSet<IpNet>) -> BTreeSet<IpNet> {
    let mut kept: Vec<IpNet> = Vec::new();
    // A block sorts before those inside it, so only the last one kept can contain the next.
    for net in nets {
        if !kept.last().is_some_and(|last| last.contains(&net)) {
            kept.push(net);
        }
    }
    kept.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nets: &[&str]) -> BTreeSet<IpNet> {
        nets.iter().map(|net| parse(net).expect("valid")).collect()
    }

    #[test]
    fn an_address_is_a_block_of_one_and_host_bits_are_cleared() {
        for (raw, net) in [
            ("192.0.2.7", "192.0.2.7/32"),
            (" 10.1.2.3/8 ", "10.0.0.0/8"),
            ("fd00::1/8", "fd00::/8"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse(raw).map(|net| net.to_string()).as_deref(), Ok(net), "{raw}");
        }
        for raw in ["", "10.0.0", "10.0.0.0/33", "shop.example", "10.0.0.1:80"] {
            assert!(parse(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn an_intersection_is_what_both_hold() {
        let a = set(&["10.0.0.0/8", "192.0.2.7", "fd00::/8"]);
        let b = set(&["10.1.0.0/16", "10.2.0.0/16", "192.0.2.0/24", "2001:db8::/32"]);
        let both = set(&["10.1.0.0/16", "10.2.0.0/16", "192.0.2.7"]);
        assert_eq!(intersection(&a, &b), both);
        assert_eq!(intersection(&b, &a), both);
        assert_eq!(intersection(&a, &set(&["172.16.0.0/12"])), set(&[]));
    }

    #[test]
    fn a_union_holds_no_block_twice() {
        let union = union(&set(&["10.0.0.0/8", "10.0.0.0/16"]), &set(&["10.255.0.1", "9.0.0.1", "11.0.0.0/8"]));
        assert_eq!(union, set(&["9.0.0.1", "10.0.0.0/8", "11.0.0.0/8"]));
    }
}
