//! A request to one of the endpoints that a permit leads to, and to another one where that fails.
//!
//! ```text
//! pick ─▶ attempt ─┬─▶ Forwarded
//!   ▲              └─▶ failed: unsent · idempotent and unanswered, within the budget · departed
//!   └──────────────────── another endpoint that is still there ───────────┘
//! ```
//! A request that may have arrived is tried again only where doing it twice is as doing it once (RFC 9110 §9.2.2).

use std::rc::Rc;
use std::time::Instant;

use http::header::UPGRADE;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body;
use hyper::body::Incoming;

use crate::model::service::Phase;
use crate::table::Upstream;

use super::attempt::{Departure, Failure, FailureKind, Limits, Outcome, Sent, attempt};
use super::authorize::Destination;
use super::body::{Lent, RequestBody};
use super::error::{ErrorKind, ProxyError};
use super::framing::AfterAnswer;
use super::pool::{InFlight, Slot};
use super::trouble::Trouble;
use super::upload::Upload;
use super::worker::Worker;

/// An endpoint's answer, and the connection to give back when it has been read.
#[derive(Debug)]
pub struct Forwarded {
    pub response: Response<Incoming>,
    pub connection: Lent,
    /// Tells the client who answered, where it sticks to endpoints.
    pub cookie: Option<HeaderValue>,
}

/// `upload` is the request's body on its way in; `deadline` is when the whole exchange must be over; `tls` whether the client's connection is;
/// `trailers` whether the client takes them.
pub async fn forward(
    destination: Destination<'_>,
    worker: &Rc<Worker>,
    request: Request<RequestBody>,
    upload: &Upload,
    deadline: Option<tokio::time::Instant>,
    tls: bool,
    trailers: bool,
) -> Result<Forwarded, ProxyError> {
    let upstream = destination.upstream();
    let affinity = destination.affinity();
    let traffic = &upstream.traffic;
    let attempts = traffic.retry.attempts;
    let repeatable = attempts > 1 && is_repeatable(&request);
    let switches = request.headers().contains_key(UPGRADE);
    let mut failed: Vec<u64> = Vec::new();
    let mut request = request;
    // A kept connection that broke is tried once more as a fresh one, where there is no other endpoint.
    let mut stale: Option<Rc<Slot>> = None;
    let mut last: Option<ProxyError> = None;
    let mut tries = 0;
    loop {
        let at = upstream.pick(affinity, &failed);
        let slot = match (at, stale.take()) {
            (Some(at), _) => worker.slot(&upstream.members[at].endpoint),
            (None, Some(slot)) => slot,
            (None, None) => return Err(last.unwrap_or_else(|| no_endpoint(upstream))),
        };
        // It may have left since this request's generation was the one in force.
        let left =
            slot.is_gone() || (slot.is_draining() && at.is_some_and(|at| upstream.members[at].phase == Phase::Ready));
        if left && elsewhere(upstream, worker, &slot, &failed) {
            failed.push(slot.endpoint.id);
            continue;
        }
        tries += 1;
        let in_flight = upstream.counts_in_flight().then(|| InFlight::at(&slot));
        let most = |sent: Sent| match sent {
            // Whoever was never asked has done nothing yet: each endpoint may be asked once.
            Sent::Nothing if attempts > 1 => attempts.max(upstream.candidates().len() as u32),
            _ => attempts,
        };
        let departure = |sent: Sent| {
            let again = tries < most(sent) && (repeatable || sent == Sent::Nothing);
            match again && elsewhere(upstream, worker, &slot, &failed) {
                true => Departure::Move,
                false if is_other_terms(upstream, worker, &slot) => Departure::Finish,
                false => Departure::Bear,
            }
        };
        let fresh = at.is_none();
        let limits = Limits { timeouts: &traffic.timeouts, deadline, fresh, repeatable, switches, trailers, upload };
        let Failure { kind, error, request: again } = match attempt(&slot, request, &limits, departure).await {
            Outcome::Answered(response, connection) => {
                let status = response.status().as_u16();
                match traffic.ejection.status.contains(&status) {
                    true => worker.tell(Trouble::of_status(&slot.endpoint, upstream, status)),
                    false => slot.endpoint.answered(),
                }
                let member = at.or_else(|| upstream.members.iter().position(|m| m.endpoint.id == slot.endpoint.id));
                let cookie = member.and_then(|member| upstream.set_cookie(member, affinity, tls));
                return Ok(Forwarded {
                    response,
                    connection: Lent { connection, slot, after: AfterAnswer::Reusable, _in_flight: in_flight },
                    cookie,
                });
            }
            Outcome::Failed(failure) => failure,
        };
        drop(in_flight);
        if let Some(fault) = upload.fault() {
            return Err(fault.clone());
        }
        worker.metrics.upstream_error(&upstream.label, error.kind.reason());
        worker.tell(Trouble::of(&slot.endpoint, upstream, kind, &error));
        failed.push(slot.endpoint.id);
        let reason = match kind {
            FailureKind::Unsent => {
                let rest = upstream.candidates().any(|endpoint| !failed.contains(&endpoint.id));
                (rest && tries < most(Sent::Nothing)).then_some("unsent")
            }
            FailureKind::Broken { kept } if tries < attempts => {
                if kept && !slot.is_gone() {
                    stale = Some(slot.clone());
                }
                // The budget is not spent on what cannot be done.
                let somewhere = stale.is_some() || elsewhere(upstream, worker, &slot, &failed);
                (somewhere && upstream.may_retry(Instant::now())).then_some("broken")
            }
            // What one endpoint leaves behind is bounded by what it was doing: no storm comes of it.
            FailureKind::Gone => Some("gone"),
            _ => None,
        };
        let (Some(reason), Some(message)) = (reason, again) else { return Err(error) };
        request = message;
        tracing::debug!(reason, detail = error.detail, "trying again");
        worker.metrics.upstream_retry(&upstream.label, reason);
        last = Some(error);
    }
}

fn no_endpoint(upstream: &Upstream) -> ProxyError {
    let absent = upstream.absent.as_ref();
    let detail = absent.map_or("no endpoint is ready", |absent| &absent.detail);
    ProxyError::new(ErrorKind::NoEndpoint(absent.map(|absent| absent.reason)), detail)
}

/// Whether there is anybody left to try: of the request's own generation, and still ready in the table in force. An
/// endpoint that came later is not for it, for the rest of what it was decided by is of its own generation too.
fn elsewhere(upstream: &Upstream, worker: &Worker, slot: &Slot, failed: &[u64]) -> bool {
    let generation = worker.generation();
    upstream.candidates().any(|endpoint| {
        endpoint.id != slot.endpoint.id
            && !failed.contains(&endpoint.id)
            && generation.table.endpoints.phase(endpoint.id) == Some(Phase::Ready)
    })
}

/// The service is gone, or the endpoint is spoken to under other terms from now on: neither says that it has left.
fn is_other_terms(upstream: &Upstream, worker: &Worker, slot: &Slot) -> bool {
    let table = &worker.generation().table;
    table.upstream(&upstream.services).is_none() || table.endpoints.has(slot.endpoint.address, &slot.endpoint.name)
}

/// Without a body, and where twice is as once (RFC 9110 §9.2.2).
fn is_repeatable(request: &Request<RequestBody>) -> bool {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    );
    idempotent && request.body().is_end_stream()
}
