//! The files of an internal CA.
//!
//! ```text
//! root-key.pem          0600  key and certificate of the root
//! root.pem              0644  the root's certificate alone: the file to give to clients
//! retired.json          0644  the roots before it
//! intermediate-key.pem  0600  key and certificate of the intermediate
//! revoked.json          0644  what is taken back
//! log                   0600  what was issued, revoked and rotated
//! lock                        held while one of them is written
//! ```
//!
//! A key and its certificate share a file, so that one rename replaces both and a crash never leaves a pair that does
//! not belong together. `root-key.pem` says which root is in force, and what else does not fit it because a rotation was
//! cut short is made anew. What is damaged is named and left alone: a root that was silently made anew would be a CA that
//! no client trusts.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::certificate::{Authority, first_certificate, signed_by};
use super::known::Known;
use super::log::{self, Event, Line};
use super::retired::RetiredRoots;
use super::revoked::DenyList;
use super::sealed::{Passphrase, Unusable};
use super::{CaError, CaOptions, issue};
use crate::control::durable;

const ROOT: &str = "root.pem";
const ROOT_KEY: &str = "root-key.pem";
const RETIRED: &str = "retired.json";
const INTERMEDIATE: &str = "intermediate-key.pem";
const REVOKED: &str = "revoked.json";
const LOG: &str = "log";
const LOCK: &str = "lock";

#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    issuer: String,
    options: CaOptions,
}

/// What a CA signs with, and the roots before.
#[derive(Debug)]
pub(super) struct Signing {
    pub root: Authority,
    pub intermediate: Authority,
    pub retired: RetiredRoots,
}

/// A root as its file has it.
struct Root {
    authority: Authority,
    /// As the settings want it: encrypted or not.
    kept_right: bool,
}

