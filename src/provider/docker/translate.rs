//! From containers to the neutral vocabulary.
//!
//! ```text
//! Container ─labels::read─▶ document ─complete─▶ + default host, default service ─lower─▶ Route, Service, …
//!                                                                        address::reach ─▶ Endpoint | Absence
//! ```
//! Every container speaks for itself: replicas of one compose service emit the same ids, which `reconcile` unites. A
//! route lives from its container's creation until the last one is destroyed, with or without an endpoint; an endpoint
//! drains where its container was told to stop, or is unhealthy. Pure.

use std::collections::BTreeSet;

use crate::config::read::field_names;
use crate::config::settings::{DockerSettings, Expose};
use crate::config::tree::{Entry, Node, Tree, spells};
use crate::model::diagnostic::{Denial, Diagnostic, Origin, Reason, Severity};
use crate::model::id::{Kind, Name, NameRef, ObjectId, Provider, RefScope, SHARED_NAMESPACE, Source};
use crate::model::route::Replica;
use crate::model::schema::{AddressMode, RouteSpec};
use crate::model::service::{Endpoint, Service};
use crate::model::snapshot::Snapshot;
use crate::provider::labels::{self, Closes, Labelled};
use crate::provider::lower::{self, Author, Lowered};

use super::address::{self, Reached, Wish};
use super::objects::{Container, Surroundings};

const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const SWARM_TASK: [&str; 2] = ["com.docker.swarm.task.id", "com.docker.swarm.service.id"];

/// Everything that the containers of one engine want. The order of `containers` does not matter.
pub fn translate(containers: &[Container], around: &Surroundings, settings: &DockerSettings) -> Snapshot {
    let mut sorted: Vec<&Container> = containers.iter().collect();
    sorted.sort_by_key(|container| (&container.name, &container.id));
    let mut snapshot = Snapshot::empty(Provider::Docker);
    for container in sorted {
        let speaker = Speaker::of(container);
        if belongs_to_swarm(container) {
            snapshot.findings.extend(speaker.task_labels());
            continue;
        }
        snapshot.absorb(speaker.translate(containers, around, settings));
    }
    snapshot
}

fn belongs_to_swarm(container: &Container) -> bool {
    SWARM_TASK.iter().any(|label| container.labels.contains_key(*label))
}

/// Whether translation will need what only an inspect tells.
pub fn concerns(container: &Container, settings: &DockerSettings) -> bool {
    settings.expose == Expose::All || container.labels.keys().any(|key| key.starts_with(labels::PREFIX))
}

/// A container and the names it speaks under.
struct Speaker<'c> {
    container: &'c Container,
    project: Option<&'c str>,
    /// The compose service, else the container's name.
    service: Name,
    author: Author,
}

