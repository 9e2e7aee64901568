//! One request, from its head to its answer.
//!
//! ```text
//! head ─▶ normalise ─▶ misdirected? ─▶ lookup ─▶ authorize ─▶ on_request ─▶ pick ─▶ forward ─▶ on_response ─▶ body ─▶ log
//!         Target       421             LiveRoute Permit       Flow          endpoint Forwarded  (reverse)      Exchange
//!            │400         │             │404/308   │503         │Respond      │503     │502/504
//!            └────────────┴─────────────┴──────────┴────────────┴─────────────┴────────┴──▶ Answer ─▶ one response table
//! ```
//! One generation of the table is read throughout, and one [`Target`] serves match, policy, rewrite and log.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, HOST, LOCATION, RETRY_AFTER, SET_COOKIE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;

use crate::middleware::{Asked, Flow, Middleware, RequestHead, ResponseHead};
use crate::table::{RequestView, TableListener};

use super::authorize::{Destination, authorize};
use super::body::{Lent, RequestBody, ResponseBody};
use super::connection::Connection;
use super::error::{ErrorKind, ProxyError};
use super::exchange::Exchange;
use super::expectation::{Expectation, Gate};
use super::fields;
use super::forward::{Forwarded, forward};
use super::forwarded::strip_hop_by_hop;
use super::framing::{self, AfterAnswer};
use super::grpc;
use super::held::Held;
use super::hops::{self, Onward};
use super::limits::within;
use super::misdirected;
use super::select::select;
use super::target::Target;
use super::trailers::{self, Passing, TrailerGate};
use super::tunnel::{Far, Tunnel};
use super::upgrade::{self, Offer};
use super::worker::{Generation, LiveRoute};

const PORTOLAN_REASON: HeaderName = HeaderName::from_static("portolan-reason");

/// Every way in which Portolan answers by itself.
enum Answer {
    Refuse(ProxyError),
    Redirect(HeaderValue),
    /// The request was for Portolan itself (RFC 9110 §7.6.2, §9.3.7).
    Received,
    Respond {
        status: StatusCode,
        headers: HeaderMap,
        reason: &'static str,
    },
}

impl From<ProxyError> for Answer {
    fn from(error: ProxyError) -> Answer {
        Answer::Refuse(error)
    }
}

/// An answer for the client, and what its connection becomes after it, where that is a tunnel.
pub struct Answered {
    pub response: Response<ResponseBody>,
    pub tunnel: Option<Tunnel>,
}

pub async fn handle(connection: Rc<Connection>, request: Request<Incoming>) -> Answered {
    let (mut head, body) = request.into_parts();
    let mut exchange = Exchange::begin(&connection, &head);
    match serve(&connection, &mut head, body, &mut exchange).await {
        Ok((parts, Becomes::Body(inner, lent, trailers))) => {
            let body = ResponseBody::stream(inner, lent, trailers, exchange);
            Answered { response: Response::from_parts(parts, body), tunnel: None }
        }
        Ok((parts, Becomes::Tunnel(far))) => {
            let tunnel = Tunnel::new(&connection, exchange, far);
            Answered { response: Response::from_parts(parts, ResponseBody::none()), tunnel: Some(tunnel) }
        }
        Err(answer) => Answered { response: compose(&connection, answer, exchange), tunnel: None },
    }
}

/// What follows the head of an endpoint's answer.
enum Becomes {
    Body(Incoming, Lent, TrailerGate),
    Tunnel(Far),
}

