//! `config/schema.json`, for editors: made from the keys that the program reads and from their
//! descriptions in `config/default.toml`. `DROPFERRY_WRITE_SCHEMA=1` writes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

#[path = "../../src/config/tests/rows.rs"]
mod rows;

/// Tables of a destination, by the platforms that their keys belong to.
const PLATFORMS: [(&str, &[&str]); 4] = [
    ("SevenBridgesKeys", &["sevenbridges", "cavatica", "cgc", "bdc"]),
    ("BaseSpaceKeys", &["basespace"]),
    ("GjirafaVpKeys", &["gjirafa-vp"]),
    ("S3Keys", &["s3"]),
];

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("read")
}

/// The fields of each table, with their types.
fn tables() -> BTreeMap<String, Vec<(String, String)>> {
    let (raw, mut tables) = (read("src/config/raw.rs"), BTreeMap::new());
    for block in raw.split("pub(super) struct ").skip(1) {
        let (head, body) = block.split_once("{\n").expect("a body");
        let name = head.trim().trim_end_matches("<'a>").to_owned();
        let (body, _) = body.split_once("\n}").expect("its end");
        let field = |line: &str| {
            let (key, kind) = line.trim().strip_prefix("pub(super) ")?.split_once(": ")?;
            Some((key.to_owned(), kind.trim_end_matches(',').replace("Spanned<", "<")))
        };
        tables.insert(name, body.lines().filter_map(field).collect());
    }
    tables
}

/// The description of a key in `config/default.toml`, by the last name of its table and the key.
fn descriptions() -> BTreeMap<(String, String), String> {
    let (mut table, mut said, mut found) = (String::new(), Vec::new(), BTreeMap::new());
    for line in read("config/default.toml").lines() {
        let line = line.trim_start_matches("# ").trim();
        let key = line.split_once(" = ").map_or("", |(key, _)| key);
        if let Some(name) = line.strip_prefix('[').filter(|rest| rest.ends_with(']')) {
            let names: Vec<_> = name.trim_matches(['[', ']']).split('.').collect();
            let is_named = names.len() == 2 && ["destinations", "drops"].contains(&names[0]);
            table = if is_named { names[0] } else { names[names.len() - 1] }.to_owned();
            said.clear();
        } else if !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            found.insert((table.clone(), key.to_owned()), said.join(" "));
            said.clear();
        } else if line.is_empty() || line == "#" {
            said.clear();
        } else {
            said.push(line.to_owned());
        }
    }
    found
}

/// The schema of a type.
fn of(kind: &str) -> Value {
    let inner = kind.trim_start_matches("Option<").trim_matches(['<', '>']);
    let reference = |name: &str| json!({ "$ref": format!("#/$defs/{name}") });
    let list = json!({ "type": "array", "items": { "type": "string" } });
    // A single word is accepted for a list of one.
    let words = json!({ "anyOf": [{ "type": "string" }, list] });
    match inner {
        "Text" | "String" => json!({ "type": "string" }),
        "i64" | "i32" => json!({ "type": "integer" }),
        "f64" => json!({ "type": "number" }),
        "bool" => json!({ "type": "boolean" }),
        "Count" => json!({ "type": ["integer", "string"] }),
        "Texts" | "WordList" => words,
        _ if inner.contains("BTreeMap<String, String") => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        _ if inner.contains("Vec<") && inner.ends_with("String") => words,
        _ => {
            let name = inner.rsplit('<').next().expect("a name").rsplit(' ').next();
            let name = name.expect("a name").trim_matches('>');
            assert!(name.ends_with("Keys"), "no schema is known of {kind}");
            match () {
                () if inner.contains("BTreeMap<") => {
                    json!({ "type": "object", "additionalProperties": reference(name) })
                }
                () if inner.contains("Many<") => json!({ "anyOf": [
                    reference(name), { "type": "array", "items": reference(name) },
                ]}),
                () if inner.contains("Vec<") => {
                    json!({ "type": "array", "items": reference(name) })
                }
                () => reference(name),
            }
        }
    }
}

/// The properties of a table, with their descriptions.
fn properties(
    fields: &[(String, String)],
    table: &str,
    said: &BTreeMap<(String, String), String>,
) -> Map<String, Value> {
    let property = |(key, kind): &(String, String)| {
        let mut schema = of(kind);
        if let Some(text) = said.get(&(table.to_owned(), key.clone())).filter(|t| !t.is_empty()) {
            schema["description"] = text.as_str().into();
        }
        (key.clone(), schema)
    };
    fields.iter().map(property).collect()
}

