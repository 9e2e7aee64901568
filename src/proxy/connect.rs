//! A new connection to an endpoint.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::{ErrorKind, ProxyError};
use super::pool::Sender;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub async fn connect(address: SocketAddr) -> Result<Sender, ProxyError> {
    let unreachable =
        |why: &dyn std::fmt::Display| ProxyError::new(ErrorKind::EndpointUnreachable, format!("{address}: {why}"));
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(&error)),
        Err(_) => {
            let why = format!("{address}: no connection within {} s", CONNECT_TIMEOUT.as_secs());
            return Err(ProxyError::new(ErrorKind::ConnectTimeout, why));
        }
    };
    // Requests are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    tokio::task::spawn_local(async move {
        // How it ended is seen by whoever was using it.
        let _ = connection.await;
    });
    Ok(sender)
}
