//! The files of an internal CA.
//!
//! ```text
//! root-key.pem          0600  key and certificate of the root
//! root.pem              0644  the root's certificate alone: the file to give to clients
//! intermediate-key.pem  0600  key and certificate of the intermediate
//! revoked.json          0644  what is taken back
//! log                   0600  what was issued and revoked
//! lock                        held while one of them is written
//! ```
//!
//! A key and its certificate share a file, so that one rename replaces both and a crash never leaves a pair that does
//! not belong together. What is damaged is named and left alone: a root that was silently made anew would be a CA that
//! no client trusts.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::certificate::Authority;
use super::known::Known;
use super::log::{self, Event, Line};
use super::revoked::DenyList;
use super::{CaError, issue};
use crate::control::durable;

const ROOT: &str = "root.pem";
const ROOT_KEY: &str = "root-key.pem";
const INTERMEDIATE: &str = "intermediate-key.pem";
const REVOKED: &str = "revoked.json";
const LOG: &str = "log";
const LOCK: &str = "lock";

#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    issuer: String,
}

impl Store {
    pub fn new(dir: &Path, issuer: &str) -> Store {
        Store { dir: dir.into(), issuer: issuer.into() }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The certificate that clients trust.
    pub fn root(&self) -> PathBuf {
        self.dir.join(ROOT)
    }

    pub fn revoked(&self) -> PathBuf {
        self.dir.join(REVOKED)
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join(LOG)
    }

    /// Root and intermediate. What is there is loaded without a lock; what is missing is made under it.
    pub fn load_or_create(&self, now: Timestamp) -> Result<(Authority, Authority), CaError> {
        // What looks wrong may be another process at work: the lock decides, not this look.
        if let Ok(Some(root)) = self.load_root()
            && let Ok(Some(intermediate)) = self.load_intermediate(&root)
            && self.root().exists()
            && self.revoked().exists()
        {
            return Ok((root, intermediate));
        }
        self.locked(|| {
            let root = match self.load_root()? {
                Some(root) => root,
                None => self.create_root(now)?,
            };
            if !self.root().exists() {
                self.write(ROOT, root.certificate_pem().as_bytes(), durable::PUBLIC)?;
            }
            let intermediate = match self.load_intermediate(&root)? {
                Some(intermediate) => intermediate,
                None => self.create_intermediate(&root, now)?,
            };
            if !self.revoked().exists() {
                self.store_revoked(&self.load_revoked(now)?)?;
            }
            Ok((root, intermediate))
        })
    }

    /// Before the certificate is handed to anybody.
    pub fn record_issued(&self, certificate: Known, now: Timestamp) -> Result<(), CaError> {
        self.locked(|| self.append(Event::Issued, certificate, now))
    }

    /// The certificate that `wanted` (lower-case hex of serial or fingerprint) means, as the log knows it.
    pub fn issued(&self, wanted: &str) -> Result<Option<Known>, CaError> {
        let bytes = self.read(LOG)?.unwrap_or_default();
        let mut issued = log::lines(&bytes).rev().map(|line| line.certificate);
        Ok(issued.find(|certificate| certificate.is(wanted)))
    }

    /// `false` where it was revoked before.
    pub fn revoke(&self, certificate: &Known, now: Timestamp) -> Result<bool, CaError> {
        self.locked(|| {
            let mut list = self.load_revoked(now)?;
            let new = list.add(certificate.clone(), now);
            if new || !self.revoked().exists() {
                list.forget(now);
                self.store_revoked(&list)?;
            }
            // Again where a crash came between the two.
            let bytes = self.read(LOG)?.unwrap_or_default();
            let logged = |line: &Line| line.event == Event::Revoked && line.certificate == *certificate;
            if new || !log::lines(&bytes).any(|line| logged(&line)) {
                self.append(Event::Revoked, certificate.clone(), now)?;
            }
            Ok(new)
        })
    }

    /// The intermediate's certificate alone, where there is one that can be read.
    pub fn intermediate_certificate(&self) -> Option<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(&self.read(INTERMEDIATE).ok()??).ok()
    }

    fn load_revoked(&self, now: Timestamp) -> Result<DenyList, CaError> {
        match self.read(REVOKED)? {
            Some(bytes) => DenyList::parse(&bytes).map_err(|why| self.damaged(REVOKED, why)),
            None => Ok(DenyList::from_log(log::lines(&self.read(LOG)?.unwrap_or_default()), now)),
        }
    }

