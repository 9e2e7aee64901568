//! One client connection: let in, handshake, protocol, and its end.
//!
//! ```text
//! admit ─▶ handshake ─▶ ALPN ──────▶ h1 · h2 ─▶ until it is over: by itself, drained, or a limit's end
//!    │       └ plain: preface ahead? ──┘
//!    └▶ refused: closed
//! ```

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::model::id::Name;
use crate::model::listener::{ListenerLimits, ListenerTimeouts};
use crate::table::TableListener;

use super::activity::{Activity, Expiry};
use super::body::ResponseBody;
use super::drain::{Course, Drain, Step};
use super::forwarded::Vouched;
use super::handler::{self, Answered};
use super::handshake::{TlsFacts, handshake};
use super::limits::library_head;
use super::parting::part;
use super::unheard::{Unheard, request_timeout};
use super::watched::Watched;
use super::worker::Worker;

/// What is the same for every request of a connection.
#[derive(Debug)]
pub struct Connection {
    pub worker: Rc<Worker>,
    pub listener: Name,
    pub vouched: Vouched,
    pub tls: Option<TlsFacts>,
    pub h2: bool,
    pub limits: ListenerLimits,
    pub timeouts: ListenerTimeouts,
    pub activity: Arc<Activity>,
}

/// Enough for a stream to fill a long fat pipe without waiting for updates.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Header fields that the h1 parser has room for on its stack; more cost an allocation a request.
const PARSER_HEADERS: usize = 100;
/// h2 streams that were reset before they came to the handler, and streams that we reset for what came on them: both are
/// work that a client makes for nothing. Beyond, the connection ends with ENHANCE_YOUR_CALM.
const MAX_PENDING_RESETS: usize = 20;
const MAX_LOCAL_RESETS: usize = 128;

pub async fn serve(
    worker: Rc<Worker>,
    compiled: Arc<TableListener>,
    stream: TcpStream,
    peer: SocketAddr,
    drain: Drain,
) {
    let _open = worker.open();
    let name = compiled.listener.name.clone();
    let listener = compiled.listener.clone();
    let _admitted = match worker.admission.admit(&listener, peer.ip()) {
        Ok(admitted) => admitted,
        Err(refused) => return worker.metrics.cut(refused.reason()),
    };
    let _counted = worker.metrics.connection(name.as_str());
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().ok();
    let port = listener.public_port.or(local.map(|local| local.port())).unwrap_or(listener.address.port);
    let vouched = Vouched::new(peer, listener.tls, port, &worker.server_name, &listener.trusted_proxies);
    let (limits, timeouts) = (listener.limits, listener.timeouts);
    let connect = |tls: Option<TlsFacts>, h2: bool, born: Instant| {
        let activity = Arc::new(Activity::new(h2, limits.resets, born));
        Rc::new(Connection {
            worker: worker.clone(),
            listener: name.clone(),
            vouched,
            tls,
            h2,
            limits,
            timeouts,
            activity,
        })
    };
    if !listener.tls {
        // The listener of one table is a large part of it, and a connection may outlive many.
        drop(compiled);
        let born = Instant::now();
        let mut stream = stream;
        let preface = tokio::select! {
            preface = timeout(timeouts.header.0, preface(&mut stream)) => preface,
            () = drain.patience() => return,
        };
        return match preface {
            Ok(Ok(Preface { h2, ahead })) => speak(connect(None, h2, born), stream, ahead, drain).await,
            // Gone before it said anything.
            Ok(Err(_)) => {}
            Err(_) => {
                let connection = connect(None, false, born);
                Unheard::silent(Expiry::Header.reason()).note(&connection, born.elapsed());
            }
        };
    }
    let Some(local) = local else { return };
    let shaken = tokio::select! {
        shaken = timeout(timeouts.handshake.0, handshake(stream, local, &compiled)) => shaken,
        () = drain.patience() => return,
    };
    drop(compiled);
    let (stream, facts) = match shaken {
        Ok(Ok(shaken)) => shaken,
        Ok(Err(error)) => {
            worker.metrics.handshake_failure(error.reason);
            tracing::debug!(%peer, listener = %name, reason = error.reason, detail = error.detail, "no handshake");
            if let Some(stream) = error.stream {
                tokio::select! {
                    () = part(stream) => {}
                    () = drain.patience() => {}
                }
            }
            return;
        }
        Err(_) => {
            worker.metrics.handshake_failure("timeout");
            return;
        }
    };
    let h2 = facts.h2;
    speak(connect(Some(facts), h2, Instant::now()), stream, Vec::new(), drain).await;
}

/// How a plain connection begins.
struct Preface {
    /// With the words of HTTP/2, unasked: prior knowledge (RFC 9113 §3.3).
    h2: bool,
    /// What had to be read to know.
    ahead: Vec<u8>,
}

