//! JSON Schema of what people write: `portolan.yaml` and the dynamic files.
//!
//! ```text
//! Settings, Document ──schemars──▶ what the structs say ──▶ and what reading allows beyond them
//! ```
//! The structs alone would be too strict: layers are merged over the defaults, so that nothing is required, and where a
//! field takes `off` it takes `false` as well.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::settings::Settings;
use crate::model::schema::Document;

/// Of `portolan.yaml`: the settings, and the operator's own objects beside them.
pub fn portolan_yaml() -> Value {
    let mut schema = settings();
    let document = of::<Document>();
    for part in ["properties", "$defs"] {
        let more = document.get(part).and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(known) = schema.get_mut(part).and_then(Value::as_object_mut) {
            known.extend(more);
        }
    }
    for names in ["listeners", "issuers"] {
        if let Some(inner) = schema.pointer_mut(&format!("/properties/{names}/additionalProperties")) {
            allow_off(inner);
        }
    }
    if let Some(Value::Object(providers)) = schema.pointer_mut("/$defs/ProviderSettings/properties") {
        providers.values_mut().for_each(allow_off);
    }
    if let Some(tls) = schema.pointer_mut("/$defs/ListenerSettings/properties/tls") {
        allow_off(tls);
    }
    title(schema, "portolan.yaml", "The settings of Portolan, and the operator's own routes and services.")
}

/// Of a dynamic file, as `providers.file.path` holds them.
pub fn dynamic() -> Value {
    title(of::<Document>(), "Portolan dynamic file", "Routes, services and what they use.")
}

/// Of the settings as the struct has them.
pub(super) fn settings() -> Value {
    of::<Settings>()
}

fn of<T: JsonSchema>() -> Value {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    loosen(&mut schema);
    schema
}

fn title(mut schema: Value, title: &str, description: &str) -> Value {
    if let Value::Object(schema) = &mut schema {
        schema.insert("title".into(), title.into());
        schema.insert("description".into(), description.into());
    }
    schema
}

fn loosen(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            // Not the `default` beside it: what stands there is a value, no schema.
            if map.get("required").is_some_and(Value::is_array) {
                map.remove("required");
            }
            false_is_off(map);
            map.iter_mut().filter(|(key, _)| *key != "default").for_each(|(_, inner)| loosen(inner));
        }
        Value::Array(items) => items.iter_mut().for_each(loosen),
        _ => {}
    }
}

fn false_is_off(map: &mut Map<String, Value>) {
    let off = Value::from("off");
    let listed = map.get("enum").and_then(Value::as_array).is_some_and(|words| words.contains(&off));
    if listed {
        map.remove("type");
        if let Some(words) = map.get_mut("enum").and_then(Value::as_array_mut) {
            words.push(false.into());
        }
    } else if map.get("const") == Some(&off) {
        map.remove("const");
        map.remove("type");
        map.insert("enum".into(), json!(["off", false]));
    }
}

fn allow_off(schema: &mut Value) {
    let given = schema.take();
    *schema = json!({ "anyOf": [given, { "enum": ["off", false, null] }] });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_none_of_the_schema() {
        for (schema, known) in [(portolan_yaml(), "listeners"), (portolan_yaml(), "routes"), (dynamic(), "routes")] {
            assert_eq!(schema["additionalProperties"], false);
            assert!(schema["properties"].get(known).is_some(), "{known}");
        }
        assert!(dynamic()["properties"].get("listeners").is_none());
    }

    #[test]
    fn a_known_path_is_there_with_its_default_and_its_meaning() {
        let schema = portolan_yaml();
        let network = &schema["$defs"]["DockerSettings"]["properties"]["network"];
        assert!(network["description"].as_str().is_some_and(|text| text.contains("labels")), "{network}");
        assert_eq!(schema["properties"]["admin"]["default"]["address"], "127.0.0.1:9180");
        assert_eq!(schema["$defs"]["ListenerSettings"]["additionalProperties"], false);
    }

    #[test]
    fn nothing_is_required_and_off_may_be_false() {
        let schema = portolan_yaml();
        assert!(!schema.to_string().contains("\"required\""));
        let mode = &schema["$defs"]["ClientAuthMode"]["enum"];
        assert!(mode.as_array().is_some_and(|words| words.contains(&false.into())), "{mode}");
        let http = &schema["properties"]["listeners"]["additionalProperties"]["anyOf"][1]["enum"];
        assert_eq!(*http, json!(["off", false, null]));
    }
}
