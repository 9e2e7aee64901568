//! Reads a [`Tree`] into a struct, with errors that name the field and where it was written.
//!
//! One reader for every spelling. Struct fields are found in snake_case, camelCase and kebab-case, the keys of maps are
//! the user's own and never folded. Where the text came without types (labels, flags, environment) a word splits at
//! commas into a list, is JSON where a map is asked for, and keys `0, 1, …` make a list of maps.

use std::fmt;
use std::sync::Arc;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

use super::tree::{Entry, Node, Tree, snake_case};
use super::yaml;
use crate::model::Origin;

/// One thing wrong with one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// From the struct that was read, outermost first.
    pub path: Vec<String>,
    pub origin: Origin,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    UnknownField { written: String, known: &'static [&'static str] },
    Invalid(String),
}

impl Fault {
    pub fn field(&self) -> String {
        self.path.join(".")
    }

    pub fn message(&self) -> String {
        match &self.what {
            What::Invalid(why) => why.clone(),
            What::UnknownField { written, known } => match nearest(written, known) {
                Some(near) => format!("there is no field \"{written}\"; did you mean \"{near}\"?"),
                None => format!("there is no field \"{written}\"; known are {}", known.join(", ")),
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.field())?;
        }
        f.write_str(&self.message())
    }
}

/// The known word that a misspelt one most likely meant.
pub fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let folded = snake_case(written);
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&folded, word), *word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min()
        .map(|(_, word)| word)
}

/// Reads the whole or says the first thing that is wrong.
pub fn strict<T: DeserializeOwned>(tree: &Tree) -> Result<T, Fault> {
    T::deserialize(Reader(tree)).map_err(|error| error.into_fault(tree))
}

/// Reads what can be read: each top-level field that is wrong is left out and named.
pub fn lenient<T: DeserializeOwned + Default>(tree: &Tree) -> (T, Vec<Fault>) {
    let mut rest = tree.clone();
    let mut faults = Vec::new();
    loop {
        let fault = match strict(&rest) {
            Ok(value) => return (value, faults),
            Err(fault) => fault,
        };
        let culprit = fault.path.first().cloned();
        faults.push(fault);
        if culprit.is_none_or(|field| rest.take(&field).is_none()) {
            return (T::default(), faults);
        }
    }
}

/// What the fields of a struct are called, in the schema's spelling. Empty for what is no struct.
pub fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It never answers with a value: to be asked is all that it is for.
    let _ = T::deserialize(Asked(&mut names));
    names
}

struct Asked<'n>(&'n mut &'static [&'static str]);