impl<'c> Speaker<'c> {
    fn of(container: &'c Container) -> Speaker<'c> {
        let label = |key| container.labels.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let project = label(COMPOSE_PROJECT);
        let service = Name::normalised(label(COMPOSE_SERVICE).unwrap_or(&container.name));
        let namespace = match project {
            Some(project) => Name::normalised(project).shared(),
            None => format!("{SHARED_NAMESPACE}/{}", container.name).into(),
        };
        let replica = Replica {
            created: container.created,
            container: container.name.as_str().into(),
            service: service.shared(),
        };
        let source = Source::new(Provider::Docker, Some(namespace));
        let author = Author { source, created: container.created, replica: Some(replica) };
        Speaker { container, project, service, author }
    }

    fn id(&self, kind: Kind, name: &str) -> ObjectId {
        ObjectId::new(&self.author.source, kind, name)
    }

    fn origin(&self) -> Origin {
        Origin::Container { name: self.container.name.as_str().into() }
    }

    fn task_labels(&self) -> Option<Diagnostic> {
        let read = labels::read(&self.container.name, &self.service, &self.container.labels);
        let key = self.container.labels.keys().find(|key| key.starts_with(labels::PREFIX))?;
        if !read.enable {
            return None;
        }
        let origin = Origin::Label { container: self.container.name.as_str().into(), key: key.as_str().into() };
        let detail = "the container is a task of a Swarm service, whose labels are not read from the container; write them \
                      under deploy.labels of the service";
        Some(Diagnostic::warning(self.id(Kind::Container, &self.container.name), Reason::SwarmTask, origin, detail))
    }

    fn translate(&self, all: &[Container], around: &Surroundings, settings: &DockerSettings) -> Snapshot {
        let mut snapshot = Snapshot::empty(Provider::Docker);
        let mut labelled = labels::read(&self.container.name, &self.service, &self.container.labels);
        if !labelled.enable {
            return snapshot;
        }
        let is_self = around.own_container.as_ref().is_some_and(|own| own.id == self.container.id);
        let expose_all = settings.expose == Expose::All && (labelled.has_any || !is_self);
        let document = self.complete(&mut labelled, settings, expose_all);

        let mut unplaced: Option<Denial> = None;
        for section in document.entries() {
            let Some(kind) = lower::section_kind(&section.key) else { continue };
            for object in section.value.entries() {
                if kind == Kind::Service {
                    let service = self.service(object, all, around, settings, &mut snapshot.findings);
                    snapshot.services.push(service);
                    continue;
                }
                let mut denials = Vec::new();
                lower::object(kind, &object.key, &object.value, &self.author, &mut snapshot, &mut denials);
                unplaced = unplaced.or(denials.into_iter().next().map(|denial| beside(&object.key, &denial)));
            }
        }
        unplaced = self.apply_flaws(&labelled, &mut snapshot).or(unplaced);
        if let Some(denial) = unplaced {
            // Whatever was meant for the route that cannot be placed, this container does not get it by another one, nor
            // as the replica of one whose labels are sound.
            for service in &mut snapshot.services {
                service.endpoints.clear();
                service.absent.get_or_insert_with(|| denial.clone());
            }
            close_every_route(&mut snapshot, &denial);
        }
        if settings.expose == Expose::Labelled && labelled.flaws.is_empty() {
            snapshot.findings.extend(self.nothing_served(&document));
        }
        snapshot
    }

    /// Fills in what labels may leave out: a host, a service, and with `expose: all` the whole route.
    fn complete(&self, labelled: &mut Labelled, settings: &DockerSettings, expose_all: bool) -> Tree {
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
                let host = self.default_host(&settings.default_host);
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

    /// The service that a route without one means: its namesake, else the container's only one.
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

    fn service(
        &self,
        object: &Entry,
        all: &[Container],
        around: &Surroundings,
        settings: &DockerSettings,
        findings: &mut Vec<Diagnostic>,
    ) -> Service {
        let Lowered { spec, tls, mut service } = lower::service(&object.key, &object.value, &self.author, findings);
        service.running = self.container.state.is_up();
        for (field, wrong, detail) in [
            ("port", spec.port == Some(0), "0 is no port"),
            (
                "address",
                spec.address == Some(AddressMode::Vip),
                "only Swarm services have a virtual address; leave this out",
            ),
        ] {
            if wrong {
                let origin = object.value.field(field).unwrap_or(&object.value).origin.clone();
                let finding = Diagnostic::error(service.id.clone(), Reason::Invalid, origin, detail).on(field);
                service.denied.get_or_insert_with(|| Denial::of(&finding));
                findings.push(finding);
            }
        }
        let prefix = match object.key == self.service.as_str() {
            true => labels::PREFIX.to_string(),
            false => format!("{}services.{}.", labels::PREFIX, object.key),
        };
        let wish = Wish {
            port: spec.port.filter(|port| *port != 0),
            network: spec.network.as_deref(),
            default_network: settings.network.as_deref(),
            project: self.project,
            prefix: &prefix,
        };
        // A label that could not be read was there all the same: to guess in its stead would be arbitrary.
        let given = |field: &str| object.value.field(field).is_some();
        if (given("port") && wish.port.is_none()) || (given("network") && wish.network.is_none()) {
            service.absent = service.denied.clone();
            return service;
        }
        match address::reach(self.container, &wish, all, around) {
            Ok(Reached { address, phase, why }) => {
                let weight = spec.weight.unwrap_or(1);
                let name = self.container.name.as_str();
                let scheme = spec.scheme.unwrap_or_default();
                service.endpoints.push(Endpoint { phase, weight, scheme, tls, ..Endpoint::new(address, name) });
                service.absent = why.map(|why| Denial::new(why.reason, why.detail));
            }
            Err(absence) => {
                service.absent = Some(Denial::new(absence.reason, absence.detail.as_str()));
                if absence.is_problem {
                    let written = absence.field.and_then(|field| object.value.field(field));
                    let origin = written.map_or_else(|| self.origin(), |tree| tree.origin.clone());
                    let mut finding = Diagnostic::error(service.id.clone(), absence.reason, origin, absence.detail);
                    finding.field = absence.field.map(Into::into);
                    findings.push(finding);
                }
            }
        }
        service
    }

    /// Denies what the flaws touch. Handed back is the denial of a route that is not there to be denied: the flaw was
    /// all that is known of it.
    fn apply_flaws(&self, labelled: &Labelled, snapshot: &mut Snapshot) -> Option<Denial> {
        let mut unplaced = None;
        for flaw in &labelled.flaws {
            let subject = match &flaw.closes {
                Closes::Object(kind, name) => self.id(*kind, name.as_str()),
                Closes::EveryRoute | Closes::Nothing => self.id(Kind::Container, &self.container.name),
            };
            let finding = Diagnostic::error(subject, flaw.reason, flaw.origin.clone(), flaw.detail.as_str())
                .on(flaw.field.clone());
            let denial = Denial::of(&finding);
            match &flaw.closes {
                Closes::Object(Kind::Route, name)
                    if !snapshot.routes.iter().any(|route| route.id == finding.subject) =>
                {
                    unplaced.get_or_insert(beside(name.as_str(), &denial));
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
}

fn beside(route: &str, denial: &Denial) -> Denial {
    Denial::new(denial.reason, format!("the route \"{route}\" of the same container cannot be read: {}", denial.detail))
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

fn entries_mut(document: &mut Tree, kind: Kind) -> &mut [Entry] {
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
