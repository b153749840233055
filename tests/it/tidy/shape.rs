//! The shape of the sources as a whole: measures that no single file shows. A bound may only be
//! lowered; the cure is to give things an owner, not to move them.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::{Source, root, sources};

/// Lines of the product, without tests and the sandbox.
const LINES_MAX: usize = 79_248;
/// Type names that are defined more than once; see [`SHARED_NAMES`].
const NAMES_TWICE_MAX: usize = 7;
/// Functions that take a tuple as one parameter.
const TUPLE_PARAMETERS_MAX: usize = 1;
/// Files with an `impl Engine`.
const ENGINE_FILES_MAX: usize = 1;
/// Fields in `engine/` that other files may write.
const OPEN_FIELDS_MAX: usize = 131;
/// Fields of one struct.
const FIELDS_MAX: usize = 12;
/// Structs that serde reads one flat table of a file into: as wide as the table.
const FLAT_TABLES: [&str; 2] = ["DropKeys", "ProfileKeys"];
/// Names that several modules may define, because they are used with the module's name.
const SHARED_NAMES: [&str; 4] = ["Error", "Result", "Kind", "Settings"];

/// Compiles a pattern over ASCII: the tables of other letters are not compiled in.
fn pattern(text: &str) -> Regex {
    let ascii = text.replace(r"\w", "[A-Za-z0-9_]").replace(r"\s", r"[ \t\n]");
    Regex::new(&ascii.replace(r"\b", r"(?-u:\b)")).expect("a pattern")
}

/// Files of the product: neither the sandbox nor tests.
fn product() -> Vec<Source> {
    let is_test = |source: &Source| source.path.ends_with("tests.rs");
    sources().into_iter().filter(|s| s.module != "sandbox" && !is_test(s)).collect()
}

/// The code of a file before its tests, with strings emptied and comments left out.
fn code(source: &Source) -> String {
    let lines: Vec<_> = source.lines().map(|(_, line)| line).collect();
    let text = pattern(r#""(?:\\.|[^"\\])*""#).replace_all(&lines.join("\n"), "\"\"").into_owned();
    pattern(r"//[^\n]*").replace_all(&text, "").into_owned()
}

/// Returns the text between the brace that was opened before `text` and its closing brace.
fn within_braces(text: &str) -> &str {
    let mut depth = 1_usize;
    for (at, sign) in text.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

fn assert_at_most(found: &[String], most: usize, what: &str) {
    assert!(found.len() <= most, "{}: {}, at most {most}\n{}", what, found.len(), found.join("\n"));
}

#[test]
fn the_product_grows_no_larger() {
    let lines: usize = product().iter().map(|source| source.lines().count()).sum();
    assert!(lines <= LINES_MAX, "{lines} lines, at most {LINES_MAX}: remove before you add");
}

#[test]
fn a_type_name_is_defined_once() {
    let definition = pattern(r"\b(?:struct|enum|trait|type)\s+([A-Z]\w*)");
    let mut places = BTreeMap::<String, Vec<String>>::new();
    for source in product() {
        for found in definition.captures_iter(&code(&source)) {
            places.entry(found[1].to_owned()).or_default().push(source.path.display().to_string());
        }
    }
    places.retain(|name, places| places.len() > 1 && !SHARED_NAMES.contains(&name.as_str()));
    let found: Vec<_> = places.iter().map(|(name, in_)| format!("{name}: {in_:?}")).collect();
    assert_at_most(&found, NAMES_TWICE_MAX, "type names defined more than once");
}

#[test]
fn no_parameter_is_a_tuple() {
    let function = pattern(r"\bfn\s+(\w+)[^({;]*\(([^{;]*?)\)\s*(?:->|\{|where)");
    let tuple = pattern(r"(?:^|,)\s*(?:mut\s+)?(?:\([\w\s,]+\)|\w+)\s*:\s*&?(?:mut\s+)?\(");
    let found = product().into_iter().flat_map(|source| {
        let code = code(&source);
        let found: Vec<_> = function
            .captures_iter(&code)
            .filter(|found| tuple.is_match(&found[2]))
            .map(|found| format!("{}: fn {}", source.path.display(), &found[1]))
            .collect();
        found
    });
    let found: Vec<_> = found.collect();
    assert_at_most(&found, TUPLE_PARAMETERS_MAX, "functions with a tuple as a parameter");
}

#[test]
fn the_engine_is_no_blackboard() {
    let engine = pattern(r"\bimpl\s+(?:super::)*Engine\b");
    let open = pattern(r"(?m)^\s+pub(?:\(crate\))?\s+\w+\s*:");
    let (mut files, mut fields) = (Vec::new(), Vec::new());
    for source in product().iter().filter(|source| source.module == "engine") {
        let code = code(source);
        let name = source.path.display().to_string();
        files.extend(engine.is_match(&code).then(|| name.clone()));
        fields.extend(
            open.find_iter(&code).map(|found| format!("{name}: {}", found.as_str().trim())),
        );
    }
    assert_at_most(&files, ENGINE_FILES_MAX, "files with an impl of Engine");
    let shared: Vec<_> =
        fields.iter().filter(|field| field.contains("pub(crate)")).cloned().collect();
    assert_at_most(&shared, 0, "fields of the engine's machines that other modules may write");
    assert_at_most(&fields, OPEN_FIELDS_MAX, "fields of the engine that other files may write");
}

#[test]
fn no_struct_is_wider() {
    let definition = pattern(r"\bstruct\s+(\w+)[^{;(]*\{");
    let field = pattern(r"(?m)^\s*(?:pub(?:\([^)]*\))?\s+)?\w+\s*:");
    let mut found = Vec::new();
    for source in product() {
        let code = code(&source);
        for definition in definition.captures_iter(&code) {
            let body = within_braces(&code[definition.get(0).expect("all of it").end()..]);
            let count = field.find_iter(body).count();
            if count > FIELDS_MAX && !FLAT_TABLES.contains(&&definition[1]) {
                found.push(format!("{}: {} has {count}", source.path.display(), &definition[1]));
            }
        }
    }
    assert_at_most(&found, 0, "structs with more fields than the widest may have");
}

#[test]
fn every_path_on_the_map_is_there() {
    let path = pattern(r"`((?:src|tests|docs|config|migrations)/[\w./-]+)`");
    let pages =
        ["docs/architecture.md", "docs/adding-a-platform.md", "CONTRIBUTING.md", "src/lib.rs"];
    let mut lost = BTreeSet::new();
    for page in pages {
        let text = std::fs::read_to_string(root().join(page)).expect("read");
        let named = path.captures_iter(&text).map(|found| found[1].to_owned());
        let named = named.filter(|path| !path.contains("NAME") && !root().join(path).exists());
        lost.extend(named.map(|path| format!("{page} names {path}")));
    }
    assert!(lost.is_empty(), "{lost:#?}\ncure: name the file that has it");
}
