//! One client connection: handshake, protocol, and its graceful end.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use http::header::CONNECTION;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::model::id::Name;
use crate::table::TableListener;

use super::drain::Drain;
use super::forwarded::Vouched;
use super::handler;
use super::handshake::{TlsFacts, handshake};
use super::worker::Worker;

/// What is the same for every request of a connection.
#[derive(Debug)]
pub struct Connection {
    pub worker: Rc<Worker>,
    pub listener: Name,
    pub vouched: Vouched,
    pub tls: Option<TlsFacts>,
    pub h2: bool,
}

/// Requests that one client may have under way on an h2 connection.
const MAX_STREAMS: u32 = 256;
/// Enough for a stream to fill a long fat pipe without waiting for updates.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

pub async fn serve(
    worker: Rc<Worker>,
    compiled: Arc<TableListener>,
    stream: TcpStream,
    peer: SocketAddr,
    drain: Drain,
) {
    let _open = worker.open();
    let name = compiled.listener.name.clone();
    let _counted = worker.metrics.connection(name.as_str());
    let _ = stream.set_nodelay(true);
    let listener = compiled.listener.clone();
    let local = stream.local_addr().ok();
    let port = listener.public_port.or(local.map(|local| local.port())).unwrap_or(listener.address.port);
    let vouched = Vouched::new(peer, listener.tls, port, &worker.server_name, &listener.trusted_proxies);
    let header_timeout = listener.timeouts.header.0;
    if !listener.tls {
        // Prior-knowledge h2c comes with the protocol work; a plain listener speaks h1.
        let connection = Rc::new(Connection { worker, listener: name, vouched, tls: None, h2: false });
        return h1(connection, stream, header_timeout, drain).await;
    }
    let Some(local) = local else { return };
    let shaken = tokio::select! {
        shaken = timeout(listener.timeouts.handshake.0, handshake(stream, local, &compiled)) => shaken,
        () = drain.patience() => return,
    };
    drop(compiled);
    let (stream, facts) = match shaken {
        Ok(Ok(shaken)) => shaken,
        Ok(Err(error)) => {
            worker.metrics.handshake_failure(error.reason);
            tracing::debug!(%peer, listener = %name, reason = error.reason, detail = error.detail, "no handshake");
            return;
        }
        Err(_) => {
            worker.metrics.handshake_failure("timeout");
            return;
        }
    };
    let h2 = facts.h2;
    let connection = Rc::new(Connection { worker, listener: name, vouched, tls: Some(facts), h2 });
    if h2 { self::h2(connection, stream, drain).await } else { h1(connection, stream, header_timeout, drain).await }
}

async fn h1<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    connection: Rc<Connection>,
    stream: S,
    header_timeout: std::time::Duration,
    drain: Drain,
) {
    let closing = Rc::new(Cell::new(false));
    let last = closing.clone();
    let service = service_fn(move |request| {
        let (connection, last) = (connection.clone(), last.clone());
        async move {
            let answer = handler::handle(connection, request).await;
            answer.map(|mut answer| {
                if last.get() {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                answer
            })
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let ended = drain.end_h1(served, &closing, |served| served.graceful_shutdown()).await;
    if let Err(error) = ended {
        tracing::debug!(%error, "h1 connection ended");
    }
}

async fn h2<S: AsyncRead + AsyncWrite + Unpin + 'static>(connection: Rc<Connection>, stream: S, drain: Drain) {
    let service = service_fn(move |request| handler::handle(connection.clone(), request));
    let served = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(stream), service);
    let ended = drain.end_h2(served, |served| served.graceful_shutdown()).await;
    if let Err(error) = ended {
        tracing::debug!(%error, "h2 connection ended");
    }
}

/// Streams of a connection stay on its worker.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
