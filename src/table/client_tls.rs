//! TLS to endpoints: what their certificates are checked against, and the configuration that does.
//!
//! ```text
//! UpstreamTls (scheme, server name) + Trust ─▶ ClientTlsKey ─▶ ClientTls, carried over from table to table
//! ```
//! A configuration holds its sessions and tickets: who trusts other CAs, or expects another name, never resumes a session
//! that was agreed under different terms. RFC 8446 §4.6.1, RFC 6125 §6.4 (names).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use ::aws_lc_rs::digest::{Context, SHA256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::model::schema::Scheme;

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
    h2_only: bool,
}

/// TLS to an endpoint.
pub struct ClientTls {
    pub key: ClientTlsKey,
    pub config: Arc<ClientConfig>,
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

impl ClientTlsKey {
    pub fn new(scheme: Scheme, server_name: Option<Arc<str>>, trust: &Trust) -> ClientTlsKey {
        let roots = match trust {
            Trust::Roots(roots) => Some(roots.key),
            Trust::Unverified => None,
        };
        ClientTlsKey { roots, server_name, h2_only: scheme == Scheme::H2 }
    }
}

impl ClientTls {
    /// Fails where none of the roots is one.
    pub fn new(key: ClientTlsKey, trust: &Trust) -> Result<ClientTls, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = match trust {
            Trust::Roots(roots) => {
                let mut store = RootCertStore::empty();
                let (added, _) = store.add_parsable_certificates(roots.certificates.iter().cloned());
                if added == 0 {
                    return Err("there is no CA to check the endpoint's certificate against".into());
                }
                builder.with_root_certificates(store).with_no_client_auth()
            }
            Trust::Unverified => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
                .with_no_client_auth(),
        };
        config.alpn_protocols = match key.h2_only {
            true => vec![b"h2".to_vec()],
            false => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        Ok(ClientTls { key, config: Arc::new(config) })
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

/// Takes whoever has the key of the certificate that is shown, whatever it says.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(scheme: Scheme, server_name: Option<&str>) -> ClientTls {
        let trust = Trust::Unverified;
        ClientTls::new(ClientTlsKey::new(scheme, server_name.map(Into::into), &trust), &trust).expect("made")
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
        let key = |scheme, name: Option<&str>, trust: &Trust| ClientTlsKey::new(scheme, name.map(Into::into), trust);
        let one = key(Scheme::Https, None, &of(&[1, 2]));
        assert_eq!(one, key(Scheme::Https, None, &of(&[2, 1, 2])));
        for other in [
            key(Scheme::Https, None, &of(&[1])),
            key(Scheme::Https, Some("a"), &of(&[1, 2])),
            key(Scheme::H2, None, &of(&[1, 2])),
            key(Scheme::Https, None, &Trust::Unverified),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn no_root_is_no_trust() {
        let none = Trust::Roots(Roots::new([]));
        assert!(ClientTls::new(ClientTlsKey::new(Scheme::Https, None, &none), &none).is_err());
    }
}