impl<'de> de::Deserializer<'de> for Asked<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, ReadError> {
        Err(de::Error::custom("asked for its fields alone"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// serde's error with a path that grows outwards as it is handed up.
#[derive(Debug)]
pub struct ReadError {
    path: Vec<String>,
    origin: Option<Origin>,
    what: What,
}

impl ReadError {
    fn at(mut self, segment: impl Into<String>, origin: &Origin) -> ReadError {
        self.path.push(segment.into());
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }

    fn into_fault(mut self, tree: &Tree) -> Fault {
        self.path.reverse();
        Fault { path: self.path, origin: self.origin.unwrap_or_else(|| tree.origin.clone()), what: self.what }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Invalid(why) => f.write_str(why),
            What::UnknownField { written, .. } => write!(f, "unknown field {written}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        ReadError { path: Vec::new(), origin: None, what: What::Invalid(message.to_string()) }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let near = nearest(variant, expected);
        let hint = near.map_or(String::new(), |near| format!("; did you mean \"{near}\"?"));
        de::Error::custom(format!("\"{variant}\" is none of {}{hint}", expected.join(", ")))
    }
}

fn wrong(found: &Node, wanted: &str) -> ReadError {
    let found = match found {
        Node::Null => "nothing".to_string(),
        Node::Word { text, .. } => format!("\"{text}\""),
        Node::Seq(_) => "a list".to_string(),
        Node::Map(_) => "a map".to_string(),
    };
    de::Error::custom(format!("{found} stands where {wanted} belongs"))
}

struct Reader<'t>(&'t Tree);

impl<'t> Reader<'t> {
    fn text(&self, wanted: &str) -> Result<&'t str, ReadError> {
        match &self.0.node {
            Node::Word { text, .. } => Ok(text),
            other => Err(wrong(other, wanted)),
        }
    }

    fn number<T: std::str::FromStr>(&self, wanted: &str) -> Result<T, ReadError> {
        self.text(wanted)?.trim().parse().map_err(|_| wrong(&self.0.node, wanted))
    }

    /// A map, or a word of JSON where every value is text.
    fn as_map(&self) -> Result<Option<Tree>, ReadError> {
        match (&self.0.node, json_map(self.0)) {
            (Node::Map(_), _) => Ok(None),
            (_, Ok(Some(tree))) => Ok(Some(tree)),
            (_, Err(error)) => Err(de::Error::custom(format!("not JSON: {error}"))),
            (other, Ok(None)) => Err(wrong(other, "a map")),
        }
    }
}

/// The map that a word holds as JSON, where every value is text.
pub(super) fn json_map(tree: &Tree) -> Result<Option<Tree>, yaml::YamlError> {
    let Node::Word { text, .. } = &tree.node else { return Ok(None) };
    if !tree.origin.is_text() || !text.trim_start().starts_with('{') {
        return Ok(None);
    }
    let path: Arc<str> = "value".into();
    let mut parsed = yaml::parse(&path, text)?;
    relocate(&mut parsed, &tree.origin);
    Ok(Some(parsed))
}

/// Whatever was read out of one label stands in that label.
fn relocate(tree: &mut Tree, origin: &Origin) {
    tree.origin = origin.clone();
    match &mut tree.node {
        Node::Seq(items) => items.iter_mut().for_each(|item| relocate(item, origin)),
        Node::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.origin = origin.clone();
            relocate(&mut entry.value, origin);
        }),
        Node::Null | Node::Word { .. } => {}
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty, $wanted:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            visitor.$visit(self.number::<$type>($wanted)?)
        })*
    };
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    numbers! {
        deserialize_u8 visit_u8 u8, "a number from 0 to 255";
        deserialize_u16 visit_u16 u16, "a number from 0 to 65535";
        deserialize_u32 visit_u32 u32, "a whole number from 0 up";
        deserialize_u64 visit_u64 u64, "a whole number from 0 up";
        deserialize_i8 visit_i8 i8, "a small whole number";
        deserialize_i16 visit_i16 i16, "a whole number";
        deserialize_i32 visit_i32 i32, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.0.node {
            Node::Null => visitor.visit_unit(),
            Node::Word { text, .. } => visitor.visit_str(text),
            Node::Seq(_) => self.deserialize_seq(visitor),
            Node::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.text("true or false")? {
            "true" | "on" => visitor.visit_bool(true),
            "false" | "off" => visitor.visit_bool(false),
            _ => Err(wrong(&self.0.node, "true or false")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_str(self.text("a word")?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.0.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.0.node {
            Node::Seq(items) => visitor.visit_seq(Items::new(items)),
            Node::Word { text, .. } if self.0.origin.is_text() => {
                let items: Vec<Tree> = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Tree::word(self.0.origin.clone(), item))
                    .collect();
                visitor.visit_seq(Items::new(&items))
            }
            Node::Map(entries) if self.0.origin.is_text() => {
                let mut indexed: Vec<(usize, &Tree)> = Vec::with_capacity(entries.len());
                for entry in entries {
                    let index = entry.key.parse().map_err(|_| {
                        <ReadError as de::Error>::custom(format!(
                            "\"{}\" is no index; the entries of this list are counted from 0",
                            entry.key
                        ))
                        .at(entry.key.clone(), &entry.origin)
                    })?;
                    indexed.push((index, &entry.value));
                }
                indexed.sort_by_key(|(index, _)| *index);
                let items: Vec<Tree> = indexed.into_iter().map(|(_, tree)| tree.clone()).collect();
                visitor.visit_seq(Items::new(&items))
            }
            other => Err(wrong(other, "a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let parsed = self.as_map()?;
        let tree = parsed.as_ref().unwrap_or(self.0);
        visitor.visit_map(Fields::new(tree.entries(), None))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        // `tls:` with nothing after it is the struct with every default.
        if matches!(self.0.node, Node::Null) {
            return visitor.visit_map(Fields::new(&[], Some(fields)));
        }
        let parsed = self.as_map()?;
        let tree = parsed.as_ref().unwrap_or(self.0);
        visitor.visit_map(Fields::new(tree.entries(), Some(fields)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let text = self.text(&format!("one of {}", variants.join(", ")))?;
        let folded = snake_case(text);
        let word = match text {
            // `off` and `false` mean the same where a field takes words.
            "false" if variants.contains(&"off") => "off",
            text if variants.contains(&text) => text,
            _ => &folded,
        };
        let known = variants.iter().find(|variant| **variant == word);
        visitor.visit_enum(known.map_or(text, |known| *known).into_deserializer())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

struct Items<'t> {
    rest: std::iter::Enumerate<std::slice::Iter<'t, Tree>>,
}

impl<'t> Items<'t> {
    fn new(items: &'t [Tree]) -> Items<'t> {
        Items { rest: items.iter().enumerate() }
    }
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some((index, item)) = self.rest.next() else { return Ok(None) };
        seed.deserialize(Reader(item)).map(Some).map_err(|error| error.at(index.to_string(), &item.origin))
    }
}

struct Fields<'t> {
    rest: std::slice::Iter<'t, Entry>,
    current: Option<(&'t Entry, String)>,
    known: Option<&'static [&'static str]>,
    seen: Vec<String>,
}

impl<'t> Fields<'t> {
    fn new(entries: &'t [Entry], known: Option<&'static [&'static str]>) -> Fields<'t> {
        Fields { rest: entries.iter(), current: None, known, seen: Vec::new() }
    }
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some(entry) = self.rest.next() else { return Ok(None) };
        let mut key = entry.key.clone();
        if let Some(known) = self.known {
            if !known.contains(&key.as_str()) {
                key = snake_case(&key);
            }
            if !known.contains(&key.as_str()) {
                let what = What::UnknownField { written: entry.key.clone(), known };
                return Err(ReadError { path: vec![entry.key.clone()], origin: Some(entry.origin.clone()), what });
            }
            if self.seen.contains(&key) {
                let error: ReadError = de::Error::custom(format!("\"{key}\" is given twice, in two spellings"));
                return Err(error.at(entry.key.clone(), &entry.origin));
            }
            self.seen.push(key.clone());
        }
        let deserializer: StrDeserializer<'_, ReadError> = key.as_str().into_deserializer();
        let value = seed.deserialize(deserializer).map_err(|error| error.at(entry.key.clone(), &entry.origin))?;
        self.current = Some((entry, key));
        Ok(Some(value))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let Some((entry, key)) = self.current.take() else {
            return Err(de::Error::custom("a value without a key"));
        };
        seed.deserialize(Reader(&entry.value)).map_err(|error| error.at(key, &entry.value.origin))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::schema::{MtlsPolicySpec, RouteSpec};

    fn yaml(text: &str) -> Tree {
        yaml::parse(&"f.yaml".into(), text).expect("valid YAML")
    }

    fn labels(pairs: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::map(Origin::Default);
        for (key, value) in pairs {
            let origin = Origin::Label { container: "web".into(), key: (*key).into() };
            tree.origin = origin.clone();
            let path: Vec<&str> = key.split('.').collect();
            tree.insert(&path, Tree::word(origin, *value)).expect("fresh");
        }
        tree
    }

    #[test]
    fn a_label_set_and_a_file_read_into_the_same_struct() {
        let file: RouteSpec =
            strict(&yaml("hosts: [a, b]\npriority: 10\ntls: { minVersion: 1.2 }\nheaders: { X-Key: v }"))
                .expect("file");
        let label: RouteSpec = strict(&labels(&[
            ("hosts", "a, b"),
            ("priority", "10"),
            ("tls.min-version", "1.2"),
            ("headers", r#"{"X-Key": "v"}"#),
        ]))
        .expect("labels");
        assert_eq!(file, label);
        assert_eq!(file.headers, Some(BTreeMap::from([("X-Key".to_string(), "v".to_string())])));
    }

    #[test]
    fn lists_of_maps_are_indexed_from_0_in_labels() {
        let policy: MtlsPolicySpec =
            strict(&labels(&[("allow.1.dns", "b"), ("allow.0.dns", "a"), ("mode", "require")])).expect("labels");
        let allow = policy.allow.expect("there");
        assert_eq!(allow.iter().map(|entry| entry.dns.as_deref()).collect::<Vec<_>>(), [Some("a"), Some("b")]);
    }

    #[test]
    fn off_and_false_are_one_word() {
        for text in ["mode: off", "mode: false"] {
            let policy: MtlsPolicySpec = strict(&yaml(text)).expect(text);
            assert_eq!(policy.mode, Some(crate::model::schema::ClientAuthMode::Off));
        }
    }

    #[test]
    fn a_wrong_field_is_named_with_its_place_and_the_rest_is_kept() {
        let (route, faults) = lenient::<RouteSpec>(&yaml("host: a\nmlts: x\npriority: high\npath: /x"));
        assert_eq!((route.host.as_deref(), route.path.as_deref()), (Some("a"), Some("/x")));
        assert_eq!(faults.len(), 2);
        assert_eq!(faults[0].to_string(), "f.yaml:2:1: mlts: there is no field \"mlts\"; did you mean \"mtls\"?");
        assert_eq!(faults[1].to_string(), "f.yaml:3:11: priority: \"high\" stands where a whole number belongs");
    }

    #[test]
    fn a_struct_names_its_fields_as_they_are_written() {
        let names = field_names::<RouteSpec>();
        assert!(names.contains(&"use") && names.contains(&"path_exact"), "{names:?}");
        assert!(field_names::<u16>().is_empty());
    }

    #[test]
    fn a_list_in_a_file_is_written_as_one() {
        let (_, faults) = lenient::<RouteSpec>(&yaml("hosts: a.example"));
        assert!(faults[0].message().contains("a list"), "{faults:?}");
    }

    #[test]
    fn one_field_in_two_spellings_is_refused() {
        let (_, faults) = lenient::<RouteSpec>(&yaml("path_exact: /a\npathExact: /b"));
        assert!(faults[0].message().contains("twice"), "{faults:?}");
    }
}
