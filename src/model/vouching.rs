//! Request headers by which a proxy says whose certificate a client has shown, in the spellings that are about. From
//! anybody but a proxy they are made up.

/// By what such a name starts, once `_` is read as `-`, as many endpoints read it.
pub const CERTIFICATE_HEADERS: [&str; 18] = [
    // RFC 9440.
    "client-cert",
    // Envoy, Traefik.
    "x-forwarded-client-cert",
    "x-forwarded-tls-client-cert",
    // nginx and its ingress, Apache, HAProxy.
    "ssl-client-",
    "x-ssl-client",
    "x-ssl-cert",
    "x-tls-client",
    "x-client-cert",
    "x-client-verify",
    "x-client-dn",
    "x-client-s-dn",
    "x-client-i-dn",
    "x-client-subject",
    "x-client-issuer",
    "x-client-fingerprint",
    // Load balancers of clouds.
    "x-amzn-mtls-",
    "x-arr-clientcert",
    "cf-client-cert",
];

/// Whether a lower-case header name starts so.
pub fn starts(name: &str, prefix: &str) -> bool {
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
}
