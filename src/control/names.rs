//! Endpoints that were written with names, as the addresses that DNS has for them now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::material::dns::Answer;
use crate::model::diagnostic::{Denial, Diagnostic, Reason};
use crate::model::service::{Endpoint, NamedEndpoint};
use crate::reconcile::Desired;

pub(super) fn named(desired: &Desired) -> BTreeSet<Arc<str>> {
    let names = desired.services.values().flat_map(|facts| &facts.names);
    names.map(|named| named.host.clone()).collect()
}

/// Every address of a name is an endpoint. A service that has none then says which name is to blame.
pub(super) fn fill(desired: &mut Desired, answers: &BTreeMap<Arc<str>, Answer>) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for (id, facts) in &mut desired.services {
        let mut unknown = None;
        for NamedEndpoint { host, port, weight, url, scheme, tls } in &facts.names {
            let answer = answers.get(host);
            let addresses = answer.map(|answer| answer.addresses.as_slice()).unwrap_or_default();
            facts.endpoints.extend(addresses.iter().map(|ip| Endpoint {
                weight: *weight,
                scheme: *scheme,
                tls: tls.clone(),
                ..Endpoint::new(SocketAddr::new(*ip, *port), url.clone())
            }));
            let Some(Answer { failure, .. }) = answer else {
                unknown.get_or_insert_with(|| format!("the name {host} is being looked up"));
                continue;
            };
            let Some(why) = failure else { continue };
            let finding = |severity: fn(_, _, _, String) -> Diagnostic, detail| {
                severity(id.clone(), Reason::NoAddress, facts.origin.clone(), detail).on("endpoints")
            };
            if addresses.is_empty() {
                let detail = format!("the name {host} has never led to an address: {why}");
                unknown.get_or_insert_with(|| detail.clone());
                findings.push(finding(Diagnostic::error, detail));
            } else {
                let detail = format!("the name {host} cannot be looked up: {why}; its last addresses stay in force");
                findings.push(finding(Diagnostic::warning, detail));
            }
        }
        facts.endpoints.sort();
        facts.endpoints.dedup();
        if facts.endpoints.is_empty()
            && let Some(why) = unknown
        {
            facts.absent.get_or_insert_with(|| Denial::new(Reason::NoAddress, why));
        }
    }
    findings
}

/// A name that nobody has answered for yet, neither with addresses nor with an error.
pub(super) fn pending<'d>(desired: &'d Desired, answers: &BTreeMap<Arc<str>, Answer>) -> Option<&'d Arc<str>> {
    let names = desired.services.values().flat_map(|facts| &facts.names);
    names.map(|named| &named.host).find(|host| !answers.contains_key(*host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::diagnostic::{Origin, Severity};
    use crate::model::id::{Kind, ObjectId, Provider, Source};
    use crate::reconcile::ServiceFacts;

    fn filled(answers: &[(&str, Answer)]) -> (ServiceFacts, Vec<Diagnostic>) {
        let id = ObjectId::new(&Source::new(Provider::File, None), Kind::Service, "s");
        let named = |host: &str, weight| NamedEndpoint {
            host: host.into(),
            port: 80,
            weight,
            url: format!("http://{host}").into(),
            scheme: Default::default(),
            tls: None,
        };
        let facts = ServiceFacts {
            origin: Origin::Default,
            endpoints: Vec::new(),
            names: vec![named("a", 3), named("b", 1)],
            trusted: Default::default(),
            shown: Default::default(),
            traffic: Default::default(),
            absent: None,
        };
        let mut desired = Desired { services: BTreeMap::from([(id.clone(), facts)]), ..Desired::default() };
        let answers = answers.iter().map(|(host, answer)| (Arc::from(*host), answer.clone())).collect();
        let findings = fill(&mut desired, &answers);
        (desired.services.remove(&id).expect("there"), findings)
    }

    fn answer(addresses: &[&str], failure: Option<&str>) -> Answer {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        Answer { addresses, failure: failure.map(Into::into) }
    }

    #[test]
    fn every_address_is_an_endpoint_by_the_url_that_was_written() {
        let (facts, findings) =
            filled(&[("a", answer(&["10.0.0.1", "fd00::1"], None)), ("b", answer(&["10.0.0.2"], None))]);
        let shown = |e: &Endpoint| format!("{} {} {}", e.address, e.weight, e.name);
        let expected = ["10.0.0.1:80 3 http://a", "10.0.0.2:80 1 http://b", "[fd00::1]:80 3 http://a"];
        assert_eq!(facts.endpoints.iter().map(shown).collect::<Vec<_>>(), expected);
        assert_eq!((facts.absent, findings.len()), (None, 0));
    }

    #[test]
    fn a_name_without_an_address_is_named() {
        let (facts, findings) = filled(&[("a", answer(&[], Some("NXDOMAIN")))]);
        let absent = facts.absent.expect("nobody is there");
        assert_eq!(absent.reason, Reason::NoAddress);
        assert!(absent.detail.contains("the name a has never led") && absent.detail.contains("NXDOMAIN"));
        assert_eq!(findings.iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::Error]);

        let (facts, findings) = filled(&[("a", answer(&["10.0.0.1"], Some("timeout"))), ("b", answer(&[], Some("x")))]);
        assert_eq!((facts.endpoints.len(), facts.absent), (1, None), "the other one answers");
        assert_eq!(findings.iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::Warning, Severity::Error]);
        assert!(findings[0].detail.contains("last addresses stay"), "{}", findings[0]);

        let (facts, findings) = filled(&[]);
        assert!(facts.absent.is_some_and(|absent| absent.detail.contains("being looked up")) && findings.is_empty());
    }
}
