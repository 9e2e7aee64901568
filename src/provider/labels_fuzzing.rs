//! Any labels: each is in the document or said to be wrong, and what a tenant may not say has no effect.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::config::tree::{Node, Tree, snake_case};
use crate::model::diagnostic::Origin;
use crate::model::id::{Kind, Name, Provider, Source};
use crate::model::snapshot::Snapshot;

use super::labels::{PREFIX, Wearer, read};
use super::lower::{self, Author};

/// A label a line: `key=value`. A line that starts with `!` lacks the prefix.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut labels = BTreeMap::new();
    for line in text.lines() {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let key = key.strip_prefix('!').map_or_else(|| format!("{PREFIX}{key}"), str::to_string);
        labels.insert(key, value.to_string());
    }
    let short = Name::normalised("web");
    let read_once = read(Wearer::Container("c"), &short, &labels);
    let own: BTreeMap<String, String> = labels
        .iter()
        .filter(|(key, _)| key.starts_with(PREFIX))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    assert_eq!(read(Wearer::Container("c"), &short, &own), read_once, "other people's labels say nothing");

    let mut words = Vec::new();
    gather(&read_once.document, &mut words);
    for (label, value) in &own {
        let flawed = read_once.flaws.iter().any(|flaw| origin_is(&flaw.origin, label));
        let switch = snake_case(&label[PREFIX.len()..]) == "enable";
        // Two spellings of one key with one value are one.
        let stands = words.iter().any(|(origin, text)| origin_is(origin, label) || text == value);
        assert!(flawed || switch || stands, "{label} is neither read nor wrong: {read_once:?}");
    }
    for (origin, text) in &words {
        assert!(own.iter().any(|(label, value)| origin_is(origin, label) && value == text), "{text:?} was not written");
    }
    let exposing = [Kind::Route, Kind::TcpRoute, Kind::Service];
    let any = exposing.iter().any(|kind| read_once.section(*kind).is_some_and(|tree| !tree.entries().is_empty()));
    assert!(read_once.has_any || !any, "what is in the document exposes");
    lowered(&read_once.document);
}

fn lowered(document: &Tree) {
    let source = Source::new(Provider::Docker, Some("p".into()));
    let author = Author { source, created: Timestamp::UNIX_EPOCH, replica: None };
    let snapshot = lower::document(document, &author);
    assert_eq!(lower::document(document, &author), snapshot, "the same says the same");
    for certificate in &snapshot.certificates {
        let read = certificate.denied.is_none()
            && !(certificate.cert_file.as_os_str().is_empty() && certificate.key_file.as_os_str().is_empty());
        assert!(!read, "a tenant's certificate comes from the proxy's disk: {certificate:?}");
    }
    for route in &snapshot.routes {
        assert!(!route.matches.is_empty(), "{route:?} stands nowhere");
    }
    for service in &snapshot.services {
        assert!(
            service.denied.is_some() || service.endpoints.is_empty(),
            "a tenant names foreign endpoints: {service:?}"
        );
    }
    twice_spelt(document, &snapshot);
    policies_stand(document, &snapshot);
    kept(&snapshot);
}

/// A field in two spellings is never half believed.
fn twice_spelt(document: &Tree, snapshot: &Snapshot) {
    let routes = document.field("routes").map(Tree::entries).unwrap_or_default();
    for entry in routes {
        let fields: Vec<String> = entry.value.entries().iter().map(|field| snake_case(&field.key)).collect();
        let once: BTreeSet<&String> = fields.iter().collect();
        if once.len() < fields.len() {
            let open = snapshot.routes.iter().find(|route| *route.id.name == *entry.key && route.denied.is_none());
            assert!(open.is_none(), "{open:?} has one field in two spellings");
        }
    }
}

/// A policy that is named is there, or the route is shut.
pub(crate) fn policies_stand(document: &Tree, snapshot: &Snapshot) {
    for entry in document.field("routes").map(Tree::entries).unwrap_or_default() {
        let named = entry.value.field("mtls").is_some_and(
            |policy| matches!(&policy.node, Node::Word { text, .. } if !["off", "false"].contains(&text.trim())),
        );
        let name = Name::normalised(&entry.key);
        let mut routes = snapshot.routes.iter().filter(|route| *route.id.name == *name.as_str()).peekable();
        let stands = routes.peek().is_none() || routes.any(|route| !route.mtls.is_empty() || route.denied.is_some());
        assert!(!named || stands, "{name} names a policy and is open: {snapshot:?}");
    }
}

/// What is kept on disk means what it meant.
pub(crate) fn kept(snapshot: &Snapshot) {
    let text = serde_json::to_string(snapshot);
    assert!(text.is_ok(), "{text:?}");
    let again = serde_json::from_str::<Snapshot>(&text.unwrap_or_default());
    assert_eq!(again.as_ref().ok(), Some(snapshot), "{again:?}");
}

fn origin_is(origin: &Origin, label: &str) -> bool {
    matches!(origin, Origin::Label { key, .. } if **key == *label)
}

fn gather(tree: &Tree, words: &mut Vec<(Origin, String)>) {
    match &tree.node {
        Node::Null => {}
        Node::Word { text, .. } => words.push((tree.origin.clone(), text.clone())),
        Node::Seq(items) => items.iter().for_each(|item| gather(item, words)),
        Node::Map(entries) => entries.iter().for_each(|entry| gather(&entry.value, words)),
    }
}
