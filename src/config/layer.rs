//! The layers of the settings, laid over each other key by key.
//!
//! ```text
//! defaults ◀── portolan.yaml ◀── PORTOLAN_A__B ◀── --a.b      one Tree; beside it what `routes:`, `services:`, … hold
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::read::{self, Fault, What};
use super::schema;
use super::settings::Settings;
use super::shape::Shape;
use super::tree::{Entry, Node, Tree, snake_case};
use crate::model::schema::SECTIONS;
use crate::model::{Diagnostic, Kind, ObjectId, Origin, Provider, Reason, Source};

/// Of the variables that are settings.
pub const PREFIX: &str = "PORTOLAN_";

/// What has been laid so far.
pub struct Layers {
    pub shape: Shape,
    /// Keys are in their one spelling; at the bottom are the defaults.
    pub tree: Tree,
    /// The sections of objects that stand in the file.
    pub objects: Tree,
    /// Providers that are set to `off`.
    pub off: BTreeSet<Provider>,
    pub faults: Vec<Fault>,
    pub findings: Vec<Diagnostic>,
}

/// The settings themselves as the subject of a finding, or one thing in them.
pub fn subject(kind: Kind, name: &str) -> ObjectId {
    ObjectId::new(&Source::new(Provider::Settings, None), kind, name)
}

/// As they are where nobody says anything.
pub fn defaults() -> Tree {
    fn tree(value: &Value) -> Tree {
        let node = match value {
            Value::Null => Node::Null,
            Value::String(text) => Node::Word { text: text.clone(), plain: false },
            Value::Array(items) => Node::Seq(items.iter().map(tree).collect()),
            Value::Object(fields) => Node::Map(
                fields
                    .iter()
                    .map(|(key, value)| Entry { key: key.clone(), origin: Origin::Default, value: tree(value) })
                    .collect(),
            ),
            scalar => Node::Word { text: scalar.to_string(), plain: true },
        };
        Tree { origin: Origin::Default, node }
    }
    // Without a tree each field would still have its default: that is what serde falls back on.
    tree(&serde_json::to_value(Settings::default()).unwrap_or_default())
}

impl Layers {
    pub fn over_defaults() -> Layers {
        Layers {
            shape: Shape::of(&schema::settings()),
            tree: defaults(),
            objects: Tree::map(Origin::Default),
            off: BTreeSet::new(),
            faults: Vec::new(),
            findings: Vec::new(),
        }
    }

