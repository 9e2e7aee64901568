//! Bodies on their way through: streamed, counted, never buffered.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::model::listener::{ListenerLimits, ListenerTimeouts};

use super::error::ErrorKind;
use super::exchange::Exchange;
use super::pool::{Pool, Sender};
use super::upload::{Pace, Upload};

/// What goes to an endpoint.
#[derive(Debug)]
pub struct RequestBody {
    inner: Incoming,
    ended: bool,
    most: Option<u64>,
    pace: Option<Pace>,
    upload: Rc<Upload>,
}

/// Why a request's body breaks off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Client(#[from] hyper::Error),
    #[error("the body is larger than the listener takes")]
    TooLarge,
    #[error("the body comes too slowly")]
    TooSlow,
}

impl RequestBody {
    pub fn new(
        inner: Incoming,
        upload: Rc<Upload>,
        limits: &ListenerLimits,
        timeouts: &ListenerTimeouts,
    ) -> RequestBody {
        RequestBody {
            ended: false,
            most: limits.body.map(|size| size.0),
            pace: limits.body_rate.map(|rate| Pace::new(rate.0, timeouts.body.0)),
            inner,
            upload,
        }
    }

    pub fn upload(&self) -> Rc<Upload> {
        self.upload.clone()
    }

    fn fail(&mut self, kind: ErrorKind, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.upload.fail(kind);
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if let Some(pace) = &mut this.pace
                    && !this.upload.has_answer()
                    && pace.poll_late(cx).is_ready()
                {
                    return this.fail(ErrorKind::BodyTooSlow, BodyError::TooSlow);
                }
                return Poll::Pending;
            }
        };
        let Some(frame) = frame.transpose()? else {
            this.ended = true;
            return Poll::Ready(None);
        };
        if let Some(data) = frame.data_ref() {
            let length = data.len();
            let all = this.upload.received(length);
            if let Some(pace) = &mut this.pace {
                pace.received(length);
            }
            if this.most.is_some_and(|most| all > most) {
                return this.fail(ErrorKind::BodyTooLarge, BodyError::TooLarge);
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.upload.over(self.ended || self.inner.is_end_stream());
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
    Stream { inner: Incoming, ended: bool, connection: Option<Lent> },
}

/// An endpoint's connection, to be given back when the answer has been read to its end.
#[derive(Debug)]
pub struct Lent {
    pub sender: Sender,
    pub address: std::net::SocketAddr,
    pub pool: Rc<Pool>,
}

impl ResponseBody {
    pub fn own(content: Bytes, exchange: Box<Exchange>) -> ResponseBody {
        exchange.upload.responded();
        ResponseBody { content: Content::Own((!content.is_empty()).then_some(content)), exchange }
    }

    pub fn stream(inner: Incoming, connection: Lent, exchange: Box<Exchange>) -> ResponseBody {
        exchange.upload.responded();
        let ended = inner.is_end_stream();
        ResponseBody { content: Content::Stream { inner, ended, connection: Some(connection) }, exchange }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let frame = match &mut this.content {
            Content::Own(content) => content.take().map(|bytes| Ok(Frame::data(bytes))),
            Content::Stream { inner, ended, .. } => {
                let frame = ready!(Pin::new(&mut *inner).poll_frame(cx));
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
            && let Some(Lent { sender, address, pool }) = connection.take()
        {
            pool.checkin(address, sender);
        }
    }
}
