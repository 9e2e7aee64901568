//! Bodies on their way through: streamed, counted, never buffered.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::exchange::Exchange;
use super::framing::AfterAnswer;
use super::pool::{Pool, Sender};
use super::trailers::TrailerGate;

/// What goes to an endpoint.
#[derive(Debug)]
pub struct RequestBody {
    inner: Incoming,
    bytes: Rc<std::cell::Cell<u64>>,
    trailers: TrailerGate,
    broken: Rc<std::cell::Cell<bool>>,
}

impl RequestBody {
    pub fn new(inner: Incoming, bytes: Rc<std::cell::Cell<u64>>, trailers: TrailerGate) -> RequestBody {
        RequestBody { inner, bytes, trailers, broken: Rc::default() }
    }

    /// Whether the client's body broke off or was none, to be looked at when the body is gone.
    pub fn broken(&self) -> Rc<std::cell::Cell<bool>> {
        self.broken.clone()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.trailers.filter(&mut frame);
        if matches!(frame, Some(Err(_))) {
            self.broken.set(true);
        }
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.bytes.set(self.bytes.get() + data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What goes to a client: an endpoint's answer or Portolan's own. Carries the exchange, which is over when the body is
/// dropped, however that comes about.
#[derive(Debug)]
pub struct ResponseBody {
    content: Content,
    exchange: Box<Exchange>,
}

#[derive(Debug)]
enum Content {
    Own(Option<Bytes>),
    Stream { inner: Incoming, ended: bool, connection: Option<Lent>, trailers: TrailerGate },
}

/// An endpoint's connection, to be given back when the answer has been read to its end.
#[derive(Debug)]
pub struct Lent {
    pub sender: Sender,
    pub address: std::net::SocketAddr,
    pub pool: Rc<Pool>,
    pub after: AfterAnswer,
}

impl ResponseBody {
    pub fn own(content: Bytes, exchange: Box<Exchange>) -> ResponseBody {
        ResponseBody { content: Content::Own((!content.is_empty()).then_some(content)), exchange }
    }

    pub fn stream(inner: Incoming, connection: Lent, trailers: TrailerGate, exchange: Box<Exchange>) -> ResponseBody {
        let ended = inner.is_end_stream();
        ResponseBody { content: Content::Stream { inner, ended, connection: Some(connection), trailers }, exchange }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let frame = match &mut this.content {
            Content::Own(content) => content.take().map(|bytes| Ok(Frame::data(bytes))),
            Content::Stream { inner, ended, trailers, .. } => {
                let mut frame = ready!(Pin::new(&mut *inner).poll_frame(cx));
                trailers.filter(&mut frame);
                match &frame {
                    None => *ended = true,
                    Some(Ok(_)) => *ended = inner.is_end_stream(),
                    Some(Err(error)) => this.exchange.broken(error),
                }
                frame
            }
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.exchange.response_bytes += data.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(content) => content.is_none(),
            Content::Stream { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(content) => SizeHint::with_exact(content.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Stream { inner, .. } => inner.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Content::Stream { ended, connection, .. } = &mut self.content
            && *ended
            && let Some(Lent { sender, address, pool, after: AfterAnswer::Reusable }) = connection.take()
        {
            pool.checkin(address, sender);
        }
    }
}
