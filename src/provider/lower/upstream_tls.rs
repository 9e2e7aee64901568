//! TLS to endpoints: what their certificates must be, and which one Portolan shows them.

use rustls_pki_types::ServerName;

use crate::config::tree::Tree;
use crate::model::id::{Name, ObjectId};
use crate::model::mtls::UriMatch;
use crate::model::schema::{ClientCertificateSpec, ServiceSpec, UpstreamTlsSpec};
use crate::model::service::{ClientCertificate, ClientNames, PeerName, UpstreamTls};

use super::Author;
use super::reading::{Reading, operator_only};

pub(super) fn upstream_tls(
    reading: &mut Reading<'_, ServiceSpec>,
    spec: &UpstreamTlsSpec,
    tree: &Tree,
    author: &Author,
) -> UpstreamTls {
    let UpstreamTlsSpec { server_name, sans, trust, issuer, client, insecure_skip_verify } = spec;
    if insecure_skip_verify.is_some() && !author.is_operator() {
        operators(reading, tree, "tls.insecure_skip_verify", "trust the endpoint's CA by a bundle instead");
    }
    if let Some(name) = server_name
        && ServerName::try_from(name.as_str()).is_err()
    {
        reading.invalid("tls.server_name", format!("\"{name}\" is neither a DNS name nor an address"));
    }
    if sans.as_ref().is_some_and(Vec::is_empty) {
        reading.invalid("tls.sans", "no name would do; name one, or leave it out for the server's name");
    }
    let sans = sans.iter().flatten().filter_map(|raw| match peer_name(raw) {
        Ok(name) => Some(name),
        Err(why) => {
            reading.invalid("tls.sans", why);
            None
        }
    });
    let sans = sans.collect::<Vec<PeerName>>();
    if trust.as_ref().is_some_and(Vec::is_empty) {
        reading.invalid("tls.trust", "nobody is trusted; name a bundle, or leave it out for the system's CAs");
    }
    let unverified = *insecure_skip_verify == Some(true);
    if unverified && (trust.is_some() || issuer.is_some() || !sans.is_empty()) {
        let why = "nothing is verified with insecure_skip_verify; leave it or what is trusted out";
        reading.invalid("tls.insecure_skip_verify", why);
    }
    let client = client.as_ref().and_then(|client| certificate(reading, client, tree, author));
    UpstreamTls {
        server_name: server_name.as_deref().map(Into::into),
        sans,
        trust: trust.clone().unwrap_or_default(),
        issuer: issuer.as_deref().map(Name::normalised),
        client,
        unverified,
    }
}

fn operators(reading: &mut Reading<'_, ServiceSpec>, tree: &Tree, field: &str, instead: &str) {
    let mut diagnostic = operator_only(&reading.id, tree, field, instead);
    diagnostic.origin = reading.origin(field);
    reading.deny(diagnostic);
}

/// A URI by its scheme, else a host.
fn peer_name(raw: &str) -> Result<PeerName, String> {
    let name = raw.trim();
    if name.contains("://") || name.starts_with("urn:") {
        return match UriMatch::parse(name) {
            Ok(_) if !name.contains('*') => Ok(PeerName::Uri(name.into())),
            Ok(_) => Err(format!("\"{raw}\" is a pattern; name the URI itself")),
            Err(why) => Err(why),
        };
    }
    match ServerName::try_from(name) {
        Ok(_) => Ok(PeerName::Host(name.to_ascii_lowercase().into())),
        Err(_) => Err(format!("\"{raw}\" is neither a DNS name nor an address nor a URI")),
    }
}

/// Labels name an internal CA and no more: whose certificate Portolan shows is then their own service's. A name of their
/// choice would be somebody else's, in front of whoever they pass the connection on to.
fn certificate(
    reading: &mut Reading<'_, ServiceSpec>,
    spec: &ClientCertificateSpec,
    tree: &Tree,
    author: &Author,
) -> Option<ClientCertificate> {
    let ClientCertificateSpec { issuer, uri, dns, certificate } = spec;
    for (field, given) in [
        ("tls.client.uri", uri.is_some()),
        ("tls.client.dns", dns.is_some()),
        ("tls.client.certificate", certificate.is_some()),
    ] {
        if given && !author.is_operator() {
            operators(
                reading,
                tree,
                field,
                "give tls.client.issuer alone, for a certificate in the service's own name",
            );
        }
    }
    match (issuer, certificate) {
        (Some(_), Some(_)) | (None, None) => {
            reading.invalid("tls.client", "name an issuer, or one of certificates:, and not both");
            None
        }
        (None, Some(_)) if uri.is_some() || dns.is_some() => {
            reading.invalid("tls.client", "uri and dns are of what an issuer makes; a certificate has its own names");
            None
        }
        (None, Some(name)) => Some(ClientCertificate::Configured(name.clone())),
        (Some(issuer), None) => {
            let issuer = Name::normalised(issuer);
            if let Some(Err(why)) = uri.as_deref().map(UriMatch::parse) {
                reading.invalid("tls.client.uri", why);
            }
            if let Some(name) = dns
                && !matches!(ServerName::try_from(name.as_str()), Ok(ServerName::DnsName(_)))
            {
                reading.invalid("tls.client.dns", format!("\"{name}\" is no DNS name"));
            }
            let names = match uri.is_none() && dns.is_none() {
                true => ClientNames { uri: Some(own(&issuer, &reading.id).into()), dns: None },
                false => ClientNames { uri: uri.as_deref().map(Into::into), dns: dns.as_deref().map(Into::into) },
            };
            Some(ClientCertificate::Issued { issuer, names })
        }
    }
}

/// `spiffe://corp/docker/shop/web`: of the CA, the provider, the namespace where there is one, and the service.
fn own(issuer: &Name, service: &ObjectId) -> String {
    let namespace = service.namespace.as_deref().map_or(String::new(), |namespace| format!("/{namespace}"));
    format!("spiffe://{issuer}/{}{namespace}/{}", service.provider, service.name)
}
