//! Which keys of the settings are fields, and which are names that users give.
//!
//! ```text
//! Settings' JSON Schema ──▶ Shape ──▶ one spelling per key, before layers are laid over each other
//!                                 └─▶ every known path, for hints and for the documentation's test
//! ```

use serde_json::Value;

use super::read::{self, Fault, What};
use super::tree::{Entry, Node, Tree, snake_case};
use crate::model::Name;

#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// In the order declared.
    Fields(Vec<(String, Shape)>),
    /// A map whose keys are names.
    Names(Box<Shape>),
    /// A scalar or a list.
    Leaf,
}

impl Shape {
    /// Read from a JSON Schema of this project's structs.
    pub fn of(schema: &Value) -> Shape {
        shape(schema, schema)
    }

    pub fn field(&self, name: &str) -> Option<&Shape> {
        match self {
            Shape::Fields(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, shape)| shape),
            Shape::Names(inner) => Some(inner),
            Shape::Leaf => None,
        }
    }

    pub fn fields(&self) -> Vec<&str> {
        match self {
            Shape::Fields(fields) => fields.iter().map(|(field, _)| field.as_str()).collect(),
            Shape::Names(_) | Shape::Leaf => Vec::new(),
        }
    }

    /// Every path to a leaf or an empty map of fields, a name written as `<name>`.
    pub fn paths(&self) -> Vec<String> {
        let below = |key: &str, shape: &Shape| -> Vec<String> {
            let paths = shape.paths();
            if paths.is_empty() {
                return vec![key.to_string()];
            }
            paths.iter().map(|path| format!("{key}.{path}")).collect()
        };
        match self {
            Shape::Fields(fields) => fields.iter().flat_map(|(field, shape)| below(field, shape)).collect(),
            Shape::Names(inner) => below("<name>", inner),
            Shape::Leaf => Vec::new(),
        }
    }

    /// Brings every key to its one spelling: fields to snake_case, names to their alphabet. What a flag or a variable
    /// gives as JSON becomes a map, so that it is merged key by key like any other.
    pub fn fold(&self, tree: &mut Tree) -> Vec<Fault> {
        let mut faults = Vec::new();
        fold(self, tree, &mut Vec::new(), &mut faults);
        faults
    }
}

fn shape(schema: &Value, root: &Value) -> Shape {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let name = target.trim_start_matches("#/$defs/");
        return root.get("$defs").and_then(|defs| defs.get(name)).map_or(Shape::Leaf, |def| shape(def, root));
    }
    // An optional struct is "this or null".
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        let given = choices.iter().find(|choice| choice.get("type") != Some(&Value::from("null")));
        return given.map_or(Shape::Leaf, |choice| shape(choice, root));
    }
    let is_object = match schema.get("type") {
        Some(Value::String(word)) => word == "object",
        Some(Value::Array(words)) => words.contains(&Value::from("object")),
        _ => false,
    };
    if !is_object {
        return Shape::Leaf;
    }
    if let Some(inner @ Value::Object(_)) = schema.get("additionalProperties") {
        return Shape::Names(Box::new(shape(inner, root)));
    }
    let fields = schema.get("properties").and_then(Value::as_object);
    Shape::Fields(fields.into_iter().flatten().map(|(field, inner)| (field.clone(), shape(inner, root))).collect())
}

fn fold(shape: &Shape, tree: &mut Tree, path: &mut Vec<String>, faults: &mut Vec<Fault>) {
    if *shape == Shape::Leaf {
        return;
    }
    // Where it is no JSON, the reader says so, with the field's name.
    if let Ok(Some(parsed)) = read::json_map(tree) {
        *tree = parsed;
    }
    let Node::Map(entries) = &mut tree.node else { return };
    let mut folded: Vec<Entry> = Vec::with_capacity(entries.len());
    for mut entry in entries.drain(..) {
        let key = match shape {
            Shape::Names(_) => Name::normalised(&entry.key).to_string(),
            _ => Some(snake_case(&entry.key)).filter(|key| shape.field(key).is_some()).unwrap_or(entry.key.clone()),
        };
        path.push(key.clone());
        let twice = folded.iter().any(|other| other.key == key);
        if twice || key.is_empty() {
            let why = if twice { "is given twice, in two spellings" } else { "is empty; a name has letters or digits" };
            let what = What::Invalid(format!("\"{key}\" {why}"));
            faults.push(Fault { path: path.clone(), origin: entry.origin, what });
        } else {
            if let Some(inner) = shape.field(&key) {
                fold(inner, &mut entry.value, path, faults);
            }
            folded.push(Entry { key, ..entry });
        }
        path.pop();
    }
    *entries = folded;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema;
    use crate::config::yaml;
    use crate::model::Origin;

    fn settings() -> Shape {
        Shape::of(&schema::settings())
    }

    fn folded(text: &str) -> (Tree, Vec<Fault>) {
        let mut tree = yaml::parse(&"f.yaml".into(), text).expect("valid YAML");
        let faults = settings().fold(&mut tree);
        (tree, faults)
    }

    #[test]
    fn paths_lead_through_optional_structs_and_names() {
        let paths = settings().paths();
        for path in
            ["workers", "listeners.<name>.timeouts.header", "listeners.<name>.tls", "providers.docker.tls.ca_file"]
        {
            assert!(paths.iter().any(|known| known == path), "{path} is not among {paths:?}");
        }
    }

    #[test]
    fn the_documentation_names_every_setting_and_no_other() {
        let page = include_str!("../../docs/settings.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let mut documented: Vec<&str> = rows.map(|(path, _)| path).collect();
        documented.sort_unstable();
        let mut known = settings().paths();
        known.sort();
        assert_eq!(documented, known);
    }

    #[test]
    fn fields_are_folded_and_names_are_not_taken_for_fields() {
        let (tree, faults) =
            folded("stateDir: /s\nlisteners: { My_Http: { publicPort: 1 }, my-http: { public-port: 2 } }");
        assert_eq!(faults, []);
        assert!(tree.entries().iter().any(|entry| entry.key == "state_dir"));
        let names: Vec<&str> =
            tree.field("listeners").expect("there").entries().iter().map(|e| e.key.as_str()).collect();
        assert_eq!(names, ["my_http", "my-http"]);
    }

    #[test]
    fn one_key_in_two_spellings_is_named_where_the_second_stands() {
        let (_, faults) = folded("state_dir: /a\nstateDir: /b\nlisteners: { Http: {}, http: {} }");
        let said: Vec<String> = faults.iter().map(Fault::to_string).collect();
        assert_eq!(
            said,
            [
                "f.yaml:2:1: state_dir: \"state_dir\" is given twice, in two spellings",
                "f.yaml:3:24: listeners.http: \"http\" is given twice, in two spellings",
            ]
        );
    }

    #[test]
    fn json_in_a_flag_is_a_map_whose_values_stand_in_that_flag() {
        let flag = Origin::Flag { flag: "listeners.http".into() };
        let mut tree = Tree::map(flag.clone());
        tree.insert(&["listeners", "http"], Tree::word(flag.clone(), r#"{"publicPort": 8443}"#)).expect("fresh");
        assert_eq!(settings().fold(&mut tree), []);
        let port = tree.field("listeners").and_then(|t| t.field("http")).and_then(|t| t.field("public_port"));
        assert_eq!(port.map(|port| &port.origin), Some(&flag));
    }
}
