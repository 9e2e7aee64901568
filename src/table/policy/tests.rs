use std::collections::BTreeSet;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::model::id::{Kind, Provider, Source};
use crate::model::mtls::{DnsMatch, EmailMatch, IdentityMatch, UriMatch};
use crate::model::schema::ForwardIdentity;
use crate::table::testing::{Ca, Says, at};

use super::*;

fn policy(mode: ClientAuthMode, bundles: &[&Ca], lists: Vec<(Arc<LoadedLists>, StaleList)>) -> Policy {
    with(mode, bundles, lists, |_| {})
}

fn with(
    mode: ClientAuthMode,
    bundles: &[&Ca],
    lists: Vec<(Arc<LoadedLists>, StaleList)>,
    change: impl Fn(&mut ClientRules),
) -> Policy {
    let mut rules =
        ClientRules { mode, allow: None, forward: Vec::new(), handshake: HandshakeMode::Refuse, depth: None };
    change(&mut rules);
    let id = ObjectId::new(&Source::new(Provider::File, None), Kind::MtlsPolicy, "p");
    Policy::new(id, rules, bundles.iter().map(|ca| ca.bundle()).collect(), lists)
}

fn said(policy: &Policy, chain: &[CertificateDer<'static>], now: i64) -> Result<Admitted, Refusal> {
    Peer::new(chain.to_vec()).verdict(policy, at(now)).outcome
}

/// The table of modes, row by row.
#[test]
fn every_mode_does_what_its_row_says() {
    use Admitted::{Anonymous, Identified};
    use ClientAuthMode::{Off, Request, Require, RequireAny, VerifyIfGiven};
    let (ca, other) = (Ca::root("ca"), Ca::root("other"));
    let allowed = ca.client("web", &Says { dns: vec!["web.example"], ..Says::default() });
    let stranger = ca.client("db", &Says { dns: vec!["db.example"], ..Says::default() });
    let unknown = other.client("web", &Says { dns: vec!["web.example"], ..Says::default() });
    let (none, bad) = (Refusal::NoCertificate, Refusal::Unverified(Unverified::UnknownIssuer));
    for (mode, rows) in [
        (Off, [Ok(Anonymous), Ok(Anonymous), Ok(Anonymous), Ok(Anonymous)]),
        (Request, [Ok(Anonymous), Ok(Anonymous), Ok(Anonymous), Ok(Anonymous)]),
        (RequireAny, [Err(none), Ok(Anonymous), Ok(Anonymous), Ok(Anonymous)]),
        (VerifyIfGiven, [Ok(Anonymous), Err(bad), Err(Refusal::NotAllowed), Ok(Identified)]),
        (Require, [Err(none), Err(bad), Err(Refusal::NotAllowed), Ok(Identified)]),
    ] {
        let allow = IdentityMatch { dns: Some(DnsMatch::parse("web.example").expect("a name")), ..Default::default() };
        let allow = matches!(mode, VerifyIfGiven | Require).then(|| vec![allow]);
        let policy = with(mode, &[&ca], vec![], |rules| rules.allow.clone_from(&allow));
        let found = [&[][..], &unknown, &stranger, &allowed].map(|chain| said(&policy, chain, 1_000));
        assert_eq!(found, rows, "{mode:?}");
    }
}

#[test]
fn what_is_not_verified_says_why() {
    let (ca, old) = (Ca::root("ca"), Ca::root_saying("old", &Says { to: Some(500), ..Says::default() }));
    let deep = ca.intermediate("one").intermediate("two");
    let require = |change: fn(&mut ClientRules)| with(ClientAuthMode::Require, &[&ca, &old], vec![], change);
    let plain = require(|_| {});
    let says = Says::default;
    for (policy, chain, now, expected) in [
        (&plain, ca.client("web", &says()), 1_000, Ok(Admitted::Identified)),
        (&plain, deep.client("web", &says()), 1_000, Ok(Admitted::Identified)),
        (&plain, old.client("web", &says()), 500, Ok(Admitted::Identified)),
        // The root has ended, and nothing else has.
        (&plain, old.client("web", &says()), 501, Err(Unverified::UnknownIssuer)),
        (&plain, ca.client("web", &Says { to: Some(999), ..says() }), 1_000, Err(Unverified::Expired)),
        (&plain, ca.client("web", &Says { from: Some(1_001), ..says() }), 1_000, Err(Unverified::NotYetValid)),
        (&plain, ca.client("web", &Says { for_servers: true, ..says() }), 1_000, Err(Unverified::Purpose)),
        (&plain, vec![ca.der.clone()], 1_000, Err(Unverified::Purpose)),
        (&plain, vec![b"garbage".to_vec().into()], 1_000, Err(Unverified::Broken)),
        // Without what stands between it and the root.
        (&plain, deep.client("web", &says())[..1].to_vec(), 1_000, Err(Unverified::UnknownIssuer)),
        (&require(|rules| rules.depth = Some(2)), deep.client("web", &says()), 1_000, Ok(Admitted::Identified)),
        (&require(|rules| rules.depth = Some(1)), deep.client("web", &says()), 1_000, Err(Unverified::TooLong)),
        (&require(|rules| rules.depth = Some(0)), ca.client("web", &says()), 1_000, Ok(Admitted::Identified)),
    ] {
        assert_eq!(said(policy, &chain, now), expected.map_err(Refusal::Unverified), "{:?}", policy.rules.depth);
    }
}

#[test]
fn a_root_that_has_begun_is_found_beside_one_that_has_not() {
    let later = Ca::root_saying("ca", &Says { from: Some(2_000), ..Says::default() });
    let ca = Ca::root("ca");
    let policy = policy(ClientAuthMode::Require, &[&later, &ca], vec![]);
    assert_eq!(said(&policy, &ca.client("web", &Says::default()), 1_000), Ok(Admitted::Identified));
    let early = later.client("web", &Says::default());
    assert_eq!(said(&policy, &early, 1_000), Err(Refusal::Unverified(Unverified::UnknownIssuer)));
    assert_eq!(said(&policy, &early, 2_000), Ok(Admitted::Identified));
}

#[test]
fn a_revocation_list_takes_back_leaves_and_intermediates() {
    use StaleList::{Accept, Deny};
    let (ca, other) = (Ca::root("ca"), Ca::root("other"));
    let middle = ca.intermediate("middle");
    let web = |serial| ca.client("web", &Says { serial, ..Says::default() });
    let revoked = Err(Refusal::Unverified(Unverified::Revoked));
    let require = |lists| policy(ClientAuthMode::Require, &[&ca, &other], lists);
    let far = 100_000;

    let seven = require(vec![(ca.list(1, &[7], far), Deny)]);
    assert_eq!(said(&seven, &web(7), 1_000), revoked);
    assert_eq!(said(&seven, &web(8), 1_000), Ok(Admitted::Identified));
    // Of a CA without a list nobody is checked.
    let others = other.client("web", &Says { serial: 7, ..Says::default() });
    assert_eq!(said(&seven, &others, 1_000), Ok(Admitted::Identified));
    assert_eq!(seven.trust.without_list(), ["CN=other"]);

    // The one with the highest number counts, in whatever order they come.
    let (first, second) = ((ca.list(1, &[7], far), Deny), (ca.list(2, &[9], far), Deny));
    for lists in [vec![first.clone(), second.clone()], vec![second, first]] {
        let both = require(lists);
        assert_eq!((said(&both, &web(7), 1_000), said(&both, &web(9), 1_000)), (Ok(Admitted::Identified), revoked));
    }

    let (_, parsed) = parse_x509_certificate(&middle.der).expect("a certificate");
    let serial = parsed.raw_serial().iter().fold(0u128, |serial, byte| serial << 8 | u128::from(*byte));
    let by_middle = middle.client("web", &Says { serial: 5, ..Says::default() });
    assert!(said(&seven, &by_middle, 1_000).is_ok(), "serial {serial}");
    let leaf = require(vec![(middle.list(1, &[5], far), Deny)]);
    assert_eq!(said(&leaf, &by_middle, 1_000), revoked);

    // One that is overdue denies, or does not, as its owner says; who stands on it is out all the same.
    for (stale, expected) in
        [(Deny, Err(Refusal::Unverified(Unverified::ListStale))), (Accept, Ok(Admitted::Identified))]
    {
        let overdue = require(vec![(ca.list(1, &[7], 500), stale)]);
        assert_eq!(said(&overdue, &web(8), 500), Ok(Admitted::Identified));
        assert_eq!(said(&overdue, &web(8), 501), expected);
        assert_eq!(said(&overdue, &web(7), 501), revoked);
        assert!(said(&overdue, &others, 501).is_ok(), "another CA's list is not overdue");
    }

    // A list that somebody else has signed says nothing that could be believed, not even that all is well.
    let forger = Ca::root("ca");
    let forged = require(vec![(forger.list(9, &[], far), Deny)]);
    assert_eq!(said(&forged, &web(7), 1_000), Err(Refusal::Unverified(Unverified::ListInvalid)));
}

#[test]
fn what_an_issuer_has_withdrawn_is_revoked_below_its_root_alone() {
    let (ca, other) = (Ca::root("ca"), Ca::root("other"));
    let [seven, eight] = [7, 8].map(|serial| ca.client("web", &Says { serial, ..Says::default() }));
    let bundle = |withdrawn| Arc::new(LoadedBundle::clone(&ca.bundle()).without(withdrawn));
    let by_serial = Withdrawn { serials: BTreeSet::from([Box::from(&[7][..])]), ..Withdrawn::default() };
    let by_print = Withdrawn { fingerprints: BTreeSet::from([ContentKey::sha256(&seven[0])]), ..Withdrawn::default() };
    for withdrawn in [by_serial, by_print] {
        let trust = ClientTrust::new(vec![bundle(withdrawn), other.bundle()], vec![], None);
        assert_eq!(trust.verify(&seven, at(1_000)), Err(Unverified::Revoked));
        assert!(trust.verify(&eight, at(1_000)).is_ok());
        let others = other.client("web", &Says { serial: 7, ..Says::default() });
        assert!(trust.verify(&others, at(1_000)).is_ok());
    }
}

/// Until the first of leaf, intermediates, root and list ends.
#[test]
fn a_verdict_lapses_with_what_it_was_made_of() {
    let until = |policy: &Policy, chain: &[CertificateDer<'static>], now| {
        Peer::new(chain.to_vec()).verdict(policy, at(now)).until
    };
    let ca = Ca::root_saying("ca", &Says { to: Some(9_000), ..Says::default() });
    let short = ca.client("web", &Says { to: Some(5_000), ..Says::default() });
    let long = ca.client("web", &Says::default());
    let plain = policy(ClientAuthMode::Require, &[&ca], vec![]);
    assert_eq!((until(&plain, &short, 1_000), until(&plain, &long, 1_000)), (at(5_000), at(9_000)));
    let listed = |stale| policy(ClientAuthMode::Require, &[&ca], vec![(ca.list(1, &[], 3_000), stale)]);
    assert_eq!(until(&listed(StaleList::Deny), &short, 1_000), at(3_000));
    assert_eq!(until(&listed(StaleList::Accept), &short, 1_000), at(5_000));
    // What is refused may be otherwise in a moment.
    assert_eq!(until(&plain, &[b"garbage".to_vec().into()], 1_000), at(1_001));
}

#[test]
fn a_verdict_is_remembered_by_the_policys_content_and_until_it_lapses() {
    let ca = Ca::root("ca");
    let chain = ca.client("web", &Says { serial: 7, to: Some(5_000), ..Says::default() });
    let peer = Peer::new(chain);
    let before = policy(ClientAuthMode::Require, &[&ca], vec![(ca.list(1, &[], 100_000), StaleList::Deny)]);
    let after = policy(ClientAuthMode::Require, &[&ca], vec![(ca.list(2, &[7], 100_000), StaleList::Deny)]);
    assert_eq!(before.id, after.id);
    assert!(peer.verdict(&before, at(1_000)).outcome.is_ok());
    assert_eq!(peer.verdict(&after, at(1_000)).outcome, Err(Refusal::Unverified(Unverified::Revoked)));
    assert!(peer.verdict(&before, at(5_000)).outcome.is_ok());
    assert_eq!(peer.verdict(&before, at(5_001)).outcome, Err(Refusal::Unverified(Unverified::Expired)));
}

/// Every way of naming somebody, and the neighbours that must not be let in by it.
#[test]
fn allow_is_exact() {
    let ca = Ca::root("ca");
    let chain = ca.client(
        "admin",
        &Says {
            dns: vec!["web.shop.example"],
            uris: vec!["spiffe://td.example/ns/shop/sa/web"],
            emails: vec!["ops@shop.example"],
            ips: vec!["10.0.0.7"],
            organisation: Some("Acme"),
            ..Says::default()
        },
    );
    let identity = Identity::of(&chain[0]).expect("a certificate");
    let entry = || IdentityMatch::default();
    let dns = |raw| IdentityMatch { dns: Some(DnsMatch::parse(raw).expect(raw)), ..entry() };
    let uri = |raw| IdentityMatch { uri: Some(UriMatch::parse(raw).expect(raw)), ..entry() };
    let email = |raw| IdentityMatch { email: Some(EmailMatch::parse(raw).expect(raw)), ..entry() };
    let ip = |raw: &str| IdentityMatch { ip: Some(raw.parse().expect(raw)), ..entry() };
    let subject = |oid: &str, value: &str| IdentityMatch { subject: [(oid.into(), value.into())].into(), ..entry() };
    let issuer = |value: &str| IdentityMatch { issuer: [("2.5.4.3".into(), value.into())].into(), ..entry() };
    let (cn, o) = ("2.5.4.3", "2.5.4.10");
    let print = |raw: &str| IdentityMatch { fingerprint: Some(raw.into()), ..entry() };
    let spki = |raw: &str| IdentityMatch { spki: Some(raw.into()), ..entry() };
    for yes in [
        dns("web.shop.example"),
        dns("*.shop.example"),
        uri("spiffe://td.example/ns/*/sa/web"),
        email("ops@SHOP.example"),
        ip("10.0.0.7"),
        subject(cn, "admin"),
        subject(o, "Acme"),
        issuer("ca"),
        print(&identity.fingerprint),
        spki(&identity.spki),
        IdentityMatch { dns: dns("*.shop.example").dns, ..subject(cn, "admin") },
    ] {
        assert!(identity.satisfies(&yes), "{yes:?}");
    }
    for no in [
        dns("shop.example"),
        dns("admin"),
        dns("*.example"),
        uri("spiffe://td.example/ns/shop/sa/we"),
        email("xops@shop.example"),
        ip("10.0.0.70"),
        // CVE-like: CN=admin must not be found in CN=admin-x, nor a prefix of it be enough.
        subject(cn, "admi"),
        subject(cn, "admin-x"),
        subject(cn, "Admin"),
        subject(o, "admin"),
        issuer("c"),
        print(&"0".repeat(64)),
        spki(&identity.fingerprint),
        IdentityMatch { dns: dns("db.shop.example").dns, ..subject(cn, "admin") },
        IdentityMatch { issuer: issuer("other").issuer, ..subject(cn, "admin") },
    ] {
        assert!(!identity.satisfies(&no), "{no:?}");
    }
}

#[test]
fn equal_content_is_an_equal_key_whatever_it_is_called() {
    let (a, b) = (Ca::root("a"), Ca::root("b"));
    let lists = || vec![(a.list(1, &[7], 100_000), StaleList::Deny)];
    let plain = policy(ClientAuthMode::Require, &[&a, &b], vec![]);
    assert_eq!(plain.key, policy(ClientAuthMode::Require, &[&b, &a, &a], vec![]).key);
    let others = [
        policy(ClientAuthMode::VerifyIfGiven, &[&a, &b], vec![]),
        policy(ClientAuthMode::Require, &[&a], vec![]),
        policy(ClientAuthMode::Require, &[&a, &b], lists()),
        policy(ClientAuthMode::Require, &[&a, &b], vec![(lists().remove(0).0, StaleList::Accept)]),
        with(ClientAuthMode::Require, &[&a, &b], vec![], |rules| rules.depth = Some(1)),
        with(ClientAuthMode::Require, &[&a, &b], vec![], |rules| rules.handshake = HandshakeMode::Ask),
    ];
    for other in &others {
        assert_ne!((plain.key, plain.handshake_key), (other.key, other.handshake_key), "{:?}", other.rules);
        assert_ne!(plain.handshake_key, other.handshake_key, "{:?}", other.rules);
    }
    // Who of the verified may come in is no matter of the handshake.
    let allow = |rules: &mut ClientRules| rules.allow = Some(vec![IdentityMatch::default()]);
    let narrower = with(ClientAuthMode::Require, &[&a, &b], vec![], allow);
    assert_ne!(plain.key, narrower.key);
    assert_eq!(plain.handshake_key, narrower.handshake_key);
}

/// What a client adds to its chain is not told of, and not by whom it says to be signed.
#[test]
fn endpoints_are_told_of_the_verified_path_alone() {
    let (ca, other) = (Ca::root("ca"), Ca::root("other"));
    let (one, stray) = (ca.intermediate("one"), other.intermediate("stray"));
    let two = one.intermediate("two");
    let chain = two.client("web", &Says::default());
    let wanted = [&chain[0], &two.der, &one.der].map(|der| STANDARD.encode(der)).join(",");
    // In an order of its own, with somebody's certificate and a root between.
    let shown = vec![chain[0].clone(), stray.der, one.der.clone(), ca.der.clone(), other.der.clone(), two.der.clone()];
    let peer = Peer::new(shown);
    let told = |mode, forward: Vec<ForwardIdentity>| {
        let policy = with(mode, &[&ca], vec![], |rules| rules.forward.clone_from(&forward));
        let told = peer.introduction(&policy, at(1_000)).expect("admitted");
        let again = peer.introduction(&policy, at(1_001)).expect("admitted");
        assert_eq!(told.as_ref().map(Rc::as_ptr), again.as_ref().map(Rc::as_ptr), "made once");
        told
    };
    let one = told(ClientAuthMode::Require, vec![ForwardIdentity::TraefikPem]).expect("told");
    assert_eq!(one.headers[0].1, wanted);
    assert!(told(ClientAuthMode::Require, Vec::new()).is_none());
    let nobody = Peer::default();
    let policy = |mode| with(mode, &[&ca], vec![], |rules| rules.forward = vec![ForwardIdentity::Nginx]);
    let said = nobody.introduction(&policy(ClientAuthMode::VerifyIfGiven), at(1_000)).expect("admitted");
    assert!(said.is_some_and(|said| !said.verified));
    assert_eq!(nobody.introduction(&policy(ClientAuthMode::Require), at(1_000)), Err(Refusal::NoCertificate));
}
