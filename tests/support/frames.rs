//! HTTP/2 as frames that are written without looking whether they may be (RFC 9113 §4), and what comes back of them.

use std::io::{self, Write};

use super::hpack;
use super::tls::Session;
use super::wire::Wire;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITISED: u8 = 0x20;

/// A frame, its length counted.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What became of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stream {
    pub fields: Vec<(String, String)>,
    pub trailers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub ended: bool,
    /// The code of its RST_STREAM.
    pub reset: Option<u32>,
}

/// A connection, past its preface.
pub struct Frames {
    wire: Wire<Session>,
    /// The code of its GOAWAY.
    pub gone: Option<u32>,
    pub closed: bool,
    streams: Vec<(u32, Stream)>,
}

impl Frames {
    /// The preface, and settings that keep the other side's header blocks without references.
    pub fn over(session: Session) -> Frames {
        let mut frames = Frames::unopened(session);
        frames.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0])].concat());
        frames
    }

    /// Nothing is sent yet, not even the preface.
    pub fn unopened(session: Session) -> Frames {
        assert_eq!(session.alpn(), Some(&b"h2"[..]));
        Frames { wire: Wire::new(session), gone: None, closed: false, streams: Vec::new() }
    }

    /// These bytes. That the other side has hung up by now shows when it is read from.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.wire.stream.write_all(bytes).and_then(|()| self.wire.stream.flush()) {
            let hung_up = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
            assert!(hung_up, "{error}");
        }
    }

    pub fn stream(&mut self, id: u32) -> &mut Stream {
        if let Some(at) = self.streams.iter().position(|(of, _)| *of == id) {
            return &mut self.streams[at].1;
        }
        self.streams.push((id, Stream::default()));
        &mut self.streams.last_mut().unwrap().1
    }

    /// Takes in frames until the stream is over, one way or another, or the connection is.
    pub fn finish(&mut self, id: u32) -> io::Result<Stream> {
        while !self.closed && !self.stream(id).ended && self.stream(id).reset.is_none() {
            self.take()?;
        }
        Ok(self.stream(id).clone())
    }

    /// Takes in frames until the other side ends the connection.
    pub fn end(&mut self) -> io::Result<()> {
        while !self.closed {
            self.take()?;
        }
        Ok(())
    }

    fn take(&mut self) -> io::Result<()> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        let mut head = Vec::new();
        match self.wire.exactly(9, &mut head) {
            Ok(()) => {}
            // The last one where this side was still writing when the other hung up.
            Err(e) if matches!(e.kind(), UnexpectedEof | ConnectionReset | BrokenPipe) => {
                self.closed = true;
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        let mut payload = Vec::new();
        self.wire.exactly(u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize, &mut payload)?;
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match kind {
            HEADERS => {
                assert!(flags & END_HEADERS != 0, "no head here is that long");
                let fields = hpack::fields(&payload);
                let stream = self.stream(id);
                let into = if stream.fields.is_empty() { &mut stream.fields } else { &mut stream.trailers };
                into.extend(fields);
            }
            DATA => self.stream(id).body.extend(&payload),
            RST_STREAM => self.stream(id).reset = Some(code(0)),
            GOAWAY => self.gone = Some(code(4)),
            SETTINGS if flags & ACK == 0 => self.send(&frame(SETTINGS, ACK, 0, &[])),
            PING if flags & ACK == 0 => self.send(&frame(PING, ACK, 0, &payload)),
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            self.stream(id).ended = true;
        }
        Ok(())
    }
}

impl Stream {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    pub fn status(&self) -> Option<u16> {
        self.field(":status").and_then(|status| status.parse().ok())
    }
}
