//! What a handshake is bound to: a client-auth key and a certificate.
//!
//! ```text
//! SNI ──────────▶ scope ─▶ TlsScope { key, certificate }   handshake with the key's config
//! Host/:authority ▶ scope ─▶ another key? ─▶ 421
//! ```
//! Hosts with equal keys share one config, its session storage and its tickets; a changed key gets fresh ones, so that
//! a session never resumes into another policy. The certificate is chosen before the handshake and handed to a clone
//! of the config (a few reference counts), so that one config serves any number of names.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use crate::model::certificate::LeafName;
use crate::model::host::{HostPattern, parent};
use crate::model::schema::TlsVersion;
use crate::model::service::ClientNames;

use super::client_auth::{Asking, ClientAuth, ClientAuthKey, Found};

/// Makes certificates on demand. Implemented by control's stores; fast enough to be called in a handshake.
pub trait Issuer: Send + Sync + fmt::Debug {
    fn leaf(&self, name: &LeafName) -> Result<Arc<CertifiedKey>, String>;

    /// For Portolan itself, to show to endpoints.
    fn client(&self, names: &ClientNames) -> Result<Arc<CertifiedKey>, String>;

    /// What its certificates lead to.
    fn roots(&self) -> Vec<CertificateDer<'static>>;

    /// Why it will never make one for this name, where it will not.
    fn refuses(&self, name: &LeafName) -> Option<String>;
}

/// Everything that must be equal for two hosts to share sessions and connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsKey {
    pub clients: ClientAuthKey,
    pub min_version: Option<TlsVersion>,
}

/// One client-auth key and the config that all its hosts share.
#[derive(Debug)]
pub struct TlsKeyed {
    pub key: TlsKey,
    config: Arc<ServerConfig>,
    asking: Option<Asking>,
}

/// Where a host's certificate comes from.
#[derive(Debug, Clone)]
pub enum CertificateSource {
    Configured(Arc<CertifiedKey>),
    Issued {
        name: LeafName,
        issuers: Vec<Arc<dyn Issuer>>,
    },
    /// The handshake is refused with `unrecognized_name`.
    None,
}

/// What one server name is bound to.
#[derive(Debug, Clone)]
pub struct TlsScope {
    pub keyed: Arc<TlsKeyed>,
    pub certificate: CertificateSource,
}

