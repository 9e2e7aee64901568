//! The labels of a container or of a Swarm service as the document that a file would hold.
//!
//! ```text
//! portolan.host, portolan.routes.admin.host, … ──read──▶ Tree { routes: { web: {…}, admin: {…} }, … } + Flaws
//! ```
//! `portolan.<field>` belongs to the one route or the one service named after the container's service;
//! `portolan.<kind>.<name>.<field…>` addresses an object. Values are checked where a file's are, in [`super::lower`]:
//! here only keys are. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::read::{field_names, nearest};
use crate::config::tree::{Node, Tree, snake_case};
use crate::model::diagnostic::{Origin, Reason};
use crate::model::id::{Kind, Name};
use crate::model::schema::{RouteSpec, ServiceSpec};

use super::lower::{SECTIONS, section_kind};

pub const PREFIX: &str = "portolan.";

/// Who wears labels, by the name that the engine has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wearer<'w> {
    Container(&'w str),
    /// A Swarm service, by its `deploy.labels`.
    Service(&'w str),
}

impl<'w> Wearer<'w> {
    pub fn name(self) -> &'w str {
        match self {
            Wearer::Container(name) | Wearer::Service(name) => name,
        }
    }

    /// For messages.
    pub fn noun(self) -> &'static str {
        match self {
            Wearer::Container(_) => "container",
            Wearer::Service(_) => "service",
        }
    }

    /// All of it, where no one label is to blame.
    pub fn origin(self) -> Origin {
        match self {
            Wearer::Container(name) => Origin::Container { name: name.into() },
            Wearer::Service(name) => Origin::Service { name: name.into() },
        }
    }

    pub fn label(self, key: &str) -> Origin {
        match self {
            Wearer::Container(name) => Origin::Label { container: name.into(), key: key.into() },
            Wearer::Service(name) => Origin::ServiceLabel { service: name.into(), key: key.into() },
        }
    }
}

/// What the labels of one wearer say.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// `portolan.enable: "false"` hides the wearer.
    pub enable: bool,
    /// Whether there is any route, tcp_route or service label.
    pub has_any: bool,
    pub document: Tree,
    pub flaws: Vec<Flaw>,
}

/// A label that has no place in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    pub origin: Origin,
    /// The key without its prefix.
    pub field: Arc<str>,
    pub closes: Closes,
    pub reason: Reason,
    pub detail: String,
}

/// What a flaw denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closes {
    Object(Kind, Name),
    /// The key belongs to no one object: it may have been meant for any of the wearer's routes.
    EveryRoute,
    Nothing,
}

/// Reads the labels of a wearer whose short forms are named `short`.
pub fn read(wearer: Wearer<'_>, short: &Name, labels: &BTreeMap<String, String>) -> Labelled {
    let document = Tree::map(wearer.origin());
    let mut labelled = Labelled { enable: true, has_any: false, document, flaws: Vec::new() };
    let mut strays = Vec::new();
    for (key, value) in labels {
        let Some(field) = key.strip_prefix(PREFIX) else { continue };
        let origin = wearer.label(key);
        let segments: Vec<&str> = field.split('.').collect();
        if segments.len() == 1 && snake_case(field) == "enable" {
            labelled.switch(wearer, field, value, origin);
            continue;
        }
        match place(&segments, short) {
            Place::At(kind, path) => labelled.put(kind, &path, Tree::word(origin, value), field),
            Place::Nowhere(kind, name) => {
                labelled.has_any |= exposes(kind);
                let detail = format!("\"{key}\" lacks a field; write {PREFIX}{}.{name}.<field>", segments[0]);
                let closes = Closes::Object(kind, name);
                labelled.flaws.push(Flaw { origin, field: field.into(), closes, reason: Reason::Invalid, detail });
            }
            Place::Unknown => strays.push((segments, origin)),
        }
    }
    let closes = labelled.closed_by_strays(short);
    for (segments, origin) in strays {
        let field: Arc<str> = segments.join(".").into();
        let detail = unknown(&segments);
        let closes = closes.clone();
        labelled.flaws.push(Flaw { origin, field, closes, reason: Reason::UnknownField, detail });
    }
    labelled
}

/// Where a key leads.
enum Place {
    /// The path in the document, section and name first.
    At(Kind, Vec<String>),
    /// An object, but no field of it.
    Nowhere(Kind, Name),
    Unknown,
}

fn place(segments: &[&str], short: &Name) -> Place {
    let [first, rest @ ..] = segments else { return Place::Unknown };
    let under = |kind: Kind, name: &Name, fields: &[&str]| {
        let mut path = vec![section(kind).to_string(), name.to_string()];
        path.extend(fields.iter().map(|field| (*field).to_string()));
        Place::At(kind, path)
    };
    if let Some(kind) = section_kind(first) {
        return match rest {
            [] | [""] | ["", ..] => Place::Unknown,
            [name] => Place::Nowhere(kind, Name::normalised(name)),
            [name, fields @ ..] => under(kind, &Name::normalised(name), fields),
        };
    }
    let field = snake_case(first);
    // Both have a `tls`: the short one is the route's.
    if field_names::<RouteSpec>().contains(&field.as_str()) {
        return under(Kind::Route, short, segments);
    }
    if field_names::<ServiceSpec>().contains(&field.as_str()) {
        return under(Kind::Service, short, segments);
    }
    Place::Unknown
}

