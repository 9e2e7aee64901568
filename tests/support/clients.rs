//! Clients that never rest: what they are answered while something changes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::h2::H2;
use super::tls::Client;

/// Slower than this has failed.
const LIMIT: Duration = Duration::from_secs(1);

/// Running clients.
pub struct Clients {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Tally>>,
}

/// What became of their requests.
#[derive(Debug, Default)]
pub struct Tally {
    pub answered: u64,
    /// Nobody let the client in: refused, or no answer to its first packet.
    pub turned_away: u64,
    /// Answers other than 200, broken connections, and what took longer than a second.
    pub failed: Vec<String>,
}

/// Whether a client keeps its connection as long as it is let.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Connection,
    Nothing,
}

impl Clients {
    pub fn none() -> Clients {
        Clients { stop: Arc::default(), clients: Vec::new() }
    }

    /// One more client that speaks plain HTTP/1.1.
    pub fn plain(mut self, to: SocketAddr, host: &'static str, keep: Keep) -> Clients {
        let stop = self.stop.clone();
        self.clients.push(std::thread::spawn(move || h1(to, host, keep, &stop)));
        self
    }

    /// One more client that speaks HTTP/2 over TLS, on connections of 50 requests.
    pub fn h2(mut self, to: SocketAddr, host: &'static str, root: &Path) -> Clients {
        let (stop, client) = (self.stop.clone(), Client::trusting(root).alpn(&[b"h2"]));
        self.clients.push(std::thread::spawn(move || {
            let mut tally = Tally::default();
            while !stop.load(Ordering::Relaxed) {
                let mut h2 = match client.connect(to, host) {
                    Ok(stream) => H2::over(stream),
                    Err(error) => {
                        tally.failed.push(format!("no handshake: {error}"));
                        continue;
                    }
                };
                for _ in 0..50 {
                    let start = Instant::now();
                    let stream = h2.get(host, "/");
                    let (status, _) = h2.answer(stream);
                    tally.count(status.parse().unwrap_or(0), start);
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            tally
        }));
        self
    }

    /// Stops the clients and adds up.
    pub fn tally(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().unwrap()).fold(Tally::default(), |mut all, one| {
            all.answered += one.answered;
            all.turned_away += one.turned_away;
            all.failed.extend(one.failed);
            all
        })
    }
}

impl Tally {
    fn count(&mut self, status: u16, start: Instant) {
        match status {
            200 if start.elapsed() < LIMIT => self.answered += 1,
            200 => self.failed.push(format!("200 after {:?}", start.elapsed())),
            status => self.failed.push(format!("{status}")),
        }
    }
}

fn h1(to: SocketAddr, host: &str, keep: Keep, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut kept: Option<BufReader<TcpStream>> = None;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => match TcpStream::connect_timeout(&to, LIMIT / 2) {
                Ok(stream) => {
                    stream.set_nodelay(true).unwrap();
                    stream.set_read_timeout(Some(LIMIT * 3)).unwrap();
                    BufReader::new(stream)
                }
                Err(_) => {
                    tally.turned_away += 1;
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
            },
        };
        let how = if keep == Keep::Nothing { "Connection: close\r\n" } else { "" };
        match exchange(&mut stream, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n{how}\r\n")) {
            Ok((status, last)) => {
                tally.count(status, start);
                kept = (!last).then_some(stream);
            }
            Err(error) => tally.failed.push(format!("{keep:?}: {error}")),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    tally
}

/// The status, and whether the connection ends with this answer.
fn exchange(stream: &mut BufReader<TcpStream>, request: &str) -> io::Result<(u16, bool)> {
    stream.get_mut().write_all(request.as_bytes())?;
    let (mut status, mut length, mut last) = (None, 0, false);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if status.is_none() {
            status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().map_err(io::Error::other)?;
        } else if line == "connection: close" {
            last = true;
        } else if line.is_empty() {
            break;
        }
    }
    io::copy(&mut stream.take(length), &mut io::sink())?;
    Ok((status.unwrap_or(0), last))
}
