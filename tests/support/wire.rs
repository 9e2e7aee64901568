//! Bytes off a stream, with what came beyond them kept: what two sides of a connection may disagree about.

use std::io::{self, Read};

pub struct Wire<S> {
    pub stream: S,
    /// Received and not yet read.
    pub buffer: Vec<u8>,
}

/// A body in chunks, as far as it came.
#[derive(Debug, Default)]
pub struct Chunks {
    pub body: Vec<u8>,
    /// `name: value`, names in lower case.
    pub trailers: Vec<String>,
}

impl<S: Read> Wire<S> {
    pub fn new(stream: S) -> Wire<S> {
        Wire { stream, buffer: Vec::new() }
    }

    /// Up to and with `end`.
    pub fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Ok(self.buffer.drain(..at + end.len()).collect());
            }
            self.more()?;
        }
    }

    /// A line without its CRLF.
    pub fn line(&mut self) -> io::Result<String> {
        let line = self.until(b"\r\n")?;
        Ok(lossy(&line[..line.len() - 2]))
    }

    /// So many bytes, put into `body` as they come.
    pub fn exactly(&mut self, mut length: usize, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let had = self.buffer.len().min(length);
            body.extend(self.buffer.drain(..had));
            length -= had;
            if length == 0 {
                return Ok(());
            }
            self.more()?;
        }
    }

    /// Chunks as the grammar has them, without extensions; anything else is `InvalidData`.
    pub fn chunks(&mut self, into: &mut Chunks) -> io::Result<()> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
        loop {
            let size = self.line()?;
            if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(invalid(&format!("not a chunk size: {size:?}")));
            }
            let size = usize::from_str_radix(&size, 16).map_err(|e| invalid(&e.to_string()))?;
            if size == 0 {
                break;
            }
            self.exactly(size, &mut into.body)?;
            if !self.line()?.is_empty() {
                return Err(invalid("no CRLF after a chunk"));
            }
        }
        loop {
            match self.line()? {
                end if end.is_empty() => return Ok(()),
                trailer => into.trailers.push(lowered(&trailer)),
            }
        }
    }

    /// Until the other side ends the connection.
    pub fn rest(&mut self) -> io::Result<()> {
        loop {
            match self.more() {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.buffer.extend_from_slice(&bytes[..n]);
                Ok(())
            }
        }
    }
}

/// Every byte as the character of its number, so that none is lost.
pub fn lossy(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// A header line with its name in lower case and its value trimmed.
pub fn lowered(line: &str) -> String {
    match line.split_once(':') {
        Some((name, value)) => format!("{}: {}", name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])),
        None => line.to_string(),
    }
}
