//! Files: begun, received whole or in parts, completed, aborted, shown.

use std::collections::BTreeMap;

use axum::body::Body;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt, Limited};
use serde_json::json;

use super::calls::Sandbox;
use super::list;
use super::wire::{self, Call, Outcome, Refusal, Route, Success};
use super::world::{File, FileStatus, Lag, World, etag_of};
use crate::sandbox::digits::unhex;
use crate::sandbox::stand::lock;
use crate::sandbox::storage::{self, StoredPart};
use crate::sandbox::{Shared, unix_time};

const PART_MAX: u64 = 26_214_400;
const PARTS_MAX: u32 = 10_000;
/// Limit of bytes of a refused call that are read before its answer.
const READ_MAX: usize = 64 * 1024 * 1024;

/// Reads the bytes of a refused call, so that its answer is received.
pub(super) async fn discard(shared: &Shared, route: Route, content: Body) {
    let mut content = content;
    let mut length = 0;
    while length < READ_MAX as u64 {
        let Some(Ok(frame)) = content.frame().await else { break };
        length += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    if let Route::Put(file, part) = route {
        lock(&shared.basespace).ledger.arrived(&file.to_string(), part, length, false);
    }
}

/// Creates a pending file from the parameters of a call.
fn begin(state: &mut Sandbox, call: &Call, app_result: u64) -> Result<File, Refusal> {
    state.world.check_running(app_result)?;
    let operation = call.route().operation();
    let name = call.param("name").unwrap_or_default();
    if name.is_empty() || name.contains('/') {
        state.ledger.breach(format!("{operation}: the name {name:?} is not allowed"));
        return Err(Refusal::bad_request("Name is required, and must not have a slash."));
    }
    let directory = call.param("directory").unwrap_or_default().trim_matches('/');
    let path = if directory.is_empty() { name.into() } else { format!("{directory}/{name}") };
    state.ledger.begun_count += 1;
    Ok(File {
        id: state.world.new_file_id(),
        app_result,
        name: name.to_owned(),
        path,
        content_type: call.header("content-type").unwrap_or("application/octet-stream").to_owned(),
        status: FileStatus::Pending,
        is_single: matches!(call.route(), Route::Single(_)),
        stored: BTreeMap::new(),
        created_at: unix_time(),
        modified_at: unix_time(),
        lag: Lag { before: None, reads_left: state.switches.basespace.replica_lag_reads },
    })
}

/// Begins a file of parts.
pub(super) fn initiate(state: &mut Sandbox, call: &Call, app_result: u64) -> Outcome {
    let file = begin(state, call, app_result)?;
    let shown = state.world.show_file(&file, &state.switches);
    state.world.files.insert(file.id, file);
    Success::new(200, shown)
}

/// Returns the location for arriving bytes.
fn new_place(shared: &Shared, file: u64, part: u32) -> storage::Place {
    let unique = lock(&shared.basespace).new_id(16);
    shared.settings.place(&format!("basespace-{file}-{part}-{unique}"))
}

fn content_md5(stored: &StoredPart) -> String {
    BASE64_STANDARD.encode(unhex(&stored.sent_md5))
}

/// Removes unused bytes.
fn remove(stored: &StoredPart) {
    std::fs::remove_file(&stored.path).ok();
}

/// Receives a file in one call.
pub(super) async fn single(
    shared: &Shared,
    call: &Call,
    app_result: u64,
    content: Body,
) -> Outcome {
    let begun = begin(&mut lock(&shared.basespace), call, app_result);
    let mut file = match begun {
        Ok(file) => file,
        Err(refusal) => {
            discard(shared, call.route(), content).await;
            return Err(refusal);
        }
    };
    let book = file.id.to_string();
    let place = new_place(shared, file.id, 1);
    let gone = |length| lock(&shared.basespace).ledger.arrived(&book, 1, length, false);
    let received = storage::receive(&place, content, gone).await;
    let mut state = lock(&shared.basespace);
    let stored = match received {
        Ok(stored) => stored,
        Err(torn) => {
            state.ledger.arrived(&book, 1, torn.length, false);
            return Err(Refusal::bad_request("The body ended too early."));
        }
    };
    if let Err(refusal) = check_single(&mut state, call, &file, &stored) {
        state.ledger.arrived(&book, 1, stored.length, false);
        remove(&stored);
        return Err(refusal);
    }
    state.ledger.arrived(&book, 1, stored.length, true);
    file.stored.insert(1, stored);
    file.status = FileStatus::Complete;
    file.modified_at = unix_time();
    let shown = state.world.show_file(&file, &state.switches);
    state.world.files.insert(file.id, file);
    Success::new(201, shown)
}

fn check_single(
    state: &mut Sandbox,
    call: &Call,
    file: &File,
    stored: &StoredPart,
) -> Result<(), Refusal> {
    // Whether the vendor checks it here is not known; that it was wrong is recorded.
    if call.header("content-md5").is_some_and(|sent| sent.trim() != content_md5(stored)) {
        state.ledger.breach("single: Content-MD5 is not that of the body");
    }
    state.world.check_running(file.app_result)?;
    if stored.length == 0 && state.switches.basespace.zero_byte_refused {
        return Err(Refusal::bad_request("A file must not be empty."));
    }
    check_path(state, file)
}

fn check_path(state: &Sandbox, file: &File) -> Result<(), Refusal> {
    let is_refused = state.switches.basespace.duplicate_path_refused;
    match is_refused && state.world.is_taken(file.app_result, &file.path) {
        true => Err(Refusal::conflict("A file of this path exists.")),
        false => Ok(()),
    }
}

fn find(world: &World, id: u64) -> Result<&File, Refusal> {
    world.files.get(&id).ok_or_else(|| Refusal::denied("File"))
}

fn check_pending(file: &File) -> Result<(), Refusal> {
    match file.status {
        FileStatus::Pending => Ok(()),
        FileStatus::Complete => Err(Refusal::conflict("The file is complete.")),
        FileStatus::Aborted => Err(aborted()),
    }
}

fn aborted() -> Refusal {
    Refusal::conflict("The upload was aborted.")
}

pub(super) async fn put(
    shared: &Shared,
    call: &Call,
    id: u64,
    part: u32,
    content: Body,
) -> Outcome {
    let checked = check_put(&mut lock(&shared.basespace), call, id, part);
    if let Err(refusal) = checked {
        discard(shared, call.route(), content).await;
        return Err(refusal);
    }
    let place = new_place(shared, id, part);
    let book = id.to_string();
    let gone = |length| lock(&shared.basespace).ledger.arrived(&book, part, length, false);
    let content = Body::new(Limited::new(content, READ_MAX));
    let received = storage::receive(&place, content, gone).await;
    let mut state = lock(&shared.basespace);
    let stored = match received {
        Ok(stored) => stored,
        Err(torn) => {
            state.ledger.arrived(&book, part, torn.length, false);
            std::fs::remove_file(&place.path).ok();
            return Err(match torn.length > PART_MAX {
                true => too_large(&mut state),
                false => Refusal::bad_request("The body ended too early."),
            });
        }
    };
    if let Err(refusal) = check_arrived(&mut state, call, id, &stored) {
        state.ledger.arrived(&book, part, stored.length, false);
        remove(&stored);
        return Err(refusal);
    }
    state.ledger.arrived(&book, part, stored.length, true);
    let mut shown = json!({"Number": part, "Size": stored.length});
    if let Some(etag) = etag_of(&stored.md5, &state.switches) {
        shown["ETag"] = json!(etag);
    }
    let file = state.world.files.get_mut(&id).ok_or_else(|| Refusal::denied("File"))?;
    if let Some(old) = file.stored.insert(part, stored) {
        remove(&old);
    }
    Success::new(200, shown)
}

/// Checks before the bytes arrive.
fn check_put(state: &mut Sandbox, call: &Call, id: u64, part: u32) -> Result<(), Refusal> {
    if call.header("content-md5").is_none() {
        state.ledger.breach("put: sent without Content-MD5");
    }
    if call.content_length().is_none() {
        state.ledger.breach("put: sent without its length");
    }
    check_pending(find(&state.world, id)?)?;
    if !(1..=PARTS_MAX).contains(&part) {
        state.ledger.breach(format!("put: {} is no part from 1 to {PARTS_MAX}", call.path));
        return Err(Refusal::bad_request("The number of a part is from 1 to 10000."));
    }
    match call.content_length().is_some_and(|length| length > PART_MAX) {
        true => Err(too_large(state)),
        false => Ok(()),
    }
}

fn too_large(state: &mut Sandbox) -> Refusal {
    state.ledger.breach(format!("put: a part has more than {PART_MAX} bytes"));
    Refusal::too_large()
}

/// Checks after the bytes arrived; the file may have changed meanwhile.
fn check_arrived(
    state: &mut Sandbox,
    call: &Call,
    id: u64,
    stored: &StoredPart,
) -> Result<(), Refusal> {
    check_pending(find(&state.world, id)?)?;
    if stored.length > PART_MAX {
        return Err(too_large(state));
    }
    match call.header("content-md5").is_some_and(|sent| sent.trim() != content_md5(stored)) {
        true => Err(Refusal::bad_request("Content-MD5 is not that of the part.")),
        false => Ok(()),
    }
}

/// Lists the parts of a pending file.
pub(super) fn list_parts(state: &Sandbox, call: &Call, id: u64) -> Outcome {
    if !state.switches.basespace.parts_listed {
        return Err(Refusal::no_route());
    }
    let file = find(&state.world, id)?;
    check_pending(file)?;
    let show = |(number, part): &(&u32, &StoredPart)| {
        let mut shown = json!({"Number": number, "Size": part.length});
        if let Some(etag) = etag_of(&part.md5, &state.switches) {
            shown["ETag"] = json!(etag);
        }
        shown
    };
    // Parts are ordered only by their numbers.
    list::page(call, file.stored.iter().collect(), &["Id"], |_, _| String::new(), show)
}

/// Puts the parts together.
pub(super) fn complete(shared: &Shared, id: u64) -> Outcome {
    let mut state = lock(&shared.basespace);
    let state = &mut *state;
    let file = find(&state.world, id)?;
    state.world.check_running(file.app_result)?;
    match file.status {
        FileStatus::Complete => {
            return Success::new(201, state.world.show_file(file, &state.switches));
        }
        FileStatus::Pending => {}
        FileStatus::Aborted => return Err(aborted()),
    }
    if let Err(why) = check_parts(shared.settings.part_size_min, file) {
        state.ledger.breach(format!("complete: {why}"));
        return Err(Refusal::bad_request(format!("The upload is not complete: {why}.")));
    }
    if let Some(missing) = find_gap(file) {
        state.ledger.breach(format!("complete: part {missing} is missing"));
        if state.switches.basespace.gap_refused {
            return Err(Refusal::bad_request(format!("Part {missing} is missing.")));
        }
    }
    check_path(state, file)?;
    change(state, id, 201, FileStatus::Complete)
}

fn check_parts(part_size_min: u64, file: &File) -> Result<(), String> {
    let Some((last, _)) = file.stored.last_key_value() else { return Err("no part".into()) };
    let is_small =
        |(number, part): &(&u32, &StoredPart)| *number != last && part.length < part_size_min;
    match file.stored.iter().find(is_small) {
        Some((number, part)) => Err(format!("part {number} has only {} bytes", part.length)),
        None => Ok(()),
    }
}

fn find_gap(file: &File) -> Option<u32> {
    let expected = 1..;
    expected.zip(file.stored.keys()).find(|(expected, known)| expected != *known).map(|(n, _)| n)
}

/// Sets the final status of a file.
fn change(state: &mut Sandbox, id: u64, status: u16, becomes: FileStatus) -> Outcome {
    let before = state.world.show_file(find(&state.world, id)?, &state.switches);
    let reads_left = state.switches.basespace.replica_lag_reads;
    let file = state.world.files.get_mut(&id).ok_or_else(|| Refusal::denied("File"))?;
    file.lag = Lag { before: Some(before), reads_left };
    file.status = becomes;
    file.modified_at = unix_time();
    if becomes == FileStatus::Aborted {
        file.stored.values().for_each(remove);
        file.stored.clear();
    }
    Success::new(status, state.world.show_file(find(&state.world, id)?, &state.switches))
}

/// Aborts a pending file.
pub(super) fn abort(state: &mut Sandbox, id: u64) -> Outcome {
    check_pending(find(&state.world, id)?)?;
    change(state, id, 200, FileStatus::Aborted)
}

/// Shows a file, or a replica's stale state of it.
pub(super) fn show(state: &mut Sandbox, id: u64) -> Outcome {
    let file = state.world.files.get_mut(&id).ok_or_else(|| Refusal::denied("File"))?;
    if file.lag.reads_left > 0 {
        file.lag.reads_left -= 1;
        let before = file.lag.before.clone().ok_or_else(|| Refusal::denied("File"))?;
        return Success::new(200, before);
    }
    Success::new(200, state.world.show_file(find(&state.world, id)?, &state.switches))
}

/// Lists the complete files of an AppResult.
pub(super) fn list_files(state: &Sandbox, call: &Call, app_result: u64) -> Outcome {
    state.world.status_of(app_result)?;
    let directory = call.param("directory").unwrap_or_default().trim_matches('/');
    let extensions = call.param("extensions").unwrap_or_default();
    let is_below = |file: &File| {
        let rest = file.path.strip_prefix(directory);
        directory.is_empty() || rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let is_kind = |file: &File| {
        extensions.is_empty() || extensions.split(',').any(|end| file.name.ends_with(end.trim()))
    };
    let fits = |file: &&File| {
        file.app_result == app_result
            && file.status == FileStatus::Complete
            && is_below(file)
            && is_kind(file)
    };
    let found = state.world.files.values().filter(fits).collect();
    let key_of = |file: &&File, key: &str| match key {
        "Path" => file.path.clone(),
        _ => wire::date(file.created_at),
    };
    let show = |file: &&File| file.show(&state.switches);
    list::page(call, found, &["Id", "Path", "DateCreated"], key_of, show)
}
