//! TLS to endpoints: what their certificates are checked against, and the configuration that does.
//!
//! ```text
//! UpstreamTls (scheme, names) + Trust + Shown ─▶ ClientTlsKey ─▶ ClientTls, carried over from table to table
//! ```
//! A configuration holds its sessions and tickets: who trusts other CAs, expects another name, or is somebody else to the
//! endpoint, never resumes a session that was agreed under different terms. RFC 8446 §4.6.1, RFC 6125 §6.4 (names).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use ::aws_lc_rs::digest::{Context, SHA256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::model::schema::Scheme;
use crate::model::service::PeerName;

use super::client_identity::{Shown, ShownKey};
use super::identity::Identity;

/// Certificates of CAs, of any number of sources, and what they are by content.
#[derive(Clone)]
pub struct Roots {
    certificates: Arc<[CertificateDer<'static>]>,
    key: [u8; 32],
}

/// What an endpoint's certificate is checked against.
#[derive(Debug, Clone)]
pub enum Trust {
    Roots(Roots),
    /// Nothing: the operator's word.
    Unverified,
}

/// Under what terms a TLS connection is made: equal keys may share sessions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientTlsKey {
    /// `None` where nothing is verified.
    roots: Option<[u8; 32]>,
    server_name: Option<Arc<str>>,
    sans: Vec<PeerName>,
    /// Who Portolan is to the endpoint; `None` where it shows nothing.
    shown: Option<ShownKey>,
    h2_only: bool,
}

/// What a connection to an endpoint is made by.
#[derive(Debug, Clone)]
pub struct Terms {
    pub scheme: Scheme,
    pub server_name: Option<Arc<str>>,
    /// The certificate must be for one of these; empty: for the server name.
    pub sans: Vec<PeerName>,
    pub trust: Trust,
    pub shown: Option<Shown>,
}

/// TLS to an endpoint.
pub struct ClientTls {
    pub key: ClientTlsKey,
    pub config: Arc<ClientConfig>,
    pub shown: Option<Shown>,
}

impl Roots {
    pub fn new(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Roots {
        let certificates: BTreeSet<Vec<u8>> = certificates.into_iter().map(|root| root.to_vec()).collect();
        let mut context = Context::new(&SHA256);
        for certificate in &certificates {
            context.update(&(certificate.len() as u64).to_be_bytes());
            context.update(certificate);
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        Roots { certificates: certificates.into_iter().map(CertificateDer::from).collect(), key }
    }

    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots").field("certificates", &self.certificates.len()).finish_non_exhaustive()
    }
}

impl Terms {
    pub fn key(&self) -> ClientTlsKey {
        let Terms { scheme, server_name, sans, trust, shown } = self;
        let roots = match trust {
            Trust::Roots(roots) => Some(roots.key),
            Trust::Unverified => None,
        };
        ClientTlsKey {
            roots,
            server_name: server_name.clone(),
            sans: sans.clone(),
            shown: shown.as_ref().map(Shown::key),
            h2_only: *scheme == Scheme::H2,
        }
    }
}

impl ClientTls {
    /// Fails where none of the roots is one.
    pub fn new(terms: Terms) -> Result<ClientTls, String> {
        let key = terms.key();
        let Terms { scheme: _, server_name: _, sans, trust, shown } = terms;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match trust {
            Trust::Roots(roots) => {
                let mut store = RootCertStore::empty();
                let (added, _) = store.add_parsable_certificates(roots.certificates.iter().cloned());
                if added == 0 {
                    return Err("there is no CA to check the endpoint's certificate against".into());
                }
                match sans.is_empty() {
                    true => builder.with_root_certificates(store),
                    false => {
                        let takes = Takes::Named { roots: store, sans };
                        builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier { provider, takes }))
                    }
                }
            }
            Trust::Unverified => {
                let verifier = Verifier { provider, takes: Takes::Anybody };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
        };
        let mut config = match &shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder.with_client_cert_resolver(Arc::new(shown.clone())),
        };
        if shown.as_ref().is_some_and(Shown::is_renewed) {
            // A resumed session would bring the certificate of its first handshake, which has ended some day.
            config.resumption = Resumption::disabled();
        }
        config.alpn_protocols = match key.h2_only {
            true => vec![b"h2".to_vec()],
            false => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        Ok(ClientTls { key, config: Arc::new(config), shown })
    }

    /// What a certificate is for instead of the server name, where it is said: one of these.
    pub fn sans(&self) -> &[PeerName] {
        &self.key.sans
    }

    /// The name that the certificate must be for: the configured one, else that of the endpoint, which is a name, a URL,
    /// or else only an address.
    pub fn server_name(&self, endpoint: &str, address: std::net::IpAddr) -> ServerName<'static> {
        let named = self.key.server_name.as_deref().unwrap_or_else(|| host(endpoint));
        ServerName::try_from(named.to_string()).unwrap_or_else(|_| ServerName::from(address))
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Of `https://kuard:8443`, `https://[::1]`, or `shop-web-1`.
fn host(endpoint: &str) -> &str {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    }
}

/// Takes endpoints otherwise than by the name that was asked for. Whoever it takes has the key of what is shown.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    takes: Takes,
}

#[derive(Debug)]
enum Takes {
    /// A certificate of the roots' that is for one of the names.
    Named { roots: RootCertStore, sans: Vec<PeerName> },
    /// Whatever the certificate says.
    Anybody,
}

