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
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;

use crate::middleware::{Flow, RequestHead, ResponseHead};
use crate::table::TableListener;

use super::authorize::{Permit, authorize};
use super::body::{RequestBody, ResponseBody};
use super::connection::Connection;
use super::error::{ErrorKind, ProxyError};
use super::exchange::Exchange;
use super::forward::forward;
use super::forwarded::strip_hop_by_hop;
use super::limits::within;
use super::target::Target;
use super::worker::{Generation, LiveRoute};

const PORTOLAN_REASON: HeaderName = HeaderName::from_static("portolan-reason");

/// Every way in which Portolan answers by itself.
enum Answer {
    Refuse(ProxyError),
    Redirect(HeaderValue),
    Respond { status: StatusCode, headers: HeaderMap },
}

impl From<ProxyError> for Answer {
    fn from(error: ProxyError) -> Answer {
        Answer::Refuse(error)
    }
}

pub async fn handle(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (mut head, body) = request.into_parts();
    let mut exchange = Exchange::begin(&connection, &head);
    let response = match serve(&connection, &mut head, body, &mut exchange).await {
        Ok(forwarded) => {
            let (parts, inner, lent) = forwarded;
            Response::from_parts(parts, ResponseBody::stream(inner, lent, exchange))
        }
        Err(answer) => compose(&connection, answer, exchange),
    };
    Ok(response)
}

type Streamed = (http::response::Parts, Incoming, super::body::Lent);

async fn serve(
    connection: &Rc<Connection>,
    head: &mut Parts,
    body: Incoming,
    exchange: &mut Exchange,
) -> Result<Streamed, Answer> {
    let body = RequestBody::new(body, exchange.upload.clone(), &connection.limits, &connection.timeouts);
    within(&connection.limits, head, &body)?;
    let worker = &connection.worker;
    let generation = worker.generation();
    let Some(listener) = generation.table.listeners.get(&connection.listener) else {
        return Err(ProxyError::new(ErrorKind::NoRoute, "the listener is closing").into());
    };
    let target = Target::of(head)?;
    misdirected(connection, listener, &target)?;
    let route = lookup(connection, &generation, listener, &target, head)?;
    exchange.route = Some(route.clone());
    let permit = authorize(&route.entry)?;

    let authority = HeaderValue::from_str(target.authority)
        .map_err(|_| ProxyError::new(ErrorKind::Malformed, "the host is not one"))?;
    let rewritten = match target.path {
        Cow::Owned(path) => Some(path),
        Cow::Borrowed(_) => None,
    };
    let original = head.uri.clone();
    let mut request_head = RequestHead {
        path: rewritten.as_deref().map_or_else(|| Cow::Borrowed(path_of(&original)), Cow::Borrowed),
        headers: &mut head.headers,
    };
    strip_hop_by_hop(request_head.headers);
    connection.vouched.apply(request_head.headers, &authority);
    for middleware in &route.entry.middlewares {
        match middleware.on_request(&mut request_head) {
            Flow::Continue => {}
            Flow::Respond { status, headers } => return Err(Answer::Respond { status, headers }),
        }
    }
    let uri = origin_form(&original, &request_head.path)?;
    drop(request_head);
    let request = upstream_request(head, uri, authority, body);

    let before = exchange.elapsed();
    let (mut parts, inner, lent) = send(permit, connection, request, exchange).await?;
    exchange.upstream_duration = Some(exchange.elapsed().saturating_sub(before));
    exchange.status = parts.status;
    strip_hop_by_hop(&mut parts.headers);
    let mut response_head = ResponseHead { status: parts.status, headers: &mut parts.headers };
    for middleware in route.entry.middlewares.iter().rev() {
        middleware.on_response(&mut response_head);
    }
    Ok((parts, inner, lent))
}

/// The name of the handshake and the name of the request must lead to the same client-auth key (RFC 9110 §15.5.20).
fn misdirected(connection: &Connection, listener: &TableListener, target: &Target<'_>) -> Result<(), ProxyError> {
    let Some(tls) = &connection.tls else { return Ok(()) };
    let asked = &listener.scope(Some(&target.host)).keyed;
    if std::sync::Arc::ptr_eq(asked, &tls.keyed) || asked.key == tls.keyed.key {
        return Ok(());
    }
    let detail = format!(
        "{} stands under another client-certificate policy than {}",
        target.host,
        tls.sni.as_deref().unwrap_or("the connection")
    );
    Err(ProxyError::new(ErrorKind::Misdirected, detail))
}

fn lookup(
    connection: &Connection,
    generation: &Rc<Generation>,
    listener: &TableListener,
    target: &Target<'_>,
    head: &Parts,
) -> Result<Rc<LiveRoute>, Answer> {
    let found = listener.lookup(&target.host, &target.key());
    if let Some(lenient) = target.lenient()
        && listener.lookup(&target.host, &lenient) != found
    {
        let detail = format!("{} and {lenient} lead to different routes", target.path);
        return Err(ProxyError::new(ErrorKind::AmbiguousPath, detail).into());
    }
    match (found, listener.redirect_port) {
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
    permit: Permit<'_>,
    connection: &Rc<Connection>,
    request: Request<RequestBody>,
    exchange: &mut Exchange,
) -> Result<Streamed, Answer> {
    let forwarded = match forward(permit, &connection.worker, request).await {
        Ok(forwarded) => forwarded,
        // The endpoint saw a request break off; whose fault that was, the body knows.
        Err(error) => return Err(exchange.upload.fault().map_or(error, ProxyError::plain).into()),
    };
    exchange.upload.answered();
    exchange.endpoint = Some(forwarded.endpoint);
    let (parts, inner) = forwarded.response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        // Nothing was asked to switch: `Upgrade` ends at this hop until tunnels are built.
        let detail = "the endpoint switched protocols unasked";
        return Err(ProxyError::new(ErrorKind::EndpointReset, detail).into());
    }
    Ok((parts, inner, forwarded.connection))
}

/// Portolan's own answer, with its reason.
fn compose(connection: &Connection, answer: Answer, mut exchange: Box<Exchange>) -> Response<ResponseBody> {
    let (status, mut headers, content) = match answer {
        Answer::Refuse(error) => {
            let ProxyError { kind, detail } = error;
            let (status, reason, fault) = kind.row();
            // The access log and a metric have it: one line more per request would only drown an outage's first cause.
            tracing::debug!(reason, detail, ?fault, "answered by Portolan");
            exchange.reason = Some(reason);
            let mut headers = HeaderMap::with_capacity(6);
            if connection.worker.reason_header {
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
            if connection.worker.reason_header {
                headers.insert(PORTOLAN_REASON, HeaderValue::from_static("RedirectToHttps"));
            }
            (StatusCode::PERMANENT_REDIRECT, headers, Bytes::new())
        }
        Answer::Respond { status, headers } => (status, headers, Bytes::new()),
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