fn section(kind: Kind) -> &'static str {
    SECTIONS.iter().find(|(_, known)| *known == kind).map_or("routes", |(section, _)| section)
}

fn exposes(kind: Kind) -> bool {
    matches!(kind, Kind::Route | Kind::TcpRoute | Kind::Service)
}

impl Labelled {
    /// The objects of one section.
    pub fn section(&self, kind: Kind) -> Option<&Tree> {
        self.document.field(section(kind))
    }

    fn switch(&mut self, wearer: Wearer<'_>, field: &str, value: &str, origin: Origin) {
        match value.trim().to_ascii_lowercase().as_str() {
            "false" | "off" => self.enable = false,
            "true" | "on" => {}
            _ => self.flaws.push(Flaw {
                origin,
                field: field.into(),
                closes: Closes::Nothing,
                reason: Reason::Invalid,
                detail: format!("\"{value}\" is neither true nor false; the {} is not hidden", wearer.noun()),
            }),
        }
    }

    fn put(&mut self, kind: Kind, path: &[String], value: Tree, field: &str) {
        self.has_any |= exposes(kind);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let Err(taken) = self.document.insert(&path, value.clone()) else { return };
        let before = taken.split('.').try_fold(&self.document, |tree, key| tree.field(key));
        if path.join(".") == taken && before.is_some_and(|before| says_the_same(before, &value)) {
            return;
        }
        let other = before.map_or(&self.document, |before| before).origin.clone();
        let other = match other {
            Origin::Label { key, .. } | Origin::ServiceLabel { key, .. } => key.to_string(),
            other => other.to_string(),
        };
        self.flaws.push(Flaw {
            origin: value.origin,
            field: field.into(),
            closes: Closes::Object(kind, Name::normalised(path[1])),
            reason: Reason::Invalid,
            detail: format!("this label and {other} say two things about one field; keep one of them"),
        });
    }

    /// An unknown key was meant for the short route where there is one. Where there are only named ones, nobody knows
    /// for which.
    fn closed_by_strays(&self, short: &Name) -> Closes {
        let routes = self.section(Kind::Route).map(Tree::entries).unwrap_or_default();
        if routes.is_empty() || routes.iter().any(|route| route.key == short.as_str()) {
            Closes::Object(Kind::Route, short.clone())
        } else {
            Closes::EveryRoute
        }
    }
}

fn says_the_same(a: &Tree, b: &Tree) -> bool {
    matches!((&a.node, &b.node), (Node::Word { text: a, .. }, Node::Word { text: b, .. }) if a == b)
}

