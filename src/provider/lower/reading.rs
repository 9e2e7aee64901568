//! One object being read: what could be, what is wrong with the rest, and the first thing that closes it.

use serde::de::DeserializeOwned;

use crate::config::read::{self, Fault, What};
use crate::config::tree::{Tree, snake_case};
use crate::model::diagnostic::{Denial, Diagnostic, Origin, Reason};
use crate::model::id::ObjectId;

/// One object being read: its struct, and the first thing that closes it.
pub(super) struct Reading<'f, T> {
    pub id: ObjectId,
    pub spec: T,
    tree: Tree,
    pub denied: Option<Denial>,
    /// Fields that could not be read, by top-level name.
    broken: Vec<String>,
    pub faults: &'f mut Vec<Diagnostic>,
}

impl<'f, T: DeserializeOwned + Default> Reading<'f, T> {
    pub fn of(id: ObjectId, tree: &Tree, faults: &'f mut Vec<Diagnostic>) -> Reading<'f, T> {
        let (spec, found) = read::lenient::<T>(tree);
        let mut reading = Reading { id, spec, tree: tree.clone(), denied: None, broken: Vec::new(), faults };
        for fault in found {
            if let Some(first) = fault.path.first() {
                reading.broken.push(snake_case(first));
            }
            let diagnostic = diagnose(&reading.id, &fault);
            reading.deny(diagnostic);
        }
        reading
    }

    /// Of a field, dotted where it is an inner one, or of the innermost that holds it.
    pub fn origin(&self, field: &str) -> Origin {
        let mut tree = &self.tree;
        for segment in field.split('.') {
            match tree.field(segment) {
                Some(inner) => tree = inner,
                None => break,
            }
        }
        tree.origin.clone()
    }

    pub fn deny(&mut self, diagnostic: Diagnostic) {
        self.denied.get_or_insert_with(|| Denial::of(&diagnostic));
        self.faults.push(diagnostic);
    }

    pub fn invalid(&mut self, field: &str, why: impl Into<String>) {
        self.deny(Diagnostic::error(self.id.clone(), Reason::Invalid, self.origin(field), why).on(field));
    }

    pub fn is_broken(&self, field: &str) -> bool {
        self.broken.iter().any(|broken| broken == field)
    }
}

fn diagnose(id: &ObjectId, fault: &Fault) -> Diagnostic {
    let reason = match fault.what {
        What::UnknownField { .. } => Reason::UnknownField,
        What::Invalid(_) => Reason::Invalid,
    };
    Diagnostic::error(id.clone(), reason, fault.origin.clone(), fault.message()).on(fault.field())
}

pub(super) fn operator_only(id: &ObjectId, tree: &Tree, field: &str, instead: &str) -> Diagnostic {
    let origin = tree.field(field).unwrap_or(tree).origin.clone();
    let detail = format!("\"{field}\" may come from the settings and the file provider only; {instead}");
    Diagnostic::error(id.clone(), Reason::OperatorOnly, origin, detail).on(field)
}
