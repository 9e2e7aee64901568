//! What an endpoint is told of a client whose certificate is verified, in the words of whoever told it before.
//!
//! ```text
//! forward of a policy + the verified path, the client's certificate first ─▶ headers, made once per connection
//! ```
//! RFC 9440 (`Client-Cert`, `Client-Cert-Chain`), Envoy's `X-Forwarded-Client-Cert`, Traefik 3's
//! `X-Forwarded-Tls-Client-Cert` and `-Info`, and the `ssl-client-*` of ingress-nginx. Only what has been verified is told:
//! certificates that a client adds to its chain, and that lead nowhere, are not. No value that somebody had written into a
//! certificate can pass for a field of a header: where the originals leave that open, it is percent-encoded.

use std::fmt::Write;
use std::rc::Rc;

use ::pem::{EncodeConfig, LineEnding, Pem};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use rustls_pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;
use x509_parser::x509::X509Name;

use crate::model::schema::ForwardIdentity;

use super::dn;
use super::identity::Identity;

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
pub const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const TRAEFIK_PEM: HeaderName = HeaderName::from_static("x-forwarded-tls-client-cert");
const TRAEFIK_INFO: HeaderName = HeaderName::from_static("x-forwarded-tls-client-cert-info");
const SSL_CLIENT_VERIFY: HeaderName = HeaderName::from_static("ssl-client-verify");
const SSL_CLIENT_CERT: HeaderName = HeaderName::from_static("ssl-client-cert");
const SSL_CLIENT_SUBJECT_DN: HeaderName = HeaderName::from_static("ssl-client-subject-dn");
const SSL_CLIENT_ISSUER_DN: HeaderName = HeaderName::from_static("ssl-client-issuer-dn");

/// What Traefik tells of a name, in its order: its own word and the attribute.
const TRAEFIK_ATTRIBUTES: [(&str, &str); 8] = [
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("C", "2.5.4.6"),
    ("ST", "2.5.4.8"),
    ("L", "2.5.4.7"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("SN", "2.5.4.5"),
    ("CN", "2.5.4.3"),
];

/// The headers of one client under one policy, or under all of a route.
#[derive(Debug, PartialEq, Eq)]
pub struct Introduction {
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Somebody is known. Otherwise the headers say that nobody is.
    pub verified: bool,
}

impl Introduction {
    /// `path`: the client's certificate, and those between it and the root by which it was verified.
    pub fn of(forward: &[ForwardIdentity], path: &[CertificateDer<'_>]) -> Result<Introduction, String> {
        let leaf = path.first().ok_or("there is no certificate")?;
        let mut headers = Vec::new();
        let mut tell = |name: HeaderName, value: String| -> Result<(), String> {
            let value = HeaderValue::try_from(value).map_err(|error| format!("{name}: {error}"))?;
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value));
            Ok(())
        };
        for kind in forward {
            match kind {
                ForwardIdentity::ClientCert => tell(CLIENT_CERT, bytes(leaf))?,
                // The one is not to be sent without the other (RFC 9440 §2.3).
                ForwardIdentity::ClientCertChain => {
                    tell(CLIENT_CERT, bytes(leaf))?;
                    if path.len() > 1 {
                        let above: Vec<String> = path[1..].iter().map(|der| bytes(der)).collect();
                        tell(CLIENT_CERT_CHAIN, above.join(", "))?;
                    }
                }
                ForwardIdentity::Xfcc => tell(XFCC, xfcc(leaf)?)?,
                ForwardIdentity::TraefikPem => {
                    let all: Vec<String> = path.iter().map(|der| STANDARD.encode(der)).collect();
                    tell(TRAEFIK_PEM, all.join(","))?;
                }
                ForwardIdentity::TraefikInfo => {
                    let all = path.iter().map(traefik_info).collect::<Result<Vec<String>, String>>()?;
                    tell(TRAEFIK_INFO, component(&all.join(",")).replace("%20", "+"))?;
                }
                ForwardIdentity::Nginx => {
                    let (subject, issuer) = names(leaf)?;
                    tell(SSL_CLIENT_VERIFY, "SUCCESS".into())?;
                    tell(SSL_CLIENT_CERT, component(&pem(leaf)))?;
                    tell(SSL_CLIENT_SUBJECT_DN, subject)?;
                    tell(SSL_CLIENT_ISSUER_DN, issuer)?;
                }
            }
        }
        Ok(Introduction { headers, verified: true })
    }

    /// Of somebody whom a policy lets in unknown. nginx alone has a word for that.
    pub fn nobody(forward: &[ForwardIdentity]) -> Option<Introduction> {
        let headers = vec![(SSL_CLIENT_VERIFY, HeaderValue::from_static("NONE"))];
        forward.contains(&ForwardIdentity::Nginx).then_some(Introduction { headers, verified: false })
    }

    /// What two policies of one route say. Somebody whom one of them knows is known.
    pub fn join(self: &Rc<Introduction>, other: Rc<Introduction>) -> Rc<Introduction> {
        if self.verified != other.verified {
            return if self.verified { self.clone() } else { other };
        }
        let mut headers = self.headers.clone();
        headers
            .extend(other.headers.iter().filter(|(name, _)| self.headers.iter().all(|(own, _)| own != name)).cloned());
        Rc::new(Introduction { headers, verified: self.verified })
    }
}