fn unknown(segments: &[&str]) -> String {
    let written = format!("{PREFIX}{}", segments.join("."));
    let first = segments.first().copied().unwrap_or_default();
    if section_kind(first).is_some() {
        return format!("\"{written}\" addresses no object; write {PREFIX}{first}.<name>.<field>");
    }
    let kinds: Vec<&str> = SECTIONS.iter().map(|(section, _)| *section).collect();
    let mut known = [field_names::<RouteSpec>(), field_names::<ServiceSpec>(), &["enable"]].concat();
    known.extend(&kinds);
    match nearest(first, &known) {
        Some(near) => {
            let meant = [&[near], &segments[1..]].concat().join(".");
            format!("there is no label \"{written}\"; did you mean \"{PREFIX}{meant}\"?")
        }
        None => format!(
            "there is no label \"{written}\"; known are the fields of a route ({}), of a service ({}), and \
             {PREFIX}<kind>.<name>.<field> with {}",
            field_names::<RouteSpec>().join(", "),
            field_names::<ServiceSpec>().join(", "),
            kinds.join(", "),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn labelled(pairs: &[(&str, &str)]) -> Labelled {
        let labels = pairs.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect();
        read(Wearer::Container("shop-web-1"), &Name::normalised("web"), &labels)
    }

    /// A document without its origins.
    fn shape(tree: &Tree) -> String {
        match &tree.node {
            Node::Null => "~".into(),
            Node::Word { text, .. } => text.clone(),
            Node::Seq(items) => format!("[{}]", items.iter().map(shape).collect::<Vec<_>>().join(", ")),
            Node::Map(entries) => {
                let mut fields: Vec<String> =
                    entries.iter().map(|entry| format!("{}: {}", entry.key, shape(&entry.value))).collect();
                fields.sort();
                format!("{{{}}}", fields.join(", "))
            }
        }
    }

    fn file(text: &str) -> String {
        shape(&yaml::parse(&"f.yaml".into(), text).expect("valid YAML"))
    }

    #[test]
    fn short_and_long_form_make_the_document_that_a_file_would_hold() {
        let read = labelled(&[
            ("portolan.host", "shop.example.com"),
            ("portolan.port", "8080"),
            ("portolan.tls.minVersion", "1.3"),
            ("portolan.health.path", "/healthz"),
            ("portolan.split.Next", "10"),
            ("portolan.routes.Admin UI.host", "admin.example.com"),
            ("portolan.services.web.scheme", "http"),
            ("portolan.mtlsPolicies.partners.allow.0.dns", "a.example"),
            ("portolan.tcp-routes.ca.sni", "ca.example"),
            ("com.example.portolan.host", "no"),
            ("portolanish", "no"),
        ]);
        let expected = "
            routes:
              web: { host: shop.example.com, tls: { minVersion: '1.3' }, split: { Next: '10' } }
              admin-ui: { host: admin.example.com }
            services: { web: { port: '8080', health: { path: /healthz }, scheme: http } }
            mtls_policies: { partners: { allow: { '0': { dns: a.example } } } }
            tcp_routes: { ca: { sni: ca.example } }";
        assert_eq!(shape(&read.document), file(expected));
        assert_eq!(read.flaws, []);
        assert!(read.has_any && read.enable);
        let host = read.section(Kind::Route).and_then(|t| t.field("web")).and_then(|t| t.field("host")).expect("there");
        assert_eq!(host.origin.to_string(), "container shop-web-1, label portolan.host");
    }

    #[test]
    fn an_unknown_key_names_the_nearest_of_everything_that_could_stand_there() {
        for (key, meant) in [
            ("portolan.mlts", "portolan.mtls"),
            ("portolan.prot", "portolan.port"),
            ("portolan.hosst", "portolan.host"),
            ("portolan.enabel", "portolan.enable"),
            ("portolan.route.admin.host", "portolan.routes.admin.host"),
            ("portolan.midlewares.strip.add_prefix", "portolan.middlewares.strip.add_prefix"),
        ] {
            let read = labelled(&[(key, "x"), ("portolan.host", "a.example")]);
            assert_eq!(read.flaws.len(), 1, "{key}");
            assert!(read.flaws[0].detail.contains(&format!("did you mean \"{meant}\"?")), "{}", read.flaws[0].detail);
            assert_eq!(read.flaws[0].closes, Closes::Object(Kind::Route, Name::normalised("web")));
        }
        let read = labelled(&[("portolan.whatever", "x")]);
        assert!(read.flaws[0].detail.contains("known are"), "{}", read.flaws[0].detail);
        assert!(!read.has_any);
    }

    #[test]
    fn an_unknown_key_closes_every_route_where_there_are_only_named_ones() {
        let read = labelled(&[("portolan.mlts", "x"), ("portolan.routes.a.host", "a.example")]);
        assert_eq!(read.flaws[0].closes, Closes::EveryRoute);
    }

    #[test]
    fn two_labels_about_one_field_are_a_flaw_of_their_object() {
        for (pairs, name) in [
            (&[("portolan.tls", "x"), ("portolan.tls.issuer", "corp")], "web"),
            (&[("portolan.tls", "corp"), ("portolan.tls.issuer", "corp")], "web"),
            (&[("portolan.host", "a"), ("portolan.routes.Web.host", "b")], "web"),
            (&[("portolan.routes.x.headers", "{}"), ("portolan.routes.x.headers.A", "b")], "x"),
        ] {
            let read = labelled(pairs);
            assert_eq!(read.flaws.len(), 1, "{pairs:?}");
            assert!(read.flaws[0].detail.contains(pairs[0].0), "{}", read.flaws[0].detail);
            assert_eq!(read.flaws[0].closes, Closes::Object(Kind::Route, Name::normalised(name)));
        }
        assert_eq!(labelled(&[("portolan.host", "a"), ("portolan.routes.web.host", "a")]).flaws, []);
    }

    #[test]
    fn an_object_without_a_field_is_a_flaw() {
        let read =
            labelled(&[("portolan.routes.admin", "x"), ("portolan.services", "y"), ("portolan.routes..host", "z")]);
        let closes: Vec<&Closes> = read.flaws.iter().map(|flaw| &flaw.closes).collect();
        let short = Closes::Object(Kind::Route, Name::normalised("web"));
        assert_eq!(closes, [&Closes::Object(Kind::Route, Name::normalised("admin")), &short, &short]);
        assert!(read.has_any);
        assert!(!labelled(&[("portolan.middlewares.strip", "x")]).has_any);
    }

    #[test]
    fn only_a_plain_no_hides_a_container() {
        for (value, enable, flaws) in [("false", false, 0), ("Off", false, 0), ("true", true, 0), ("nope", true, 1)] {
            let read = labelled(&[("portolan.enable", value)]);
            assert_eq!((read.enable, read.flaws.len()), (enable, flaws), "{value}");
            assert!(read.flaws.iter().all(|flaw| flaw.closes == Closes::Nothing));
        }
    }

    #[test]
    fn policies_and_middlewares_alone_expose_nothing() {
        assert!(!labelled(&[("portolan.middlewares.strip.add_prefix", "/x")]).has_any);
        assert!(labelled(&[("portolan.port", "80")]).has_any);
        assert!(labelled(&[("portolan.tcp_routes.ca.sni", "ca.example")]).has_any);
    }
}
