//! Whoever speaks by labels, a container or a Swarm service, in the neutral vocabulary.
//!
//! ```text
//! labels ─labels::read─▶ document ─complete─▶ + default host, default service ─lower─▶ Route, Service, …
//!                                                             the engine's own part ─▶ endpoints of a Service
//! ```
//! A route lives as long as who speaks for it is there, with or without an endpoint. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::config::read::field_names;
use crate::config::settings::Expose;
use crate::config::tree::{Entry, Node, Tree, spells};
use crate::model::diagnostic::{Denial, Diagnostic, Origin, Reason, Severity};
use crate::model::id::{Kind, Name, NameRef, ObjectId, Provider, RefScope, SHARED_NAMESPACE, Source};
use crate::model::route::Replica;
use crate::model::schema::RouteSpec;
use crate::model::service::Service;
use crate::model::snapshot::Snapshot;

use super::labels::{self, Closes, Labelled, Wearer};
use super::lower::{self, Author};

/// Who speaks, and the names it speaks under.
pub struct Speaker<'s> {
    pub wearer: Wearer<'s>,
    labels: &'s BTreeMap<String, String>,
    /// The compose project or the stack.
    pub project: Option<&'s str>,
    /// What short labels are named after: the service, as its project's file has it, else the wearer.
    pub service: Name,
    pub author: Author,
}

/// How far those who say little are heard.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'t> {
    pub expose: Expose,
    /// `{service}` and `{project}` are filled in.
    pub default_host: &'t str,
    /// Portolan itself is exposed by labels alone.
    pub is_self: bool,
}

