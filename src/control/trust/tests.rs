use std::fs;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

use super::*;
use crate::control::ca::{CaOptions, InternalCa, LeafRequest, Purposes, San, pem_text, revoke, rotate};
use crate::control::state::StateDir;
use crate::model::diagnostic::Severity;
use crate::model::id::{Kind, Provider, Source};
use crate::model::mtls::{ClientRules, Revocation, TrustBundle};
use crate::model::schema::{ClientAuthMode, HandshakeMode, StaleList};
use crate::reconcile::DesiredPolicy;

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a time")
}

fn id(kind: Kind, name: &str) -> ObjectId {
    ObjectId::new(&Source::new(Provider::File, None), kind, name)
}

/// A CA that makes lists.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn named(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("signed");
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    fn list(&self, number: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(number),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 4, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("signed").pem().expect("PEM")
    }
}

/// One bundle and one list, of a policy that names both.
struct World {
    trust: Trust,
    numbers: CrlNumbers,
    desired: Desired,
    files: BTreeMap<PathBuf, Content>,
    urls: BTreeMap<Arc<str>, Fetched>,
    issuers: BTreeMap<Name, TrustFiles>,
    dir: TempDir,
}

impl World {
    fn new(bundle: BundleSource, list: Option<ListSource>) -> World {
        let mut desired = Desired::default();
        let (bundle_id, list_id) = (id(Kind::TrustBundle, "b"), id(Kind::Revocation, "l"));
        desired.bundles.insert(
            bundle_id.clone(),
            TrustBundle { id: bundle_id.clone(), origin: Origin::Default, from: Some(bundle), denied: None },
        );
        if let Some(list) = list {
            desired.revocations.insert(
                list_id.clone(),
                Revocation {
                    id: list_id.clone(),
                    origin: Origin::Default,
                    from: Some(list),
                    stale: StaleList::Deny,
                    denied: None,
                },
            );
        }
        let rules = ClientRules {
            mode: ClientAuthMode::Require,
            allow: None,
            forward: Vec::new(),
            handshake: HandshakeMode::Refuse,
            depth: None,
        };
        let policy =
            DesiredPolicy { origin: Origin::Default, rules, trust: [bundle_id].into(), revoked: [list_id].into() };
        desired.policies.insert(id(Kind::MtlsPolicy, "p"), policy);
        World {
            trust: Trust::default(),
            numbers: CrlNumbers::default(),
            desired,
            files: BTreeMap::new(),
            urls: BTreeMap::new(),
            issuers: BTreeMap::new(),
            dir: tempfile::tempdir().expect("tempdir"),
        }
    }

    fn file(&mut self, path: &str, content: &str) -> Refreshed {
        self.files.insert(path.into(), Ok(content.as_bytes().into()));
        self.refresh()
    }

    /// The internal CA "corp" beside the world, whose files are read as they are now.
    fn corp(&mut self) -> InternalCa {
        let ca = InternalCa::open_at(self.dir.path(), "corp", now()).expect("opened");
        self.issuers.insert(Name::normalised("corp"), ca.trust_files());
        ca
    }

    fn reread(&mut self) -> Refreshed {
        for path in files(&self.desired, &self.issuers) {
            let content = fs::read(&path).map(Arc::from).map_err(|error| format!("{}: {error}", path.display()));
            self.files.insert(path, content);
        }
        self.refresh()
    }

    fn refresh(&mut self) -> Refreshed {
        let found = Found { files: &self.files, urls: &self.urls, issuers: &self.issuers };
        self.trust.refresh(&self.desired, found, &mut self.numbers, now())
    }

    fn url(&mut self, content: Option<&str>, trouble: Option<&str>) -> Refreshed {
        let fetched =
            Fetched { content: content.map(|text| text.as_bytes().into()), trouble: trouble.map(String::from) };
        self.urls.insert("http://crl.test/".into(), fetched);
        self.refresh()
    }

    fn bundle(&self) -> Result<&LoadedBundle, &str> {
        self.trust.bundles[&id(Kind::TrustBundle, "b")].as_deref().map_err(String::as_str)
    }

    fn number(&self) -> Result<Vec<u8>, &str> {
        let lists = self.trust.lists[&id(Kind::Revocation, "l")].as_ref();
        lists.map(|loaded| loaded.lists[0].number.to_vec()).map_err(String::as_str)
    }
}

