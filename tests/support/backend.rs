//! Endpoints: bare sockets that keep what they receive as it was received, so that a test can look at every byte.
//!
//! Each connection has a thread, which ends with the connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::port;

pub struct Backend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    ending: AtomicBool,
}

/// A request's head.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which connection it came over, counted from 1.
    pub connection: usize,
    pub method: String,
    pub target: String,
    /// Names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
}

/// One request being answered.
pub struct Exchange {
    pub request: Request,
    stream: BufReader<TcpStream>,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Keep,
    Close,
}

impl Backend {
    /// Answers 200 and tells, as JSON, what it was asked: see [`Backend::tell`].
    pub fn named(name: &'static str) -> Backend {
        Backend::answering(move |exchange| {
            let length = exchange.read_body()?.len();
            exchange.tell(name, length)?;
            Ok(Then::Keep)
        })
    }

    /// Answers as the function does; an error closes the connection.
    pub fn answering(answer: impl Fn(&mut Exchange) -> io::Result<Then> + Send + Sync + 'static) -> Backend {
        Backend::at("127.0.0.1:0".parse().unwrap(), answer)
    }

    /// The same at an address of the test's choice.
    pub fn at(
        address: SocketAddr,
        answer: impl Fn(&mut Exchange) -> io::Result<Then> + Send + Sync + 'static,
    ) -> Backend {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let answer = Arc::new(answer);
        let of = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if of.ending.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let connection = of.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (of, answer) = (of.clone(), answer.clone());
                // How a connection ends is for the test to see, not for this thread.
                std::thread::spawn(move || drop(serve(stream, connection, &of, &*answer)));
            }
        });
        Backend { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of all requests so far.
    pub fn received(&self) -> Vec<Request> {
        self.shared.received.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// An endpoint's URL where nobody listens.
pub fn nobody() -> String {
    format!("http://127.0.0.1:{}", port::free_port())
}

fn serve(
    stream: TcpStream,
    connection: usize,
    shared: &Shared,
    answer: &dyn Fn(&mut Exchange) -> io::Result<Then>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_head(&mut stream, connection)? {
        shared.received.lock().unwrap().push(request.clone());
        let mut exchange = Exchange { request, stream };
        if answer(&mut exchange)? == Then::Close {
            return Ok(());
        }
        stream = exchange.stream;
    }
    Ok(())
}

fn read_head(stream: &mut BufReader<TcpStream>, connection: usize) -> io::Result<Option<Request>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_string();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut words = lines[0].split(' ').map(String::from);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
        .collect();
    Ok(Some(Request { connection, method, target, headers }))
}

impl Request {
    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }
}

impl Exchange {
    /// The whole body, by its length or in chunks.
    pub fn read_body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.request.all("transfer-encoding").iter().any(|coding| coding.eq_ignore_ascii_case("chunked")) {
            loop {
                let chunk = self.read_chunk()?;
                if chunk.is_empty() {
                    return Ok(body);
                }
                body.extend(chunk);
            }
        }
        let length = self.request.all("content-length").first().and_then(|n| n.parse().ok()).unwrap_or(0);
        body.resize(length, 0);
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    /// So many bytes of a body that has a length.
    pub fn read_part(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut part = vec![0; length];
        self.stream.read_exact(&mut part)?;
        Ok(part)
    }

    /// One chunk of a body that comes in chunks; the last one is empty.
    pub fn read_chunk(&mut self) -> io::Result<Vec<u8>> {
        let mut size = String::new();
        self.stream.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|e| io::Error::other(e.to_string()))?;
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk)?;
        chunk.truncate(size);
        Ok(chunk)
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())?;
        self.stream.get_mut().flush()
    }

    /// An answer with these header lines and a length.
    pub fn respond(&mut self, status: &str, headers: &[&str], body: &[u8]) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        self.write(head)?;
        if self.request.method == "HEAD" { Ok(()) } else { self.write(body) }
    }

    /// 200 with all that was received.
    pub fn tell(&mut self, name: &str, body_length: usize) -> io::Result<()> {
        let Request { connection, method, target, headers } = &self.request;
        let told = json!({
            "name": name, "connection": connection, "method": method, "target": target, "headers": headers,
            "body_length": body_length,
        });
        self.respond("200 OK", &["Content-Type: application/json"], told.to_string().as_bytes())
    }

    /// The connection itself, and what was read of it already.
    pub fn stream(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.stream
    }

    /// Sends no more, and says so.
    pub fn hang_up(&mut self) -> io::Result<()> {
        self.stream.get_mut().shutdown(Shutdown::Write)
    }

    /// Blocks until the proxy closes this connection, or sends what nobody asked for.
    pub fn closed_by_peer(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.stream.read(&mut byte), Ok(0) | Err(_))
    }
}

/// What [`Backend::named`] told of a request.
#[derive(Debug)]
pub struct Told(Value);

impl Told {
    pub fn of(body: &str) -> Told {
        Told(serde_json::from_str(body).unwrap_or_else(|e| panic!("not what a backend tells ({e}): {body}")))
    }

    pub fn name(&self) -> &str {
        self.0["name"].as_str().unwrap()
    }

    /// The names in the certificate that the proxy has shown.
    pub fn client(&self) -> &str {
        self.0["client"].as_str().unwrap().rsplit_once(" serial:").map_or("", |(names, _)| names)
    }

    /// Its serial number.
    pub fn client_serial(&self) -> &str {
        self.0["client"].as_str().unwrap().rsplit_once(" serial:").map_or("", |(_, serial)| serial)
    }

    pub fn target(&self) -> &str {
        self.0["target"].as_str().unwrap()
    }

    pub fn body_length(&self) -> u64 {
        self.0["body_length"].as_u64().unwrap()
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let pairs = self.0["headers"].as_array().unwrap().iter();
        pairs.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap()).collect()
    }
}