impl<'s> Speaker<'s> {
    pub fn new(
        provider: Provider,
        wearer: Wearer<'s>,
        labels: &'s BTreeMap<String, String>,
        project: Option<&'s str>,
        service: &str,
        created: Timestamp,
    ) -> Speaker<'s> {
        let service = Name::normalised(service);
        let namespace = match project {
            Some(project) => Name::normalised(project).shared(),
            None => format!("{SHARED_NAMESPACE}/{}", wearer.name()).into(),
        };
        let replica = Replica { created, container: wearer.name().into(), service: service.shared() };
        let source = Source::new(provider, Some(namespace));
        let author = Author { source, created, replica: Some(replica) };
        Speaker { wearer, labels, project, service, author }
    }

    pub fn id(&self, kind: Kind, name: &str) -> ObjectId {
        ObjectId::new(&self.author.source, kind, name)
    }

    /// The wearer as the subject of findings.
    pub fn subject(&self) -> ObjectId {
        match self.wearer {
            Wearer::Container(name) => self.id(Kind::Container, name),
            Wearer::Service(_) => self.id(Kind::Service, self.service.as_str()),
        }
    }

    pub fn origin(&self) -> Origin {
        self.wearer.origin()
    }

    pub fn read(&self) -> Labelled {
        labels::read(self.wearer, &self.service, self.labels)
    }

    /// How the labels of one of its services begin.
    pub fn prefix(&self, service: &str) -> String {
        match service == self.service.as_str() {
            true => labels::PREFIX.to_string(),
            false => format!("{}services.{service}.", labels::PREFIX),
        }
    }

    /// Everything that the labels want. `amend` may fill in what only the engine knows; `service` makes a service of what
    /// is written about it, with its endpoints.
    pub fn speak(
        &self,
        terms: &Terms<'_>,
        amend: impl FnOnce(&mut Tree),
        mut service: impl FnMut(&Entry, &mut Vec<Diagnostic>) -> Service,
    ) -> Snapshot {
        let mut snapshot = Snapshot::empty(self.author.source.provider);
        let mut labelled = self.read();
        if !labelled.enable {
            return snapshot;
        }
        let expose_all = terms.expose == Expose::All && (labelled.has_any || !terms.is_self);
        let mut document = self.complete(&mut labelled, terms.default_host, expose_all);
        amend(&mut document);

        let mut unplaced: Option<Denial> = None;
        for section in document.entries() {
            let Some(kind) = lower::section_kind(&section.key) else { continue };
            for object in section.value.entries() {
                if kind == Kind::Service {
                    let service = service(object, &mut snapshot.findings);
                    snapshot.services.push(service);
                    continue;
                }
                let mut denials = Vec::new();
                lower::object(kind, &object.key, &object.value, &self.author, &mut snapshot, &mut denials);
                unplaced = unplaced.or(denials.into_iter().next().map(|denial| self.beside(&object.key, &denial)));
            }
        }
        unplaced = self.apply_flaws(&labelled, &mut snapshot).or(unplaced);
        if let Some(denial) = unplaced {
            // Whatever was meant for the route that cannot be placed, this wearer does not get it by another one, nor
            // as the replica of one whose labels are sound.
            for service in &mut snapshot.services {
                service.endpoints.clear();
                service.absent.get_or_insert_with(|| denial.clone());
            }
            close_every_route(&mut snapshot, &denial);
        }
        if terms.expose == Expose::Labelled && labelled.flaws.is_empty() {
            snapshot.findings.extend(self.nothing_served(&document));
        }
        snapshot
    }

    /// Fills in what labels may leave out: a host, a service, and with `expose: all` the whole route.
    fn complete(&self, labelled: &mut Labelled, default_host: &str, expose_all: bool) -> Tree {
        let mut document = std::mem::replace(&mut labelled.document, Tree::map(self.origin()));
        let has_route = [Kind::Route, Kind::TcpRoute].iter().any(|kind| !names(&document, *kind).is_empty());
        if expose_all && !has_route {
            adopt(&mut document, Kind::Route, self.service.as_str(), Tree::map(self.origin()));
        }
        let services = names(&document, Kind::Service);
        let mut used = BTreeSet::new();
        for route in entries_mut(&mut document, Kind::Route) {
            let says = |field: &str| route.value.field(field).is_some();
            let known =
                route.value.entries().iter().any(|e| field_names::<RouteSpec>().iter().any(|f| spells(&e.key, f)));
            // An unreadable key alone may have been meant as the host: it claims none.
            if !["host", "hosts", "rule"].iter().any(|field| says(field)) && (known || expose_all) {
                let host = self.default_host(default_host);
                fill(&mut route.value, "host", Tree::word(self.origin(), host));
            }
            if let Some(written) = route.value.field("service") {
                if let Node::Word { text, .. } = &written.node
                    && let (RefScope::Own, name) = NameRef::new(text).parts()
                {
                    used.insert(name.to_string());
                }
            } else if let Some(split) = route.value.field("split") {
                let own = |entry: &Entry| match NameRef::new(&entry.key).parts() {
                    (RefScope::Own, name) => Some(name.to_string()),
                    _ => None,
                };
                used.extend(split.entries().iter().filter_map(own));
            } else {
                let name = self.own_service(&route.key, &services);
                fill(&mut route.value, "service", Tree::word(self.origin(), &name));
                used.insert(name);
            }
        }
        if used.contains(self.service.as_str()) && !services.contains(self.service.as_str()) {
            adopt(&mut document, Kind::Service, self.service.as_str(), Tree::map(self.origin()));
        }
        document
    }

    /// The service that a route without one means: its namesake, else the wearer's only one.
    fn own_service(&self, route: &str, defined: &BTreeSet<String>) -> String {
        let mut names = defined.iter();
        match (defined.contains(route), names.next(), names.next()) {
            (true, ..) => route.to_string(),
            (false, Some(only), None) => only.clone(),
            _ => self.service.to_string(),
        }
    }

    fn default_host(&self, template: &str) -> String {
        let host = match self.project {
            Some(project) => template.replace("{project}", Name::normalised(project).as_str()),
            None => {
                ["{project}.", ".{project}", "{project}"].iter().fold(template.to_string(), |t, gap| t.replace(gap, ""))
            }
        };
        host.replace("{service}", self.service.as_str())
    }

    /// Denies what the flaws touch. Handed back is the denial of a route that is not there to be denied: the flaw was
    /// all that is known of it.
    fn apply_flaws(&self, labelled: &Labelled, snapshot: &mut Snapshot) -> Option<Denial> {
        let mut unplaced = None;
        for flaw in &labelled.flaws {
            let subject = match &flaw.closes {
                Closes::Object(kind, name) => self.id(*kind, name.as_str()),
                Closes::EveryRoute | Closes::Nothing => self.subject(),
            };
            let finding = Diagnostic::error(subject, flaw.reason, flaw.origin.clone(), flaw.detail.as_str())
                .on(flaw.field.clone());
            let denial = Denial::of(&finding);
            match &flaw.closes {
                Closes::Object(Kind::Route, name)
                    if !snapshot.routes.iter().any(|route| route.id == finding.subject) =>
                {
                    unplaced.get_or_insert(self.beside(name.as_str(), &denial));
                }
                Closes::Object(..) => close(snapshot, &finding.subject, &denial),
                Closes::EveryRoute => close_every_route(snapshot, &denial),
                Closes::Nothing => {}
            }
            snapshot.findings.push(finding);
        }
        unplaced
    }

    /// Services alone answer nobody until some route names them.
    fn nothing_served(&self, document: &Tree) -> Option<Diagnostic> {
        let has_route = [Kind::Route, Kind::TcpRoute].iter().any(|kind| !names(document, *kind).is_empty());
        let service = names(document, Kind::Service).into_iter().next().filter(|_| !has_route)?;
        let detail = "the labels describe a service but no route; add portolan.host (or portolan.path, for the default host), \
                      unless a route elsewhere names this service";
        let finding = Diagnostic::warning(self.id(Kind::Service, &service), Reason::NoRoute, self.origin(), detail);
        Some(Diagnostic { severity: Severity::Info, ..finding })
    }

    fn beside(&self, route: &str, denial: &Denial) -> Denial {
        let detail =
            format!("the route \"{route}\" of the same {} cannot be read: {}", self.wearer.noun(), denial.detail);
        Denial::new(denial.reason, detail)
    }
}

