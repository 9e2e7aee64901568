//! Any bytes as a client's chain, a bundle or a revocation list: what is verified is what a CA of ours has signed.
//!
//! ```text
//! bytes ─edits─▶ chain · root · list ─▶ verify, judge ─▶ only what was signed, by whom it was, for whom it names
//! ```
//! Keys are made once a process, so that an input says what is changed and where, and no key has to be kept.

use std::sync::{Arc, LazyLock};

use rustls_pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

use crate::model::mtls::ClientRules;
use crate::model::schema::{ClientAuthMode, HandshakeMode, StaleList};
use crate::model::{Kind, ObjectId, Provider, Source};

use super::identity::Identity;
use super::peer::Peer;
use super::policy::{ClientTrust, Policy, Refusal};
use super::revocation::LoadedLists;
use super::testing::{Ca, Says, at};
use super::trust::LoadedBundle;

/// A moment at which everything that is not meant to have ended is valid.
const NOW: i64 = 1_700_000_000;
/// The serial number of the one that is revoked.
const REVOKED: u64 = 7;

struct World {
    root: Ca,
    /// What clients show, and whether a CA of ours stands behind it now.
    chains: Vec<(Vec<CertificateDer<'static>>, bool)>,
    revoked: Vec<CertificateDer<'static>>,
    list: Vec<u8>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let (root, other) = (Ca::root("ours"), Ca::root("ours"));
    let between = root.intermediate("between");
    let says = Says {
        dns: vec!["web.example", "*.wild.example"],
        uris: vec!["spiffe://example.org/ns/a/sa/web"],
        emails: vec!["web@example.org"],
        ips: vec!["10.0.0.1"],
        organisation: Some("Acme"),
        serial: 5,
        ..Says::default()
    };
    let chains = vec![
        (root.client("web", &says), true),
        (between.client("web", &says), true),
        (other.client("web", &says), false),
        (root.client("web", &Says { to: Some(NOW - 1), ..says.clone() }), false),
        (root.client("web", &Says { for_servers: true, ..says.clone() }), false),
    ];
    let revoked = root.client("web", &Says { serial: REVOKED, ..says });
    let list = root.list(3, &[REVOKED], NOW + 1000).lists.iter().flat_map(|list| list.der.to_vec()).collect();
    World { root, chains, revoked, list }
});

/// The first byte picks a chain; the others, four each, what is changed: whose bytes, where (two), and by what. `0` cuts.
pub fn check(data: &[u8]) {
    let World { root, chains, revoked, list } = &*WORLD;
    let Some((first, edits)) = data.split_first() else { return };
    let edits: Vec<&[u8]> = edits.chunks_exact(4).collect();
    let (chain, good) = &chains[usize::from(*first) % chains.len()];
    let edited = |bytes: &[u8], whose: u8| {
        let mut bytes = bytes.to_vec();
        for edit in edits.iter().filter(|edit| edit[0] == whose) {
            let place = usize::from(u16::from_be_bytes([edit[1], edit[2]])) % bytes.len().max(1);
            match edit[3] {
                0 => bytes.truncate(place),
                by => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= by),
            }
        }
        bytes
    };

    // A chain that was changed is verified only where what was signed is what it was.
    let shown: Vec<CertificateDer<'static>> =
        chain.iter().zip(0u8..).map(|(der, whose)| CertificateDer::from(edited(der, whose))).collect();
    let trust = ClientTrust::new(vec![root.bundle()], Vec::new(), None);
    let verified = trust.verify(&shown, at(NOW));
    assert_eq!(verified, trust.verify(&shown, at(NOW)), "said twice");
    if verified.is_ok() {
        assert!(good, "nobody of ours has signed it");
        assert_eq!(signed(&shown[0]), signed(&chain[0]), "it was signed as something else");
        assert!(Identity::of(&shown[0]).is_ok(), "who is verified has an identity");
    }
    let unchanged = shown == *chain;
    assert!(verified.is_ok() == *good || !unchanged, "{verified:?}");

    // The same for whom it names; without trust nobody is let in.
    let named = Identity::of(&shown[0]);
    assert_eq!(named, Identity::of(&shown[0]));
    if let Ok(identity) = &named {
        assert!(identity.fingerprint.len() == 64 && identity.spki.len() == 64);
        let plain = |host: &String| !host.chars().any(|c| c.is_ascii_uppercase());
        assert!(identity.dns.iter().all(plain), "DNS names are compared in lower case");
    }
    let peer = Peer::new(shown.clone());
    let verdict = require(root).judge(&peer, at(NOW));
    assert_eq!(verdict.outcome.is_ok(), verified.is_ok(), "{verdict:?}");
    assert_ne!(verdict.outcome, Err(Refusal::NoCertificate));

    // A bundle that is read has CAs in it and nothing else.
    if let Ok(bundle) = LoadedBundle::read(&edited(&root.der, 0x10)) {
        for anchor in &bundle.anchors {
            let parsed = parse_x509_certificate(&anchor.der);
            assert!(parsed.is_ok_and(|(_, parsed)| parsed.tbs_certificate.is_ca()), "an anchor is a CA");
        }
    }

    // Whatever becomes of a list, whom it takes back is not let in by it.
    if let Ok(lists) = LoadedLists::read(&edited(list, 0x20)) {
        let stale = if first & 0x80 == 0 { StaleList::Deny } else { StaleList::Accept };
        let issuer = lists.lists.first().map(|list| list.issuer.to_vec());
        let ours = issuer.is_some_and(|issuer| issuer == root.bundle().anchors[0].trust.subject.as_ref());
        let trust = ClientTrust::new(vec![root.bundle()], vec![(Arc::new(lists), stale)], None);
        let taken_back = trust.verify(revoked, at(NOW));
        // One of another issuer's says nothing of ours.
        assert!(!ours || taken_back.is_err(), "revoked, and verified by an edited list");
    }
}

/// The part of a certificate that its issuer has signed.
fn signed(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = parse_x509_certificate(der).ok()?;
    Some(parsed.tbs_certificate.as_ref().to_vec())
}

fn require(root: &Ca) -> Policy {
    let id = ObjectId::new(&Source::new(Provider::Settings, None), Kind::MtlsPolicy, "fuzzed");
    let rules = ClientRules {
        mode: ClientAuthMode::Require,
        allow: None,
        forward: Vec::new(),
        handshake: HandshakeMode::Refuse,
        depth: None,
    };
    Policy::new(id, rules, vec![root.bundle()], Vec::new())
}
