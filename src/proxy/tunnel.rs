//! A connection that has left HTTP: two sides, joined until both have ended or it has to end.
//!
//! ```text
//! client ◀═ Pipe, Pipe ═▶ endpoint ─▶ End: closed · aborted · idle · route withdrawn · endpoint departed · drained
//! ```
//! It keeps its exchange (the log line that it will be), its route's entry and its endpoint's slot, never a table. The
//! timers of requests and of idle connections do not run for it.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use crate::table::RouteAction;
use crate::telemetry::metrics::InFlightGuard;

use super::connection::Connection;
use super::error::ErrorKind;
use super::exchange::Exchange;
use super::held::Hold;
use super::pipe::{Broken, Pipe};
use super::pool::{InFlight, Slot};
use super::shared::Place;

/// For a client to take the last bytes of a tunnel that ends otherwise than by itself.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// Whatever carries bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// A side that has left HTTP, and what it had said already by then.
pub struct Side {
    pub stream: Box<dyn Duplex>,
    pub ahead: Bytes,
    /// On a connection that others use as well.
    pub _place: Option<Place>,
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").field("ahead", &self.ahead.len()).finish_non_exhaustive()
    }
}

/// One half of it, until the client's connection has left HTTP too.
pub struct Tunnel {
    connection: Rc<Connection>,
    exchange: Box<Exchange>,
    far: Far,
    hold: Option<Hold>,
    _counted: InFlightGuard,
}

/// The endpoint's half.
pub struct Far {
    pub side: Side,
    pub slot: Rc<Slot>,
    pub _in_flight: Option<InFlight>,
}

enum End {
    /// Both sides have ended theirs.
    Closed,
    Client(io::Error),
    Endpoint(io::Error),
    Idle,
    Withdrawn(ErrorKind),
    /// The endpoint departed.
    Gone,
    /// The client's connection is drained, and the time is over.
    Drained,
}

impl End {
    /// The word for log and metric, where it did not end by itself.
    fn reason(&self) -> Option<&'static str> {
        match self {
            End::Closed | End::Client(_) => None,
            End::Endpoint(_) => Some(ErrorKind::EndpointReset.reason()),
            End::Idle => Some("TunnelIdle"),
            End::Withdrawn(kind) => Some(kind.reason()),
            End::Gone => Some(ErrorKind::EndpointGone.reason()),
            End::Drained => Some("Drained"),
        }
    }
}

impl Tunnel {
    pub fn new(connection: &Rc<Connection>, mut exchange: Box<Exchange>, far: Far) -> Tunnel {
        exchange.switched = Some(exchange.elapsed());
        exchange.upload.answered();
        exchange.upload.responded();
        let counted = connection.worker.metrics.tunnel();
        Tunnel { connection: connection.clone(), hold: exchange.hold(), exchange, far, _counted: counted }
    }

    /// `ahead` is what the client said already; `drained` is when its connection must be gone.
    pub async fn run(mut self, mut client: impl Duplex, ahead: Bytes, drained: impl Future<Output = ()>) {
        let end = self.join(&mut client, ahead, drained).await;
        let reason = end.reason();
        if let End::Client(error) | End::Endpoint(error) = &end {
            tracing::debug!(%error, reason, "a tunnel broke");
        }
        self.exchange.reason = reason;
        if reason.is_some() {
            // An error says that it is gone already.
            let _ = timeout(LAST_BYTES, client.shutdown()).await;
        }
    }

    async fn join(&mut self, client: &mut impl Duplex, ahead: Bytes, drained: impl Future<Output = ()>) -> End {
        let Tunnel { connection, exchange, far: Far { side, slot, .. }, hold, .. } = self;
        let Side { stream: endpoint, ahead: answered, .. } = side;
        let idle = connection.timeouts.tunnel_idle.0;
        let (mut up, mut down) = (Pipe::new(ahead), Pipe::new(std::mem::take(answered)));
        let mut last = Instant::now();
        let mut timer = pin!(sleep_until(last + idle));
        let mut departed = pin!(slot.departed());
        let mut drained = pin!(drained);
        let mut watching = true;
        // Over h2 a client that gives up looks like one that has said everything, until its other half is seen to.
        let mut looks = if connection.h2 { 3 } else { 0 };
        poll_fn(|cx| {
            let before = (up.moved(), down.moved());
            let (upward, downward) = {
                let scratch = &mut connection.worker.scratch.borrow_mut()[..];
                (up.poll(cx, client, endpoint, scratch), down.poll(cx, endpoint, client, scratch))
            };
            let (sent, received) = (up.moved() - before.0, down.moved() - before.1);
            exchange.upload.received(usize::try_from(sent).unwrap_or(usize::MAX));
            exchange.response_bytes += received;
            if sent + received > 0 {
                last = Instant::now();
            }
            match (upward, downward) {
                (Poll::Ready(Err(Broken::Reader(error))), _) | (_, Poll::Ready(Err(Broken::Writer(error)))) => {
                    return Poll::Ready(End::Client(error));
                }
                (Poll::Ready(Err(Broken::Writer(error))), _) | (_, Poll::Ready(Err(Broken::Reader(error)))) => {
                    return Poll::Ready(End::Endpoint(error));
                }
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
                _ => {}
            }
            if up.has_read_all() && looks > 0 {
                looks -= 1;
                if let Poll::Ready(Err(error)) = Pin::new(&mut *client).poll_flush(cx) {
                    return Poll::Ready(End::Client(error));
                }
                cx.waker().wake_by_ref();
            }
            if let Some(Poll::Ready(kind)) = hold.as_mut().map(|hold| hold.poll_ended(cx)) {
                return Poll::Ready(End::Withdrawn(kind));
            }
            if watching && departed.as_mut().poll(cx).is_ready() {
                if is_served(connection, exchange) {
                    return Poll::Ready(End::Gone);
                }
                // The service itself is gone, which is no word on the endpoint: the route's drain has the last one.
                watching = false;
            }
            if drained.as_mut().poll(cx).is_ready() {
                return Poll::Ready(End::Drained);
            }
            while timer.as_mut().poll(cx).is_ready() {
                if last + idle <= Instant::now() {
                    return Poll::Ready(End::Idle);
                }
                timer.as_mut().reset(last + idle);
            }
            Poll::Pending
        })
        .await
    }
}

/// Whether the table in force has the service that the exchange was forwarded to.
fn is_served(connection: &Connection, exchange: &Exchange) -> bool {
    let Some(route) = &exchange.route else { return true };
    let RouteAction::Forward(backend) = &route.entry.action else { return true };
    let upstream = backend.share(exchange.share);
    upstream.is_none_or(|upstream| connection.worker.generation().table.upstream(&upstream.services).is_some())
}
