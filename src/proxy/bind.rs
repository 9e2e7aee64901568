//! Sockets to listen on, the workers' and everybody else's: the one place that knows what `:443` means.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::model::listener::ListenAddress;

/// Clients that wait for `accept`; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// One socket of several that share an address (`SO_REUSEPORT`), so that the kernel spreads the clients over the
/// workers. The error says what to do.
pub fn bind(address: ListenAddress) -> Result<TcpListener, String> {
    listen(address, true)
}

/// A socket that has its address alone.
pub fn bind_alone(address: ListenAddress) -> Result<TcpListener, String> {
    listen(address, false)
}

/// `:443` is dual stack, or IPv4 alone where the host has no IPv6.
fn listen(address: ListenAddress, shared: bool) -> Result<TcpListener, String> {
    let at = |ip: IpAddr| SocketAddr::new(ip, address.port);
    let opened = match address.ip {
        Some(ip) => open(at(ip), shared),
        None => open(at(Ipv6Addr::UNSPECIFIED.into()), shared).or_else(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::AddrInUse => Err(error),
            _ => open(at(Ipv4Addr::UNSPECIFIED.into()), shared),
        }),
    };
    opened.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need root, the capability NET_BIND_SERVICE or the sysctl \
                 net.ipv4.ip_unprivileged_port_start=0; choose a port from 1024 up where there is none of them"
            }
            std::io::ErrorKind::AddrInUse => "another program listens there; stop it or choose another address",
            std::io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            _ => "see the error",
        };
        format!("cannot listen on {address}: {error}; {hint}")
    })
}

fn open(address: SocketAddr, shared: bool) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_shared_among_workers_and_with_nobody_else() {
        let any: ListenAddress = "127.0.0.1:0".parse().expect("an address");
        let first = bind(any).expect("opened");
        let address: ListenAddress = first.local_addr().expect("bound").to_string().parse().expect("an address");
        bind(address).expect("a second worker");
        let why = bind_alone(address).expect_err("taken");
        assert!(why.contains(&address.to_string()) && why.contains("another program listens there"), "{why}");
        let alone = bind_alone(any).expect("opened");
        let address: ListenAddress = alone.local_addr().expect("bound").to_string().parse().expect("an address");
        assert!(bind(address).is_err() && bind_alone(address).is_err());
    }

    #[tokio::test]
    async fn no_ip_is_every_ip() {
        let listener = bind_alone(ListenAddress::everywhere(0)).expect("opened");
        let port = listener.local_addr().expect("bound").port();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("IPv4");
        if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("IPv6");
        }
    }
}
