//! Sockets: opened with `SO_REUSEPORT`, one a worker, so that the kernel spreads the clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::model::id::Name;
use crate::model::listener::ListenAddress;

use super::connection;
use super::worker::Worker;

/// Clients that wait for `accept`; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// `:443` is dual stack, or IPv4 alone where the host has no IPv6. The error says what to do.
pub fn bind(address: ListenAddress) -> Result<TcpListener, String> {
    let at = |ip: IpAddr| SocketAddr::new(ip, address.port);
    let opened = match address.ip {
        Some(ip) => open(at(ip)),
        None => open(at(Ipv6Addr::UNSPECIFIED.into())).or_else(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::AddrInUse => Err(error),
            _ => open(at(Ipv4Addr::UNSPECIFIED.into())),
        }),
    };
    opened.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need root, CAP_NET_BIND_SERVICE or the sysctl net.ipv4.ip_unprivileged_port_start"
            }
            std::io::ErrorKind::AddrInUse => "another program listens there; stop it or choose another address",
            std::io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            _ => "see the error",
        };
        format!("cannot listen on {address}: {error}; {hint}")
    })
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until `drain`. Whoever is waiting in the socket's queue then is still taken in.
pub async fn run(worker: Rc<Worker>, name: Name, listener: TcpListener, drain: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = drain.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                tokio::task::spawn_local(connection::serve(worker.clone(), name.clone(), stream, peer, drain.clone()));
            }
            // The client was gone before it was let in: nobody is left to serve.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Out of descriptors or memory: asking again at once would only spin.
                tracing::warn!(listener = %name, %error, "cannot accept; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
