//! Request headers by which a proxy says whose certificate a client has shown, in the spellings that are about. From
//! anybody but a proxy they are made up.

/// By what such a name starts, once it is read as endpoints of the CGI kind read it.
pub const CERTIFICATE_HEADERS: [&str; 22] = [
    // RFC 9440.
    "client-cert",
    // Envoy, Traefik.
    "x-forwarded-client-cert",
    "x-forwarded-tls-client-cert",
    // nginx and its ingress, Apache, HAProxy.
    "ssl-client-",
    "x-ssl-client",
    "x-ssl-cert",
    "x-ssl-subject",
    "x-ssl-issuer",
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
    "cf-cert-",
    // Linkerd.
    "l5d-client-id",
];

/// Whether a lower-case header name starts so. What is neither letter nor digit is `-` to it, as it is one `_` to whoever
/// makes variables of names (RFC 3875 §4.1.18).
pub fn starts(name: &str, prefix: &str) -> bool {
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(|(a, b)| a == b || (b == b'-' && folded(a)))
}

/// Whether a name is more than one name once it is so read.
pub fn folds(name: &str) -> bool {
    name.bytes().any(|byte| byte != b'-' && folded(byte))
}

fn folded(byte: u8) -> bool {
    !byte.is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_in_every_spelling() {
        for name in ["ssl-client-verify", "ssl_client_verify", "ssl.client-verify", "ssl~client!verify", "ssl-client-"]
        {
            assert!(starts(name, "ssl-client-"), "{name}");
        }
        for name in ["ssl-client", "sslxclient-verify", "xssl-client-verify", ""] {
            assert!(!starts(name, "ssl-client-"), "{name}");
        }
        assert!(folds("a.b") && folds("a_b") && !folds("a-b") && !folds("ab1"));
    }
}
