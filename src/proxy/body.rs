//! Bodies on their way through: streamed, counted, never buffered.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep_until};

use super::connect::Connected;
use super::exchange::Exchange;
use super::framing::AfterAnswer;
use super::pool::{InFlight, Slot};
use super::trailers::TrailerGate;

/// What goes to an endpoint.
#[derive(Debug)]
pub struct RequestBody {
    content: Option<(Incoming, TrailerGate)>,
    bytes: Rc<Cell<u64>>,
    sent: Rc<Cell<Option<Instant>>>,
    broken: Rc<Cell<bool>>,
}

impl RequestBody {
    pub fn new(inner: Incoming, bytes: Rc<Cell<u64>>, trailers: TrailerGate) -> RequestBody {
        let sent = Rc::new(Cell::new(inner.is_end_stream().then(Instant::now)));
        RequestBody { content: Some((inner, trailers)), bytes, sent, broken: Rc::default() }
    }

    pub fn empty() -> RequestBody {
        let sent = Rc::new(Cell::new(Some(Instant::now())));
        RequestBody { content: None, bytes: Rc::default(), sent, broken: Rc::default() }
    }

    /// When its last byte went out.
    pub fn sent(&self) -> Rc<Cell<Option<Instant>>> {
        self.sent.clone()
    }

    /// Whether the client's body broke off or was none, to be looked at when the body is gone.
    pub fn broken(&self) -> Rc<Cell<bool>> {
        self.broken.clone()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some((inner, trailers)) = &mut this.content else { return Poll::Ready(None) };
        let mut frame = ready!(Pin::new(&mut *inner).poll_frame(cx));
        trailers.filter(&mut frame);
        if matches!(frame, Some(Err(_))) {
            this.broken.set(true);
        }
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.bytes.set(this.bytes.get() + data.len() as u64);
        }
        if frame.is_none() || inner.is_end_stream() {
            this.sent.set(Some(Instant::now()));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.as_ref().is_none_or(|(inner, _)| inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.content.as_ref().map_or(SizeHint::with_exact(0), |(inner, _)| inner.size_hint())
    }
}

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Endpoint(hyper::Error),
    #[error("the whole exchange took longer than it may")]
    Overdue,
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
    Stream {
        inner: Incoming,
        ended: bool,
        connection: Option<Lent>,
        trailers: TrailerGate,
        /// When the whole exchange must be over.
        deadline: Option<Pin<Box<Sleep>>>,
    },
}

/// An endpoint's connection, to be given back when the answer has been read to its end.
#[derive(Debug)]
pub struct Lent {
    pub connection: Connected,
    pub slot: Rc<Slot>,
    pub after: AfterAnswer,
    pub _in_flight: Option<InFlight>,
}

impl ResponseBody {
    pub fn own(content: Bytes, exchange: Box<Exchange>) -> ResponseBody {
        ResponseBody { content: Content::Own((!content.is_empty()).then_some(content)), exchange }
    }

    pub fn stream(inner: Incoming, connection: Lent, trailers: TrailerGate, exchange: Box<Exchange>) -> ResponseBody {
        let ended = inner.is_end_stream();
        let deadline = exchange.deadline.filter(|_| !ended).map(|deadline| Box::pin(sleep_until(deadline)));
        let content = Content::Stream { inner, ended, connection: Some(connection), trailers, deadline };
        ResponseBody { content, exchange }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.content {
            Content::Own(content) => content.take().map(|bytes| Ok(Frame::data(bytes))),
            Content::Stream { inner, ended, trailers, deadline, .. } => {
                let mut frame = match Pin::new(&mut *inner).poll_frame(cx) {
                    Poll::Ready(frame) => frame.map(|frame| frame.map_err(BodyError::Endpoint)),
                    Poll::Pending => {
                        let Some(deadline) = deadline else { return Poll::Pending };
                        ready!(deadline.as_mut().poll(cx));
                        Some(Err(BodyError::Overdue))
                    }
                };
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
            && let Some(Lent { connection, slot, after: AfterAnswer::Reusable, .. }) = connection.take()
        {
            slot.checkin(connection);
        }
    }
}
