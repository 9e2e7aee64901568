//! One health check of one endpoint, over a connection of its own.
//!
//! ```text
//! Target ─▶ socket ─▶ (TLS, by the terms of the table in force) ─▶ h1 · h2 ─▶ GET ─▶ the status
//! ```

use std::pin::pin;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::uri::{self, Scheme as UriScheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::model::health::{Ask, Spoken, Target};
use crate::model::schema::Scheme;
use crate::table::{LiveEndpoint, LiveTable};

use super::connect::{self, Failed};

const AGENT: HeaderValue = HeaderValue::from_static(concat!("portolan/", env!("CARGO_PKG_VERSION"), " (health check)"));

type Answer = Response<Incoming>;

/// How long it may take is up to the caller. The body of an answer is not read.
pub async fn probe(target: &Target, live: &LiveTable) -> Result<(), String> {
    let Target { address, host: _, ask, scheme, secure } = target;
    let stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
    let Ask::Get { path, .. } = ask else { return Ok(()) };
    let told = |error: &dyn std::fmt::Display| format!("GET {path} at {address}: {error}");
    let answer = match (scheme, secure) {
        (Scheme::Http, _) => get_h1(stream, target).await,
        (Scheme::H2c, _) => get_h2(stream, target).await,
        (Scheme::Https | Scheme::H2, Some(spoken)) => {
            let endpoint = endpoint(spoken, live).await;
            let tls = endpoint.tls.as_ref().ok_or_else(|| told(&"there are no terms for TLS with it"))?;
            let stream = connect::handshake(stream, tls, false).await.map_err(|Failed(_, why)| told(&why))?;
            match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => get_h2(stream, target).await,
                _ if *scheme == Scheme::H2 => return Err(told(&"it does not offer HTTP/2 by ALPN")),
                _ => get_h1(stream, target).await,
            }
        }
        (Scheme::Https | Scheme::H2, None) => return Err(told(&"there are no terms for TLS with it")),
    };
    let status = answer.map_err(|error| told(&error))?.status().as_u16();
    if ask.accepts(status) { Ok(()) } else { Err(told(&format_args!("status {status}"))) }
}

/// As the table in force speaks to it. A check may begin before the table that knows its endpoint is in force; without
/// one it takes all of its time.
async fn endpoint(spoken: &Spoken, live: &LiveTable) -> std::sync::Arc<LiveEndpoint> {
    let mut swaps = live.swaps();
    loop {
        swaps.mark_unchanged();
        if let Some(endpoint) = live.load().endpoint(&spoken.service, spoken.address, &spoken.name) {
            return endpoint.clone();
        }
        if swaps.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn get_h1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &Target,
) -> Result<Answer, String> {
    let mut request = request(target, |path, _| Uri::builder().path_and_query(path))?;
    let host = HeaderValue::try_from(&*target.host).map_err(|error| error.to_string())?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    answer(sender.send_request(request), connection).await
}

async fn get_h2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &Target,
) -> Result<Answer, String> {
    let scheme = if target.scheme.is_secure() { UriScheme::HTTPS } else { UriScheme::HTTP };
    let request = request(target, |path, host| Uri::builder().scheme(scheme).authority(host).path_and_query(path))?;
    let opened = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(|error| error.to_string())?;
    answer(sender.send_request(request), connection).await
}

fn request(target: &Target, uri: impl FnOnce(&str, &str) -> uri::Builder) -> Result<Request<Empty<Bytes>>, String> {
    let path = if let Ask::Get { path, .. } = &target.ask { path } else { "/" };
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri(path, &target.host).build().map_err(|error| error.to_string())?;
    request.headers_mut().insert(USER_AGENT, AGENT);
    Ok(request)
}

async fn answer(
    answer: impl Future<Output = hyper::Result<Answer>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> Result<Answer, String> {
    let (mut answer, connection) = (pin!(answer), pin!(connection));
    let response = tokio::select! {
        biased;
        response = &mut answer => response,
        // It closes behind its answer, or without one.
        _ = connection => answer.await,
    };
    response.map_err(|error| error.to_string())
}
