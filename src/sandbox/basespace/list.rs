//! Lists: filtered by the callers, sorted and paged here.

use serde_json::{Value, json};

use super::wire::{Call, Outcome, Refusal, Success};

const LIMIT_DEFAULT: usize = 10;
const LIMIT_MAX: usize = 1024;

/// Answers with a page of items, sorted by one of the keys; the first is the default.
pub(super) fn page<T>(
    call: &Call,
    mut items: Vec<T>,
    keys: &[&str],
    key_of: impl Fn(&T, &str) -> String,
    show: impl Fn(&T) -> Value,
) -> Outcome {
    let number = |name: &str, default: usize| match call.param(name) {
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| Refusal::bad_request(format!("The parameter {name} is not a number."))),
        None => Ok(default),
    };
    let (offset, limit) = (number("offset", 0)?, number("limit", LIMIT_DEFAULT)?.min(LIMIT_MAX));
    let first = keys.first().copied().unwrap_or("Id");
    let wish = call.param("sortby").unwrap_or(first);
    let Some(sort_by) = keys.iter().copied().find(|key| key.eq_ignore_ascii_case(wish)) else {
        return Err(Refusal::bad_request(format!("SortBy must be one of {}.", keys.join(", "))));
    };
    let is_descending = call.param("sortdir").is_some_and(|way| way.eq_ignore_ascii_case("desc"));
    // The input is sorted by id, and a stable sort keeps that among equals.
    if sort_by != "Id" {
        items.sort_by_cached_key(|item| key_of(item, sort_by));
    }
    if is_descending {
        items.reverse();
    }
    let shown: Vec<_> = items.iter().skip(offset).take(limit).map(show).collect();
    Success::new(
        200,
        json!({
            "DisplayedCount": shown.len(), "Items": shown, "TotalCount": items.len(),
            "Offset": offset, "Limit": limit, "SortBy": sort_by,
            "SortDir": if is_descending { "Desc" } else { "Asc" },
        }),
    )
}
