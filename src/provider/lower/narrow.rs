//! The fields that narrow a route beside its host and path, as terms that all hold.
//!
//! One that cannot be read is kept as it was written: the route is denied, and stands before one without it, so that no
//! request that it might have chosen falls through.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::tree::{Node, Tree};
use crate::model::host::HostPattern;
use crate::model::nets;
use crate::model::path::PathMatch;
use crate::model::pattern::Pattern;
use crate::model::predicate::{Term, Test};
use crate::model::route::RouteMatch;
use crate::model::schema::RouteSpec;
use crate::provider::rule::{header_name, method};

use super::reading::Reading;

#[derive(Default)]
pub(super) struct Narrowed {
    terms: BTreeSet<Term>,
    unread: Vec<String>,
}

impl Narrowed {
    /// `None` where the field is not given, or could not even be read as what it should be.
    pub fn by(
        &mut self,
        reading: &mut Reading<'_, RouteSpec>,
        tree: &Tree,
        field: &str,
        tests: Option<Result<Vec<Test>, String>>,
    ) {
        match tests {
            Some(Ok(tests)) => self.terms.extend(tests.into_iter().map(Term::is)),
            Some(Err(why)) => {
                self.unread.push(written(tree, field));
                reading.invalid(field, why);
            }
            None if reading.is_broken(field) => self.unread.push(written(tree, field)),
            None => {}
        }
    }

    pub fn matches(&self, hosts: &[HostPattern], paths: &[PathMatch]) -> Vec<RouteMatch> {
        let unread = (!self.unread.is_empty()).then(|| self.unread.join(" ").into());
        let places = hosts.iter().flat_map(|host| paths.iter().map(move |path| (host, path)));
        places
            .map(|(host, path)| RouteMatch {
                terms: self.terms.clone(),
                unread: Clone::clone(&unread),
                ..RouteMatch::new(host.clone(), path.clone())
            })
            .collect()
    }
}

pub(super) fn path_regex(text: &str) -> Result<Vec<Test>, String> {
    Pattern::anchored(text).map(|pattern| vec![Test::PathRegex(pattern)])
}

pub(super) fn methods(raw: &[String]) -> Result<Vec<Test>, String> {
    if raw.is_empty() {
        return Err("the list is empty, and no request has none; leave it out for every method".into());
    }
    let methods = raw.iter().map(|raw| method(raw.trim())).collect::<Result<_, _>>()?;
    Ok(vec![Test::Method(methods)])
}

pub(super) fn headers(raw: &BTreeMap<String, String>) -> Result<Vec<Test>, String> {
    let test = |(name, value): (&String, &String)| {
        header_name(name).map(|name| Test::Header { name, value: value.as_str().into() })
    };
    raw.iter().map(test).collect()
}

pub(super) fn query(raw: &BTreeMap<String, String>) -> Result<Vec<Test>, String> {
    if raw.contains_key("") {
        return Err("a parameter's name is empty".into());
    }
    Ok(raw
        .iter()
        .map(|(name, value)| Test::Query { name: name.as_str().into(), value: value.as_str().into() })
        .collect())
}

pub(super) fn clients(raw: &[String]) -> Result<Vec<Test>, String> {
    if raw.is_empty() {
        return Err("the list is empty and admits nobody; leave it out to admit everybody".into());
    }
    let clients = raw.iter().map(|raw| nets::parse(raw)).collect::<Result<_, _>>()?;
    Ok(vec![Test::Clients(nets::outermost(clients))])
}

/// In characters; the diagnostic says where the whole stands.
const SHOWN: usize = 200;

fn written(tree: &Tree, field: &str) -> String {
    fn text(tree: &Tree) -> String {
        match &tree.node {
            Node::Null => String::new(),
            Node::Word { text, .. } => text.clone(),
            Node::Seq(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
            Node::Map(entries) => {
                entries.iter().map(|e| format!("{}:{}", e.key, text(&e.value))).collect::<Vec<_>>().join(",")
            }
        }
    }
    let text = tree.field(field).map(text).unwrap_or_default();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{field}={}…", &text[..end]),
        None => format!("{field}={text}"),
    }
}
