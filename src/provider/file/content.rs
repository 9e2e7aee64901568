//! What a file says, and what stays in force when it stops being readable.
//!
//! ```text
//! text ─▶ whole? YAML? not a beginning of what it said last? ─▶ new content
//!                                                       └─no─▶ last content + Unreadable
//! ```
//! Pure.

use std::sync::Arc;

use jiff::Timestamp;

use crate::config::tree::{Node, Tree};
use crate::config::whole::{self, Doubt};
use crate::config::yaml;
use crate::model::diagnostic::{Diagnostic, Origin, Reason};
use crate::model::id::{Kind, ObjectId, Provider, Source};
use crate::model::snapshot::Snapshot;
use crate::provider::lower::{self, Author};

/// One file's last good content, and what is wrong with the newest.
#[derive(Debug, Clone)]
pub struct Content {
    path: Arc<str>,
    good: Option<(String, Snapshot)>,
    problem: Option<Diagnostic>,
}

impl Content {
    pub fn unread(path: &str) -> Content {
        Content { path: path.into(), good: None, problem: None }
    }

    /// Whether anything that it says has changed.
    pub fn take(&mut self, bytes: Result<Vec<u8>, String>) -> bool {
        let before = self.problem.take();
        match self.read(bytes) {
            Ok(fresh) => {
                let same = before.is_none() && self.good.as_ref().is_some_and(|(_, snapshot)| *snapshot == fresh.1);
                self.good = Some(fresh);
                !same
            }
            Err(problem) => {
                let same = before.as_ref() == Some(&problem);
                self.problem = Some(*problem);
                !same
            }
        }
    }

    pub fn in_force(&self, into: &mut Snapshot) {
        if let Some((_, snapshot)) = &self.good {
            into.absorb(snapshot.clone());
        }
        into.findings.extend(self.problem.clone());
    }

    fn read(&self, bytes: Result<Vec<u8>, String>) -> Result<(String, Snapshot), Box<Diagnostic>> {
        let bytes = bytes.map_err(|why| self.unreadable(0, 0, &why))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            self.unreadable(narrow(line), 1, "it is not UTF-8 text")
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let doubt = whole::doubt(text, self.good.as_ref().map(|(last, _)| last.as_str()));
        if doubt == Some(Doubt::Empty) {
            return Err(self.unreadable(1, 1, "it is empty; delete it to take its objects away"));
        }
        let tree = yaml::parse(&self.path, text).map_err(|error| match error.line {
            0 => self.unreadable(narrow(text.lines().count()), 1, &error.why),
            line => self.unreadable(line, error.column, &error.why),
        })?;
        if !matches!(tree.node, Node::Map(_) | Node::Null) {
            return Err(self.unreadable(1, 1, "it holds no map of sections such as routes: and services:"));
        }
        if doubt == Some(Doubt::CutOff) {
            return Err(self.unreadable(narrow(text.lines().count()), 1, whole::CUT_OFF));
        }
        Ok((text.to_string(), objects(&tree)))
    }

    fn unreadable(&self, line: u32, column: u32, why: &str) -> Box<Diagnostic> {
        let kept = if self.good.is_some() { "what it said before stays in force" } else { "nothing of it is in force" };
        let origin = Origin::File { path: self.path.clone(), line, column };
        Box::new(unreadable(&self.path, origin, format!("{why}; {kept}")))
    }
}

/// What is wrong with a file or directory as such.
pub fn unreadable(path: &Arc<str>, origin: Origin, detail: String) -> Diagnostic {
    let subject = ObjectId::new(&Source::new(Provider::File, None), Kind::Document, path.clone());
    Diagnostic::error(subject, Reason::Unreadable, origin, detail)
}

fn objects(tree: &Tree) -> Snapshot {
    // Operator's objects have no age: that a file was touched changes nothing.
    let author = Author { source: Source::new(Provider::File, None), created: Timestamp::UNIX_EPOCH, replica: None };
    lower::document(tree, &author)
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = "routes:\n  shop: { host: a.example, service: s }\n  admin: { host: b.example, service: s }\n";

    fn shop() -> Content {
        let mut content = Content::unread("shop.yaml");
        assert!(content.take(Ok(SHOP.into())));
        content
    }

    /// Hosts in force, and what is wrong.
    fn says(content: &Content) -> (Vec<String>, Option<String>) {
        let mut snapshot = Snapshot::empty(Provider::File);
        content.in_force(&mut snapshot);
        let hosts = snapshot.routes.iter().map(|route| route.matches[0].host.to_string()).collect();
        (hosts, snapshot.findings.first().map(ToString::to_string))
    }

    #[test]
    fn what_cannot_be_read_keeps_what_was_said_and_says_where() {
        for (text, place) in [
            (&b"routes: [\n"[..], "shop.yaml:"),
            (b"", "shop.yaml:1:1"),
            (b" \n", "is empty"),
            (b"just a word", "no map"),
            (b"routes: {}\n\xff", "shop.yaml:2:1"),
            (b"a: 1\nb: [1\nc: 2\n", "shop.yaml:3:"),
        ] {
            let mut content = shop();
            assert!(content.take(Ok(text.to_vec())));
            let (hosts, problem) = says(&content);
            assert_eq!(hosts, ["a.example", "b.example"]);
            let problem = problem.expect("a problem");
            assert!(problem.contains(place) && problem.contains("stays in force"), "{problem}");
            assert!(!content.take(Ok(text.to_vec())), "the same again is no change");
            assert!(content.take(Ok(SHOP.into())));
            assert_eq!(says(&content).1, None);
        }
    }

    #[test]
    fn a_beginning_of_what_was_said_is_not_believed() {
        let mut content = shop();
        let cut = SHOP.find("  admin").expect("there");
        content.take(Ok(SHOP.as_bytes()[..cut].to_vec()));
        let (hosts, problem) = says(&content);
        assert_eq!(hosts.len(), 2);
        assert!(problem.expect("a problem").contains("in the middle"));
        content.take(Ok(format!("# shorter\n{}", &SHOP[..cut]).into()));
        assert_eq!(says(&content), (vec!["a.example".to_string()], None));
    }

    #[test]
    fn a_lost_last_newline_is_nothing() {
        let mut content = shop();
        assert!(!content.take(Ok(SHOP.trim_end().into())));
        assert_eq!(says(&content).1, None);
    }

    #[test]
    fn a_file_of_comments_alone_takes_its_objects_away() {
        let mut content = shop();
        content.take(Ok("# all gone\n".into()));
        assert_eq!(says(&content), (vec![], None));
    }

    #[test]
    fn a_file_that_never_was_readable_says_that_nothing_of_it_is_in_force() {
        let mut content = Content::unread("new.yaml");
        assert!(content.take(Err("permission denied".into())));
        assert!(says(&content).1.expect("a problem").contains("nothing of it is in force"));
    }
}
