//! An endpoint that keeps every byte it receives and takes nothing that two readers could read differently: what a
//! proxy makes of one request must be one request, to the byte, or none.
//!
//! Requests for [`SENTINEL`] are answered and not recorded, so that a test can tell that all before them have arrived.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::wire::{Chunks, Wire, lossy, lowered};

pub const SENTINEL: &str = "/sentinel";
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub struct Recorder {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    reply: Mutex<Reply>,
    ending: AtomicBool,
}

/// What every request but the sentinel is answered.
#[derive(Debug, Clone, Copy)]
pub struct Reply {
    pub bytes: &'static [u8],
    /// Before the body is read: as soon as the head is there.
    pub early: bool,
    pub then_close: bool,
}

impl Default for Reply {
    fn default() -> Reply {
        Reply { bytes: OK, early: false, then_close: false }
    }
}

/// One request, or what there was of it.
#[derive(Debug, Clone, Default)]
pub struct Received {
    pub line: String,
    /// `name: value` as received, names in lower case.
    pub headers: Vec<String>,
    pub body: Vec<u8>,
    pub trailers: Vec<String>,
    /// Its connection ended before it did.
    pub cut: bool,
    /// Why it is not one request in one framing.
    pub fault: Option<String>,
}

impl Recorder {
    pub fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let of = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if of.ending.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let of = of.clone();
                // How a connection ends is in what it recorded.
                std::thread::spawn(move || drop(serve(stream, &of)));
            }
        });
        Recorder { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn reply_with(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap() = reply;
    }

    /// What came since it was asked last.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.shared.received.lock().unwrap())
    }

    /// What came since [`Recorder::take`], left where it is.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut wire = Wire::new(stream);
    loop {
        let mut received = Received::default();
        let read = read_request(&mut wire, &mut received, shared);
        if let Err(error) = read {
            if received.line.is_empty() && wire.buffer.is_empty() {
                return Ok(());
            }
            match error.kind() {
                io::ErrorKind::InvalidData => received.fault = Some(error.to_string()),
                _ => received.cut = true,
            }
        }
        let reply = *shared.reply.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = received.cut || received.fault.is_some();
        let sentinel = received.is_sentinel();
        if !sentinel || broken {
            shared.received.lock().unwrap_or_else(PoisonError::into_inner).push(received);
        }
        if broken {
            return Ok(());
        }
        if sentinel {
            wire.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsentinel")?;
            continue;
        }
        if !reply.early {
            wire.stream.write_all(reply.bytes)?;
        }
        if reply.then_close {
            return Ok(());
        }
    }
}

/// One request; an error where the connection ends first, or where it is not one.
fn read_request(wire: &mut Wire<TcpStream>, received: &mut Received, shared: &Shared) -> io::Result<()> {
    let head = wire.until(b"\r\n\r\n")?;
    let head = lossy(&head[..head.len() - 4]);
    let mut lines = head.split("\r\n");
    received.line = lines.next().unwrap_or_default().to_string();
    received.headers = lines.map(lowered).collect();
    if let Some(fault) = fault_of_head(received) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
    }
    let reply = *shared.reply.lock().unwrap_or_else(PoisonError::into_inner);
    if reply.early && !received.is_sentinel() {
        wire.stream.write_all(reply.bytes)?;
    }
    if received.all("transfer-encoding").is_empty() {
        let length = received.all("content-length").first().map_or(0, |length| length.parse().unwrap());
        return wire.exactly(length, &mut received.body);
    }
    let mut chunks = Chunks::default();
    let read = wire.chunks(&mut chunks);
    (received.body, received.trailers) = (chunks.body, chunks.trailers);
    read
}

/// What no endpoint may be left to make up its mind about.
fn fault_of_head(received: &Received) -> Option<String> {
    let words: Vec<&str> = received.line.split(' ').collect();
    if words.len() != 3 || words[2] != "HTTP/1.1" || received.line.contains(['\r', '\n', '\0', '#']) {
        return Some(format!("not a request line: {:?}", received.line));
    }
    for line in &received.headers {
        let name = line.split(": ").next().unwrap_or_default();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&byte);
        if !line.contains(": ") || name.is_empty() || !name.bytes().all(token) || line.contains(['\r', '\n', '\0']) {
            return Some(format!("not a header line: {line:?}"));
        }
    }
    for hop in ["connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"] {
        if !received.all(hop).is_empty() {
            return Some(format!("{hop} ends at the proxy"));
        }
    }
    let (lengths, codings) = (received.all("content-length"), received.all("transfer-encoding"));
    let number = |length: &&str| !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    if lengths.len() + codings.len() > 1 || !lengths.iter().all(number) || codings.iter().any(|c| *c != "chunked") {
        return Some(format!("not one framing: {lengths:?} {codings:?}"));
    }
    if received.all("via").last().is_none_or(|via| !via.ends_with(" portolan")) {
        return Some("the last Via is not the proxy's".into());
    }
    for once in ["host", "x-forwarded-for"] {
        if received.all(once).len() != 1 {
            return Some(format!("not one {once}: {:?}", received.all(once)));
        }
    }
    (received.all("cookie").len() > 1).then(|| "cookies in crumbs".into())
}

impl Received {
    fn is_sentinel(&self) -> bool {
        self.line.split(' ').nth(1) == Some(SENTINEL)
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let prefix = format!("{name}: ");
        self.headers.iter().filter_map(|line| line.strip_prefix(&prefix)).collect()
    }
}
