//! Parses a table in spite of wrong keys, so that one pass finds all of them.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, meant_key};
use super::sources::Sources;

/// Limit of wrong keys, more than a person reads at once.
const WRONG_MAX: usize = 50;

/// The problems of keys.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    pub(super) problems: Vec<Problem>,
    /// The refused keys, with their tables, and those that were meant: that they are missing is no
    /// second problem.
    pub(super) refused: BTreeSet<String>,
}

/// Parses a table without its wrong keys. `place` is the name of the table and a dot, `more` are
/// additional allowed keys.
///
/// # Errors
/// When it cannot be parsed even so.
pub(super) fn read<'a, T: Deserialize<'a>>(
    sources: &Sources,
    table: &mut DeTable<'a>,
    place: &str,
    more: &[&str],
) -> Result<(T, Wrong), Vec<Problem>> {
    let mut wrong = Wrong::default();
    loop {
        let whole = toml::Deserializer::from(Spanned::new(0..0, table.clone()));
        let error = match T::deserialize(whole) {
            Ok(value) => return Ok((value, wrong)),
            Err(error) => error,
        };
        wrong.problems.push(sources.syntax(&error, more));
        let key = error.span().and_then(|span| take_out(table, &span, place));
        let Some(key) = key.filter(|_| wrong.problems.len() < WRONG_MAX) else {
            return Err(wrong.problems);
        };
        if let Some(meant) = meant_key(&error, more) {
            let table = key.rsplit_once('.').map_or("", |(table, _)| table);
            let dot = if table.is_empty() { "" } else { "." };
            wrong.refused.insert(format!("{table}{dot}{meant}"));
        }
        wrong.refused.insert(key);
    }
}

/// Removes the key from its table, found by its own position or that of its value; returns it with its tables.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>, place: &str) -> Option<String> {
    let is_there = |item: &Spanned<DeValue<'_>>| item.span() == *span;
    let found = table.iter().find(|(key, value)| {
        let items = value.get_ref().as_array();
        let is_item = items.is_some_and(|items| items.iter().any(is_there));
        key.span() == *span || is_there(value) || is_item
    });
    if let Some(key) = found.map(|(key, _)| key.get_ref().to_string()) {
        table.remove(key.as_str());
        return Some(format!("{place}{key}"));
    }
    table.iter_mut().find_map(|(key, value)| {
        let place = format!("{place}{}.", key.get_ref());
        match value.get_mut() {
            DeValue::Table(inner) => take_out(inner, span, &place),
            DeValue::Array(items) => items.iter_mut().find_map(|item| {
                let DeValue::Table(inner) = item.get_mut() else { return None };
                take_out(inner, span, &place)
            }),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => None,
        }
    })
}
