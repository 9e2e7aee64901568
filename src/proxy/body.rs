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
use super::expectation::{Gate, Unasked};
use super::framing::AfterAnswer;
use super::held::Hold;
use super::pool::{InFlight, Slot};
use super::replay::Kept;
use super::trailers::{Passing, TrailerGate};
use super::upload::{Pace, Upload};
use super::worker::LiveRoute;

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
    /// Before an endpoint has said that it wants it.
    gate: Option<Gate>,
    /// Whose request it is, once that is known, and its place among what is under way, once it is waited for.
    held: Option<(Rc<Connection>, Rc<LiveRoute>)>,
    hold: Option<Hold>,
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
    #[error("the request may not go on: {}", .0.reason())]
    Withdrawn(ErrorKind),
    #[error("the endpoint answered without asking for the body")]
    Unasked,
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
            gate: None,
            held: None,
            hold: None,
        }))
    }

    pub fn empty() -> RequestBody {
        RequestBody::None
    }

    pub fn passing(mut self, passing: Passing) -> RequestBody {
        if let RequestBody::Coming(coming) = &mut self {
            coming.trailers.passing = passing;
        }
        self
    }

    /// It waits until the endpoint asks for it.
    pub fn gated(mut self, gate: Gate) -> RequestBody {
        if let RequestBody::Coming(coming) = &mut self {
            coming.gate = Some(gate);
        }
        self
    }

    /// It ends where its route does not let it go on.
    pub fn held(mut self, connection: &Rc<Connection>, route: &Rc<LiveRoute>) -> RequestBody {
        if let RequestBody::Coming(coming) = &mut self {
            coming.held = Some((connection.clone(), route.clone()));
        }
        self
    }

    /// It goes to an h2 endpoint, whatever it was meant for before.
    pub fn passing_in_h2(&mut self) {
        match self {
            RequestBody::None => {}
            RequestBody::Coming(coming) => coming.pass_in_h2(),
            RequestBody::Kept(kept) => kept.pass_in_h2(),
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
    pub fn pass_in_h2(&mut self) {
        self.trailers.passing = Passing::Unforged;
        // Nobody can be heard to ask for it.
        if let Some(gate) = self.gate.take() {
            gate.open();
        }
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
        let open = match &mut self.gate {
            Some(gate) => gate.poll_open(cx),
            None => Poll::Ready(Ok(())),
        };
        let frame = match open {
            Poll::Ready(Ok(())) => {
                self.gate = None;
                Pin::new(&mut self.inner).poll_frame(cx)
            }
            // No fault of anybody's: there is an answer.
            Poll::Ready(Err(Unasked)) => return Poll::Ready(Some(Err(UploadError::Unasked))),
            Poll::Pending => Poll::Pending,
        };
        if !self.inner.is_end_stream()
            && let Poll::Ready(kind) = self.poll_withdrawn(cx)
        {
            return self.fail(kind, UploadError::Withdrawn(kind));
        }
        let mut frame = match frame {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if self.gate.is_none()
                    && let Some(pace) = &mut self.pace
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

    fn poll_withdrawn(&mut self, cx: &mut Context<'_>) -> Poll<ErrorKind> {
        if let Some((connection, route)) = self.held.take() {
            self.hold = Some(Hold::begin(&connection, &route.entry));
        }
        self.hold.as_mut().map_or(Poll::Pending, |hold| hold.poll_ended(cx))
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
    #[error("the answer may not go on: {}", .0.reason())]
    Withdrawn(ErrorKind),
}

/// What goes to a client: an endpoint's answer or Portolan's own. Carries the exchange, which is over when the body is
/// dropped, however that comes about.
#[derive(Debug)]
pub struct ResponseBody {
    content: Content,
    /// None where it goes on as a tunnel.
    exchange: Option<Box<Exchange>>,
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
        hold: Option<Hold>,
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
        ResponseBody { content: Content::Own((!content.is_empty()).then_some(content)), exchange: Some(exchange) }
    }

    /// Of an answer after which the connection, or the stream, is no longer HTTP's.
    pub fn none() -> ResponseBody {
        ResponseBody { content: Content::Own(None), exchange: None }
    }

    pub fn stream(inner: Incoming, connection: Lent, trailers: TrailerGate, exchange: Box<Exchange>) -> ResponseBody {
        exchange.upload.responded();
        let ended = inner.is_end_stream();
        let deadline = exchange.deadline.filter(|_| !ended).map(|deadline| Box::pin(sleep_until(deadline)));
        let content = Content::Stream { inner, ended, connection: Some(connection), trailers, deadline, hold: None };
        ResponseBody { content, exchange: Some(exchange) }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.content {
            Content::Own(content) => content.take().map(|bytes| Ok(Frame::data(bytes))),
            Content::Stream { inner, ended, trailers, deadline, hold, .. } => {
                let polled = Pin::new(&mut *inner).poll_frame(cx);
                let goes_on = !matches!(polled, Poll::Ready(None)) && !inner.is_end_stream();
                if goes_on && hold.is_none() {
                    *hold = this.exchange.as_ref().and_then(|exchange| exchange.hold());
                }
                let withdrawn = hold.as_mut().filter(|_| goes_on).map(|hold| hold.poll_ended(cx));
                let mut frame = match (withdrawn, polled) {
                    (Some(Poll::Ready(kind)), _) => Some(Err(BodyError::Withdrawn(kind))),
                    (_, Poll::Ready(frame)) => frame.map(|frame| frame.map_err(BodyError::Endpoint)),
                    (_, Poll::Pending) => {
                        let Some(deadline) = deadline else { return Poll::Pending };
                        ready!(deadline.as_mut().poll(cx));
                        Some(Err(BodyError::Overdue))
                    }
                };
                trailers.filter(&mut frame);
                match &frame {
                    None => *ended = true,
                    Some(Ok(_)) => *ended = inner.is_end_stream(),
                    Some(Err(error)) => {
                        if let Some(exchange) = &mut this.exchange {
                            exchange.broken(error);
                        }
                    }
                }
                frame
            }
        };
        if let Some(Ok(frame)) = &frame
            && let (Some(data), Some(exchange)) = (frame.data_ref(), &mut this.exchange)
        {
            exchange.response_bytes += data.len() as u64;
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