impl Store {
    pub fn new(dir: &Path, issuer: &str, options: &CaOptions) -> Store {
        Store { dir: dir.into(), issuer: issuer.into(), options: options.clone() }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn options(&self) -> &CaOptions {
        &self.options
    }

    /// The certificate that clients trust.
    pub fn root(&self) -> PathBuf {
        self.dir.join(ROOT)
    }

    pub fn retired(&self) -> PathBuf {
        self.dir.join(RETIRED)
    }

    pub fn revoked(&self) -> PathBuf {
        self.dir.join(REVOKED)
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join(LOG)
    }

    /// What is there is loaded without a lock; what is missing is made under it.
    pub fn load_or_create(&self, now: Timestamp) -> Result<Signing, CaError> {
        // What looks wrong may be another process at work: the lock decides, not this look.
        match self.load() {
            Ok(Some(signing)) => Ok(signing),
            _ => self.locked(|| self.mend(now)),
        }
    }

    /// `None` where something is missing, or left over by a rotation that was cut short.
    fn load(&self) -> Result<Option<Signing>, CaError> {
        let passphrase = self.passphrase()?;
        let (Some(root), Some(retired)) = (self.load_root(passphrase.as_ref())?, self.load_retired()?) else {
            return Ok(None);
        };
        let whole = root.kept_right
            && !retired.holds(&root.authority.certificate)
            && self.read(ROOT)?.is_some_and(|public| public == root.authority.certificate_pem().as_bytes())
            && self.revoked().exists();
        let intermediate = match whole {
            true => self.load_intermediate(&root.authority, &retired, passphrase.as_ref())?,
            false => None,
        };
        let root = root.authority;
        Ok(intermediate.map(|intermediate| Signing { root, intermediate, retired }))
    }

    /// The caller holds the lock.
    pub fn mend(&self, now: Timestamp) -> Result<Signing, CaError> {
        let passphrase = self.passphrase()?;
        let found = self.load_root(passphrase.as_ref())?;
        let kept_right = found.as_ref().is_none_or(|root| root.kept_right);
        let root = match found {
            Some(root) => root.authority,
            None => self.create_root(now)?,
        };
        let known = self.load_retired()?;
        let mut retired = known.clone().unwrap_or_default();
        // Before its key was written: nothing was signed by what it was to give way to.
        retired.entries.retain(|entry| entry.certificate != root.certificate);
        let public = self.read(ROOT)?;
        let published = public.as_deref() == Some(root.certificate_pem().as_bytes());
        if !published && public.is_some_and(|public| !was_a_root(&public, &retired)) {
            return Err(self.damaged(ROOT, format!("is not the certificate that stands in {ROOT_KEY}")));
        }
        if known.as_ref() != Some(&retired) {
            self.store_retired(&retired)?;
        }
        if !kept_right {
            self.store_root(&root)?;
        }
        let intermediate = match self.load_intermediate(&root, &retired, passphrase.as_ref())? {
            Some(intermediate) => intermediate,
            None => self.create_intermediate(&root, now)?,
        };
        if !self.revoked().exists() {
            self.store_revoked(&self.load_revoked(now)?)?;
        }
        // Last of all, so that whoever follows it finds the rest.
        if !published {
            self.store_public_root(&root)?;
        }
        Ok(Signing { root, intermediate, retired })
    }

    /// With a new intermediate in place of the one on disk, if that one is `due` too: another process may have renewed it.
    pub fn replace_intermediate(&self, due: impl Fn(&Signing) -> bool, now: Timestamp) -> Result<Signing, CaError> {
        self.locked(|| {
            let mut signing = self.mend(now)?;
            if due(&signing) {
                signing.intermediate = self.create_intermediate(&signing.root, now)?;
            }
            Ok(signing)
        })
    }

    /// Before the certificate is handed to anybody.
    pub fn record_issued(&self, certificate: Known, now: Timestamp) -> Result<(), CaError> {
        self.locked(|| self.append(Line::new(now, Event::Issued, certificate)))
    }

    /// One wait for the disk for all of them.
    pub fn record_on_demand(&self, issued: Vec<(Timestamp, Known)>) -> Result<(), CaError> {
        let line = |(at, certificate)| Line::new(at, Event::IssuedOnDemand, certificate);
        let lines: Vec<Line> = issued.into_iter().map(line).collect();
        if lines.is_empty() {
            return Ok(());
        }
        self.locked(|| log::append(&self.log(), &lines).map_err(|source| self.io(&self.log(), source)))
    }

    /// The certificate that `wanted` (lower-case hex of serial or fingerprint) means, as the log knows it.
    pub fn issued(&self, wanted: &str) -> Result<Option<Known>, CaError> {
        let bytes = self.log_bytes()?;
        let leaf =
            |line: &Line| !matches!(line.event, Event::RootCreated | Event::RootRotated | Event::IntermediateCreated);
        let mut issued = log::lines(&bytes).rev().filter(leaf).map(|line| line.certificate);
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
            let bytes = self.log_bytes()?;
            let logged = |line: &Line| line.event == Event::Revoked && line.certificate == *certificate;
            if new || !log::lines(&bytes).any(|line| logged(&line)) {
                self.append(Line::new(now, Event::Revoked, certificate.clone()))?;
            }
            Ok(new)
        })
    }

    /// By the public files. `None` where there is no root.
    pub fn trusted(&self, now: Timestamp) -> Result<Option<Vec<CertificateDer<'static>>>, CaError> {
        let Some(public) = self.read(ROOT)? else { return Ok(None) };
        let mut roots = vec![first_certificate(&public).map_err(|why| self.damaged(ROOT, why))?];
        let retired = self.load_retired()?.unwrap_or_default();
        let before = retired.trusted(now).map(|entry| entry.certificate.clone()).filter(|root| *root != roots[0]);
        let before: Vec<_> = before.collect();
        roots.extend(before);
        Ok(Some(roots))
    }

    /// The certificates of its own that can be read and may have signed others: the intermediate, and those of `more`
    /// that a root of this CA has signed.
    pub fn signers(&self, more: &[CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
        let read = |file| self.read(file).ok().flatten().and_then(|pem| first_certificate(&pem).ok());
        let retired = self.load_retired().ok().flatten().unwrap_or_default();
        let roots: Vec<_> = retired.entries.into_iter().map(|entry| entry.certificate).chain(read(ROOT)).collect();
        let ours = |certificate: &&CertificateDer<'static>| roots.iter().any(|root| signed_by(certificate, root));
        more.iter().filter(ours).cloned().chain(read(INTERMEDIATE)).collect()
    }

    pub fn load_revoked(&self, now: Timestamp) -> Result<DenyList, CaError> {
        match self.read(REVOKED)? {
            Some(bytes) => DenyList::parse(&bytes).map_err(|why| self.damaged(REVOKED, why)),
            None => Ok(DenyList::from_log(log::lines(&self.log_bytes()?), now)),
        }
    }

    fn store_revoked(&self, list: &DenyList) -> Result<(), CaError> {
        let bytes = list.print().map_err(|error| self.io(&self.revoked(), error.into()))?;
        self.write(REVOKED, &bytes, durable::PUBLIC)
    }

    pub fn append(&self, line: Line) -> Result<(), CaError> {
        log::append(&self.log(), &[line]).map_err(|source| self.io(&self.log(), source))
    }

    pub fn log_bytes(&self) -> Result<Vec<u8>, CaError> {
        Ok(self.read(LOG)?.unwrap_or_default())
    }

    fn load_root(&self, passphrase: Option<&Passphrase>) -> Result<Option<Root>, CaError> {
        let Some(pem) = self.read(ROOT_KEY)? else {
            // A root that clients may trust already, or what it signed, is not to be shadowed by a new one.
            return match [ROOT, RETIRED, INTERMEDIATE].into_iter().find(|file| self.dir.join(file).exists()) {
                None => Ok(None),
                Some(file) => Err(self.damaged(ROOT_KEY, format!("is missing, but {file} beside it exists"))),
            };
        };
        let (authority, sealed) =
            Authority::from_pem(&pem, None, passphrase).map_err(|why| self.unusable(ROOT_KEY, why))?;
        Ok(Some(Root { authority, kept_right: sealed == passphrase.is_some() }))
    }

    fn load_retired(&self) -> Result<Option<RetiredRoots>, CaError> {
        let bytes = self.read(RETIRED)?;
        bytes.map(|bytes| RetiredRoots::parse(&bytes).map_err(|why| self.damaged(RETIRED, why))).transpose()
    }

    /// `None` also where a retired root signed it, or where it is not encrypted as it should be: then it is made anew.
    fn load_intermediate(
        &self,
        root: &Authority,
        retired: &RetiredRoots,
        passphrase: Option<&Passphrase>,
    ) -> Result<Option<Authority>, CaError> {
        let Some(pem) = self.read(INTERMEDIATE)? else {
            return Ok(None);
        };
        let certificate = first_certificate(&pem).map_err(|why| self.damaged(INTERMEDIATE, why))?;
        if retired.entries.iter().any(|entry| signed_by(&certificate, &entry.certificate)) {
            return Ok(None);
        }
        let (intermediate, sealed) =
            Authority::from_pem(&pem, Some(root), passphrase).map_err(|why| self.unusable(INTERMEDIATE, why))?;
        Ok((sealed == passphrase.is_some()).then_some(intermediate))
    }

    fn create_root(&self, now: Timestamp) -> Result<Authority, CaError> {
        let root = issue::root(&self.issuer, &self.options, now)?;
        self.append(Line::new(now, Event::RootCreated, self.known(&root)?))?;
        self.store_root(&root)?;
        tracing::info!(issuer = self.issuer, dir = %self.dir.display(), "made a new internal CA");
        Ok(root)
    }

    pub fn create_intermediate(&self, root: &Authority, now: Timestamp) -> Result<Authority, CaError> {
        let intermediate = issue::intermediate(&self.issuer, root, &self.options, now)?;
        self.append(Line::new(now, Event::IntermediateCreated, self.known(&intermediate)?))?;
        self.store_authority(INTERMEDIATE, &intermediate)?;
        Ok(intermediate)
    }

    pub fn store_root(&self, root: &Authority) -> Result<(), CaError> {
        self.store_authority(ROOT_KEY, root)
    }

    pub fn store_public_root(&self, root: &Authority) -> Result<(), CaError> {
        self.write(ROOT, root.certificate_pem().as_bytes(), durable::PUBLIC)
    }

    pub fn store_retired(&self, retired: &RetiredRoots) -> Result<(), CaError> {
        let bytes = retired.print().map_err(|error| self.io(&self.retired(), error.into()))?;
        self.write(RETIRED, &bytes, durable::PUBLIC)
    }

    fn store_authority(&self, file: &str, authority: &Authority) -> Result<(), CaError> {
        let pem = authority.to_pem(self.passphrase()?.as_ref()).map_err(|why| self.broken(why))?;
        self.write(file, pem.as_bytes(), durable::PRIVATE)
    }

    fn known(&self, authority: &Authority) -> Result<Known, CaError> {
        Known::of(&authority.certificate).map_err(|why| self.broken(why))
    }

    fn passphrase(&self) -> Result<Option<Passphrase>, CaError> {
        let Some(path) = &self.options.passphrase_file else { return Ok(None) };
        let wrong = |why: String| CaError::Passphrase { issuer: self.issuer.clone(), path: path.clone(), why };
        Passphrase::read(path).map(Some).map_err(wrong)
    }

    pub fn locked<T>(&self, work: impl FnOnce() -> Result<T, CaError>) -> Result<T, CaError> {
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

    fn broken(&self, why: String) -> CaError {
        CaError::Crypto { issuer: self.issuer.clone(), why }
    }

    fn unusable(&self, file: &str, why: Unusable) -> CaError {
        match why {
            Unusable::Damaged(why) => self.damaged(file, why),
            Unusable::Locked(why) => CaError::Locked { issuer: self.issuer.clone(), path: self.dir.join(file), why },
        }
    }

    fn damaged(&self, file: &str, why: String) -> CaError {
        let otherwise = match file {
            INTERMEDIATE => "remove it to have a new one made under the same root".into(),
            ROOT => format!("remove it to have it written anew from {ROOT_KEY}"),
            RETIRED => "remove it, and with it all trust in the roots before the present one".into(),
            REVOKED => format!("remove it to have it written anew from {LOG}"),
            _ => format!(
                "remove the directory {} to start a new CA, whose root every client must then be given",
                self.dir.display()
            ),
        };
        CaError::Damaged { issuer: self.issuer.clone(), path: self.dir.join(file), why, otherwise }
    }
}

fn was_a_root(public: &[u8], retired: &RetiredRoots) -> bool {
    CertificateDer::from_pem_slice(public).is_ok_and(|public| retired.holds(&public))
}
