//! The CAs that the system trusts: `SSL_CERT_FILE` and `SSL_CERT_DIR`, else the system's own places.

use rustls_pki_types::CertificateDer;

/// Blocks for as long as the disk does. Files that cannot be read leave the others in force; an error where there is no CA
/// at all.
pub fn system_roots() -> Result<Vec<CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's CAs cannot be read");
    }
    if found.certs.is_empty() {
        return Err(
            "the system has no CA certificates; install ca-certificates, set SSL_CERT_FILE, or give the service \
                    tls.trust"
                .into(),
        );
    }
    Ok(found.certs)
}
