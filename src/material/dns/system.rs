//! The resolver as the system has it: the servers, search domains and options of `/etc/resolv.conf`, and `/etc/hosts`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;

use super::Found;

const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// For an answer of one server; a container's resolv.conf says nothing, which is 5 s, and then nobody serves for so long.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Made anew when one of the files changes: networks come and go under a process that stays.
#[derive(Debug, Default)]
pub(super) struct SystemResolver(Mutex<Option<Made>>);

struct Made {
    of: [Option<Stamp>; 2],
    resolver: Result<TokioResolver, String>,
}

/// Inode, size, modification time.
type Stamp = (u64, u64, i64, i64);

impl SystemResolver {
    /// Every A and AAAA record; at least one address, or why there is none.
    pub async fn look_up(&self, name: &str) -> Result<Found, String> {
        let resolver = self.current()?;
        let found = resolver.lookup_ip(name).await.map_err(|error| why(&error))?;
        let addresses: Vec<_> = found.iter().collect();
        if addresses.is_empty() {
            return Err("it has no address".into());
        }
        Ok(Found { addresses, ttl: found.valid_until().saturating_duration_since(Instant::now()) })
    }

    fn current(&self) -> Result<TokioResolver, String> {
        let now = FILES.map(stamp);
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some(made) if made.of == now => made.resolver.clone(),
            _ => {
                let resolver = make();
                *made = Some(Made { of: now, resolver: resolver.clone() });
                resolver
            }
        }
    }
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Made").field("of", &self.of).finish_non_exhaustive()
    }
}

fn make() -> Result<TokioResolver, String> {
    let told = |error: NetError| format!("/etc/resolv.conf cannot be used: {error}");
    let mut builder = TokioResolver::builder_tokio().map_err(told)?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = options.timeout.min(TIMEOUT);
    // When to ask again is decided by whoever asks.
    options.cache_size = 0;
    builder.build().map_err(told)
}

fn stamp(path: &str) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Without what differs from one lookup to the next: it stands in a finding.
fn why(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NXDomain => {
            "there is no such name (NXDOMAIN)".into()
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NoError => {
            "it has no address (no A and no AAAA record)".into()
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) => format!("the DNS server says {}", none.response_code),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the DNS server says {code}"),
        NetError::Timeout => "no DNS server answered in time".into(),
        NetError::NoConnections => "no DNS server can be reached".into(),
        other => other.to_string(),
    }
}