fn schema() -> Value {
    let (tables, said) = (tables(), descriptions());
    let object = |properties: Map<String, Value>| json!({ "type": "object", "additionalProperties": false, "properties": properties });
    let mut defs = Map::new();
    for (name, fields) in &tables {
        if name == "FileKeys" || PLATFORMS.iter().any(|(platform, _)| name == platform) {
            continue;
        }
        let table = match name.as_str() {
            "DropKeys" => "drops".to_owned(),
            "PeriodKeys" => "timetable".to_owned(),
            _ => name.trim_end_matches("Keys").to_lowercase(),
        };
        defs.insert(name.clone(), object(properties(fields, &table, &said)));
    }
    let common = &tables["DestinationKeys"];
    let kinds = PLATFORMS.map(|(name, words)| {
        let fields = [common.as_slice(), &tables[name]].concat();
        let mut kind = object(properties(&fields, "destinations", &said));
        kind["properties"]["platform"]["enum"] = json!(words);
        kind["required"] = json!(["platform"]);
        kind
    });
    defs.insert("DestinationKeys".into(), json!({ "anyOf": kinds }));
    let mut whole = object(properties(&tables["FileKeys"], "", &said));
    whole["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    whole["title"] = "dropferry configuration".into();
    whole["$defs"] = Value::Object(defs);
    whole
}

#[test]
fn the_schema_has_every_key_that_is_read() {
    let (file, made) = ("config/schema.json", format!("{:#}\n", schema()));
    if std::env::var_os("DROPFERRY_WRITE_SCHEMA").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), &made).expect("written");
    }
    assert_eq!(read(file), made, "DROPFERRY_WRITE_SCHEMA=1 writes {file}");
}

/// Returns whether a value fits a schema of the kind that is made here.
fn fits(value: &toml::Value, schema: &Value, whole: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        return fits(value, whole.pointer(&name[1..]).expect("a definition"), whole);
    }
    if let Some(kinds) = schema["anyOf"].as_array() {
        let failed: Vec<_> =
            kinds.iter().filter_map(|kind| fits(value, kind, whole).err()).collect();
        return if failed.len() < kinds.len() { Ok(()) } else { Err(failed.join(" and ")) };
    }
    if let Some(words) = schema["enum"].as_array() {
        let is_one = words.iter().any(|word| word.as_str() == value.as_str());
        return is_one.then_some(()).ok_or_else(|| format!("{value} is none of {words:?}"));
    }
    let found = match value {
        toml::Value::String(_) => "string",
        toml::Value::Integer(_) => "integer",
        toml::Value::Float(_) => "number",
        toml::Value::Boolean(_) => "boolean",
        toml::Value::Array(_) => "array",
        toml::Value::Table(_) => "object",
        toml::Value::Datetime(_) => "date",
    };
    let kinds = &schema["type"];
    let is_kind = |kind: &Value| kind == found || (kind == "number" && found == "integer");
    if !is_kind(kinds) && !kinds.as_array().is_some_and(|kinds| kinds.iter().any(is_kind)) {
        return Err(format!("{value} is no {kinds}"));
    }
    let mut required =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(key) = required.find(|key| value.get(key).is_none()) {
        return Err(format!("{key} is missing"));
    }
    for item in value.as_array().into_iter().flatten() {
        fits(item, &schema["items"], whole)?;
    }
    for (key, item) in value.as_table().into_iter().flatten() {
        let known = schema["properties"].get(key);
        let other = Some(&schema["additionalProperties"]).filter(|other| other.is_object());
        let schema = known.or(other).ok_or_else(|| format!("{key} is not known"))?;
        fits(item, schema, whole).map_err(|why| format!("{key}: {why}"))?;
    }
    Ok(())
}

#[test]
fn the_schema_takes_the_default_and_the_examples_and_no_other_key() {
    let whole = schema();
    let check = |text: &str| {
        let table: toml::Table = text.parse().expect("TOML");
        fits(&toml::Value::Table(table), &whole, &whole)
    };
    check(&read("config/default.toml")).expect("the default fits");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    for example in super::stage::walk(&examples) {
        let text = fs::read_to_string(&example).expect("read");
        check(&text).unwrap_or_else(|why| panic!("{}: {why}", example.display()));
    }
    let far = "[destinations.far]\nplatform = \"s3\"\n";
    assert!(check(&format!("{far}bucket = \"b\"\n")).is_ok());
    assert!(check(&format!("{far}app_result = \"1\"\n")).is_err(), "a key of another platform");
    assert!(check("[transfr]\n").is_err() && check("[web]\nlisten = 8377\n").is_err());
}

/// Mistakes that an editor shows by the schema: keys and types. Mistakes that depend on values, on
/// files and on each other are reported by the program.
const SEEN: [&str; 14] = [
    "a wrong key",
    "a wrong key for one that must be there",
    "the token itself",
    "the token in its table",
    "the token under its name",
    "a number for a size",
    "a number for a text",
    "a number for a list",
    "a table of another name",
    "a table of another name that is needed",
    "an unknown platform",
    "no platform",
    "a key of another platform",
    "an address in a webhook",
];

#[test]
fn the_schema_refuses_the_mistakes_that_an_editor_can_show() {
    let whole = schema();
    let refuses = |text: &str| {
        let table: toml::Table = text.parse().ok()?;
        Some(fits(&toml::Value::Table(table), &whole, &whole).is_err())
    };
    assert_eq!(refuses(rows::GOOD), Some(false));
    let is_refused =
        |(_, old, new): &&(&str, &str, &str)| refuses(&rows::with(old, new)) == Some(true);
    let found: Vec<_> = rows::MISTAKES.iter().filter(is_refused).map(|(what, ..)| *what).collect();
    assert_eq!(found, SEEN);
}
