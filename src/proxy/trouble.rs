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
        let connect = blame(kind, error.kind)? == Blame::Connect;
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    Connect,
    Answer,
}

/// `None` where the failure says nothing about the endpoint: a kept connection may have been closed while nobody looked,
/// and one that departed, or had too little time left, has not failed.
fn blame(kind: FailureKind, error: ErrorKind) -> Option<Blame> {
    match error {
        _ if kind == (FailureKind::Broken { kept: true }) => None,
        ErrorKind::EndpointUnreachable
        | ErrorKind::ConnectTimeout
        | ErrorKind::EndpointTls
        | ErrorKind::EndpointCertificate => Some(Blame::Connect),
        ErrorKind::EndpointReset | ErrorKind::ResponseTimeout => Some(Blame::Answer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_endpoint_itself_did_is_held_against_it() {
        use FailureKind::{Broken, Final, Gone, Unsent};
        for (kind, error, expected) in [
            (Unsent, ErrorKind::EndpointUnreachable, Some(Blame::Connect)),
            (Unsent, ErrorKind::ConnectTimeout, Some(Blame::Connect)),
            (Unsent, ErrorKind::EndpointReset, Some(Blame::Answer)),
            (Broken { kept: false }, ErrorKind::EndpointReset, Some(Blame::Answer)),
            (Final, ErrorKind::ResponseTimeout, Some(Blame::Answer)),
            (Final, ErrorKind::EndpointReset, Some(Blame::Answer)),
            (Broken { kept: true }, ErrorKind::EndpointReset, None),
            (Gone, ErrorKind::EndpointGone, None),
            (Final, ErrorKind::RequestTimeout, None),
        ] {
            assert_eq!(blame(kind, error), expected, "{kind:?} {error:?}");
        }
    }
}
