//! One health check of one endpoint, over a connection of its own.

use std::pin::pin;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::model::health::{Ask, Target};

const AGENT: HeaderValue = HeaderValue::from_static(concat!("portolan/", env!("CARGO_PKG_VERSION"), " (health check)"));

/// How long it may take is up to the caller. The body of an answer is not read.
pub async fn probe(target: &Target) -> Result<(), String> {
    let Target { address, host, ask } = target;
    let stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
    let Ask::Get { path, .. } = ask else { return Ok(()) };
    let told = |error: &dyn std::fmt::Display| format!("GET {path} at {address}: {error}");
    let request = Request::get(&**path)
        .header(HOST, &**host)
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| told(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| told(&error))?;
    let (mut answer, connection) = (pin!(sender.send_request(request)), pin!(connection));
    let response = tokio::select! {
        biased;
        response = &mut answer => response,
        // It closes behind its answer, or without one.
        _ = connection => answer.await,
    };
    let status = response.map_err(|error| told(&error))?.status().as_u16();
    if ask.accepts(status) { Ok(()) } else { Err(told(&format_args!("status {status}"))) }
}