const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Looks without reading, so that what comes next reads it all at once; only a preface in pieces has to be taken up.
async fn preface(stream: &mut TcpStream) -> std::io::Result<Preface> {
    let mut seen = [0; H2_PREFACE.len()];
    let count = stream.peek(&mut seen).await?;
    if count == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    if seen[..count] != H2_PREFACE[..count] {
        return Ok(Preface { h2: false, ahead: Vec::new() });
    }
    if count == H2_PREFACE.len() {
        return Ok(Preface { h2: true, ahead: Vec::new() });
    }
    let mut ahead = Vec::with_capacity(H2_PREFACE.len());
    loop {
        let count = (&mut *stream).take((H2_PREFACE.len() - ahead.len()) as u64).read_buf(&mut ahead).await?;
        let like = ahead[..] == H2_PREFACE[..ahead.len()];
        if count == 0 || !like || ahead.len() == H2_PREFACE.len() {
            return Ok(Preface { h2: like && ahead.len() == H2_PREFACE.len(), ahead });
        }
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    connection: Rc<Connection>,
    stream: S,
    ahead: Vec<u8>,
    drain: Drain,
) {
    let began = Instant::now();
    let stream = Watched::new(stream, ahead, connection.activity.clone());
    let end = if connection.h2 { h2(&connection, stream, &drain).await } else { h1(&connection, stream, &drain).await };
    if let Some(unheard) = end {
        unheard.note(&connection, began.elapsed());
    }
}

async fn h1<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    connection: &Rc<Connection>,
    stream: Watched<S>,
    drain: &Drain,
) -> Option<Unheard> {
    let closing = Rc::new(Cell::new(false));
    let becomes = Rc::new(Cell::new(None));
    let (of, last, then) = (connection.clone(), closing.clone(), becomes.clone());
    let service = service_fn(move |request| {
        let (of, last, then) = (of.clone(), last.clone(), then.clone());
        async move {
            let Answered { mut response, tunnel } = handler::handle(of, request).await;
            if tunnel.is_some() {
                then.set(tunnel);
            } else if last.get() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    // The connection's activity has a timer for heads, and one that does not run while nothing is asked.
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_header_size(library_head(&connection.limits));
    if connection.limits.headers as usize > PARSER_HEADERS {
        builder.max_headers(connection.limits.headers as usize);
    }
    let mut served = builder.serve_connection(TokioIo::new(stream), service);
    let mut course = drain.of_h1(&closing);
    let end = until_over(&mut served, |served| served.graceful_shutdown(), connection, &mut course).await;
    match (end, becomes.take()) {
        // Where the head of the answer is not all gone, what comes after it cannot follow.
        (End::Itself(Ok(())), Some(tunnel)) if connection.activity.is_flushed() => {
            let parts = served.into_parts();
            Box::pin(tunnel.run(parts.io.into_inner(), parts.read_buf, course.cut_off())).await;
            None
        }
        // Boxed, as what follows a request is: an idle connection keeps no room for its end.
        (end, _) => Box::pin(h1_end(end, connection, served)).await,
    }
}

/// What became of a connection that remained HTTP's.
async fn h1_end<S, V>(
    end: End,
    connection: &Rc<Connection>,
    served: http1::Connection<TokioIo<Watched<S>>, V>,
) -> Option<Unheard>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: HttpService<Incoming, ResBody = ResponseBody>,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match end {
        End::Itself(Ok(())) | End::CutOff => None,
        End::Itself(Err(error)) => {
            tracing::debug!(%error, "h1 connection ended");
            Unheard::of(&error)
        }
        End::Limit(Expiry::Header) if connection.activity.is_flushed() => {
            let reason = Expiry::Header.reason();
            let stream = served.into_parts().io.into_inner();
            let shown = connection.worker.manners.reason_header().then_some(reason);
            let _ = timeout(connection.timeouts.send.0, request_timeout(stream, shown)).await;
            Some(Unheard { reason, status: Some(http::StatusCode::REQUEST_TIMEOUT) })
        }
        End::Limit(expiry) => Some(Unheard::silent(expiry.reason())),
    }
}

async fn h2<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    connection: &Rc<Connection>,
    stream: Watched<S>,
    drain: &Drain,
) -> Option<Unheard> {
    let of = connection.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let of = of.clone();
        // Of an extended CONNECT: its stream, once it is answered with success.
        let stream = (*request.method() == Method::CONNECT).then(|| hyper::upgrade::on(&mut request));
        async move {
            let Answered { response, tunnel } = handler::handle(of.clone(), request).await;
            if let (Some(tunnel), Some(stream)) = (tunnel, stream) {
                // The worker does not end before what the tunnel has to say is said.
                let open = of.worker.open();
                tokio::task::spawn_local(async move {
                    if let Ok(stream) = stream.await {
                        tunnel.run(TokioIo::new(stream), Bytes::new(), std::future::pending()).await;
                    }
                    drop(open);
                });
            }
            Ok::<_, Infallible>(response)
        }
    });
    let limits = &connection.limits;
    let mut served = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(library_head(limits)).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(stream), service);
    let mut course = drain.of_h2();
    match until_over(&mut served, |served| served.graceful_shutdown(), connection, &mut course).await {
        End::Itself(Ok(())) | End::CutOff => None,
        End::Itself(Err(error)) => {
            tracing::debug!(%error, "h2 connection ended");
            Unheard::of(&error)
        }
        End::Limit(expiry) => Some(Unheard::silent(expiry.reason())),
    }
}

enum End {
    Itself(hyper::Result<()>),
    Limit(Expiry),
    /// Its listener is gone, and the time to finish is over.
    CutOff,
}

/// Serves until the connection ends by itself, a limit is over or a drain is. Once it is drained or nothing was asked for
/// long enough, the client is told, and what is under way is finished.
async fn until_over<C: Future<Output = hyper::Result<()>> + Unpin>(
    served: &mut C,
    shut_down: impl Fn(Pin<&mut C>),
    connection: &Connection,
    course: &mut Course<'_>,
) -> End {
    let Connection { activity, timeouts, worker, .. } = connection;
    loop {
        tokio::select! {
            biased;
            ended = &mut *served => return End::Itself(ended),
            step = course.next() => match step {
                Step::ShutDown => {}
                Step::CutOff => return End::CutOff,
            },
            expiry = activity.expired(timeouts) => match expiry {
                Expiry::Idle => worker.metrics.cut(expiry.reason()),
                expiry => return End::Limit(expiry),
            },
        }
        activity.tell();
        shut_down(Pin::new(&mut *served));
    }
}

/// Streams of a connection stay on its worker.
#[derive(Debug, Clone, Copy)]
pub struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
