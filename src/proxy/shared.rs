//! A connection that many requests use at once: HTTP/2 to an endpoint.
//!
//! ```text
//! socket ─begin─▶ (the endpoint's SETTINGS are here) ─▶ Shared ─place─▶ Place ─send─▶ one stream
//! ```
//! How many streams an endpoint takes is known before the first request goes out: sent earlier, a burst would be refused
//! by an endpoint that takes few (RFC 9113 §5.1.2).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use http::header::{EXPECT, HOST, TE, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme as UriScheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::alert::Alerted;
use super::body::RequestBody;
use super::connection::Local;

/// As much of an answer's head as the library takes from an h1 endpoint.
const MAX_HEAD: u32 = 400 << 10;

#[derive(Debug)]
pub struct Shared {
    sender: RefCell<SendRequest<RequestBody>>,
    secure: bool,
    streams: Cell<usize>,
    most: Cell<usize>,
    extended_connect: Cell<bool>,
    retired: Cell<bool>,
    /// Since when nobody uses it.
    idle: Cell<Instant>,
    heard: Rc<Heard>,
}

/// One stream's place on a connection.
#[derive(Debug)]
pub struct Place(Rc<Shared>);

impl Shared {
    /// Over a socket, or TLS that has agreed on h2. `secure`: which scheme requests name. Ends with an error where the
    /// endpoint does not answer as HTTP/2; `heard` has what it says instead. Bounding the time is the caller's.
    pub async fn begin<S>(stream: S, secure: bool, heard: &Rc<Heard>) -> Result<Rc<Shared>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let stream = Listening { stream, heard: heard.clone() };
        let mut builder = http2::Builder::new(Local);
        // None before the endpoint has said how many.
        builder.initial_max_send_streams(0).max_header_list_size(MAX_HEAD);
        let (sender, mut connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        poll_fn(|cx| {
            heard.waker.set(Some(cx.waker().clone()));
            match Pin::new(&mut connection).poll(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.to_string())),
                Poll::Ready(Ok(())) => Poll::Ready(Err("it does not answer as HTTP/2".into())),
                Poll::Pending if connection.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
                Poll::Pending => Poll::Pending,
            }
        })
        .await?;
        heard.waker.set(None);
        let shared = Rc::new(Shared {
            sender: RefCell::new(sender),
            secure,
            streams: Cell::new(0),
            most: Cell::new(0),
            extended_connect: Cell::new(false),
            retired: Cell::new(false),
            idle: Cell::new(Instant::now()),
            heard: heard.clone(),
        });
        shared.note(&connection);
        let of = Rc::downgrade(&shared);
        tokio::task::spawn_local(poll_fn(move |cx| {
            let ended = Pin::new(&mut connection).poll(cx);
            // Polled with every request: what the endpoint has said meanwhile counts from the next one on.
            if let Some(shared) = of.upgrade() {
                shared.note(&connection);
            }
            // How it ended is seen by whoever was using it.
            ended.map(drop)
        }));
        Ok(shared)
    }

    fn note<S>(&self, connection: &Connection<TokioIo<Listening<S>>, RequestBody, Local>)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        self.most.set(connection.current_max_send_streams());
        self.extended_connect.set(connection.is_extended_connect_protocol_enabled());
    }

    /// Closed, or told by the endpoint that it takes no more (GOAWAY).
    pub fn is_over(&self) -> bool {
        self.retired.get() || self.sender.borrow().is_closed()
    }

    /// A place for one more stream, if there is room.
    pub fn place(self: &Rc<Self>) -> Option<Place> {
        if self.streams.get() >= self.most.get() {
            return None;
        }
        self.streams.set(self.streams.get() + 1);
        Some(Place(self.clone()))
    }

    /// Since when nobody uses it; `None` while somebody does.
    pub fn idle_since(&self) -> Option<Instant> {
        (self.streams.get() == 0).then(|| self.idle.get())
    }

    /// What the endpoint said of our certificate.
    pub fn alerted(&self) -> &Alerted {
        &self.heard.alerted
    }

    /// Whether a tunnel may be asked for over it (RFC 8441 §3).
    pub fn takes_extended_connect(&self) -> bool {
        self.extended_connect.get()
    }
}

impl Place {
    pub fn connection(&self) -> &Shared {
        &self.0
    }

    /// No other request goes over this connection: the endpoint refuses streams although it has room by its own word.
    pub fn retire(&self) {
        self.0.retired.set(true);
    }

    /// `trailers`: whether the client takes them.
    pub fn send(
        &self,
        request: Request<RequestBody>,
        trailers: bool,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        let request = in_h2(request, self.0.secure, trailers);
        self.0.sender.borrow_mut().try_send_request(request)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.0.streams.get() - 1;
        self.0.streams.set(left);
        if left == 0 {
            self.0.idle.set(Instant::now());
        }
    }
}

/// A request that stands as an h1 endpoint would get it, as h2 has it (RFC 9113 §8.2.2, §8.3.1).
fn in_h2(mut request: Request<RequestBody>, secure: bool, trailers: bool) -> Request<RequestBody> {
    let headers = request.headers_mut();
    let host = headers.remove(HOST);
    headers.remove(TRANSFER_ENCODING);
    // Nobody could tell the client to go on; the library does so when the body is asked for.
    headers.remove(EXPECT);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if authority.is_some() {
        parts.scheme = Some(if secure { UriScheme::HTTPS } else { UriScheme::HTTP });
        parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        parts.authority = authority;
    }
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    *request.version_mut() = Version::HTTP_2;
    request.body_mut().passing_in_h2();
    request
}

/// Tells who waits for the endpoint's first words that something came.
#[derive(Default)]
pub struct Heard {
    waker: Cell<Option<Waker>>,
    pub alerted: Alerted,
    /// A write has failed.
    failed: Cell<bool>,
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heard").field("alerted", &self.alerted).finish_non_exhaustive()
    }
}

struct Listening<S> {
    stream: S,
    heard: Rc<Heard>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.heard.alerted.note(&read);
        if read.is_ready()
            && let Some(waker) = self.heard.waker.take()
        {
            waker.wake();
        }
        read
    }
}

impl<S: AsyncRead + Unpin> Listening<S> {
    /// The endpoint's last words come before the error that says that it is gone: a reset follows them closely, and is
    /// seen first by who writes.
    fn after<T>(&mut self, written: Poll<std::io::Result<T>>, cx: &mut Context<'_>) -> Poll<std::io::Result<T>> {
        let Listening { stream, heard } = self;
        let failed = matches!(written, Poll::Ready(Err(_)));
        if failed && !heard.alerted.last_words(stream, cx) && !heard.failed.replace(true) {
            // Once: a connection that was reset can be read soon, and wakes whoever waits for that.
            return Poll::Pending;
        }
        written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.after(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.after(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.after(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
