//! Clients are let in, and nobody who has been is lost when the socket closes.
//!
//! ```text
//! accept ─▶ connection                 closing: no more beginnings ─▶ let in who is in the middle of one ─▶ close
//! ```

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::connection;
use super::sockets::Serving;
use super::worker::Worker;

/// For clients that are in the middle of the TCP handshake: a round trip, with room to spare.
const HANDSHAKES: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(10);

/// Accepts until `closing`. Whoever has, or is about to have, a connection by then is still taken in.
pub async fn run(worker: Rc<Worker>, listener: TcpListener, serving: Rc<RefCell<Serving>>, closing: CancellationToken) {
    // The worker does not end before the queue is empty.
    let _open = worker.open();
    let serve = |stream: TcpStream, peer: SocketAddr| {
        let Serving { listener, drain } = serving.borrow().clone();
        tokio::task::spawn_local(connection::serve(worker.clone(), listener, stream, peer, drain));
    };
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => serve(stream, peer),
            Err(error) => trouble(&serving, &error).await,
        }
    }
    // The runtime may not have seen yet what the queue holds: from here on the kernel is asked itself.
    let Ok(listener) = listener.into_std() else { return };
    if let Err(error) = refuse_beginnings(&listener) {
        tracing::debug!(%error, "a client may begin a connection that is not let in any more");
    }
    let last = Instant::now() + HANDSHAKES;
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                    serve(stream, peer);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() >= last => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(LOOK).await,
            Err(_) if Instant::now() >= last => return,
            Err(error) => trouble(&serving, &error).await,
        }
    }
}

async fn trouble(serving: &RefCell<Serving>, error: &io::Error) {
    // The client was gone before it was let in: nobody is left to serve.
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return;
    }
    // Out of descriptors or memory: asking again at once would only spin.
    let name = serving.borrow().listener.listener.name.clone();
    tracing::warn!(listener = %name, %error, "cannot accept; trying again");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// The kernel drops segments that begin a connection (SYN without ACK), so that the queue can only become shorter.
/// Their clients try again in a second, and find whoever listens then. Closing alone would reset those in the queue and
/// those that have been promised a place in it.
fn refuse_beginnings(listener: &std::net::TcpListener) -> io::Result<()> {
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// Of the TCP header (RFC 9293 §3.1), where the filter of a TCP socket begins to count.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn no_connection_begins_and_those_that_have_begun_go_on() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let mut waiting = TcpStream::connect(address).expect("queued");
        refuse_beginnings(&listener).expect("a filter");
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(300));
        assert_eq!(late.expect_err("not let in").kind(), io::ErrorKind::TimedOut);
        waiting.write_all(b"hello").expect("sent");
        let (mut accepted, _) = listener.accept().expect("in the queue");
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).expect("received");
        accepted.write_all(&heard).expect("sent");
        waiting.read_exact(&mut heard).expect("received");
        assert_eq!(&heard, b"hello");
    }
}