fn said(refreshed: &Refreshed, severity: Severity) -> String {
    let said = refreshed.findings.iter().filter(|finding| finding.severity == severity);
    said.map(|finding| finding.detail.clone()).collect::<Vec<_>>().join("\n")
}

fn issued(ca: &InternalCa, name: &str) -> (String, PathBuf) {
    let request = LeafRequest {
        names: vec![San::uri(name).expect(name)],
        common_name: None,
        purposes: Purposes { client: true, server: false },
    };
    let issued = ca.issue(&request, Duration::from_secs(3600), now()).expect("issued");
    (issued.serial, ca.trust_files().root.with_file_name("x.pem"))
}

fn corp_dir(world: &World) -> &Path {
    world.dir.path()
}

#[test]
fn an_internal_ca_is_trusted_less_what_it_has_taken_back() {
    let mut world = World::new(BundleSource::Issuer(Name::normalised("corp")), None);
    let refreshed = world.refresh();
    assert!(said(&refreshed, Severity::Error).contains("there is no internal CA \"corp\""), "{refreshed:?}");
    let ca = world.corp();
    assert!(world.reread().changed);
    let key = world.bundle().expect("trusted").key;
    assert!(!world.reread().changed);

    let (serial, _) = issued(&ca, "spiffe://a/b");
    revoke(corp_dir(&world), "corp", &serial, now()).expect("revoked");
    assert!(world.reread().changed);
    let bundle = world.bundle().expect("trusted");
    assert_ne!(bundle.key, key);
    let withdrawn: Vec<_> =
        bundle.withdrawn.serials.iter().map(|serial| crate::model::certificate::hex(serial)).collect();
    assert_eq!(withdrawn, [serial]);
    assert_eq!(bundle.withdrawn.fingerprints.len(), 1);
    assert!(!world.reread().changed);
}

#[test]
fn the_root_of_an_internal_ca_brings_what_is_taken_back_by_any_name() {
    let mut world = World::new(BundleSource::File("/b.pem".into()), None);
    let ca = world.corp();
    let (serial, _) = issued(&ca, "spiffe://a/b");
    revoke(corp_dir(&world), "corp", &serial, now()).expect("revoked");
    world.reread();
    world.file("/b.pem", &(Authority::named("other").certificate.pem() + &ca.root_pem()));
    assert_eq!(world.bundle().expect("trusted").withdrawn.serials.len(), 1);
    world.file("/b.pem", &Authority::named("other").certificate.pem());
    assert_eq!(world.bundle().expect("trusted").withdrawn.serials.len(), 0);
}

#[test]
fn in_an_overlap_both_roots_are_trusted_and_then_the_new_one() {
    let mut world = World::new(BundleSource::Issuer(Name::normalised("corp")), None);
    let old = world.corp().root_der();
    world.reread();
    let hour = Duration::from_secs(3600);
    rotate(corp_dir(&world), "corp", &CaOptions::default(), hour, now()).expect("rotated");
    let refreshed = world.reread();
    let until = now() + hour;
    assert!(refreshed.changed && refreshed.next == Some(until), "{refreshed:?}");
    let new = world.corp().root_der();
    let anchors = |world: &World| -> std::collections::BTreeSet<Vec<u8>> {
        world.bundle().expect("trusted").anchors.iter().map(|anchor| anchor.der.to_vec()).collect()
    };
    assert_eq!(anchors(&world), [new.to_vec(), old.to_vec()].into());
    let found = Found { files: &world.files, urls: &world.urls, issuers: &world.issuers };
    let refreshed = world.trust.refresh(&world.desired, found, &mut world.numbers, until);
    assert!(refreshed.changed && refreshed.findings.is_empty(), "{refreshed:?}");
    assert_eq!(anchors(&world), [new.to_vec()].into());

    // What cannot be read closes.
    for (file, text) in [("retired.json", "{}"), ("root.pem", "garbage")] {
        let path = corp_dir(&world).join(file);
        let good = fs::read(&path).expect("read");
        fs::write(&path, text).expect("written");
        assert!(said(&world.reread(), Severity::Error).contains(file));
        assert!(world.bundle().is_err(), "{file}");
        fs::write(&path, good).expect("written");
        world.reread();
        assert!(world.bundle().is_ok(), "{file}");
    }
}

