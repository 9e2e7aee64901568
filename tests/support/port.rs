//! Port numbers that nothing listens on yet.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

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
