//! One request and its answer, from the head's arrival until the last byte is gone: what the log and the metrics say.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode, Uri, Version};
use jiff::Timestamp;

use crate::table::RouteAction;
use crate::table::identity::Identity;
use crate::telemetry::access_log::{ClientRecord, Record};
use crate::telemetry::metrics::InFlightGuard;

use super::body::BodyError;
use super::connection::Connection;
use super::error::ErrorKind;
use super::expectation::Expectation;
use super::grpc;
use super::handshake::TlsFacts;
use super::held::Hold;
use super::pool::Slot;
use super::upload::Upload;
use super::worker::LiveRoute;

pub struct Exchange {
    connection: Rc<Connection>,
    _in_flight: InFlightGuard,
    started: Instant,
    time: Option<Timestamp>,
    method: Method,
    /// Where it is logged.
    uri: Option<Uri>,
    version: Version,
    host: Option<http::HeaderValue>,
    user_agent: Option<http::HeaderValue>,
    referer: Option<http::HeaderValue>,
    /// A gRPC client waits for the answer.
    pub grpc: bool,
    pub upload: Rc<Upload>,
    pub response_bytes: u64,
    pub status: StatusCode,
    /// Why Portolan answered by itself, or why the answer broke off.
    pub reason: Option<&'static str>,
    pub route: Option<Rc<LiveRoute>>,
    /// Who the client is, where the route's policy has verified it.
    pub identity: Option<Rc<Identity>>,
    /// Index into the route's shares.
    pub share: usize,
    pub endpoint: Option<Rc<Slot>>,
    /// Whether the endpoint has asked for the body, where it was to be asked.
    pub expectation: Option<Arc<Expectation>>,
    /// When it must be over.
    pub deadline: Option<tokio::time::Instant>,
    pub upstream_duration: Option<Duration>,
    /// How long it took until it became a tunnel.
    pub switched: Option<Duration>,
}

impl Exchange {
    pub fn begin(connection: &Rc<Connection>, head: &http::request::Parts) -> Box<Exchange> {
        let logged = connection.worker.log.is_on();
        let keep = |name: http::HeaderName| head.headers.get(name).filter(|_| logged).cloned();
        Box::new(Exchange {
            _in_flight: connection.worker.metrics.in_flight(),
            started: Instant::now(),
            time: logged.then(Timestamp::now),
            method: head.method.clone(),
            uri: logged.then(|| head.uri.clone()),
            version: head.version,
            host: keep(http::header::HOST),
            user_agent: keep(http::header::USER_AGENT),
            referer: keep(http::header::REFERER),
            grpc: grpc::is_asked(&head.method, &head.headers),
            upload: Rc::new(Upload::begin(&connection.activity)),
            response_bytes: 0,
            status: StatusCode::OK,
            reason: None,
            route: None,
            identity: None,
            share: 0,
            endpoint: None,
            expectation: None,
            deadline: None,
            upstream_duration: None,
            switched: None,
            connection: connection.clone(),
        })
    }

    pub fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A place among what is under way.
    pub fn hold(&self) -> Option<Hold> {
        self.route.as_ref().map(|route| Hold::begin(&self.connection, &route.entry))
    }

    /// The endpoint stopped in the middle of its answer.
    pub fn broken(&mut self, error: &BodyError) {
        let kind = match error {
            BodyError::Overdue => ErrorKind::RequestTimeout,
            BodyError::Withdrawn(kind) => *kind,
            // Half a request is no fault of the endpoint's.
            BodyError::Endpoint(_) if let Some(fault) = self.upload.fault() => fault.kind,
            BodyError::Endpoint(_) if self.endpoint.as_ref().is_some_and(|slot| slot.is_gone()) => {
                ErrorKind::EndpointGone
            }
            BodyError::Endpoint(_) => ErrorKind::EndpointReset,
        };
        self.reason = Some(kind.reason());
        tracing::debug!(%error, uri = self.uri.as_ref().map(tracing::field::display), "an answer broke off");
    }

    fn log(&self, duration: Duration) {
        let (log, Some(time), Some(uri)) = (&self.connection.worker.log, self.time, &self.uri) else { return };
        let host_header = self.host.as_ref().and_then(|host| host.to_str().ok());
        let host = uri.authority().map(|authority| authority.as_str()).or(host_header);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let upstream = self.route.as_ref().and_then(|route| match &route.entry.action {
            RouteAction::Forward(backend) => backend.share(self.share),
            RouteAction::Deny(_) => None,
        });
        let tls = self.connection.tls.as_ref().map(TlsFacts::record);
        log.write(&Record {
            time,
            client: self.connection.vouched.peer(),
            listener: self.connection.listener.as_str(),
            protocol: protocol(self.version),
            method: self.method.as_str(),
            host: host.unwrap_or(""),
            path,
            status: self.status.as_u16(),
            request_bytes: self.upload.bytes(),
            response_bytes: self.response_bytes,
            duration,
            upstream_duration: self.upstream_duration,
            route: self.route.as_ref().map(|route| &*route.entry.label),
            service: upstream.map(|upstream| &*upstream.label),
            endpoint: self.endpoint.as_ref().map(|slot| &*slot.endpoint.name),
            tls,
            client_certificate: self.identity.as_ref().map(|identity| ClientRecord {
                subject: &identity.subject,
                issuer: &identity.issuer,
                serial: &identity.serial,
                fingerprint: &identity.fingerprint,
                names: &identity.names,
            }),
            reason: self.reason,
            user_agent: self.user_agent.as_ref().map(http::HeaderValue::as_bytes),
            referer: self.referer.as_ref().map(http::HeaderValue::as_bytes),
        });
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("uri", &self.uri).field("status", &self.status).finish_non_exhaustive()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(expectation) = &self.expectation {
            expectation.over();
        }
        let duration = self.started.elapsed();
        let metrics = &self.connection.worker.metrics;
        if let Some(route) = &self.route {
            // How long a tunnel is open says nothing about how long requests take.
            route.cells(self.share).record(self.status.as_u16(), self.switched.unwrap_or(duration));
        }
        match self.reason {
            Some(reason) if self.switched.is_some() => metrics.cut(reason),
            Some(reason) => metrics.refusal(reason),
            None => {}
        }
        self.log(duration);
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