async fn serve(
    connection: &Rc<Connection>,
    head: &mut Parts,
    body: Incoming,
    exchange: &mut Exchange,
) -> Result<(http::response::Parts, Becomes), Answer> {
    let body = RequestBody::new(body, exchange.upload.clone(), connection);
    within(&connection.limits, head, &body)?;
    let worker = &connection.worker;
    let generation = worker.generation();
    let Some(listener) = generation.table.listeners.get(&connection.listener) else {
        // Nothing is answered under a table that is gone; another connection may lead to where the route is now.
        return Err(ProxyError::new(ErrorKind::Misdirected, "the listener has been taken away").into());
    };
    framing::check_request(head)?;
    if head.method == Method::OPTIONS && head.uri.path() == "*" {
        return Err(Answer::Received);
    }
    let onward = hops::check(head)?;
    let wish = upgrade::wish(head, body.is_end_stream())?;
    fields::underscores(&mut head.headers, listener.listener.underscore_headers, &worker.metrics)?;
    let target = Target::of(head)?;
    misdirected::check(connection.tls.as_ref(), listener, &target.host)?;
    let route = lookup(connection, &generation, listener, &target, head)?;
    exchange.route = Some(route.clone());
    let permit = authorize(&route.entry, connection.tls.as_ref())
        .map_err(|error| misdirected::anew(connection.tls.as_ref(), listener, &target.host, error))?;
    // An upload may take hours: whatever comes of it, no table waits for it.
    let of = generation.table.generation;
    drop(generation);
    let client = || connection.vouched.client(&head.headers);
    exchange.identity = permit.identity().cloned();
    let introduction = permit.introduction().cloned();
    if onward == Onward::Final {
        return Err(Answer::Received);
    }
    let destination = permit.choose(&head.headers, client);
    exchange.share = destination.share();

    let authority = match head.headers.get(HOST) {
        // As it came: nothing is copied.
        Some(host) if host.as_bytes() == target.authority.as_bytes() => host.clone(),
        _ => HeaderValue::from_str(target.authority)
            .map_err(|_| ProxyError::new(ErrorKind::Malformed, "the host is not one"))?,
    };
    let rewritten = match target.path {
        Cow::Owned(path) => Some(path),
        Cow::Borrowed(_) => None,
    };
    let original = head.uri.clone();
    let takes_trailers = trailers::are_taken(&head.headers);
    strip_hop_by_hop(&mut head.headers);
    hops::mark(&mut head.headers, head.version);
    connection.vouched.apply(&mut head.headers, &authority, introduction.as_deref());
    let path = rewritten.as_deref().unwrap_or(path_of(&original));
    let (scheme, asked) = connection.vouched.asked(&head.headers, &authority);
    let mut request_head = RequestHead {
        path: Cow::Borrowed(path),
        query: original.query(),
        headers: &mut head.headers,
        asked: Asked { scheme, authority: asked, path },
    };
    on_request(&route.entry.middlewares, &mut request_head)?;
    let uri = origin_form(&original, &request_head.path)?;
    drop(request_head);
    fields::join_cookies(&mut head.headers);
    framing::frame_request(&mut head.headers, head.version, body.is_end_stream());
    let body = body.passing(Passing::of_request(&head.headers)).held(connection, &route);
    let offer = wish.as_ref().map(|wish| wish.offer(&mut head.headers)).transpose()?;
    let mut request = upstream_request(head, uri, authority, body);
    if request.headers().contains_key(EXPECT) {
        let expectation = Arc::<Expectation>::default();
        expectation.listen(&mut request);
        exchange.expectation = Some(expectation.clone());
        request = request.map(|body| body.gated(Gate::new(expectation)));
    }

    let before = exchange.elapsed();
    let (mut parts, inner, mut lent, cookie) = send(destination, connection, request, exchange, takes_trailers).await?;
    lent.after = framing::check_response(parts.status, &mut parts.headers)?;
    exchange.upstream_duration = Some(exchange.elapsed().saturating_sub(before));
    if worker.generation().table.generation != of {
        // The answer was long in coming, and who asked for it may not be somebody to have it any more.
        Held::ask(connection, &route.entry)?;
    }
    let agreed = agreed(&parts, offer.as_ref())?;
    if let (Some(wish), None) = (&wish, &agreed) {
        wish.declined(parts.status)?;
    }
    strip_hop_by_hop(&mut parts.headers);
    if let (Some(wish), Some(protocol)) = (&wish, &agreed) {
        upgrade::seal(&mut parts.status, &mut parts.headers, wish, protocol);
    }
    exchange.status = parts.status;
    let gate = TrailerGate::new(Passing::of_response(&parts.headers, head.version, takes_trailers), worker);
    let mut response_head = ResponseHead { status: parts.status, headers: &mut parts.headers };
    for middleware in route.entry.middlewares.iter().rev() {
        middleware.on_response(&mut response_head);
    }
    if let Some(cookie) = cookie {
        parts.headers.append(SET_COOKIE, cookie);
    }
    if exchange.expectation.as_ref().is_some_and(|expectation| expectation.answered()) {
        // Neither side can tell whether the body would still come (RFC 9110 §10.1.1).
        lent.after = AfterAnswer::Suspect;
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if agreed.is_none() {
        return Ok((parts, Becomes::Body(inner, lent, gate)));
    }
    let Lent { connection: lent, slot, _in_flight: in_flight, .. } = lent;
    let gone =
        || ProxyError::new(ErrorKind::EndpointReset, "the endpoint closed the connection as it switched protocols");
    let side = lent.switched(parts.extensions.remove()).await.ok_or_else(gone)?;
    Ok((parts, Becomes::Tunnel(Far { side, slot, _in_flight: in_flight })))
}

/// The protocol that an endpoint switches to, where it does.
fn agreed(answer: &http::response::Parts, offer: Option<&Offer>) -> Result<Option<HeaderValue>, ProxyError> {
    match (answer.status, offer) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(offer)) => offer.agreed(&answer.headers).map(Some),
        (StatusCode::SWITCHING_PROTOCOLS, None) => {
            Err(ProxyError::new(ErrorKind::EndpointReset, "the endpoint switched protocols unasked"))
        }
        _ => Ok(None),
    }
}