/// RFC 8941 §3.3.5.
fn bytes(der: &CertificateDer<'_>) -> String {
    format!(":{}:", STANDARD.encode(der))
}

fn pem(der: &CertificateDer<'_>) -> String {
    ::pem::encode_config(&Pem::new("CERTIFICATE", der.to_vec()), EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// Subject and issuer.
fn names(der: &CertificateDer<'_>) -> Result<(String, String), String> {
    let (_, parsed) = parse_x509_certificate(der).map_err(|error| error.to_string())?;
    Ok((dn::rfc2253(parsed.subject()), dn::rfc2253(parsed.issuer())))
}

/// One element, its keys in Envoy's order. `By` is of a certificate of the proxy's own that has a URI; none of ours has.
fn xfcc(der: &CertificateDer<'_>) -> Result<String, String> {
    let identity = Identity::of(der)?;
    let (subject, _) = names(der)?;
    let mut text = format!("Hash={};Cert=\"{}\";Subject=\"{subject}\"", identity.fingerprint, component(&pem(der)));
    if identity.uris.is_empty() {
        text.push_str(";URI=");
    }
    for uri in &identity.uris {
        let _ = write!(text, ";URI={}", inert(uri));
    }
    for name in &identity.dns {
        let _ = write!(text, ";DNS={}", inert(name));
    }
    Ok(text)
}

/// One certificate, before the whole is encoded for a query.
fn traefik_info(der: &CertificateDer<'_>) -> Result<String, String> {
    let identity = Identity::of(der)?;
    let (_, parsed) = parse_x509_certificate(der).map_err(|error| error.to_string())?;
    let name = |name: &X509Name<'_>, without: &str| -> String {
        let named = TRAEFIK_ATTRIBUTES.iter().filter(|(word, _)| *word != without).flat_map(|(word, oid)| {
            let values = dn::values(name, oid).into_iter().filter(|value| !value.is_empty());
            values.map(move |value| format!("{word}={}", inert(&value)))
        });
        named.collect::<Vec<_>>().join(",")
    };
    let mut fields = Vec::new();
    // Of an issuer Traefik tells no unit.
    for (field, value) in [("Subject", name(parsed.subject(), "")), ("Issuer", name(parsed.issuer(), "OU"))] {
        if !value.is_empty() {
            fields.push(format!("{field}=\"{value}\""));
        }
    }
    fields.push(format!("SerialNumber=\"{}\"", parsed.tbs_certificate.serial));
    fields.push(format!("NB=\"{}\"", identity.not_before.as_second()));
    fields.push(format!("NA=\"{}\"", identity.not_after.as_second()));
    let ips: Vec<String> = identity.ips.iter().map(ToString::to_string).collect();
    let sans = [&identity.dns, &identity.emails, &ips, &identity.uris];
    let sans: Vec<String> = sans.into_iter().flatten().map(|name| inert(name)).collect();
    if !sans.is_empty() {
        fields.push(format!("SAN=\"{}\"", sans.join(",")));
    }
    Ok(fields.join(";"))
}

/// Everything but RFC 3986's unreserved characters percent-encoded.
fn component(text: &str) -> String {
    encoded(text, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// A value as it is, but for what could end it and begin another.
fn inert(value: &str) -> String {
    encoded(value, |byte| !matches!(byte, b',' | b';' | b'"' | b'\\') && (byte == b' ' || byte.is_ascii_graphic()))
}

fn encoded(text: &str, passes: impl Fn(u8) -> bool) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if passes(byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::{Ca, Says};

    fn told(introduction: &Introduction, name: &str) -> Option<String> {
        let found = introduction.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.to_str().expect("text").to_string())
    }

    fn of(forward: &[ForwardIdentity], path: &[CertificateDer<'_>]) -> Introduction {
        Introduction::of(forward, path).expect("an introduction")
    }

    fn decoded(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match first {
                b'%' => {
                    let hex = std::str::from_utf8(&rest[..2]).expect("digits");
                    bytes.push(u8::from_str_radix(hex, 16).expect("hex"));
                    rest = &rest[2..];
                }
                b'+' => bytes.push(b' '),
                other => bytes.push(*other),
            }
        }
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn rfc_9440_has_the_certificate_and_those_between_it_and_the_root() {
        let path = Ca::root("r").intermediate("i").client("web", &Says::default());
        assert_eq!(path.len(), 2);
        let both = of(&[ForwardIdentity::ClientCertChain], &path);
        assert_eq!(told(&both, "client-cert"), Some(bytes(&path[0])));
        assert_eq!(told(&both, "client-cert-chain"), Some(bytes(&path[1])));
        let one = of(&[ForwardIdentity::ClientCert], &path);
        assert_eq!((one.headers.len(), told(&one, "client-cert")), (1, Some(bytes(&path[0]))));
        let rootless = of(&[ForwardIdentity::ClientCertChain], &path[..1]);
        assert_eq!(told(&rootless, "client-cert-chain"), None, "a list without members is no header");
        let inner = told(&one, "client-cert").expect("told");
        let inner = inner.strip_prefix(':').and_then(|inner| inner.strip_suffix(':')).expect("a byte sequence");
        assert_eq!(STANDARD.decode(inner).expect("base64"), path[0].to_vec());
    }

    #[test]
    fn xfcc_has_envoys_keys_in_envoys_order() {
        let says = Says { dns: vec!["web.example"], uris: vec!["spiffe://td/web"], ..Says::default() };
        let path = Ca::root("r").client("web", &says);
        let text = told(&of(&[ForwardIdentity::Xfcc], &path), "x-forwarded-client-cert").expect("told");
        let hash = Identity::of(&path[0]).expect("an identity").fingerprint;
        let (head, rest) = text.split_once(";Cert=\"").expect("a certificate");
        let (cert, rest) = rest.split_once('"').expect("its end");
        assert_eq!(head, format!("Hash={hash}"));
        assert_eq!(decoded(cert), pem(&path[0]));
        assert!(cert.starts_with("-----BEGIN%20CERTIFICATE-----%0A") && cert.ends_with("-----%0A"), "{cert}");
        assert_eq!(rest, ";Subject=\"CN=web\";URI=spiffe://td/web;DNS=web.example");
        let bare = Ca::root("r").client("web", &Says::default());
        let text = told(&of(&[ForwardIdentity::Xfcc], &bare), "x-forwarded-client-cert").expect("told");
        assert!(text.ends_with(";Subject=\"CN=web\";URI="), "{text}");
    }

    #[test]
    fn traefik_gets_base64_and_a_query_of_fields() {
        let says = Says {
            dns: vec!["web.example"],
            uris: vec!["spiffe://td/web"],
            emails: vec!["a@b.example"],
            ips: vec!["10.0.0.1"],
            organisation: Some("Acme"),
            serial: 4711,
            to: Some(2_000_000_000),
            ..Says::default()
        };
        let path = Ca::root("r").intermediate("i").client("web", &says);
        let both = of(&[ForwardIdentity::TraefikPem, ForwardIdentity::TraefikInfo], &path);
        let all: Vec<String> = path.iter().map(|der| STANDARD.encode(der)).collect();
        assert_eq!(told(&both, "x-forwarded-tls-client-cert"), Some(all.join(",")));
        let info = told(&both, "x-forwarded-tls-client-cert-info").expect("told");
        assert!(info.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%+".contains(&b)), "{info}");
        let info = decoded(&info);
        let expected = "Subject=\"O=Acme,CN=web\";Issuer=\"CN=i\";SerialNumber=\"4711\";NB=\"0\";NA=\"2000000000\";\
                        SAN=\"web.example,a@b.example,10.0.0.1,spiffe://td/web\",Subject=\"CN=i\";Issuer=\"CN=r\";";
        assert!(info.starts_with(expected), "{info}");
    }

    #[test]
    fn nginx_says_whether_and_who() {
        let path = Ca::root("r").client("web", &Says { organisation: Some("Acme"), ..Says::default() });
        let all = of(&[ForwardIdentity::Nginx], &path);
        assert_eq!(told(&all, "ssl-client-verify").as_deref(), Some("SUCCESS"));
        assert_eq!(told(&all, "ssl-client-subject-dn").as_deref(), Some("O=Acme,CN=web"));
        assert_eq!(told(&all, "ssl-client-issuer-dn").as_deref(), Some("CN=r"));
        assert_eq!(decoded(&told(&all, "ssl-client-cert").expect("told")), pem(&path[0]));
        let nobody = Introduction::nobody(&[ForwardIdentity::Nginx]).expect("said");
        assert_eq!((told(&nobody, "ssl-client-verify").as_deref(), nobody.verified), (Some("NONE"), false));
        assert_eq!(Introduction::nobody(&[ForwardIdentity::Xfcc, ForwardIdentity::ClientCert]), None);
    }

    #[test]
    fn nothing_in_a_certificate_passes_for_a_field_of_a_header() {
        let says = Says {
            dns: vec!["a;DNS=admin.example"],
            uris: vec!["spiffe://td/web;URI=spiffe://td/admin", "spiffe://td/x,Hash=0"],
            organisation: Some("x\";Issuer=\"CN=admin,CN=admin"),
            ..Says::default()
        };
        let path = Ca::root("r").client("web\",CN=admin", &says);
        let all = of(&[ForwardIdentity::Xfcc, ForwardIdentity::TraefikInfo, ForwardIdentity::Nginx], &path);
        let xfcc = told(&all, "x-forwarded-client-cert").expect("told");
        // What stands behind the quoted subject, as the simplest of readers splits it.
        let (_, names) = xfcc.rsplit_once("\";").expect("names");
        let fields: Vec<&str> = names.split([';', ',']).collect();
        assert_eq!(
            fields,
            ["URI=spiffe://td/web%3BURI=spiffe://td/admin", "URI=spiffe://td/x%2CHash=0", "DNS=a%3Bdns=admin.example"]
        );
        let info = decoded(&told(&all, "x-forwarded-tls-client-cert-info").expect("told"));
        let (subject, rest) = info.strip_prefix("Subject=\"").and_then(|rest| rest.split_once('"')).expect("a subject");
        assert_eq!(subject.split(',').count(), 2, "{subject}");
        assert!(subject.ends_with(",CN=web%22%2CCN=admin"), "{subject}");
        assert!(rest.starts_with(";Issuer=\"CN=r\";"), "{rest}");
        let dn = told(&all, "ssl-client-subject-dn").expect("told");
        assert_eq!(dn, "O=x\\\"\\;Issuer=\\\"CN=admin\\,CN=admin,CN=web\\\"\\,CN=admin");
    }

    #[test]
    fn two_policies_say_it_together() {
        let path = Ca::root("r").client("web", &Says::default());
        let one = Rc::new(of(&[ForwardIdentity::ClientCert, ForwardIdentity::Nginx], &path));
        let two = Rc::new(of(&[ForwardIdentity::Xfcc, ForwardIdentity::Nginx], &path));
        let names: Vec<String> = one.join(two).headers.iter().map(|(name, _)| name.to_string()).collect();
        let all =
            ["client-cert", "ssl-client-verify", "ssl-client-cert", "ssl-client-subject-dn", "ssl-client-issuer-dn"];
        assert_eq!(names[..5], all);
        assert_eq!(names[5..], ["x-forwarded-client-cert"]);
        let nobody = Rc::new(Introduction::nobody(&[ForwardIdentity::Nginx]).expect("said"));
        assert!(nobody.join(one.clone()).verified && one.join(nobody).verified);
    }
}
