//! YAML 1.2 (and with it JSON) as a [`Tree`] with line and column.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::tree::{Entry, Node, Tree};
use crate::model::Origin;

/// Where and why a text is not YAML. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {why}")]
pub struct YamlError {
    pub line: u32,
    pub column: u32,
    pub why: String,
}

/// No file that people write comes near this; aliases that multiply do.
const MAX_NODES: usize = 2_000_000;
const MAX_DEPTH: usize = 64;

/// Reads the one document of a text. An empty text is [`Node::Null`].
pub fn parse(path: &Arc<str>, text: &str) -> Result<Tree, YamlError> {
    let mut reader = Reader { path, anchors: HashMap::new(), nodes: 0 };
    let mut parser = Parser::new_from_str(text);
    let mut document = None;
    loop {
        let (event, span) = match parser.next() {
            None => break,
            Some(Ok(next)) => next,
            Some(Err(error)) => return Err(fault(error.marker(), error.info())),
        };
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            Event::StreamEnd => break,
            other if document.is_none() => document = Some(reader.node(&mut parser, other, span, 0)?),
            _ => return Err(fault(&span.start, "a second document starts here; one file holds one document")),
        }
    }
    Ok(document.unwrap_or(Tree { origin: Origin::File { path: path.clone(), line: 1, column: 1 }, node: Node::Null }))
}

struct Reader<'a> {
    path: &'a Arc<str>,
    anchors: HashMap<usize, Tree>,
    nodes: usize,
}

type Events<'t> = Parser<'t, saphyr_parser::StrInput<'t>>;

impl Reader<'_> {
    fn node<'t>(
        &mut self,
        parser: &mut Events<'t>,
        event: Event<'t>,
        span: Span,
        depth: usize,
    ) -> Result<Tree, YamlError> {
        self.count(1, &span.start)?;
        if depth > MAX_DEPTH {
            return Err(fault(&span.start, "nested too deeply"));
        }
        let origin = self.origin(&span.start);
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(&text, style), anchor),
            Event::Alias(anchor) => {
                let tree = self.anchors.get(&anchor).cloned();
                let tree = tree.ok_or_else(|| fault(&span.start, "this alias names no anchor above it"))?;
                self.count(size(&tree), &span.start)?;
                return Ok(tree);
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    let (event, span) = next(parser)?;
                    if event == Event::SequenceEnd {
                        break;
                    }
                    items.push(self.node(parser, event, span, depth + 1)?);
                }
                (Node::Seq(items), anchor)
            }
            Event::MappingStart(anchor, _) => (Node::Map(self.entries(parser, depth)?), anchor),
            _ => return Err(fault(&span.start, "a value is missing here")),
        };
        let tree = Tree { origin, node };
        if anchor > 0 {
            self.anchors.insert(anchor, tree.clone());
        }
        Ok(tree)
    }

    fn entries<'t>(&mut self, parser: &mut Events<'t>, depth: usize) -> Result<Vec<Entry>, YamlError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = next(parser)?;
            if event == Event::MappingEnd {
                break;
            }
            let Event::Scalar(key, style, ..) = event else {
                return Err(fault(&span.start, "a key is a plain word, not a list or a map"));
            };
            let origin = self.origin(&span.start);
            let (event, value_span) = next(parser)?;
            let value = self.node(parser, event, value_span, depth + 1)?;
            // The merge key of YAML 1.1, which people use with anchors.
            if key == "<<" && style == ScalarStyle::Plain {
                match value.node {
                    Node::Map(inner) => merged.extend(inner),
                    Node::Seq(items) => merged.extend(items.into_iter().flat_map(|item| match item.node {
                        Node::Map(inner) => inner,
                        _ => Vec::new(),
                    })),
                    _ => return Err(fault(&span.start, "<< takes a map")),
                }
                continue;
            }
            if entries.iter().any(|entry| entry.key == key) {
                return Err(fault(&span.start, &format!("the key \"{key}\" stands twice in one map")));
            }
            entries.push(Entry { key: key.into_owned(), origin, value });
        }
        for entry in merged {
            if !entries.iter().any(|own| own.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn count(&mut self, nodes: usize, at: &Marker) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES { Err(fault(at, "too many values, aliases counted in full")) } else { Ok(()) }
    }

    fn origin(&self, at: &Marker) -> Origin {
        Origin::File { path: self.path.clone(), line: narrow(at.line()), column: narrow(at.col() + 1) }
    }
}

fn next<'t>(parser: &mut Events<'t>) -> Result<(Event<'t>, Span), YamlError> {
    match parser.next() {
        Some(Ok(next)) => Ok(next),
        Some(Err(error)) => Err(fault(error.marker(), error.info())),
        None => Err(YamlError { line: 0, column: 0, why: "the text ends in the middle of a value".into() }),
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Node {
    if style == ScalarStyle::Plain {
        if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return Node::Null;
        }
        return Node::Word { text: text.to_string(), plain: true };
    }
    Node::Word { text: text.to_string(), plain: false }
}

fn size(tree: &Tree) -> usize {
    1 + match &tree.node {
        Node::Seq(items) => items.iter().map(size).sum(),
        Node::Map(entries) => entries.iter().map(|entry| size(&entry.value)).sum(),
        Node::Null | Node::Word { .. } => 0,
    }
}

fn fault(at: &Marker, why: &str) -> YamlError {
    YamlError { line: narrow(at.line()), column: narrow(at.col() + 1), why: why.to_string() }
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Tree, YamlError> {
        parse(&"f.yaml".into(), text)
    }

    #[test]
    fn values_know_their_line_and_column() {
        let tree = read("routes:\n  shop:\n    host: a.example\n").expect("valid");
        let host = tree.field("routes").and_then(|t| t.field("shop")).and_then(|t| t.field("host")).expect("there");
        assert_eq!(host.origin, Origin::File { path: "f.yaml".into(), line: 3, column: 11 });
    }

    #[test]
    fn json_is_read_too() {
        let tree = read(r#"{"routes": {"shop": {"priority": 10, "hosts": ["a", "b"]}}}"#).expect("valid");
        let hosts = tree.field("routes").and_then(|t| t.field("shop")).and_then(|t| t.field("hosts")).expect("there");
        assert!(matches!(&hosts.node, Node::Seq(items) if items.len() == 2));
    }

    #[test]
    fn errors_say_where() {
        let error = read("a: 1\nb: [1, 2\nc: 3\n").expect_err("unclosed");
        assert!(error.line >= 2, "{error}");
        let error = read("a: 1\na: 2\n").expect_err("twice");
        assert_eq!((error.line, error.column), (2, 1));
    }

    #[test]
    fn anchors_and_merge_keys_work_and_cannot_multiply_without_end() {
        let tree = read("base: &b { x: 1, y: 2 }\nown: { <<: *b, y: 3 }\n").expect("valid");
        let own = tree.field("own").expect("there");
        assert_eq!(own.entries().len(), 2);
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..9 {
            let row = vec![format!("*a{}", i - 1); 10].join(",");
            bomb.push_str(&format!("a{i}: &a{i} [{row}]\n"));
        }
        assert!(read(&bomb).expect_err("too many").why.contains("too many"));
    }
}
