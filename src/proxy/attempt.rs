//! One request tried once, at one endpoint.
//!
//! ```text
//! kept connection, else a new one ─▶ send ─┬─▶ Answered
//!   └─ stale, given back: a new one        ├─▶ Failed: unsent (given back) · broken before the first byte · gone
//!                                          └─▶ Failed: for good (timed out, broken in the head of the answer)
//! ```
//! An endpoint that departs gives up at once what can go elsewhere. What cannot waits a little longer for its answer:
//! the kernel sends no reset for a container that has vanished.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::Either;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until, timeout};

use crate::model::schema::Scheme;
use crate::model::service::Timeouts;
use crate::model::units::Span;

use super::alert::refused;
use super::body::RequestBody;
use super::connect::Connected;
use super::error::{ErrorKind, ProxyError};
use super::opening::{open, open_h1};
use super::pool::Slot;
use super::upload::Upload;
use super::websocket::Connect;
use super::wire::Trace;

/// For the answer of an endpoint that has departed.
const GRACE: Duration = Duration::from_secs(5);

pub enum Outcome {
    Answered(Response<Incoming>, Connected),
    Failed(Failure),
}

pub struct Failure {
    pub kind: FailureKind,
    pub error: ProxyError,
    /// Where it came back unsent, or may be sent again.
    pub request: Option<Request<RequestBody>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Nothing of it was sent.
    Unsent,
    /// No byte of an answer came, and it may be sent again. `kept`: over a connection that had been used before, and may simply have gone stale.
    Broken { kept: bool },
    /// The endpoint departed while the request waited; it may be sent again, and there is somewhere else to go.
    Gone,
    /// Not to be tried again.
    Final,
}

/// What bounds an attempt.
pub struct Limits<'a> {
    pub timeouts: &'a Timeouts,
    /// When the whole exchange must be over.
    pub deadline: Option<Instant>,
    /// Not over a kept connection.
    pub fresh: bool,
    /// It has no body, and twice is as once.
    pub repeatable: bool,
    /// It asks for another protocol.
    pub switches: bool,
    /// The client takes trailers.
    pub trailers: bool,
    /// The time for an answer begins where this is over.
    pub upload: &'a Upload,
}

/// How much of a request may have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Nothing,
    All,
}

/// What becomes of a request whose endpoint has departed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// There is another endpoint for it.
    Move,
    /// It cannot be tried again, or there is nobody to try it with: it has a few seconds to be answered all the same.
    Bear,
    /// The service itself is gone from the configuration, or its terms are others now, which is no word on the endpoint:
    /// what is under way is finished.
    Finish,
}

impl Failure {
    fn unsent(error: ProxyError, request: Request<RequestBody>) -> Outcome {
        Outcome::Failed(Failure { kind: FailureKind::Unsent, error, request: Some(request) })
    }

    fn for_good(error: ProxyError) -> Outcome {
        Outcome::Failed(Failure { kind: FailureKind::Final, error, request: None })
    }

    fn again(kind: FailureKind, error: ProxyError, request: Request<RequestBody>) -> Outcome {
        Outcome::Failed(Failure { kind, error, request: Some(request) })
    }
}

/// `departure` is asked when the endpoint departs.
///
/// What makes a connection is boxed: every client connection keeps room for the future that answers its requests, and
/// every stream of one in h2 takes as much anew, most of which would be the handshake with an endpoint.
pub async fn attempt(
    slot: &Rc<Slot>,
    request: Request<RequestBody>,
    limits: &Limits<'_>,
    departure: impl Fn(Sent) -> Departure,
) -> Outcome {
    let kept = if limits.fresh || is_apart(slot, limits) { None } else { slot.checkout() };
    let was_kept = kept.is_some();
    let outcome = match kept {
        Some(connection) => send(slot, connection, true, request, limits, &departure).await,
        None => Box::pin(fresh(slot, request, limits, &departure)).await,
    };
    match outcome {
        // It had gone stale while nobody looked, which says nothing about the endpoint.
        Outcome::Failed(Failure { kind: FailureKind::Unsent, request: Some(request), .. }) if was_kept => {
            Box::pin(fresh(slot, request, limits, &departure)).await
        }
        outcome => outcome,
    }
}

/// An endpoint that picks its protocol gets a request to switch over h1, which every server does it by.
fn is_apart(slot: &Slot, limits: &Limits<'_>) -> bool {
    limits.switches && slot.endpoint.scheme == Scheme::Https
}

async fn fresh(
    slot: &Rc<Slot>,
    request: Request<RequestBody>,
    limits: &Limits<'_>,
    departure: &impl Fn(Sent) -> Departure,
) -> Outcome {
    let left = limits.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let limit = left.map_or(limits.timeouts.connect.0, |left| left.min(limits.timeouts.connect.0));
    let mut connecting =
        pin!(async { if is_apart(slot, limits) { open_h1(slot, limit).await } else { open(slot, limit).await } });
    let connected = tokio::select! {
        biased;
        connected = &mut connecting => connected,
        () = slot.departed() => match departure(Sent::Nothing) {
            Departure::Move => Err(gone(slot)),
            Departure::Finish => connecting.await,
            Departure::Bear => timeout(GRACE, connecting).await.unwrap_or_else(|_| Err(gone(slot))),
        },
    };
    match connected {
        Ok(connection) => send(slot, connection, false, request, limits, departure).await,
        Err(_) if limits.deadline.is_some_and(|deadline| deadline <= Instant::now()) => Failure::for_good(overdue()),
        Err(error) => Failure::unsent(error, request),
    }
}

