//! One request to one of the endpoints that a permit names.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

use super::authorize::Permit;
use super::body::{Lent, RequestBody};
use super::connect::connect;
use super::error::{ErrorKind, ProxyError};
use super::worker::Worker;

/// From the request's last byte to the head of the answer.
const RESPONSE_HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// An endpoint's answer, and the connection to give back when it has been read.
#[derive(Debug)]
pub struct Forwarded {
    pub response: Response<Incoming>,
    pub connection: Lent,
    /// Index into the upstream's endpoints.
    pub endpoint: usize,
}

/// Sends the request to an endpoint whose turn it is. A request that came back unsent goes to another one, or over a
/// fresh connection where only a kept one had gone stale; one that may have arrived anywhere is never sent again.
pub async fn forward(
    permit: Permit<'_>,
    worker: &Rc<Worker>,
    mut request: Request<RequestBody>,
) -> Result<Forwarded, ProxyError> {
    let upstream = permit.upstream();
    let mut failed: Vec<SocketAddr> = Vec::new();
    let mut last: Option<ProxyError> = None;
    loop {
        let Some((index, endpoint)) = upstream.pick(&failed) else {
            let absent = upstream.absent.as_ref();
            return Err(last.unwrap_or_else(|| {
                let detail = absent.map_or("no endpoint is ready", |absent| &absent.detail);
                ProxyError::new(ErrorKind::NoEndpoint(absent.map(|absent| absent.reason)), detail)
            }));
        };
        let address = endpoint.address;
        loop {
            let kept = worker.pool.checkout(address);
            let fresh = kept.is_none();
            let connected = match kept {
                Some(sender) => Ok(sender),
                None => connect(address).await,
            };
            let mut sender = match connected {
                Ok(sender) => sender,
                Err(error) => {
                    worker.metrics.upstream_error(&upstream.label, error.kind.reason());
                    failed.push(address);
                    last = Some(error);
                    break;
                }
            };
            let upload = request.body().upload();
            let answer = upload.answer_within(RESPONSE_HEADER_TIMEOUT, sender.try_send_request(request)).await;
            let mut error = match answer {
                Some(Ok(response)) => {
                    let connection = Lent { sender, address, pool: worker.pool.clone() };
                    return Ok(Forwarded { response, connection, endpoint: index });
                }
                Some(Err(error)) => error,
                None => {
                    let kind = ErrorKind::ResponseTimeout;
                    worker.metrics.upstream_error(&upstream.label, kind.reason());
                    let why = format!("{address}: no answer within {} s", RESPONSE_HEADER_TIMEOUT.as_secs());
                    return Err(ProxyError::new(kind, why));
                }
            };
            let reset = ProxyError::new(ErrorKind::EndpointReset, format!("{address}: {}", error.error()));
            match error.take_message() {
                Some(unsent) => {
                    request = unsent;
                    if fresh {
                        worker.metrics.upstream_error(&upstream.label, reset.kind.reason());
                        failed.push(address);
                        last = Some(reset);
                        break;
                    }
                }
                None => {
                    // The request's own body broke off: nothing that the endpoint did.
                    if !error.error().is_user() {
                        worker.metrics.upstream_error(&upstream.label, reset.kind.reason());
                    }
                    return Err(reset);
                }
            }
        }
    }
}