    pub fn lay_file(&mut self, mut file: Tree) {
        let entries = match &mut file.node {
            Node::Null => return,
            Node::Map(entries) => std::mem::take(entries),
            _ => {
                let what = What::Invalid("a file of settings is a map, as in \"workers: 2\"".into());
                self.faults.push(Fault { path: Vec::new(), origin: file.origin, what });
                return;
            }
        };
        let is_known = |entry: &Entry| self.shape.field(&snake_case(&entry.key)).is_some();
        let (sections, rest): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| is_section(&entry.key));
        let (settings, unknown): (Vec<Entry>, Vec<Entry>) = rest.into_iter().partition(is_known);
        for Entry { key, origin, .. } in unknown {
            let what = What::Invalid(self.unknown_key(&key));
            self.faults.push(Fault { path: vec![key], origin, what });
        }
        self.objects = Tree { origin: file.origin.clone(), node: Node::Map(sections) };
        self.lay(Tree { origin: file.origin, node: Node::Map(settings) });
    }

    /// In the order of their names, so that `PORTOLAN_LISTENERS` comes before what lies in it.
    pub fn lay_environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        let ours: BTreeMap<String, String> = variables.filter(|(variable, _)| variable.starts_with(PREFIX)).collect();
        for (variable, value) in ours {
            let path = self.path_of(&variable[PREFIX.len()..]);
            let origin = Origin::Env { variable: variable.as_str().into() };
            let first = path[0].as_str();
            if self.shape.field(first).is_some() {
                self.lay_text(&path, &value, origin);
            } else if path.len() > 1 {
                let what = What::Invalid(self.unknown_path(&path));
                self.faults.push(Fault { path, origin, what });
            } else if let Some(near) = read::nearest(first, &self.shape.fields()) {
                // No error: schedulers and scripts have variables of their own that begin like this.
                let detail =
                    format!("this is no setting and is ignored; did you mean {PREFIX}{}?", near.to_uppercase());
                self.findings.push(Diagnostic::warning(
                    subject(Kind::Document, first),
                    Reason::Ignored,
                    origin,
                    detail,
                ));
            }
        }
    }

    /// `flag` is the dotted path, without the dashes before it.
    pub fn lay_flag(&mut self, flag: &str, value: &str) {
        let path: Vec<String> = flag.split('.').map(str::to_string).collect();
        let origin = Origin::Flag { flag: flag.into() };
        if self.shape.field(&snake_case(&path[0])).is_some() {
            self.lay_text(&path, value, origin);
        } else {
            let what = What::Invalid(self.unknown_path(&path));
            self.faults.push(Fault { path, origin, what });
        }
    }

    fn lay_text(&mut self, path: &[String], value: &str, origin: Origin) {
        let value = match value {
            "null" => Tree { origin: origin.clone(), node: Node::Null },
            text => Tree::word(origin.clone(), text),
        };
        let mut layer = Tree::map(origin);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        // A fresh tree has nothing that could be in the way.
        if layer.insert(&path, value).is_ok() {
            self.lay(layer);
        }
    }

    fn lay(&mut self, mut layer: Tree) {
        self.faults.extend(self.shape.fold(&mut layer));
        // `log:` with everything below it commented out says nothing about it.
        let under = &self.tree;
        if let Node::Map(entries) = &mut layer.node {
            entries.retain(|entry| {
                let is_map = under.field(&entry.key).is_some_and(|old| matches!(old.node, Node::Map(_)));
                !(is_map && entry.value.node == Node::Null)
            });
        }
        self.tree.overlay(layer);
    }

    /// Variables cannot carry hyphens everywhere, so that `MY_LISTENER` also finds `my-listener`.
    fn path_of(&self, variable: &str) -> Vec<String> {
        let mut at = Some(&self.tree);
        let mut path = Vec::new();
        for segment in variable.split("__").map(str::to_lowercase) {
            let entries = at.map_or(&[][..], Tree::entries);
            let found = entries
                .iter()
                .find(|entry| entry.key == segment)
                .or_else(|| entries.iter().find(|entry| entry.key.replace('-', "_") == segment));
            at = found.map(|entry| &entry.value);
            path.push(found.map_or(segment, |entry| entry.key.clone()));
        }
        path
    }

    fn unknown_key(&self, written: &str) -> String {
        let known: Vec<&str> =
            self.shape.fields().into_iter().chain(SECTIONS.iter().map(|(section, _)| *section)).collect();
        match read::nearest(written, &known) {
            Some(near) => format!("there is no setting \"{written}\"; did you mean \"{near}\"?"),
            None => format!("there is no setting \"{written}\"; known are {}", known.join(", ")),
        }
    }

    fn unknown_path(&self, path: &[String]) -> String {
        let written = path.join(".");
        let first = snake_case(&path[0]);
        if is_section(&first) {
            return format!(
                "\"{first}\" are objects, not settings: they stand in portolan.yaml, in files and in labels"
            );
        }
        let known = self.shape.fields();
        if let Some(near) = read::nearest(&first, &known) {
            let rest: String = path[1..].iter().map(|segment| format!(".{segment}")).collect();
            return format!("there is no setting \"{written}\"; did you mean \"{near}{rest}\"?");
        }
        // `--network` for `--providers.docker.network`.
        let last = path.last().map(|segment| snake_case(segment)).unwrap_or_default();
        let paths = self.shape.paths();
        match paths.iter().find(|path| path.rsplit('.').next() == Some(&last)) {
            Some(near) => format!("there is no setting \"{written}\"; did you mean \"{near}\"?"),
            None => format!("there is no setting \"{written}\"; known are {}", known.join(", ")),
        }
    }

    /// Takes out what is set to `off`, once every layer has spoken.
    pub fn settle(&mut self) {
        for (section, kind) in [("listeners", Kind::Listener), ("issuers", Kind::Issuer), ("providers", Kind::Provider)]
        {
            let Some(Node::Map(entries)) = section_mut(&mut self.tree, section) else { continue };
            let (off, findings) = (&mut self.off, &mut self.findings);
            entries.retain(|Entry { key, value, .. }| {
                if is_off(value) {
                    off.extend(Provider::ALL.into_iter().filter(|p| kind == Kind::Provider && p.as_str() == key));
                    return false;
                }
                let emptied = value.node == Node::Null && value.origin != Origin::Default;
                if emptied {
                    let detail = format!(
                        "\"{section}.{key}\" is empty and so left out; write {{}} for its defaults, or off to say so"
                    );
                    let field: Arc<str> = format!("{section}.{key}").into();
                    let origin = value.origin.clone();
                    findings.push(Diagnostic::warning(subject(kind, key), Reason::Ignored, origin, detail).on(field));
                }
                !emptied
            });
            for entry in entries.iter_mut().filter(|_| kind != Kind::Provider) {
                for switch in ["tls", "internal", "acme"] {
                    if let Node::Map(fields) = &mut entry.value.node {
                        fields.iter_mut().filter(|field| field.key == switch).for_each(|field| turn(&mut field.value));
                    }
                }
            }
        }
    }
}

fn is_section(written: &str) -> bool {
    let key = snake_case(written);
    SECTIONS.iter().any(|(section, _)| *section == key)
}

fn section_mut<'t>(tree: &'t mut Tree, section: &str) -> Option<&'t mut Node> {
    let Node::Map(entries) = &mut tree.node else { return None };
    entries.iter_mut().find(|entry| entry.key == section).map(|entry| &mut entry.value.node)
}

fn is_off(tree: &Tree) -> bool {
    matches!(&tree.node, Node::Word { text, .. } if matches!(text.as_str(), "off" | "false"))
}

/// `tls:` with nothing after it is on: a listener that is meant to speak TLS must not end up without.
fn turn(switch: &mut Tree) {
    if is_off(switch) {
        switch.node = Node::Null;
    } else if switch.node == Node::Null && switch.origin != Origin::Default {
        switch.node = Node::Map(Vec::new());
    }
}