#[test]
fn what_was_taken_back_stays_so_where_a_bundle_names_a_root_that_is_retired() {
    let mut world = World::new(BundleSource::File("/b.pem".into()), None);
    let ca = world.corp();
    let (serial, _) = issued(&ca, "spiffe://a/b");
    revoke(corp_dir(&world), "corp", &serial, now()).expect("revoked");
    rotate(corp_dir(&world), "corp", &CaOptions::default(), Duration::ZERO, now()).expect("rotated");
    // By a process that never saw the old root in force.
    world.reread();
    world.file("/b.pem", &ca.root_pem());
    assert_eq!(world.bundle().expect("trusted").withdrawn.serials.len(), 1);
}

#[test]
fn a_lost_or_broken_list_of_an_internal_ca_closes_until_it_is_mended() {
    let mut world = World::new(BundleSource::Issuer(Name::normalised("corp")), None);
    world.corp();
    world.reread();
    let list = corp_dir(&world).join("revoked.json");
    let good = fs::read(&list).expect("read");
    let broken = br#"{"version":1,"revoked":[{"revoked_at":"2026-01-01T00:00:00Z","serial":"xy","fingerprint":"","issuer":"","subject":"","names":[],"not_after":"2026-01-01T00:00:00Z"}]}"#;
    for bad in [Some(&b""[..]), Some(b"{}"), Some(&good[..good.len() - 3]), Some(broken), None] {
        match bad {
            Some(bytes) => fs::write(&list, bytes).expect("written"),
            None => fs::remove_file(&list).expect("removed"),
        }
        let refreshed = world.reread();
        assert!(refreshed.changed && world.bundle().is_err(), "{bad:?}");
        assert!(said(&refreshed, Severity::Error).contains("revoked.json"), "{refreshed:?}");
        fs::write(&list, &good).expect("written");
        assert!(world.reread().changed && world.bundle().is_ok());
    }
}

#[test]
fn a_bad_bundle_closes_until_it_is_mended() {
    let mut world = World::new(BundleSource::File("/b.pem".into()), None);
    let (a, b) = (Authority::named("a").certificate.pem(), Authority::named("b").certificate.pem());
    let good = format!("{a}{b}");
    for bad in ["", "garbage", &good[..100], &a] {
        assert!(world.file("/b.pem", &good).changed, "{bad}");
        assert_eq!(world.bundle().expect("trusted").anchors.len(), 2);
        let refreshed = world.file("/b.pem", bad);
        assert!(refreshed.changed && world.bundle().is_err(), "{bad}");
        assert!(said(&refreshed, Severity::Error).starts_with("/b.pem: "), "{refreshed:?}");
    }
    // One that is meant to be shorter says so.
    assert!(world.file("/b.pem", &format!("# a alone\n{a}")).changed);
    assert_eq!(world.bundle().expect("trusted").anchors.len(), 1);
}

#[test]
fn a_lower_number_is_refused_also_by_the_next_process() {
    let ca = Authority::named("ca");
    let source = || World::new(BundleSource::Pem(ca.certificate.pem().into()), Some(ListSource::File("/l".into())));
    let mut world = source();
    for (number, shown) in [(5, vec![5]), (258, vec![1, 2])] {
        assert!(world.file("/l", &ca.list(number)).numbers);
        assert_eq!(world.number(), Ok(shown));
    }
    assert!(!world.refresh().numbers);
    let refused = |world: &mut World| {
        let refreshed = world.file("/l", &ca.list(257));
        let said = said(&refreshed, Severity::Error);
        assert!(said.contains("/l: ") && said.contains("number 0x0101") && said.contains("number 0x0102"), "{said}");
        assert!(refreshed.changed && !refreshed.numbers && world.number().is_err());
    };
    refused(&mut world);

    let dir = tempfile::tempdir().expect("tempdir");
    let state = StateDir::open(dir.path()).expect("opened");
    world.numbers.store(&state).expect("stored");
    let mut next = World { numbers: CrlNumbers::load(&state).expect("loaded"), ..source() };
    assert_eq!(next.numbers, world.numbers);
    refused(&mut next);
    assert!(!next.file("/l", &ca.list(258)).numbers);
    assert_eq!(next.number(), Ok(vec![1, 2]));
    // Under its old name the CA has a new key, and counts anew.
    let renewed = Authority::named("ca");
    next.desired.bundles.values_mut().for_each(|b| b.from = Some(BundleSource::Pem(renewed.certificate.pem().into())));
    assert!(next.file("/l", &renewed.list(1)).numbers);

    for text in ["", "{}", "{\"version\":9}"] {
        fs::write(dir.path().join("crl-numbers.json"), text).expect("written");
        let error = CrlNumbers::load(&state).expect_err(text).to_string();
        assert!(error.contains("crl-numbers.json") && error.contains("restore it"), "{error}");
    }
}

