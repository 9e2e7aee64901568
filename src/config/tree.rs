//! A tree of values, each knowing where it was written: the common form of YAML, JSON, labels, flags and environment.
//!
//! ```text
//! YAML/JSON ─┐
//! labels    ─┼─▶ Tree ──(config::read)──▶ the structs of model::schema and config::settings
//! env, flags ┘
//! ```

use crate::model::Origin;

/// A node and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    pub origin: Origin,
    pub node: Node,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Null,
    /// A scalar as it was written; `plain` where it had no quotes.
    Word {
        text: String,
        plain: bool,
    },
    Seq(Vec<Tree>),
    /// In the order written; keys are unique.
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    /// Where the key stands.
    pub origin: Origin,
    pub value: Tree,
}

impl Tree {
    pub fn map(origin: Origin) -> Tree {
        Tree { origin, node: Node::Map(Vec::new()) }
    }

    pub fn word(origin: Origin, text: impl Into<String>) -> Tree {
        Tree { origin, node: Node::Word { text: text.into(), plain: true } }
    }

    pub fn entries(&self) -> &[Entry] {
        match &self.node {
            Node::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn field(&self, key: &str) -> Option<&Tree> {
        self.entries().iter().find(|entry| spells(&entry.key, key)).map(|entry| &entry.value)
    }

    /// What is at a path of keys in their one spelling, or comes nearest to it from above.
    pub fn nearest(&self, path: &[&str]) -> &Tree {
        let mut at = self;
        for key in path {
            let Some(below) = at.entries().iter().find(|entry| entry.key == *key) else { break };
            at = &below.value;
        }
        at
    }

    /// Takes a field out, under any of its spellings.
    pub fn take(&mut self, key: &str) -> Option<Entry> {
        let Node::Map(entries) = &mut self.node else { return None };
        let at = entries.iter().position(|entry| spells(&entry.key, key))?;
        Some(entries.remove(at))
    }

    /// Puts a value at a path, making the maps on the way. Fails with the path of the node that is no map, or that is
    /// there already.
    pub fn insert(&mut self, path: &[&str], value: Tree) -> Result<(), String> {
        let Some((first, rest)) = path.split_first() else { return Err(String::new()) };
        if matches!(self.node, Node::Null) {
            self.node = Node::Map(Vec::new());
        }
        let Node::Map(entries) = &mut self.node else { return Err(String::new()) };
        let at = entries.iter().position(|entry| entry.key == *first);
        match (at, rest.is_empty()) {
            (Some(_), true) => Err((*first).to_string()),
            (None, true) => {
                entries.push(Entry { key: (*first).to_string(), origin: value.origin.clone(), value });
                Ok(())
            }
            (Some(at), false) => entries[at].value.insert(rest, value).map_err(|below| join(first, &below)),
            (None, false) => {
                let mut inner = Tree::map(value.origin.clone());
                let origin = value.origin.clone();
                inner.insert(rest, value)?;
                entries.push(Entry { key: (*first).to_string(), origin, value: inner });
                Ok(())
            }
        }
    }

    /// Lays `over` on top, key by key. A scalar, a list or a null replaces what was there. Keys are compared as they are:
    /// which of them are fields with several spellings, and which are names, only `Shape::fold` knows.
    pub fn overlay(&mut self, over: Tree) {
        match (&mut self.node, over.node) {
            (Node::Map(entries), Node::Map(new)) => {
                for entry in new {
                    match entries.iter_mut().find(|old| old.key == entry.key) {
                        Some(old) => old.value.overlay(entry.value),
                        None => entries.push(entry),
                    }
                }
            }
            (node, new) => {
                *node = new;
                self.origin = over.origin;
            }
        }
    }
}

fn join(first: &str, below: &str) -> String {
    if below.is_empty() { first.to_string() } else { format!("{first}.{below}") }
}

/// Whether `written` is a spelling of the snake_case `field`: camelCase and kebab-case are.
pub fn spells(written: &str, field: &str) -> bool {
    written == field || snake_case(written) == field
}

/// `minVersion` and `min-version` as `min_version`.
pub fn snake_case(written: &str) -> String {
    let mut snake = String::with_capacity(written.len() + 4);
    for (i, c) in written.chars().enumerate() {
        match c {
            '-' => snake.push('_'),
            c if c.is_ascii_uppercase() => {
                if i > 0 {
                    snake.push('_');
                }
                snake.push(c.to_ascii_lowercase());
            }
            c => snake.push(c),
        }
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Tree {
        Tree::word(Origin::Default, text)
    }

    #[test]
    fn fields_are_found_under_every_spelling() {
        for written in ["min_version", "minVersion", "min-version"] {
            assert!(spells(written, "min_version"), "{written}");
        }
        assert!(!spells("minversion", "min_version"));
    }

    #[test]
    fn an_overlay_replaces_leaves_and_keeps_the_rest() {
        let mut base = Tree::map(Origin::Default);
        base.insert(&["http", "address"], word(":80")).expect("fresh");
        base.insert(&["http", "redirect"], word("https")).expect("fresh");
        let mut over = Tree::map(Origin::Default);
        over.insert(&["http", "address"], word(":8080")).expect("fresh");
        base.overlay(over);
        let http = base.field("http").expect("there");
        assert_eq!(http.field("address"), Some(&word(":8080")));
        assert_eq!(http.field("redirect"), Some(&word("https")));
    }

    #[test]
    fn a_value_cannot_be_put_below_a_scalar_or_twice() {
        let mut tree = Tree::map(Origin::Default);
        tree.insert(&["tls"], word("x")).expect("fresh");
        assert_eq!(tree.insert(&["tls", "issuer"], word("corp")), Err("tls".into()));
        assert_eq!(tree.insert(&["tls"], word("y")), Err("tls".into()));
    }
}
