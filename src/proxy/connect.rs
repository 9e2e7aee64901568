//! A new connection to an endpoint.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::model::units::Span;

use super::body::RequestBody;
use super::error::{ErrorKind, ProxyError};

/// A connection that can be sent on.
#[derive(Debug)]
pub struct Connected {
    pub sender: SendRequest<RequestBody>,
    received: Rc<Cell<u64>>,
}

impl Connected {
    /// Bytes read from it so far: whether an answer had begun when it broke.
    pub fn received(&self) -> u64 {
        self.received.get()
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
    let received = Rc::new(Cell::new(0));
    let counted = Counted { stream, received: received.clone() };
    let (sender, connection) = http1::handshake(TokioIo::new(counted)).await.map_err(|error| unreachable(&error))?;
    tokio::task::spawn_local(async move {
        // How it ended is seen by whoever was using it.
        let _ = connection.await;
    });
    Ok(Connected { sender, received })
}

/// Counts what is read.
struct Counted {
    stream: TcpStream,
    received: Rc<Cell<u64>>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let new = buf.filled().len() - before;
        self.received.set(self.received.get() + new as u64);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