/// In their order, until one answers. Those before it have a say in its answer; an answer of Portolan's own is shaped by
/// nobody.
fn on_request(middlewares: &[Middleware], head: &mut RequestHead<'_>) -> Result<(), Answer> {
    for (index, middleware) in middlewares.iter().enumerate() {
        match middleware.on_request(head) {
            Flow::Continue => {}
            Flow::Respond { status, mut headers, reason } => {
                let mut response = ResponseHead { status, headers: &mut headers };
                for outer in middlewares[..index].iter().rev() {
                    outer.on_response(&mut response);
                }
                return Err(Answer::Respond { status, headers, reason });
            }
        }
    }
    Ok(())
}

fn lookup(
    connection: &Connection,
    generation: &Rc<Generation>,
    listener: &TableListener,
    target: &Target<'_>,
    head: &Parts,
) -> Result<Rc<LiveRoute>, Answer> {
    let key = target.key();
    let request = RequestView::new(
        &target.host,
        &key,
        &head.method,
        target.authority,
        &head.headers,
        target.query,
        connection.vouched.peer().ip(),
    );
    match (select(listener, target, &request)?, listener.redirect_port) {
        (Some(index), _) => Ok(generation.route(index, &connection.worker.metrics)),
        (None, Some(port)) => Err(redirect(target, port, head)),
        (None, None) => {
            let detail = format!("no route matches {}{}", target.host, target.path);
            Err(ProxyError::new(ErrorKind::NoRoute, detail).into())
        }
    }
}

/// 308 to the same URL over HTTPS. Every name is sent there, known or not: which hosts exist is not told in the clear.
fn redirect(target: &Target<'_>, port: u16, head: &Parts) -> Answer {
    let host = &target.host;
    let bracketed = host.contains(':');
    let path = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
    let location = match port {
        443 => format!("https://{open}{host}{close}{path}"),
        port => format!("https://{open}{host}{close}:{port}{path}"),
    };
    match HeaderValue::try_from(location) {
        Ok(location) => Answer::Redirect(location),
        Err(_) => ProxyError::new(ErrorKind::Malformed, "the target cannot stand in a Location").into(),
    }
}

fn path_of(uri: &Uri) -> &str {
    match uri.path() {
        "" => "/",
        path => path,
    }
}

