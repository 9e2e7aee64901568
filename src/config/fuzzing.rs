//! Any text as settings: however the same is written, it says the same.
//!
//! ```text
//! text ─▶ Tree ─▶ Loaded ─────────────────────────────────┐
//!           ├─▶ text in block style ─▶ Tree ─▶ Loaded ────┼─ equal
//!           └─▶ every map the other way round ─▶ Loaded ──┘
//! ```

use std::fmt::Write;

use jiff::Timestamp;

use crate::model::id::{Provider, Source};
use crate::provider::lower::{self, Author};

use super::load::{self, LoadError, Loaded};
use super::tree::{Node, Tree};
use super::yaml;

const FILE: &str = "portolan.yaml";

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let first = load::of_text(FILE.into(), text.to_string());
    let Ok(tree) = yaml::parse(&FILE.into(), text) else {
        assert!(first.is_err_and(|error| error.faults.len() == 1), "what is no YAML says nothing");
        return;
    };
    if starts_a_block(&tree) {
        return;
    }
    let mut written = String::new();
    write(&tree, 0, &mut written);
    let again = yaml::parse(&FILE.into(), &written);
    assert!(again.as_ref().is_ok_and(|again| same(again, &tree)), "{text:?} as {written:?}: {again:?}");
    agree(&first, &load::of_text(FILE.into(), written));

    let mut turned = tree.clone();
    turn(&mut turned);
    let mut written = String::new();
    write(&turned, 0, &mut written);
    agree(&first, &load::of_text(FILE.into(), written));

    if let Ok(loaded) = &first {
        unchanged(loaded, text);
    }
    let author = Author { source: Source::new(Provider::File, None), created: Timestamp::UNIX_EPOCH, replica: None };
    let snapshot = lower::document(&tree, &author);
    for route in &snapshot.routes {
        assert!(!route.matches.is_empty(), "{route:?} stands nowhere");
    }
    crate::provider::labels_fuzzing::policies_stand(&tree, &snapshot);
    crate::provider::labels_fuzzing::kept(&snapshot);
}

fn agree(a: &Result<Loaded, LoadError>, b: &Result<Loaded, LoadError>) {
    match (a, b) {
        (Ok(a), Ok(b)) => {
            assert_eq!(a.settings, b.settings);
            let without_place = |loaded: &Loaded| {
                loaded
                    .listeners
                    .iter()
                    .map(|l| format!("{} {} {} {:?}", l.name, l.address, l.tls, l.redirect))
                    .collect::<Vec<_>>()
            };
            assert_eq!(without_place(a), without_place(b));
        }
        // Which of two words for one thing is the wrong one depends on which stands first.
        (Err(a), Err(b)) => assert_eq!(a.faults.is_empty(), b.faults.is_empty()),
        (a, b) => assert!(a.is_ok() == b.is_ok(), "{a:?}\n{b:?}"),
    }
}

/// Read again, the same file changes nothing. An empty one is not believed.
fn unchanged(loaded: &Loaded, text: &str) {
    match loaded.again(&|_| Ok(text.as_bytes().to_vec())) {
        Ok(again) => assert_eq!(again, *loaded),
        Err(error) => assert!(error.to_string().contains("empty"), "{error}"),
    }
}

/// Places apart.
fn same(a: &Tree, b: &Tree) -> bool {
    match (&a.node, &b.node) {
        (Node::Seq(a), Node::Seq(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Node::Map(a), Node::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.key == b.key && same(&a.value, &b.value))
        }
        (a, b) => a == b,
    }
}

/// The library takes `|`, `>` and an indicator that stands alone (`?`, `-`, `:`) for words within a flow, where they can
/// begin nothing else; outside they begin a block. So do the marks of a document, behind a tab.
fn starts_a_block(tree: &Tree) -> bool {
    match &tree.node {
        Node::Null => false,
        Node::Word { text, plain } => {
            let indicator = text.strip_prefix(['?', '-', ':']);
            let mark = text.starts_with("---") || text.starts_with("...");
            *plain
                && (mark
                    || text.starts_with(['|', '>'])
                    || indicator.is_some_and(|rest| !rest.starts_with(|c| c > ' ')))
        }
        Node::Seq(items) => items.iter().any(starts_a_block),
        Node::Map(entries) => entries.iter().any(|entry| starts_a_block(&entry.value)),
    }
}

fn turn(tree: &mut Tree) {
    match &mut tree.node {
        Node::Null | Node::Word { .. } => {}
        Node::Seq(items) => items.iter_mut().for_each(turn),
        Node::Map(entries) => {
            entries.reverse();
            entries.iter_mut().for_each(|entry| turn(&mut entry.value));
        }
    }
}

/// In block style: a plain word that stood in a flow or a block can stand there.
fn write(tree: &Tree, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    match &tree.node {
        Node::Null => out.push_str("null\n"),
        // In a plain word of several lines the first end of a line says nothing.
        Node::Word { text, plain: true } => {
            let mut before = ' ';
            for letter in text.chars() {
                if letter == '\n' && before != '\n' {
                    out.push('\n');
                } else if before == '\n' && letter != '\n' {
                    out.push_str(&indent);
                }
                out.push(letter);
                before = letter;
            }
            out.push('\n');
        }
        Node::Word { text, plain: false } => {
            let _ = writeln!(out, "{}", quoted(text));
        }
        Node::Seq(items) if items.is_empty() => out.push_str("[]\n"),
        Node::Map(entries) if entries.is_empty() => out.push_str("{}\n"),
        Node::Seq(items) => {
            out.push('\n');
            for item in items {
                let _ = write!(out, "{indent}- ");
                write(item, depth + 1, out);
            }
        }
        Node::Map(entries) => {
            out.push('\n');
            for entry in entries {
                let _ = write!(out, "{indent}? {}\n{indent}: ", quoted(&entry.key));
                write(&entry.value, depth + 1, out);
            }
        }
    }
}
