//! Bodies on their way through: streamed, counted, never buffered.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep_until};

use super::connect::Connected;
use super::connection::Connection;
use super::error::ErrorKind;
use super::exchange::Exchange;
use super::framing::AfterAnswer;
use super::pool::{InFlight, Slot};
use super::replay::Kept;
use super::trailers::{Passing, TrailerGate};
use super::upload::{Pace, Upload};

/// What goes to an endpoint. Most requests have none and allocate nothing for it.
#[derive(Debug)]
pub enum RequestBody {
    None,
    Coming(Box<Coming>),
    /// To be sent once more where an endpoint refuses it.
    Kept(Kept),
}

/// A body as its client sends it.
#[derive(Debug)]
pub struct Coming {
    inner: Incoming,
    ended: bool,
    most: Option<u64>,
    pace: Option<Pace>,
    trailers: TrailerGate,
    upload: Rc<Upload>,
    settled: bool,
}

/// Why a request's body breaks off.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("the request's body broke off or was none: {0}")]
    Client(#[source] hyper::Error),
    /// It goes to another endpoint.
    #[error("the request was moved")]
    Moved,
    #[error("the body is larger than the listener takes")]
    TooLarge,
    #[error("the body comes too slowly")]
    TooSlow,
}

impl RequestBody {
    /// No trailer passes until [`RequestBody::passing`] says which do.
    pub fn new(inner: Incoming, upload: Rc<Upload>, connection: &Connection) -> RequestBody {
        let Connection { limits, timeouts, worker, .. } = connection;
        if inner.is_end_stream() {
            upload.over(true);
            return RequestBody::empty();
        }
        RequestBody::Coming(Box::new(Coming {
            inner,
            ended: false,
            most: limits.body.map(|size| size.0),
            pace: limits.body_rate.map(|rate| Pace::new(rate.0, timeouts.body.0)),
            trailers: TrailerGate::new(Passing::None, worker),
            upload,
            settled: false,
        }))
    }

    pub fn empty() -> RequestBody {
        RequestBody::None
    }

    pub fn passing(mut self, passing: Passing) -> RequestBody {
        if let RequestBody::Coming(coming) = &mut self {
            coming.pass(passing);
        }
        self
    }

    /// It goes to an h2 endpoint, whatever it was meant for before.
    pub fn passing_in_h2(&mut self) {
        match self {
            RequestBody::None => {}
            RequestBody::Coming(coming) => coming.pass(Passing::Unforged),
            RequestBody::Kept(kept) => kept.pass(Passing::Unforged),
        }
    }

    /// The same body for another try. It is nobody's but this one's until it is asked for: [`RequestBody::is_whole`].
    pub fn keep(&mut self) -> RequestBody {
        *self = match std::mem::replace(self, RequestBody::None) {
            RequestBody::Coming(coming) => RequestBody::Kept(Kept::new(coming)),
            other => other,
        };
        match self {
            RequestBody::Kept(kept) => RequestBody::Kept(kept.next_holder()),
            _ => RequestBody::None,
        }
    }

    /// Takes it over from its beginning, if that is still there.
    pub fn is_whole(&self) -> bool {
        match self {
            RequestBody::Kept(kept) => kept.take(),
            _ => true,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match &mut *self {
            RequestBody::None => Poll::Ready(None),
            RequestBody::Coming(coming) => coming.poll_frame(cx),
            RequestBody::Kept(kept) => Pin::new(kept).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::None => true,
            RequestBody::Coming(coming) => coming.is_end_stream(),
            RequestBody::Kept(kept) => kept.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::None => SizeHint::with_exact(0),
            RequestBody::Coming(coming) => coming.size_hint(),
            RequestBody::Kept(kept) => kept.size_hint(),
        }
    }
}

impl Coming {
    pub fn pass(&mut self, passing: Passing) {
        self.trailers.passing = passing;
    }

    pub fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    pub fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    /// To be asked by whoever keeps a body longer than it is read: the time for an answer begins with its end.
    pub fn settle(&mut self) {
        if !self.settled && (self.ended || self.inner.is_end_stream()) {
            self.settled = true;
            self.upload.over(true);
        }
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let mut frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if let Some(pace) = &mut self.pace
                    && !self.upload.has_answer()
                    && pace.poll_late(cx).is_ready()
                {
                    return self.fail(ErrorKind::BodyTooSlow, UploadError::TooSlow);
                }
                return Poll::Pending;
            }
        };
        self.trailers.filter(&mut frame);
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return self.fail(ErrorKind::Malformed, UploadError::Client(error)),
            None => {
                self.ended = true;
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref() {
            let length = data.len();
            let all = self.upload.received(length);
            if let Some(pace) = &mut self.pace {
                pace.received(length);
            }
            if self.most.is_some_and(|most| all > most) {
                return self.fail(ErrorKind::BodyTooLarge, UploadError::TooLarge);
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn fail(&self, kind: ErrorKind, error: UploadError) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        self.upload.fail(kind, &error);
        Poll::Ready(Some(Err(error)))
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if !self.settled {
            self.upload.over(self.ended || self.inner.is_end_stream());
        }
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
        exchange.upload.responded();
        ResponseBody { content: Content::Own((!content.is_empty()).then_some(content)), exchange }
    }

    pub fn stream(inner: Incoming, connection: Lent, trailers: TrailerGate, exchange: Box<Exchange>) -> ResponseBody {
        exchange.upload.responded();
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
