//! HTTP/2 frame by frame (RFC 9113), for what a client library would hide: who ended what, and when.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::tls::Session;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// One h2 connection. Streams are 1, 3, 5, ….
pub struct H2 {
    session: Box<dyn Stream>,
    next: u32,
    /// `:scheme` https or http, as RFC 7541's static table numbers them.
    scheme: u8,
}

/// With TLS or without.
trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The status of an answer's head, which hyper writes first, from the static table (RFC 7541, appendix A) or as a
    /// literal beside it.
    pub fn status(&self) -> String {
        assert_eq!(self.kind, HEADERS, "{self:?}");
        // Updates of the table's size may stand before it.
        let field = self.payload.iter().position(|byte| byte & 0xe0 != 0x20).unwrap();
        match self.payload[field..] {
            [byte @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(byte - 0x88)].to_string(),
            // Literal with the indexed name :status: with 3 digits as they are, or in Huffman's code.
            [0x48 | 0x08, 3, ref digits @ ..] => String::from_utf8_lossy(&digits[..3]).into(),
            [0x48 | 0x08, 0x82, a, b, ..] => huffman_digits(u16::from_be_bytes([a, b])),
            [0x48 | 0x08, 0x83, a, b, c, ..] => huffman_digits_long([a, b, c]),
            _ => panic!("an answer's head that starts otherwise: {self:?}"),
        }
    }
}

/// Three digits in 15 to 16 bits.
fn huffman_digits(bits: u16) -> String {
    digits(u32::from(bits) << 16)
}

fn huffman_digits_long([a, b, c]: [u8; 3]) -> String {
    digits(u32::from_be_bytes([a, b, c, 0]))
}

/// RFC 7541, appendix B: 0, 1 and 2 take 5 bits, 3 to 9 six.
fn digits(mut bits: u32) -> String {
    let mut text = String::new();
    for _ in 0..3 {
        let five = bits >> 27;
        let (digit, length) = if five < 3 { (five, 5) } else { ((bits >> 26) - 0x19 + 3, 6) };
        text.push(char::from_digit(digit, 10).unwrap());
        bits <<= length;
    }
    text
}

impl H2 {
    pub fn over(session: Session) -> H2 {
        assert_eq!(session.alpn(), Some(&b"h2"[..]));
        let mut h2 = H2 { session: Box::new(session), next: 1, scheme: 0x87 };
        h2.session.write_all(PREFACE).unwrap();
        h2.begin()
    }

    /// With prior knowledge: the preface went over this connection already.
    pub fn after_preface(stream: TcpStream) -> H2 {
        H2 { session: Box::new(stream), next: 1, scheme: 0x86 }.begin()
    }

    fn begin(mut self) -> H2 {
        let h2 = &mut self;
        // HEADER_TABLE_SIZE 0, so that no head refers to another.
        h2.send(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]).unwrap();
        // Room for what the tests receive: 16 MiB on the connection.
        h2.send(WINDOW_UPDATE, 0, 0, &(1u32 << 24).to_be_bytes()).unwrap();
        self
    }

    /// A request without a body.
    pub fn get(&mut self, authority: &str, path: &str) -> u32 {
        self.get_with(authority, path, &[])
    }

    /// The same with more fields.
    pub fn get_with(&mut self, authority: &str, path: &str, fields: &[(&str, &str)]) -> u32 {
        self.open("GET", authority, path, fields, true).unwrap()
    }

    /// Fails where the server has ended the connection.
    pub fn try_get(&mut self, authority: &str, path: &str) -> io::Result<u32> {
        self.open("GET", authority, path, &[], true)
    }

    /// A request whose body is to come by [`H2::data`].
    pub fn post(&mut self, authority: &str, path: &str) -> u32 {
        self.open("POST", authority, path, &[], false).unwrap()
    }

    fn open(
        &mut self,
        method: &str,
        authority: &str,
        path: &str,
        fields: &[(&str, &str)],
        whole: bool,
    ) -> io::Result<u32> {
        let stream = self.next;
        self.next += 2;
        // :scheme, then literals that are not indexed: :method, :authority, :path.
        let mut block = vec![self.scheme];
        for (name, value) in [(2, method), (1, authority), (4, path)] {
            block.push(name);
            block.push(u8::try_from(value.len()).ok().filter(|length| *length < 127).unwrap());
            block.extend_from_slice(value.as_bytes());
        }
        for (name, value) in fields {
            // A literal whose name is one as well.
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.send(HEADERS, END_HEADERS | if whole { END_STREAM } else { 0 }, stream, &block)?;
        if whole {
            self.send(WINDOW_UPDATE, 0, stream, &(1u32 << 24).to_be_bytes())?;
        }
        Ok(stream)
    }

    pub fn data(&mut self, stream: u32, bytes: &[u8], last: bool) {
        let mut pieces = bytes.chunks(1 << 14).peekable();
        while let Some(piece) = pieces.next() {
            let flags = if last && pieces.peek().is_none() { END_STREAM } else { 0 };
            self.send(DATA, flags, stream, piece).unwrap();
        }
    }

    /// Gives a stream up: CANCEL.
    pub fn reset(&mut self, stream: u32) {
        self.try_reset(stream).unwrap();
    }

    /// Fails where the server has ended the connection.
    pub fn try_reset(&mut self, stream: u32) -> io::Result<()> {
        self.send(RST_STREAM, 0, stream, &8u32.to_be_bytes())
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.session.write_all(&[&head, payload].concat())?;
        self.session.flush()
    }

    /// The next frame that says something; settings and pings are acknowledged on the way. `None` where the server has
    /// ended the connection.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            match self.session.read_exact(&mut head) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return None,
                Err(e) => panic!("no frame: {e}"),
            }
            let [a, b, c, kind, flags, s @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.session.read_exact(&mut payload).unwrap();
            match kind {
                SETTINGS | PING if flags & ACK == 0 => {
                    let echo = if kind == PING { &payload[..] } else { &[] };
                    self.send(kind, ACK, 0, echo).unwrap();
                }
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Some(Frame { kind, flags, stream: u32::from_be_bytes(s), payload }),
            }
        }
    }

    /// The status and body of a stream's answer. What comes for other streams is an error.
    pub fn answer(&mut self, stream: u32) -> (String, Vec<u8>) {
        let head = self.frame().unwrap();
        assert_eq!((head.kind, head.stream), (HEADERS, stream), "{head:?}");
        let (status, mut ended, mut body) = (head.status(), head.ends_stream(), Vec::new());
        while !ended {
            let frame = self.frame().unwrap();
            assert_eq!((frame.kind, frame.stream), (DATA, stream), "{frame:?}");
            ended = frame.ends_stream();
            body.extend(frame.payload);
        }
        (status, body)
    }
}
