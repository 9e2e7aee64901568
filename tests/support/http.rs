//! The client's side: curl for all that goes through TLS, and bare sockets where a process per request is too slow.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::backend::Told;
use super::run;

#[derive(Debug)]
pub struct Answer {
    /// As in the status line: `HTTP/1.1`, `HTTP/2`.
    pub protocol: String,
    pub status: u16,
    /// Names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// curl's own end: no answer came. 35 is a failed handshake, 60 an unknown issuer, 7 a refused connection.
#[derive(Debug)]
pub struct Failure {
    pub code: i32,
    pub message: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Why Portolan answered itself.
    pub fn reason(&self) -> Option<&str> {
        self.header("portolan-reason")
    }

    /// What a `Backend` told of the request.
    pub fn told(&self) -> Told {
        Told::of(&self.body)
    }

    /// A line of whoami's own, such as `Name: shop-web-1` or `RemoteAddr: 172.18.0.1:40000`.
    pub fn whoami(&self, key: &str) -> Option<&str> {
        self.body.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    }

    pub fn parse(text: &str) -> Option<Answer> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let mut words = lines.next()?.split_whitespace();
        let protocol = words.next()?.to_string();
        let status: u16 = words.next()?.parse().ok()?;
        // Interim answers come before the real one.
        if (100..200).contains(&status) {
            return Answer::parse(body);
        }
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_string()))
            .collect();
        Some(Answer { protocol, status, headers, body: body.to_string() })
    }
}

/// `curl URL` with every connection made to `to`, whatever host and port the URL names.
pub fn curl(url: &str, to: SocketAddr, ca: Option<&Path>, options: &[&str]) -> Result<Answer, Failure> {
    let mut command = Command::new("curl");
    // Nothing of the developer's own: no .curlrc, no proxy.
    command
        .args(["--disable", "--noproxy", "*", "--silent", "--show-error", "--include", "--max-time", "15"])
        .args(["--connect-to", &format!("::{to}")])
        .args(options)
        .arg(url);
    if let Some(ca) = ca {
        command.arg("--cacert").arg(ca);
    }
    let output = run(&mut command);
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(0) => Ok(Answer::parse(&text).unwrap_or_else(|| panic!("{command:?} printed no answer: {text:?}"))),
        code => Err(Failure {
            code: code.unwrap_or(-1),
            message: String::from_utf8_lossy(&output.stderr).trim().to_string(),
        }),
    }
}

/// One plain HTTP/1.1 request on a connection of its own, in well under a millisecond where somebody listens.
pub fn get_plain(to: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    send_plain(to, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

/// These very bytes on a connection of their own, and the answer with all that follows it until the connection ends.
pub fn send_plain(to: SocketAddr, request: &str) -> io::Result<Answer> {
    send_plain_within(to, request, Duration::from_secs(2))
}

/// The same for an answer that takes its time.
pub fn send_plain_within(to: SocketAddr, request: &str, limit: Duration) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes())?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    Answer::parse(&String::from_utf8_lossy(&received)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Sends these bytes over a connection that stays, and reads one answer, its body by its length.
pub fn ask(stream: &mut (impl Read + Write), request: &str) -> io::Result<Answer> {
    stream.write_all(request.as_bytes())?;
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received);
        if let Some(answer) = Answer::parse(&text)
            && answer.body.len() >= answer.header("content-length").map_or(0, |length| length.parse().unwrap())
        {
            return Ok(answer);
        }
        let mut more = [0; 4096];
        match stream.read(&mut more)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => received.extend_from_slice(&more[..n]),
        }
    }
}
