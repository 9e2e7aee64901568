//! A connection's bytes on their way: how many came, and the head that went out last.
//!
//! A request that is lost on the way is made anew from the bytes that were sent. Keeping a copy of its head beforehand
//! would cost every request what hardly any needs: one copy of a few hundred contiguous bytes, into a buffer that is
//! there already, is a small part of the price of cloning a header map.

use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::alert::Alerted;
use super::body::RequestBody;

/// What is known of a connection without asking it. Shared by the connection and whoever sends on it.
#[derive(Debug, Default)]
pub struct Trace {
    received: Cell<u64>,
    /// The request that was sent last asked for another protocol.
    switching: Cell<bool>,
    keeping: Cell<bool>,
    head: RefCell<Vec<u8>>,
    /// What the endpoint said of our certificate.
    pub alerted: Alerted,
}

/// A longer head is not kept: it is not tried again once it was sent.
const MOST: usize = 64 << 10;

impl Trace {
    /// Bytes read so far.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Before a request is sent: whether what is written now is to be kept. It must have no body.
    pub fn begin(&self, keep: bool) {
        self.head.borrow_mut().clear();
        self.keeping.set(keep);
    }

    /// Whether the connection may leave HTTP with the next answer.
    pub fn expect_switch(&self, may: bool) {
        self.switching.set(may);
    }

    pub fn expects_switch(&self) -> bool {
        self.switching.get()
    }

    /// The request that was sent last, once more.
    pub fn request(&self) -> Option<Request<RequestBody>> {
        parse(&self.head.borrow())
    }

    fn write(&self, offered: &[IoSlice<'_>]) {
        // All of a head is offered at the first write. How much of it was taken does not matter, nor what follows.
        if !self.keeping.replace(false) || offered.iter().map(|slice| slice.len()).sum::<usize>() > MOST {
            return;
        }
        let mut head = self.head.borrow_mut();
        offered.iter().for_each(|slice| head.extend_from_slice(slice));
    }
}

/// Reads back what hyper has written; `None` where that is not one whole head.
fn parse(head: &[u8]) -> Option<Request<RequestBody>> {
    let text = head.strip_suffix(b"\r\n\r\n")?;
    let mut lines = split(text, b"\r\n");
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let mut request = Request::new(RequestBody::empty());
    *request.method_mut() = Method::from_bytes(words.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(words.next()?).ok()?;
    *request.version_mut() = Version::HTTP_11;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii_start()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

fn split<'t>(text: &'t [u8], by: &'static [u8]) -> impl Iterator<Item = &'t [u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = text.windows(by.len()).position(|window| window == by);
        rest = at.map(|at| &text[at + by.len()..]);
        Some(at.map_or(text, |at| &text[..at]))
    })
}

/// The socket or what is spoken over it, traced.
pub struct Traced<S> {
    pub stream: S,
    pub trace: Rc<Trace>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Traced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.trace.alerted.note(&read);
        let new = buf.filled().len() - before;
        self.trace.received.set(self.trace.received.get() + new as u64);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Traced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.trace.write(&[IoSlice::new(buf)]);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.trace.write(bufs);
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_was_sent_is_the_same_request_again() {
        let trace = Trace::default();
        trace.write(&[IoSlice::new(b"GET / HTTP/1.1\r\n\r\n")]);
        assert!(trace.request().is_none(), "nothing is kept unasked");
        trace.begin(true);
        let parts: [&[u8]; 2] =
            [b"DELETE /a%20b?x=:y HTTP/1.1\r\nhost: a.example:8443\r\nx: one\r\n", b"x: t\xe9o: \r\ny:\r\n\r\n"];
        trace.write(&parts.map(IoSlice::new));
        trace.write(&[IoSlice::new(b"the rest of a write that was cut short")]);
        let request = trace.request().expect("whole");
        assert_eq!((request.method(), request.uri().to_string()), (&Method::DELETE, "/a%20b?x=:y".into()));
        let values: Vec<&[u8]> = request.headers().get_all("x").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(values, [&b"one"[..], &b"t\xe9o: "[..]]);
        assert_eq!(
            (&request.headers()["host"], &request.headers()["y"]),
            (&"a.example:8443".parse().unwrap(), &"".parse().unwrap())
        );
        trace.begin(true);
        assert!(trace.request().is_none(), "the next one begins anew");
        trace.write(&[IoSlice::new(b"GET / HTTP/1.1\r\nhost: a")]);
        assert!(trace.request().is_none(), "half a head is none");
        trace.begin(true);
        trace.write(&[IoSlice::new(&vec![b'x'; MOST + 1])]);
        assert!(trace.head.borrow().is_empty());
    }
}