fn is_for(
    certificate: &CertificateDer<'_>,
    parsed: &ParsedCertificate<'_>,
    sans: &[PeerName],
) -> Result<(), rustls::Error> {
    let uris = Identity::of(certificate).map(|identity| identity.uris).unwrap_or_default();
    let named = |name: &PeerName| match name {
        PeerName::Uri(uri) => uris.iter().any(|own| **own == **uri),
        PeerName::Host(host) => {
            ServerName::try_from(&**host).is_ok_and(|host| verify_server_name(parsed, &host).is_ok())
        }
    };
    match sans.iter().any(named) {
        true => Ok(()),
        false => Err(CertificateError::NotValidForName.into()),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Takes::Named { roots, sans } = &self.takes {
            let parsed = ParsedCertificate::try_from(certificate)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
            is_for(certificate, &parsed, sans)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(scheme: Scheme, server_name: Option<&str>, trust: Trust) -> Terms {
        Terms { scheme, server_name: server_name.map(Into::into), sans: Vec::new(), trust, shown: None }
    }

    fn tls(scheme: Scheme, server_name: Option<&str>) -> ClientTls {
        ClientTls::new(terms(scheme, server_name, Trust::Unverified)).expect("made")
    }

    #[test]
    fn the_name_is_the_configured_one_else_the_endpoints_else_its_address() {
        let address = [10, 0, 0, 7].into();
        for (configured, endpoint, expected) in [
            (Some("shop.example"), "https://10.0.0.7", "shop.example"),
            (Some("10.9.9.9"), "https://10.0.0.7", "10.9.9.9"),
            (None, "https://kuard:8443", "kuard"),
            (None, "https://kuard", "kuard"),
            (None, "https://10.0.0.7:443", "10.0.0.7"),
            (None, "https://[fd00::7]:443", "fd00::7"),
            (None, "shop-web-1", "shop-web-1"),
            (None, "no name", "10.0.0.7"),
        ] {
            let name = tls(Scheme::Https, configured).server_name(endpoint, address);
            assert_eq!(name.to_str(), expected, "{configured:?} {endpoint}");
        }
    }

    #[test]
    fn h2_alone_is_offered_where_it_is_asked_for() {
        assert_eq!(tls(Scheme::H2, None).config.alpn_protocols, [b"h2".to_vec()]);
        assert_eq!(tls(Scheme::Https, None).config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn terms_that_differ_have_keys_that_differ() {
        let root = |byte: u8| CertificateDer::from(vec![byte; 4]);
        let of = |certificates: &[u8]| Trust::Roots(Roots::new(certificates.iter().map(|byte| root(*byte))));
        let key = |scheme, name: Option<&str>, trust: Trust| terms(scheme, name, trust).key();
        let one = key(Scheme::Https, None, of(&[1, 2]));
        assert_eq!(one, key(Scheme::Https, None, of(&[2, 1, 2])));
        let plain = || terms(Scheme::Https, None, of(&[1, 2]));
        let pair = |byte: u8| {
            let key = rcgen::KeyPair::generate().expect("a key").serialize_der();
            let key = rustls_pki_types::PrivateKeyDer::try_from(key).expect("a key");
            let key = aws_lc_rs::sign::any_supported_type(&key).expect("a key");
            Arc::new(rustls::sign::CertifiedKey::new(vec![root(byte)], key))
        };
        let shown = |byte| Terms { shown: Some(Shown::Configured(pair(byte))), ..plain() }.key();
        assert_eq!(shown(7), shown(7), "by content");
        assert_ne!(shown(7), shown(8));
        for other in [
            key(Scheme::Https, None, of(&[1])),
            key(Scheme::Https, Some("a"), of(&[1, 2])),
            key(Scheme::H2, None, of(&[1, 2])),
            key(Scheme::Https, None, Trust::Unverified),
            Terms { sans: vec![PeerName::Host("a".into())], ..plain() }.key(),
            shown(7),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn one_of_the_names_is_in_the_certificate() {
        use crate::table::testing::{Ca, Says};
        let ca = Ca::root("r");
        let says = Says {
            dns: vec!["web.internal"],
            uris: vec!["spiffe://td/web"],
            ips: vec!["10.0.0.7"],
            for_servers: true,
            ..Says::default()
        };
        let chain = ca.client("admin.internal", &says);
        let takes = |by: &Ca, sans: &[PeerName]| {
            let mut roots = RootCertStore::empty();
            roots.add(by.der.clone()).expect("a root");
            let takes = Takes::Named { roots, sans: sans.to_vec() };
            let named = Verifier { provider: Arc::new(aws_lc_rs::default_provider()), takes };
            let any = ServerName::try_from("anything.example").expect("a name");
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_000));
            named.verify_server_cert(&chain[0], &[], &any, &[], now).map(drop).map_err(|error| format!("{error:?}"))
        };
        let (host, uri) = (|name: &str| PeerName::Host(name.into()), |name: &str| PeerName::Uri(name.into()));
        for fine in [vec![host("web.internal")], vec![host("10.0.0.7")], vec![host("a"), uri("spiffe://td/web")]] {
            assert_eq!(takes(&ca, &fine), Ok(()), "{fine:?}");
        }
        for wrong in [
            vec![host("admin.internal")],
            vec![host("anything.example")],
            vec![host("10.0.0.8")],
            vec![uri("spiffe://td/web/x")],
            vec![uri("web.internal")],
        ] {
            assert!(takes(&ca, &wrong).is_err_and(|why| why.contains("NotValidForName")), "{wrong:?}");
        }
        assert!(takes(&Ca::root("r"), &[host("web.internal")]).is_err(), "of another CA");
    }

    #[test]
    fn no_root_is_no_trust() {
        assert!(ClientTls::new(terms(Scheme::Https, None, Trust::Roots(Roots::new([])))).is_err());
    }
}
