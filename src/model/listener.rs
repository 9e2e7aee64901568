//! A listener: an address on which clients are served.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::diagnostic::Origin;
use super::id::{Name, ObjectId};
use super::units::{Size, Span};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub id: ObjectId,
    pub name: Name,
    pub origin: Origin,
    pub address: ListenAddress,
    pub tls: bool,
    /// The listener whose scheme requests are sent to instead (308).
    pub redirect: Option<Redirect>,
    /// The port that clients see, where it differs from the address's.
    pub public_port: Option<u16>,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    pub underscore_headers: UnderscoreHeaders,
    pub limits: ListenerLimits,
    pub timeouts: ListenerTimeouts,
}

#[cfg(test)]
impl Listener {
    /// One of the operator's where nothing further is said: on 443 with TLS, else on 80.
    pub fn for_tests(name: &str, tls: bool) -> Listener {
        use super::id::{Kind, Provider, Source};
        let port = if tls { ":443" } else { ":80" };
        Listener {
            id: ObjectId::new(&Source::new(Provider::Settings, None), Kind::Listener, name),
            name: Name::normalised(name),
            origin: Origin::Default,
            address: port.parse().expect("an address"),
            tls,
            redirect: None,
            public_port: None,
            trusted_proxies: Vec::new(),
            underscore_headers: UnderscoreHeaders::default(),
            limits: ListenerLimits::default(),
            timeouts: ListenerTimeouts::default(),
        }
    }
}

/// What becomes of a request's header whose name has an underscore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnderscoreHeaders {
    /// The request goes on without it.
    #[default]
    Drop,
    Pass,
    /// The request is answered 400.
    Refuse,
}

/// `:443` is every address, dual stack where the host has IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ListenAddress {
    /// `None` = every address of the host.
    pub ip: Option<IpAddr>,
    pub port: u16,
}

impl ListenAddress {
    pub const fn everywhere(port: u16) -> ListenAddress {
        ListenAddress { ip: None, port }
    }

    /// Whether one connection could be meant for either. Port 0 is a port of its own each time.
    pub fn overlaps(&self, other: &ListenAddress) -> bool {
        let every = |address: &ListenAddress| address.ip.is_none_or(|ip| ip.is_unspecified());
        self.port == other.port && self.port != 0 && (every(self) || every(other) || self.ip == other.ip)
    }

    /// Where a client on this machine finds it.
    pub fn from_here(&self) -> SocketAddr {
        let ip = match self.ip {
            None => IpAddr::from([127, 0, 0, 1]),
            Some(IpAddr::V4(ip)) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            Some(IpAddr::V6(ip)) if ip.is_unspecified() => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
            Some(ip) => ip,
        };
        SocketAddr::new(ip, self.port)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Redirect {
    Https,
}

/// What one client may take up. `None` is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerLimits {
    /// Of all header fields of a request: names, values and 32 bytes for each, as HTTP/2 counts (RFC 9113 §6.5.2).
    pub header_size: Size,
    /// Header fields of a request.
    pub headers: u32,
    /// Of a request's target, path and query.
    pub uri_size: Size,
    /// Of a request's body.
    pub body: Option<Size>,
    /// Bytes a second of a body that an endpoint waits for, over [`ListenerTimeouts::body`].
    pub body_rate: Option<Size>,
    /// Open at the same time, over all workers. `None`: what the process's open files allow.
    pub connections: Option<u32>,
    /// The same of one client address (of IPv6, of one /64).
    pub client_connections: Option<u32>,
    /// Requests under way on one h2 connection.
    pub streams: u32,
    /// Requests that one h2 connection may give up unanswered, where they are more than half of its requests.
    pub resets: u32,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        ListenerLimits {
            header_size: Size(64 << 10),
            headers: 100,
            uri_size: Size(16 << 10),
            body: None,
            body_rate: Some(Size(256)),
            connections: None,
            client_connections: None,
            streams: 128,
            resets: 200,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerTimeouts {
    /// From a head's first byte, or from the start of a fresh connection, to the head's end.
    pub header: Span,
    /// From the end of the last answer to the first byte of the next request.
    pub idle: Span,
    /// Over which a body's rate is measured: how long a client may fall silent in an upload.
    pub body: Span,
    /// While bytes wait for a client that takes none.
    pub send: Span,
    /// From the TCP connection to the end of the TLS handshake.
    pub handshake: Span,
    /// While no byte passes either way through a WebSocket or another upgraded connection.
    pub tunnel_idle: Span,
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        ListenerTimeouts {
            header: Span::seconds(30),
            idle: Span::seconds(75),
            body: Span::seconds(60),
            send: Span::seconds(60),
            handshake: Span::seconds(10),
            tunnel_idle: Span::seconds(3600),
        }
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ip {
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
            None => write!(f, ":{}", self.port),
        }
    }
}

impl std::str::FromStr for ListenAddress {
    type Err = String;

    fn from_str(raw: &str) -> Result<Self, String> {
        let wrong = || format!("\"{raw}\" is not an address to listen on; write \":443\" or \"127.0.0.1:8443\"");
        if let Some(port) = raw.strip_prefix(':') {
            return Ok(ListenAddress { ip: None, port: port.parse().map_err(|_| wrong())? });
        }
        let address: SocketAddr = raw.parse().map_err(|_| wrong())?;
        Ok(ListenAddress { ip: Some(address.ip()), port: address.port() })
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;

    fn try_from(raw: String) -> Result<Self, String> {
        raw.parse()
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(raw: &str) -> ListenAddress {
        raw.parse().expect(raw)
    }

    #[test]
    fn addresses_read_and_print_alike() {
        for raw in [":443", "127.0.0.1:8443", "[::1]:80"] {
            assert_eq!(address(raw).to_string(), raw);
        }
        for raw in ["443", "localhost:80", ":", ":70000", "::1:80"] {
            assert!(raw.parse::<ListenAddress>().expect_err(raw).contains("write \":443\""), "{raw}");
        }
    }

    #[test]
    fn every_address_overlaps_with_each_of_them() {
        assert!(address(":80").overlaps(&address("127.0.0.1:80")));
        assert!(address("0.0.0.0:80").overlaps(&address("127.0.0.1:80")));
        assert!(!address("127.0.0.2:80").overlaps(&address("127.0.0.1:80")));
        assert!(!address(":80").overlaps(&address(":81")));
        assert!(!address(":0").overlaps(&address(":0")));
    }
}
