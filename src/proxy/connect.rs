//! A new connection to an endpoint.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1::{self, Parts, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::model::units::Span;

use super::body::RequestBody;
use super::error::{ErrorKind, ProxyError};
use super::tunnel::Side;
use super::wire::{Trace, Traced};

/// A connection that can be sent on.
#[derive(Debug)]
pub struct Connected {
    pub sender: SendRequest<RequestBody>,
    pub trace: Rc<Trace>,
    left: oneshot::Receiver<Side>,
}

impl Connected {
    /// The connection itself, once its endpoint has switched protocols; `None` where it is gone.
    pub async fn switched(self) -> Option<Side> {
        self.left.await.ok()
    }
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
    let (sender, mut connection) = http1::handshake(TokioIo::new(traced)).await.map_err(|error| unreachable(&error))?;
    let (leave, left) = oneshot::channel();
    let of = trace.clone();
    tokio::task::spawn_local(async move {
        // How it ended is seen by whoever was using it.
        let ended = (&mut connection).await;
        if ended.is_ok() && of.expects_switch() {
            let Parts { io, read_buf, .. } = connection.into_parts();
            // Nobody waits for it where the endpoint did not switch.
            let _ = leave.send(Side { stream: Box::new(io.into_inner()), ahead: read_buf });
        }
    });
    Ok(Connected { sender, trace, left })
}
