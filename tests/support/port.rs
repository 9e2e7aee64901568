//! Port numbers that nothing listens on yet, and one that listens to nobody.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

const FIRST: u16 = 20_000;
/// Below the ephemeral range (32768 and up on Linux): an outgoing connection must not take a port between its choice
/// here and its use by a child.
const SPAN: u16 = 12_000;

/// Each call gives another number, and two processes of the same machine seldom start from the same one.
pub fn free_port() -> u16 {
    static DEALT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(SPAN)) as u16;
    (0..SPAN)
        .map(|_| FIRST + (start + DEALT.fetch_add(1, Ordering::Relaxed) % SPAN) % SPAN)
        .find(|&port| {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
                && TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_ok()
        })
        .expect("no port is free between 20000 and 32000")
}

/// An endpoint that takes no connection: the queue of those that wait for `accept` is full, so that the kernel drops
/// what else comes.
pub struct Deaf {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<TcpStream>,
}

impl Deaf {
    pub fn new() -> Deaf {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            waiting.push(stream);
        }
        Deaf { address, _listener: listener, _waiting: waiting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
