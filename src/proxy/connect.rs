//! A new connection to an endpoint.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::model::units::Span;

use super::body::RequestBody;
use super::error::{ErrorKind, ProxyError};
use super::wire::{Trace, Traced};

/// A connection that can be sent on.
#[derive(Debug)]
pub struct Connected {
    pub sender: SendRequest<RequestBody>,
    pub trace: Rc<Trace>,
}

pub async fn connect(address: SocketAddr, limit: Duration) -> Result<Connected, ProxyError> {
    let unreachable =
        |why: &dyn std::fmt::Display| ProxyError::new(ErrorKind::EndpointUnreachable, format!("{address}: {why}"));
    let stream = match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(&error)),
        Err(_) => {
            let why = format!("{address}: no connection within {}", Span(limit));
            return Err(ProxyError::new(ErrorKind::ConnectTimeout, why));
        }
    };
    // Requests are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let trace = Rc::<Trace>::default();
    let traced = Traced { stream, trace: trace.clone() };
    let (sender, connection) = http1::handshake(TokioIo::new(traced)).await.map_err(|error| unreachable(&error))?;
    tokio::task::spawn_local(async move {
        // How it ended is seen by whoever was using it.
        let _ = connection.await;
    });
    Ok(Connected { sender, trace })
}
