//! The JSON schema of build files, made of the definition of the command line.

use super::item_tables::{PartForm, table_of};
use super::keys::{FileKey, FileKeys, KeyForm, PAIRS};
use super::{IMAGE, IMPORT, NAME, VARIABLES};
use serde_json::{Map, Value, json};

/// Returns the schema as text.
pub(in crate::cli) fn text() -> String {
    let keys = FileKeys::of("build");
    let flags: Map<String, Value> = keys.all().map(|key| (key.name.to_owned(), described(&key))).collect();
    let mut of_image = flags.clone();
    let name =
        json!({"type": "string", "pattern": "^[A-Za-z0-9._][A-Za-z0-9._-]*$", "description": "The name for --image"});
    of_image.insert(NAME.to_owned(), name);
    let image = json!({"type": "object", "properties": of_image, "required": [NAME], "additionalProperties": false});
    let mut of_file = flags;
    let names = |what: &str| json!({"type": "array", "items": {"type": "string"}, "description": what});
    of_file.insert(IMAGE.to_owned(), json!({"type": "array", "items": image, "description": "Several images"}));
    of_file.insert(IMPORT.to_owned(), names("Files that this one begins with"));
    of_file.insert(VARIABLES.to_owned(), names("Variables of the environment that are replaced in this file"));
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "ocibuild.toml",
        "description": "A build of ocibuild, written down",
        "type": "object",
        "properties": of_file,
        "additionalProperties": false,
    });
    format!("{schema:#}")
}

/// Returns what a key takes, with the help of its flag.
fn described(key: &FileKey<'_>) -> Value {
    let plain = json!({"type": ["string", "integer"]});
    let one = match (key.choices(), table_of(key.name)) {
        (choices, None) if !choices.is_empty() => json!({"enum": choices}),
        (_, None) => plain.clone(),
        (_, Some(_)) => json!({"anyOf": [{"type": "string"}, item(key.name)]}),
    };
    let list = json!({"type": "array", "items": one});
    let mut schema = match key.form {
        KeyForm::Switch | KeyForm::Choice => json!({"type": "boolean"}),
        KeyForm::Value => one,
        KeyForm::SwitchOrValue => json!({"anyOf": [{"type": "boolean"}, one]}),
        KeyForm::Command => json!({"anyOf": [{"type": "string"}, {"type": "array", "items": plain}]}),
        KeyForm::Values if PAIRS.contains(&key.name) => {
            let values = json!({"type": ["string", "integer", "boolean"]});
            json!({"anyOf": [one, list, {"type": "object", "additionalProperties": values}]})
        }
        KeyForm::Values => json!({"anyOf": [one, list]}),
    };
    schema["description"] = key.help().into();
    schema
}

/// Returns what an item is as a table.
fn item(flag: &str) -> Value {
    let Some(table) = table_of(flag) else { return Value::Bool(true) };
    let plain = json!({"type": ["string", "integer"]});
    let form = |form| match form {
        PartForm::Switch => json!({"type": "boolean"}),
        PartForm::Texts => json!({"anyOf": [plain, {"type": "array", "items": plain}]}),
        PartForm::Text | PartForm::Path | PartForm::Mode => plain.clone(),
    };
    let parts: Map<String, Value> = table.parts().map(|(name, part)| (name.to_owned(), form(part))).collect();
    json!({"type": "object", "properties": parts, "required": table.required(), "additionalProperties": false})
}