/// The target as an origin server gets it: path and query alone (RFC 9112 §3.2.1).
fn origin_form(original: &Uri, path: &str) -> Result<Uri, ProxyError> {
    let malformed = |_| ProxyError::new(ErrorKind::Malformed, "the rewritten path is no path");
    let unchanged = original.path_and_query().filter(|_| path == original.path());
    let path_and_query = match (unchanged, original.query()) {
        (Some(unchanged), _) => unchanged.clone(),
        (None, None) => PathAndQuery::try_from(path).map_err(malformed)?,
        (None, Some(query)) => PathAndQuery::try_from(format!("{path}?{query}")).map_err(malformed)?,
    };
    Ok(Uri::from(path_and_query))
}

fn upstream_request(head: &mut Parts, uri: Uri, authority: HeaderValue, body: RequestBody) -> Request<RequestBody> {
    let mut headers = std::mem::take(&mut head.headers);
    headers.insert(HOST, authority);
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    request
}

async fn send(
    destination: Destination<'_>,
    connection: &Rc<Connection>,
    request: Request<RequestBody>,
    exchange: &mut Exchange,
    trailers: bool,
) -> Result<(http::response::Parts, Incoming, Lent, Option<HeaderValue>), Answer> {
    let limit = destination.upstream().traffic.timeouts.request;
    exchange.deadline = limit.map(|span| tokio::time::Instant::from_std(exchange.started()) + span.0);
    let tls = connection.tls.is_some();
    let Exchange { upload, deadline, .. } = &*exchange;
    let forwarded = forward(destination, &connection.worker, request, upload, *deadline, tls, trailers).await?;
    exchange.upload.answered();
    let Forwarded { response, connection: lent, cookie } = forwarded;
    exchange.endpoint = Some(lent.slot.clone());
    let (parts, inner) = response.into_parts();
    Ok((parts, inner, lent, cookie))
}

/// Portolan's own answer, with its reason.
fn compose(connection: &Connection, answer: Answer, mut exchange: Box<Exchange>) -> Response<ResponseBody> {
    let received = matches!(answer, Answer::Received);
    let (status, mut headers, content) = match answer {
        Answer::Refuse(error) => {
            let ProxyError { kind, detail } = error;
            let (status, reason, fault) = kind.row();
            // The access log and a metric have it: one line more per request would only drown an outage's first cause.
            tracing::debug!(reason, detail, ?fault, "answered by Portolan");
            exchange.reason = Some(reason);
            let mut headers = HeaderMap::with_capacity(6);
            if connection.worker.manners.reason_header() {
                headers.insert(PORTOLAN_REASON, HeaderValue::from_static(reason));
            }
            if let Some(seconds) = kind.retry_after() {
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            if kind.closes() && !connection.h2 {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let text = format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or(""));
            (status, headers, Bytes::from(text))
        }
        Answer::Redirect(location) => {
            let mut headers = HeaderMap::with_capacity(4);
            headers.insert(LOCATION, location);
            exchange.reason = Some("RedirectToHttps");
            if connection.worker.manners.reason_header() {
                headers.insert(PORTOLAN_REASON, HeaderValue::from_static("RedirectToHttps"));
            }
            (StatusCode::PERMANENT_REDIRECT, headers, Bytes::new())
        }
        Answer::Received => {
            let mut headers = HeaderMap::with_capacity(2);
            exchange.reason = Some("FinalRecipient");
            if connection.worker.manners.reason_header() {
                headers.insert(PORTOLAN_REASON, HeaderValue::from_static("FinalRecipient"));
            }
            (StatusCode::OK, headers, Bytes::new())
        }
        Answer::Respond { status, mut headers, reason } => {
            exchange.reason = Some(reason);
            if connection.worker.manners.reason_header() {
                headers.insert(PORTOLAN_REASON, HeaderValue::from_static(reason));
            }
            (status, headers, Bytes::new())
        }
    };
    let (status, content) = match exchange.grpc && !received {
        true => {
            let reason = exchange.reason.filter(|_| headers.contains_key(PORTOLAN_REASON));
            (grpc::shape(status, reason, &mut headers), Bytes::new())
        }
        false => (status, content),
    };
    exchange.status = status;
    if !content.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    let content = if exchange.is_head() { Bytes::new() } else { content };
    let mut response = Response::new(ResponseBody::own(content, exchange));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
