//! A request to one of the endpoints that a permit leads to, and to another one where that fails.
//!
//! ```text
//! pick ─▶ attempt ─┬─▶ Forwarded
//!   ▲              └─▶ failed: unsent · idempotent and unanswered, within the budget · departed
//!   └──────────────────── another endpoint, of those that are there now ──┘
//! ```
//! A request that may have arrived is tried again only where doing it twice is as doing it once (RFC 9110 §9.2.2).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;

use crate::table::Upstream;

use super::attempt::{Departure, Failure, FailureKind, Limits, Outcome, attempt};
use super::authorize::Destination;
use super::body::{Lent, RequestBody};
use super::error::{ErrorKind, ProxyError};
use super::pool::{InFlight, Slot};
use super::worker::Worker;

/// An endpoint's answer, and the connection to give back when it has been read.
#[derive(Debug)]
pub struct Forwarded {
    pub response: Response<Incoming>,
    pub connection: Lent,
    /// Tells the client who answered, where it sticks to endpoints.
    pub cookie: Option<HeaderValue>,
}

/// `deadline` is when the whole exchange must be over; `tls` whether the client's connection is.
pub async fn forward(
    destination: Destination<'_>,
    worker: &Rc<Worker>,
    request: Request<RequestBody>,
    deadline: Option<tokio::time::Instant>,
    tls: bool,
) -> Result<Forwarded, ProxyError> {
    let permitted = destination.upstream();
    let affinity = destination.affinity();
    let traffic = &permitted.traffic;
    let replay = Replay::of(&request, traffic.retry.attempts);
    let mut endpoints = Endpoints { permitted, now: None, failed: Vec::new() };
    let mut request = Some(request);
    // A kept connection that broke is tried once more as a fresh one, where there is no other endpoint.
    let mut stale: Option<Rc<Slot>> = None;
    let mut last: Option<ProxyError> = None;
    let mut tries = 0;
    loop {
        let upstream = endpoints.upstream();
        let at = upstream.pick(affinity, &endpoints.failed);
        let slot = match (at, stale.take()) {
            (Some(at), _) => worker.slot(&upstream.members[at].endpoint),
            (None, Some(slot)) => slot,
            (None, None) => return Err(last.unwrap_or_else(|| no_endpoint(upstream))),
        };
        if slot.is_gone() {
            endpoints.failed.push(slot.endpoint.id);
            endpoints.refresh(worker);
            continue;
        }
        let Some(message) = request.take().or_else(|| replay.as_ref().map(Replay::request)) else {
            return Err(last.unwrap_or_else(|| no_endpoint(upstream)));
        };
        tries += 1;
        let candidates = upstream.candidates().len() as u32;
        let in_flight = upstream.counts_in_flight().then(|| InFlight::at(&slot));
        let departure = || match &replay {
            Some(_) if tries < traffic.retry.attempts && endpoints.elsewhere(worker, &slot) => Departure::Move,
            _ if worker.generation().table.upstream(&permitted.services).is_none() => Departure::Finish,
            _ => Departure::Bear,
        };
        let limits = Limits { timeouts: &traffic.timeouts, deadline, fresh: at.is_none() };
        let Failure { kind, error, request: unsent } = match attempt(&slot, message, &limits, departure).await {
            Outcome::Answered(response, connection) => {
                let member = at.or_else(|| upstream.members.iter().position(|m| m.endpoint.id == slot.endpoint.id));
                let cookie = member.and_then(|member| upstream.set_cookie(member, affinity, tls));
                return Ok(Forwarded {
                    response,
                    connection: Lent { connection, slot, _in_flight: in_flight },
                    cookie,
                });
            }
            Outcome::Failed(failure) => failure,
        };
        drop(in_flight);
        worker.metrics.upstream_error(&permitted.label, error.kind.reason());
        endpoints.failed.push(slot.endpoint.id);
        request = unsent;
        let attempts = traffic.retry.attempts;
        let again = match kind {
            FailureKind::Unsent => {
                // Whoever was never asked has done nothing yet: each endpoint may be asked once.
                let most = if attempts > 1 { attempts.max(candidates) } else { attempts };
                (tries < most).then_some("unsent")
            }
            FailureKind::Broken { kept } if replay.is_some() && tries < attempts => {
                if kept && !slot.is_gone() {
                    stale = Some(slot);
                }
                permitted.may_retry(Instant::now()).then_some("broken")
            }
            // What one endpoint leaves behind is bounded by what it was doing: no storm comes of it.
            FailureKind::Gone if tries < attempts => Some("gone"),
            _ => None,
        };
        let Some(reason) = again else { return Err(error) };
        tracing::debug!(reason, detail = error.detail, "trying again");
        worker.metrics.upstream_retry(&permitted.label, reason);
        last = Some(error);
        endpoints.refresh(worker);
    }
}

fn no_endpoint(upstream: &Upstream) -> ProxyError {
    let absent = upstream.absent.as_ref();
    let detail = absent.map_or("no endpoint is ready", |absent| &absent.detail);
    ProxyError::new(ErrorKind::NoEndpoint(absent.map(|absent| absent.reason)), detail)
}

/// Where a request can go: the endpoints of the upstream that was permitted, as the table in force has them once one has
/// failed. Which upstream it is was settled before; only who stands in it is looked up again.
struct Endpoints<'u> {
    permitted: &'u Arc<Upstream>,
    now: Option<Arc<Upstream>>,
    failed: Vec<u64>,
}

impl Endpoints<'_> {
    fn upstream(&self) -> &Upstream {
        self.now.as_deref().unwrap_or(self.permitted)
    }

    fn refresh(&mut self, worker: &Worker) {
        self.now = worker.generation().table.upstream(&self.permitted.services).cloned();
    }

    /// Whether there is anybody but `slot` to try.
    fn elsewhere(&self, worker: &Worker, slot: &Slot) -> bool {
        let generation = worker.generation();
        let upstream = generation.table.upstream(&self.permitted.services).unwrap_or(self.permitted);
        upstream.candidates().any(|endpoint| {
            endpoint.id != slot.endpoint.id
                && !self.failed.contains(&endpoint.id)
                && generation.table.endpoints.phase(endpoint.id).is_some()
        })
    }
}

/// What a request is made anew from when it is lost on the way.
struct Replay {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Replay {
    /// `None` where it must not be tried again: with a body, or where twice is not as once.
    fn of(request: &Request<RequestBody>, attempts: u32) -> Option<Replay> {
        let idempotent = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
        );
        (attempts > 1 && idempotent && request.body().is_end_stream()).then(|| Replay {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        })
    }

    fn request(&self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = self.headers.clone();
        request
    }
}
