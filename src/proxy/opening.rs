//! Who needs a new connection to an endpoint that many can share waits for the one that is being made.
//!
//! ```text
//! h1: each its own          h2: turn ─▶ a place on what somebody else has opened · the same failure · a new one
//! ```

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::model::schema::Scheme;
use crate::model::units::Span;

use super::connect::{Connected, Opened, connect};
use super::error::{ErrorKind, ProxyError};
use super::pool::Slot;

/// What is known of connections to an endpoint before there is one.
#[derive(Debug)]
pub struct Opening {
    /// `None` until the endpoint has picked.
    shares: Cell<Option<bool>>,
    turn: Semaphore,
    failures: Cell<u64>,
    last: RefCell<Option<ProxyError>>,
    /// What was said last about TLS with it.
    said: RefCell<Option<String>>,
}

impl Opening {
    pub fn by(scheme: Scheme) -> Opening {
        let shares = match scheme {
            Scheme::Http => Some(false),
            Scheme::H2c | Scheme::H2 => Some(true),
            Scheme::Https => None,
        };
        Opening {
            shares: Cell::new(shares),
            turn: Semaphore::new(1),
            failures: Cell::new(0),
            last: RefCell::default(),
            said: RefCell::default(),
        }
    }
}

impl Opening {
    /// A certificate that is not taken is for the operator to mend: said once, until it is mended or another thing is wrong.
    fn mind(&self, slot: &Slot, error: Option<&ProxyError>) {
        let Some(ProxyError { kind: ErrorKind::EndpointCertificate | ErrorKind::EndpointTls, detail }) = error else {
            if error.is_none() && self.said.borrow().is_some() {
                self.said.take();
            }
            return;
        };
        if self.said.borrow().as_ref() != Some(detail) {
            tracing::warn!(endpoint = &*slot.endpoint.name, detail, "no TLS with an endpoint");
            *self.said.borrow_mut() = Some(detail.clone());
        }
    }
}

/// A new connection, or a place on one that somebody else has opened meanwhile.
pub async fn open(slot: &Rc<Slot>, limit: Duration) -> Result<Connected, ProxyError> {
    let opening = &slot.opening;
    if opening.shares.get() == Some(false) {
        return alone(slot, limit).await;
    }
    let (failures, end) = (opening.failures.get(), Instant::now() + limit);
    let Ok(turn) = timeout(limit, opening.turn.acquire()).await else {
        let why = format!("{}: no connection within {}", slot.endpoint.address, Span(limit));
        return Err(ProxyError::new(ErrorKind::ConnectTimeout, why));
    };
    if opening.failures.get() != failures
        && let Some(error) = &*opening.last.borrow()
    {
        return Err(error.clone());
    }
    if let Some(place) = slot.place() {
        return Ok(Connected::H2(place));
    }
    if opening.shares.get() == Some(false) {
        drop(turn);
        return alone(slot, end.saturating_duration_since(Instant::now())).await;
    }
    let opened = alone(slot, end.saturating_duration_since(Instant::now())).await;
    if let Err(error) = &opened {
        opening.failures.set(failures.max(opening.failures.get()) + 1);
        *opening.last.borrow_mut() = Some(error.clone());
    }
    opened
}

/// A new h1 connection to an endpoint that would pick h2, which may know nothing of WebSockets.
pub async fn open_h1(slot: &Rc<Slot>, limit: Duration) -> Result<Connected, ProxyError> {
    let connected = connect(&slot.endpoint, limit, true).await;
    slot.opening.mind(slot, connected.as_ref().err());
    match connected? {
        Opened::H1(exclusive) => Ok(Connected::H1(exclusive)),
        Opened::H2(_) => {
            let why = format!("{}: it picks HTTP/2 where it was not offered", slot.endpoint.address);
            Err(ProxyError::new(ErrorKind::EndpointTls, why))
        }
    }
}

async fn alone(slot: &Rc<Slot>, limit: Duration) -> Result<Connected, ProxyError> {
    let connected = connect(&slot.endpoint, limit, false).await;
    slot.opening.mind(slot, connected.as_ref().err());
    match connected? {
        Opened::H1(exclusive) => {
            slot.opening.shares.set(Some(false));
            Ok(Connected::H1(exclusive))
        }
        Opened::H2(shared) => {
            slot.opening.shares.set(Some(true));
            let Some(place) = shared.place() else {
                let why = format!("{}: it takes no request", slot.endpoint.address);
                return Err(ProxyError::new(ErrorKind::EndpointUnreachable, why));
            };
            slot.share(shared);
            Ok(Connected::H2(place))
        }
    }
}
