//! Word from a worker about an endpoint that failed a request.

use std::sync::Arc;

use crate::table::{LiveEndpoint, Upstream};

use super::attempt::FailureKind;
use super::error::{ErrorKind, ProxyError};

#[derive(Debug, Clone)]
pub struct Trouble {
    pub endpoint: Arc<LiveEndpoint>,
    pub upstream: Arc<Upstream>,
    /// There was no connection: its address may be another one by now.
    pub connect: bool,
    /// How many in a row.
    pub failures: u32,
    pub why: Arc<str>,
}

impl Trouble {
    /// Counts the failure. `None` where it says nothing about the endpoint, or nothing that somebody must hear of.
    pub fn of(
        endpoint: &Arc<LiveEndpoint>,
        upstream: &Arc<Upstream>,
        kind: FailureKind,
        error: &ProxyError,
    ) -> Option<Trouble> {
        let connect = matches!(error.kind, ErrorKind::EndpointUnreachable | ErrorKind::ConnectTimeout);
        let broken = matches!(error.kind, ErrorKind::EndpointReset | ErrorKind::ResponseTimeout);
        // A kept connection may have been closed while nobody looked.
        if !connect && !broken || kind == (FailureKind::Broken { kept: true }) {
            return None;
        }
        Trouble::counted(endpoint, upstream, connect, || error.detail.as_str().into())
    }

    /// The endpoint's answer is one of those that count as a failure.
    pub fn of_status(endpoint: &Arc<LiveEndpoint>, upstream: &Arc<Upstream>, status: u16) -> Option<Trouble> {
        Trouble::counted(endpoint, upstream, false, || format!("status {status}").into())
    }

    fn counted(
        endpoint: &Arc<LiveEndpoint>,
        upstream: &Arc<Upstream>,
        connect: bool,
        why: impl FnOnce() -> Arc<str>,
    ) -> Option<Trouble> {
        let failures = endpoint.failed();
        let most = upstream.traffic.ejection.failures;
        let told = connect || (most > 0 && failures >= most);
        told.then(|| Trouble { endpoint: endpoint.clone(), upstream: upstream.clone(), connect, failures, why: why() })
    }
}