/// Says what is wrong with a field of a service, and denies the service.
pub fn refuse(service: &mut Service, object: &Tree, field: &'static str, detail: &str, findings: &mut Vec<Diagnostic>) {
    let origin = object.field(field).unwrap_or(object).origin.clone();
    let finding = Diagnostic::error(service.id.clone(), Reason::Invalid, origin, detail).on(field);
    service.denied.get_or_insert_with(|| Denial::of(&finding));
    findings.push(finding);
}

fn close_every_route(snapshot: &mut Snapshot, denial: &Denial) {
    for route in &mut snapshot.routes {
        route.denied.get_or_insert_with(|| denial.clone());
    }
}

fn close(snapshot: &mut Snapshot, id: &ObjectId, denial: &Denial) {
    let routes = snapshot.routes.iter_mut().filter(|route| route.id == *id).map(|route| &mut route.denied);
    let services = snapshot.services.iter_mut().filter(|service| service.id == *id).map(|service| &mut service.denied);
    let middlewares = snapshot.middlewares.iter_mut().filter(|one| one.id == *id).map(|one| &mut one.denied);
    let certificates = snapshot.certificates.iter_mut().filter(|one| one.id == *id).map(|one| &mut one.denied);
    for denied in routes.chain(services).chain(middlewares).chain(certificates) {
        denied.get_or_insert_with(|| denial.clone());
    }
}

fn section_name(kind: Kind) -> &'static str {
    lower::SECTIONS.iter().find(|(_, known)| *known == kind).map_or("", |(section, _)| section)
}

fn names(document: &Tree, kind: Kind) -> BTreeSet<String> {
    let section = document.field(section_name(kind));
    section.map(Tree::entries).unwrap_or_default().iter().map(|entry| entry.key.clone()).collect()
}

/// The objects of one section of a document.
pub fn entries_mut(document: &mut Tree, kind: Kind) -> &mut [Entry] {
    let Node::Map(sections) = &mut document.node else { return &mut [] };
    let section = sections.iter_mut().find(|section| section.key == section_name(kind));
    match section.map(|section| &mut section.value.node) {
        Some(Node::Map(entries)) => entries,
        _ => &mut [],
    }
}

fn adopt(document: &mut Tree, kind: Kind, name: &str, object: Tree) {
    fill_path(document, &[section_name(kind), name], object);
}

fn fill(object: &mut Tree, field: &str, value: Tree) {
    fill_path(object, &[field], value);
}

/// Its callers have looked: nothing stands there yet.
fn fill_path(tree: &mut Tree, path: &[&str], value: Tree) {
    let taken = tree.insert(path, value);
    debug_assert_eq!(taken, Ok(()), "filled in what was there");
}