#[test]
fn a_bad_list_closes_until_it_is_mended() {
    let ca = Authority::named("ca");
    let other = Authority::named("other");
    let bundle = BundleSource::Pem((ca.certificate.pem() + &other.certificate.pem()).into());
    let mut world = World::new(bundle, Some(ListSource::File("/l".into())));
    let (five, seven) = (ca.list(5), other.list(7));
    let good = format!("{five}{seven}");
    // The last is whole, but for what stood after it; and one that is signed by somebody of the same name.
    for bad in ["", "garbage", &good[..100], &five, &(Authority::named("ca").list(9) + &seven)] {
        assert!(world.file("/l", &good).changed, "{bad}");
        assert_eq!(world.number(), Ok(vec![5]), "a forged number is none: {bad}");
        let refreshed = world.file("/l", bad);
        assert!(refreshed.changed && world.number().is_err(), "{bad}");
        assert!(said(&refreshed, Severity::Error).starts_with("/l: "), "{refreshed:?}");
    }
}

#[test]
fn what_a_url_said_last_stays_until_it_says_something_better() {
    let ca = Authority::named("ca");
    let source = ListSource::Url { url: "http://crl.test/".into(), refresh: None };
    let mut world = World::new(BundleSource::Pem(ca.certificate.pem().into()), Some(source));
    let refreshed = world.refresh();
    assert!(said(&refreshed, Severity::Error).contains("http://crl.test/: it has not been fetched yet"));
    let refreshed = world.url(None, Some("the answer is 500"));
    assert!(said(&refreshed, Severity::Error).contains("http://crl.test/: the answer is 500"));
    let five = ca.list(5);
    let refreshed = world.url(Some(&five), None);
    assert_eq!((refreshed.findings.len(), refreshed.fetched.len(), world.number()), (0, 1, Ok(vec![5])));
    assert_eq!(world.refresh().fetched, []);
    for (content, trouble, why) in [
        (five.as_str(), Some("the answer is 500"), "the answer is 500"),
        ("<html>", None, "holds no revocation list"),
        (&ca.list(4), None, "older than one that was seen"),
        (&Authority::named("ca").list(9), None, "not signed by the CA"),
    ] {
        let refreshed = world.url(Some(content), trouble);
        let warned = said(&refreshed, Severity::Warning);
        assert!(warned.contains(why) && warned.contains("stays in force"), "{warned}");
        assert!(said(&refreshed, Severity::Error).is_empty() && !refreshed.changed && refreshed.fetched.is_empty());
        assert_eq!(world.number(), Ok(vec![5]));
    }
    assert_eq!(world.url(Some(&ca.list(6)), None).findings, []);
    assert_eq!(world.number(), Ok(vec![6]));
}

#[test]
fn pem_of_garbage_is_no_list() {
    let source = ListSource::Pem(pem_text("X509 CRL", b"garbage").into());
    let ca = Authority::named("ca");
    let mut world = World::new(BundleSource::Pem(ca.certificate.pem().into()), Some(source));
    world.refresh();
    assert!(world.number().expect_err("broken").contains("revocation list 1 is broken"));
}

#[test]
fn a_ca_without_a_list_is_named() {
    let (ca, other) = (Authority::named("ca"), Authority::named("other"));
    let bundle = BundleSource::File("/b.pem".into());
    let mut world = World::new(bundle, Some(ListSource::File("/l".into())));
    let own = world.corp();
    world.reread();
    world.file("/l", &ca.list(1));
    let unchecked = |refreshed: &Refreshed| -> Vec<(Severity, String)> {
        let found = refreshed.findings.iter().filter(|finding| finding.reason == Reason::NoRevocationList);
        found.map(|finding| (finding.severity, finding.detail.clone())).collect()
    };
    let all = ca.certificate.pem() + &other.certificate.pem() + &own.root_pem();
    let found = unchecked(&world.file("/b.pem", &all));
    assert!(matches!(&found[..], [(Severity::Warning, why)] if why.contains("of \"CN=other\"")), "{found:?}");
    world.desired.policies.values_mut().for_each(|policy| policy.revoked.clear());
    let found = unchecked(&world.refresh());
    assert!(matches!(&found[..], [(Severity::Info, why)] if why.contains("CN=ca\", \"CN=other")), "{found:?}");
    assert_eq!(unchecked(&world.file("/b.pem", &own.root_pem())), []);
}