impl TlsKeyed {
    pub(super) fn new(clients: ClientAuth, min_version: Option<TlsVersion>) -> Result<TlsKeyed, rustls::Error> {
        let key = TlsKey { clients: clients.key(), min_version };
        let asking = clients.asking();
        let builder = builder(key.min_version)?;
        let mut config = match &asking {
            None => builder.with_no_client_auth(),
            Some(asking) => builder.with_client_cert_verifier(asking.verifier(Found::default())),
        }
        .with_cert_resolver(Arc::new(Chosen(None)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        config.send_tls13_tickets = 2;
        Ok(TlsKeyed { key, config: Arc::new(config), asking })
    }

    /// The config for one handshake: shared sessions and tickets, this certificate.
    pub fn config(&self, certificate: Arc<CertifiedKey>) -> (Arc<ServerConfig>, Found) {
        let found = Found::default();
        let resolver = Arc::new(Chosen(Some(certificate)));
        let verifying = self.asking.as_ref().filter(|asking| asking.refuses());
        let builder = verifying.and_then(|asking| Some((asking, builder(self.key.min_version).ok()?)));
        let config = match builder {
            // What a handshake finds out is for its own connection, and the library lets no verifier tell.
            Some((asking, builder)) => {
                let mut config =
                    builder.with_client_cert_verifier(asking.verifier(found.clone())).with_cert_resolver(resolver);
                config.alpn_protocols.clone_from(&self.config.alpn_protocols);
                config.session_storage = self.config.session_storage.clone();
                config.ticketer = self.config.ticketer.clone();
                config.send_tls13_tickets = self.config.send_tls13_tickets;
                config
            }
            None => {
                let mut config = ServerConfig::clone(&self.config);
                config.cert_resolver = resolver;
                config
            }
        };
        (Arc::new(config), found)
    }

    /// Whether a handshake with this key asks for a certificate.
    pub fn asks(&self) -> bool {
        self.key.clients.asks()
    }
}

fn builder(
    min_version: Option<TlsVersion>,
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, rustls::Error> {
    static PROVIDER: LazyLock<Arc<rustls::crypto::CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    let versions: &[&rustls::SupportedProtocolVersion] = match min_version {
        Some(TlsVersion::V1_3) => &[&rustls::version::TLS13],
        Some(TlsVersion::V1_2) | None => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    ServerConfig::builder_with_provider(PROVIDER.clone()).with_protocol_versions(versions)
}

#[derive(Debug)]
struct Chosen(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Chosen {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

impl CertificateSource {
    /// The certificate to show now. `Err` says why there is none.
    pub fn certificate(&self) -> Result<Arc<CertifiedKey>, String> {
        match self {
            CertificateSource::Configured(certificate) => Ok(certificate.clone()),
            CertificateSource::Issued { name, issuers } => {
                let mut why = format!("no issuer for {name}");
                for issuer in issuers {
                    match issuer.leaf(name) {
                        Ok(certificate) => return Ok(certificate),
                        Err(error) => why = error,
                    }
                }
                Err(why)
            }
            CertificateSource::None => Err("no certificate for this name".into()),
        }
    }
}

/// The scopes of one listener by name.
#[derive(Debug)]
pub(super) struct TlsIndex {
    exact: HashMap<Arc<str>, TlsScope, RandomState>,
    wildcard: HashMap<Arc<str>, TlsScope, RandomState>,
    /// For names that no route claims, and for clients that send none.
    other: TlsScope,
}

impl TlsIndex {
    pub fn new(other: TlsScope) -> TlsIndex {
        TlsIndex { exact: HashMap::default(), wildcard: HashMap::default(), other }
    }

    pub fn insert(&mut self, host: &HostPattern, scope: TlsScope) {
        match host {
            HostPattern::Exact(name) => {
                self.exact.insert(name.clone(), scope);
            }
            HostPattern::Wildcard(suffix) => {
                self.wildcard.insert(suffix.clone(), scope);
            }
            HostPattern::Any => self.other = scope,
        }
    }

    /// The keys in use, for the next table to carry over. Keys repeat.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<TlsKeyed>> {
        self.exact.values().chain(self.wildcard.values()).chain([&self.other]).map(|scope| &scope.keyed)
    }

    pub fn scope(&self, name: Option<&str>) -> &TlsScope {
        let Some(name) = name else { return &self.other };
        self.exact
            .get(name)
            .or_else(|| parent(name).and_then(|suffix| self.wildcard.get(suffix)))
            .unwrap_or(&self.other)
    }

    /// By resolved key, never by name: a connection for one host of a wildcard serves the others as well.
    pub fn agree(&self, name: Option<&str>, host: &str) -> bool {
        let (named, asked) = (&self.scope(name).keyed, &self.scope(Some(host)).keyed);
        Arc::ptr_eq(named, asked) || named.key == asked.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::content::ContentKey;

    /// A scope under a key of its own.
    fn scope(of: &str) -> TlsScope {
        let mut keyed = TlsKeyed::new(ClientAuth::default(), None).expect("a config");
        keyed.key.clients = ClientAuthKey::testing(ContentKey::of([of]));
        TlsScope { keyed: Arc::new(keyed), certificate: CertificateSource::None }
    }

    /// The matrix of misdirected requests of the Gateway API's conformance: four listeners on one port, by host name.
    #[test]
    fn names_and_hosts_are_resolved_apart_and_must_meet() {
        let mut index = TlsIndex::new(scope("none"));
        for host in ["second-example.org", "*.wildcard.org", "fourth-example.wildcard.org"] {
            index.insert(&host.parse().expect(host), scope(host));
        }
        let (second, third, fith, fourth) = (
            "second-example.org",
            "third-example.wildcard.org",
            "fith-example.wildcard.org",
            "fourth-example.wildcard.org",
        );
        for (name, host, meet) in [
            ("example.org", "example.org", true),
            ("example.org", second, false),
            ("example.org", "unknown.org", true),
            (second, second, true),
            (second, "example.org", false),
            (second, "unknown.org", false),
            (third, third, true),
            (third, fith, true),
            (third, fourth, false),
            (third, second, false),
            (third, "unknown.org", false),
            (fourth, fourth, true),
            (fourth, fith, false),
            ("unknown.org", "example.org", true),
            ("unknown.org", "unknown.org", true),
        ] {
            assert_eq!(index.agree(Some(name), host), meet, "{name} {host}");
        }
        assert!(!index.agree(None, second) && index.agree(None, "example.org"), "who names nobody is nobody's");
    }
}
