//! A listener: an address on which clients are served.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::diagnostic::Origin;
use super::id::{Name, ObjectId};
use super::units::Span;

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
    pub timeouts: ListenerTimeouts,
}

/// `:443` is every address, dual stack where the host has IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ListenAddress {
    /// `None` = every address of the host.
    pub ip: Option<std::net::IpAddr>,
    pub port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Redirect {
    Https,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerTimeouts {
    /// From the first byte of a connection, or the end of the last request, to the end of the next head.
    pub header: Span,
    /// From the TCP connection to the end of the TLS handshake.
    pub handshake: Span,
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        ListenerTimeouts { header: Span::seconds(60), handshake: Span::seconds(10) }
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ip {
            Some(ip) => std::net::SocketAddr::new(ip, self.port).fmt(f),
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
        let address: std::net::SocketAddr = raw.parse().map_err(|_| wrong())?;
        Ok(ListenAddress { ip: Some(address.ip()), port: address.port() })
    }
}