async fn send(
    slot: &Rc<Slot>,
    mut connection: Connected,
    kept: bool,
    mut request: Request<RequestBody>,
    limits: &Limits<'_>,
    departure: &impl Fn(Sent) -> Departure,
) -> Outcome {
    let address = slot.endpoint.address;
    let patience = limits.timeouts.response_header.0;
    let mut websocket = None;
    let (answer, mut again) = match &mut connection {
        Connected::H1(exclusive) => {
            exclusive.trace.expect_switch(limits.switches);
            let again = Again::traced(&exclusive.trace, limits.repeatable);
            (Either::Left(exclusive.sender.try_send_request(request)), again)
        }
        Connected::H2(place) => {
            let again = Again::Kept(Some(Box::new(copy(&mut request))));
            websocket = Connect::of(&mut request, limits.switches);
            if websocket.is_some() && !place.connection().takes_extended_connect() {
                let why = format!("{address}: it speaks HTTP/2 without WebSockets (RFC 8441)");
                return Failure::for_good(ProxyError::new(ErrorKind::UpgradeRefused, why));
            }
            (Either::Right(place.send(request, limits.trailers)), again)
        }
    };
    let within = |end: Instant| limits.deadline.map_or(end, |deadline| deadline.min(end));
    let mut answer = pin!(answer);
    let mut departed = pin!(slot.departed());
    let mut timer = pin!(sleep_until(within(Instant::now() + patience)));
    // Set where an endpoint has departed and its answer is awaited all the same.
    let mut grace: Option<Instant> = None;
    let mut watching = true;
    let mut error = loop {
        tokio::select! {
            biased;
            answer = &mut answer => match answer {
                Ok(mut response) => {
                    if let Some(websocket) = websocket.filter(|_| response.status().is_success()) {
                        websocket.agree(&mut response);
                    }
                    if let Connected::H1(exclusive) = &connection {
                        exclusive.trace.expect_switch(response.status() == StatusCode::SWITCHING_PROTOCOLS);
                    }
                    return Outcome::Answered(response, connection);
                }
                Err(error) => break error,
            },
            () = &mut departed, if watching => {
                watching = false;
                let to = departure(Sent::All);
                match (to, if to == Departure::Move { again.request() } else { None }) {
                    (Departure::Move, Some(again)) => return Failure::again(FailureKind::Gone, gone(slot), again),
                    (Departure::Move, None) | (Departure::Bear, _) => {
                        let end = Instant::now() + GRACE;
                        grace = Some(end);
                        let due = timer.deadline().min(end);
                        timer.as_mut().reset(due);
                    }
                    (Departure::Finish, _) => {}
                }
            }
            () = &mut timer => {
                let now = Instant::now();
                if limits.deadline.is_some_and(|deadline| deadline <= now) {
                    return Failure::for_good(overdue());
                }
                if grace.is_some_and(|end| end <= now) {
                    return Failure::for_good(gone(slot));
                }
                // The time counts from the request's last byte: a long upload is not a late answer.
                let due = limits.upload.answer_due(patience);
                if due <= now {
                    let why = format!("{address}: no answer within {}", Span(patience));
                    return Failure::for_good(ProxyError::new(ErrorKind::ResponseTimeout, why));
                }
                timer.as_mut().reset(within(grace.map_or(due, |end| end.min(due))));
            }
        }
    };
    let kind = if slot.is_gone() { ErrorKind::EndpointGone } else { ErrorKind::EndpointReset };
    let shown = slot.endpoint.tls.as_ref().is_some_and(|tls| tls.with.shown.is_some());
    let alerted = match &connection {
        Connected::H1(exclusive) => &exclusive.trace.alerted,
        Connected::H2(place) => place.connection().alerted(),
    };
    let reset = refused(alerted, shown, address)
        .unwrap_or_else(|| ProxyError::new(kind, format!("{address}: {}", error.error())));
    if let Some(request) = error.take_message() {
        return Failure::unsent(reset, request);
    }
    if let Connected::H2(place) = &connection
        && is_unprocessed(error.error())
        && let Some(request) = again.request()
    {
        place.retire();
        return Failure::unsent(reset, request);
    }
    if limits.repeatable
        && again.is_unanswered()
        && let Some(again) = again.request()
    {
        return Failure::again(FailureKind::Broken { kept }, reset, again);
    }
    Failure::for_good(reset)
}

/// How a request that was sent is made anew.
enum Again {
    /// From the bytes that went out.
    Traced { trace: Rc<Trace>, before: u64 },
    /// The library gives nothing back once it has taken a request for a stream.
    Kept(Option<Box<Request<RequestBody>>>),
}

impl Again {
    fn traced(trace: &Rc<Trace>, keep: bool) -> Again {
        trace.begin(keep);
        Again::Traced { trace: trace.clone(), before: trace.received() }
    }

    /// Once.
    fn request(&mut self) -> Option<Request<RequestBody>> {
        match self {
            Again::Traced { trace, .. } => trace.request(),
            Again::Kept(request) => request.take().filter(|request| request.body().is_whole()).map(|request| *request),
        }
    }

    /// Whether no byte of an answer came.
    fn is_unanswered(&self) -> bool {
        match self {
            Again::Traced { trace, before } => trace.received() == *before,
            // Its head would have been the answer.
            Again::Kept(_) => true,
        }
    }
}

/// The same request once more.
fn copy(request: &mut Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(request.body_mut().keep());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// The endpoint says that it has done nothing: the stream is refused, or above the last one that it takes before it
/// closes (RFC 9113 §6.8, §8.7).
fn is_unprocessed(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

fn gone(slot: &Slot) -> ProxyError {
    let why = format!("{} ({}) departed before it answered", slot.endpoint.name, slot.endpoint.address);
    ProxyError::new(ErrorKind::EndpointGone, why)
}

fn overdue() -> ProxyError {
    ProxyError::new(ErrorKind::RequestTimeout, "the whole exchange took longer than it may")
}
