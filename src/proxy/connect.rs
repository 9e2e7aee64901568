//! A new connection to an endpoint, spoken to by its scheme.
//!
//! ```text
//! http ─▶ socket ─▶ h1        h2c ─▶ socket ─▶ h2
//! ```

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::client::conn::http1::{self, Parts, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::model::schema::Scheme;
use crate::model::units::Span;
use crate::table::LiveEndpoint;

use super::body::RequestBody;
use super::error::{ErrorKind, ProxyError};
use super::shared::{Place, Shared};
use super::tunnel::Side;
use super::wire::{Trace, Traced};

/// A connection that can be sent on.
#[derive(Debug)]
pub enum Connected {
    /// For one request after the other.
    H1(Exclusive),
    /// For one request among others.
    H2(Place),
}

#[derive(Debug)]
pub struct Exclusive {
    pub sender: SendRequest<RequestBody>,
    pub trace: Rc<Trace>,
    left: oneshot::Receiver<Side>,
}

impl Connected {
    /// Its bytes, or those of its stream, once the endpoint has switched protocols; `None` where it is gone. `stream` is
    /// what the library put beside the answer.
    pub async fn switched(self, stream: Option<OnUpgrade>) -> Option<Side> {
        match self {
            Connected::H1(exclusive) => exclusive.left.await.ok(),
            Connected::H2(place) => {
                let stream = Box::new(TokioIo::new(stream?.await.ok()?));
                Some(Side { stream, ahead: Bytes::new(), _place: Some(place) })
            }
        }
    }
}

/// What an endpoint made of a connection.
pub enum Opened {
    H1(Exclusive),
    H2(Rc<Shared>),
}

pub async fn connect(endpoint: &LiveEndpoint, limit: Duration) -> Result<Opened, ProxyError> {
    let address = endpoint.address;
    match timeout(limit, open(endpoint)).await {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(why)) => Err(ProxyError::new(ErrorKind::EndpointUnreachable, format!("{address}: {why}"))),
        Err(_) => {
            let why = format!("{address}: no connection within {}", Span(limit));
            Err(ProxyError::new(ErrorKind::ConnectTimeout, why))
        }
    }
}

async fn open(endpoint: &LiveEndpoint) -> Result<Opened, String> {
    let stream = TcpStream::connect(endpoint.address).await.map_err(|error| error.to_string())?;
    // Requests are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    match endpoint.scheme {
        Scheme::Http => h1(stream).await.map(Opened::H1),
        Scheme::H2c => Shared::begin(stream, false).await.map(Opened::H2),
        // Lowering denies these services as long as they are not built.
        Scheme::Https | Scheme::H2 => Err("TLS to endpoints is not built yet".into()),
    }
}

async fn h1<S>(stream: S) -> Result<Exclusive, String>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let trace = Rc::<Trace>::default();
    let traced = Traced { stream, trace: trace.clone() };
    let (sender, mut connection) = http1::handshake(TokioIo::new(traced)).await.map_err(|error| error.to_string())?;
    let (leave, left) = oneshot::channel();
    let of = trace.clone();
    tokio::task::spawn_local(async move {
        // How it ended is seen by whoever was using it.
        let ended = (&mut connection).await;
        if ended.is_ok() && of.expects_switch() {
            let Parts { io, read_buf, .. } = connection.into_parts();
            // Nobody waits for it where the endpoint did not switch.
            let _ = leave.send(Side { stream: Box::new(io.into_inner()), ahead: read_buf, _place: None });
        }
    });
    Ok(Exclusive { sender, trace, left })
}