    fn store_revoked(&self, list: &DenyList) -> Result<(), CaError> {
        let bytes = list.print().map_err(|error| self.io(&self.revoked(), error.into()))?;
        self.write(REVOKED, &bytes, durable::PUBLIC)
    }

    fn append(&self, event: Event, certificate: Known, at: Timestamp) -> Result<(), CaError> {
        let line = Line { at, event, certificate };
        log::append(&self.log(), &line).map_err(|source| self.io(&self.log(), source))
    }

    /// A new intermediate in place of the one on disk, if that one is `due` too: another process may have renewed it.
    pub fn replace_intermediate(
        &self,
        root: &Authority,
        due: impl Fn(&Authority) -> bool,
        now: Timestamp,
    ) -> Result<Authority, CaError> {
        self.locked(|| match self.load_intermediate(root)? {
            Some(renewed) if !due(&renewed) => Ok(renewed),
            _ => self.create_intermediate(root, now),
        })
    }

    fn load_root(&self) -> Result<Option<Authority>, CaError> {
        let Some(pem) = self.read(ROOT_KEY)? else {
            // A root that clients may trust already, or what it signed, is not to be shadowed by a new one.
            return match [ROOT, INTERMEDIATE].into_iter().find(|file| self.dir.join(file).exists()) {
                None => Ok(None),
                Some(file) => Err(self.damaged(ROOT_KEY, format!("is missing, but {file} beside it exists"))),
            };
        };
        let root = Authority::from_pem(&pem, None).map_err(|why| self.damaged(ROOT_KEY, why))?;
        match self.read(ROOT)? {
            Some(public) if public != root.certificate_pem().as_bytes() => {
                Err(self.damaged(ROOT, format!("is not the certificate that stands in {ROOT_KEY}")))
            }
            _ => Ok(Some(root)),
        }
    }

    fn load_intermediate(&self, root: &Authority) -> Result<Option<Authority>, CaError> {
        let Some(pem) = self.read(INTERMEDIATE)? else {
            return Ok(None);
        };
        Authority::from_pem(&pem, Some(root)).map(Some).map_err(|why| self.damaged(INTERMEDIATE, why))
    }

    fn create_root(&self, now: Timestamp) -> Result<Authority, CaError> {
        let root = issue::root(&self.issuer, now)?;
        self.write(ROOT_KEY, root.to_pem().as_bytes(), durable::PRIVATE)?;
        tracing::info!(issuer = self.issuer, dir = %self.dir.display(), "made a new internal CA");
        Ok(root)
    }

    fn create_intermediate(&self, root: &Authority, now: Timestamp) -> Result<Authority, CaError> {
        let intermediate = issue::intermediate(&self.issuer, root, now)?;
        self.write(INTERMEDIATE, intermediate.to_pem().as_bytes(), durable::PRIVATE)?;
        Ok(intermediate)
    }

    fn locked<T>(&self, work: impl FnOnce() -> Result<T, CaError>) -> Result<T, CaError> {
        durable::create_private_dir(&self.dir).map_err(|source| self.io(&self.dir, source))?;
        let path = self.dir.join(LOCK);
        let lock = durable::open_lock(&path).map_err(|source| self.io(&path, source))?;
        lock.lock().map_err(|source| self.io(&path, source))?;
        // Closing the file gives the lock back.
        let done = work();
        drop(lock);
        done
    }

    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, CaError> {
        let path = self.dir.join(file);
        durable::read_if_present(&path).map_err(|source| self.io(&path, source))
    }

    fn write(&self, file: &str, bytes: &[u8], mode: u32) -> Result<(), CaError> {
        let path = self.dir.join(file);
        durable::write_atomic(&path, bytes, mode).map_err(|source| self.io(&path, source))
    }

    fn io(&self, path: &Path, source: io::Error) -> CaError {
        CaError::Io { issuer: self.issuer.clone(), path: path.into(), source }
    }

    fn damaged(&self, file: &str, why: String) -> CaError {
        let otherwise = match file {
            INTERMEDIATE => "remove it to have a new one made under the same root".into(),
            ROOT => format!("remove it to have it written anew from {ROOT_KEY}"),
            REVOKED => format!("remove it to have it written anew from {LOG}"),
            _ => format!(
                "remove the directory {} to start a new CA, whose root every client must then be given",
                self.dir.display()
            ),
        };
        CaError::Damaged { issuer: self.issuer.clone(), path: self.dir.join(file), why, otherwise }
    }
}
