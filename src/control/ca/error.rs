//! What can be wrong with a CA, and what to do.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error(
        "the files of the internal CA \"{issuer}\" cannot be used: {}: {source}; see to space and permissions there",
        path.display()
    )]
    Io { issuer: String, path: PathBuf, source: io::Error },
    #[error("{} of the internal CA \"{issuer}\" {why}; restore it from a backup, or {otherwise}", path.display())]
    Damaged { issuer: String, path: PathBuf, why: String, otherwise: String },
    #[error(
        "{}, which passphrase_file of the internal CA \"{issuer}\" names, {why}; write the passphrase there as its one \
         line", path.display()
    )]
    Passphrase { issuer: String, path: PathBuf, why: String },
    #[error(
        "{} of the internal CA \"{issuer}\" {why}; set issuers.{issuer}.internal.passphrase_file to a file with the \
         passphrase that it was encrypted under", path.display()
    )]
    Locked { issuer: String, path: PathBuf, why: String },
    #[error(
        "the root of the internal CA \"{issuer}\", {}, expired at {at}; portolan ca rotate gives it a new one, which \
         every client must then be given", path.display()
    )]
    RootExpired { issuer: String, path: PathBuf, at: Timestamp },
    #[error("no certificate can carry the name \"{name}\": {why}")]
    Name { name: String, why: String },
    #[error(
        "the internal CA \"{issuer}\" may not sign {name}: {} permit {permitted}; name another issuer, or change \
         issuers.{issuer}.internal.name_constraints{}",
        if *root { "the name constraints in its root" } else { "its name constraints" },
        if *root { ", and give it a new root with portolan ca rotate" } else { "" },
    )]
    Constrained {
        issuer: String,
        name: String,
        permitted: String,
        /// They are the root's, made under other settings.
        root: bool,
    },
    #[error("a certificate needs at least one name; give it a --dns, --ip, --uri or --email name, or a client a --cn")]
    NoName,
    #[error(
        "clients look for a server by its host; give the certificate a --dns or --ip name, or make it one for clients"
    )]
    NoHost,
    #[error("a certificate that ends when it begins is none; give it a life with --ttl, such as 24h")]
    NoLife,
    #[error(
        "there is no internal CA \"{issuer}\" in {}; name another with --issuer, or the state directory of the proxy \
         with --config or PORTOLAN_STATE_DIR", path.display()
    )]
    NoCa { issuer: String, path: PathBuf },
    #[error(
        "the internal CA \"{issuer}\" has no certificate {certificate} in its log, {}; look it up there, or give the \
         file of the certificate instead", path.display()
    )]
    NotIssued { issuer: String, certificate: String, path: PathBuf },
    #[error("{certificate} {why}; write a serial number, a SHA-256 fingerprint or the file of a certificate")]
    NotACertificate { certificate: String, why: String },
    #[error(
        "the root of the internal CA \"{issuer}\" was rotated already, and the one before it is trusted until {until}; \
         wait until then, or give --overlap 0s, by which every root before the new one is refused at once"
    )]
    Overlapping { issuer: String, until: Timestamp },
    #[error("the internal CA \"{issuer}\" could not make a certificate: {why}")]
    Crypto { issuer: String, why: String },
}
