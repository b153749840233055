//! Complete: the conditions under which parts become a file.

use serde_json::{Value, json};

use super::calls::{Call, Outcome, Sandbox};
use super::world::{Phase, Refusal, Upload};
use super::{EtagForm, Switches};
use crate::sandbox::Shared;

/// Creates a file from the parts of an upload.
pub(super) fn complete(shared: &Shared, state: &mut Sandbox, call: &Call) -> Outcome {
    let is_partial_allowed = match call.field("allowPartialComplete") {
        Some(Value::Bool(is_allowed)) => *is_allowed,
        Some(_) => return Err(Refusal::new(400, "allowPartialComplete must be a boolean")),
        None => {
            state.ledger.breach("complete: sent without allowPartialComplete");
            true
        }
    };
    let key = call.request_key()?;
    let switches = &state.switches.gjirafa_vp;
    let upload = state.world.multipart(key)?;
    match upload.phase {
        Phase::Open => {}
        Phase::Completed if switches.complete_twice == 200 => return Ok(json!(true)),
        Phase::Completed => {
            return Err(Refusal::new(switches.complete_twice, "The upload is completed"));
        }
        Phase::Aborted => {
            state.ledger.breach("complete: after abort");
            return Err(Refusal::new(400, "The upload is aborted"));
        }
    }
    let sent = match read(call).and_then(|sent| check(shared, switches, upload, sent)) {
        Ok(sent) => sent,
        Err(why) => {
            state.ledger.breach(format!("complete: {why}"));
            return Err(Refusal::new(400, why));
        }
    };
    let is_partial = u32::try_from(sent.len()).ok() != upload.parts_number;
    if is_partial && !is_partial_allowed {
        return Err(Refusal::new(400, "Not all parts are uploaded"));
    }
    let sum: u64 = sent.iter().map(|number| upload.parts[number].stored.length).sum();
    if switches.check_length && upload.length.is_some_and(|length| length != sum) {
        return Err(Refusal::new(400, "The parts do not add up to contentLength"));
    }
    if switches.soft_fail {
        return Err(Refusal::new(200, "The upload could not be completed"));
    }
    upload.parts.retain(|number, _| sent.contains(number));
    upload.phase = Phase::Completed;
    if is_partial {
        state.ledger.breach("complete: partial");
        state.ledger.call("partial-complete");
    }
    Ok(json!(true))
}

/// Parses numbers and ETags.
fn read(call: &Call) -> Result<Vec<(u32, &str)>, String> {
    let parts = call.field("parts").and_then(Value::as_array).ok_or("parts is required")?;
    let mut sent = Vec::with_capacity(parts.len());
    for part in parts {
        let number = part.get("partNumber").and_then(Value::as_u64);
        let number = number.and_then(|number| u32::try_from(number).ok());
        let etag = part.get("eTag").and_then(Value::as_str);
        let (Some(number), Some(etag)) = (number, etag) else {
            return Err("a part without its number or eTag".into());
        };
        sent.push((number, etag));
    }
    Ok(sent)
}

/// Returns the numbers of the parts, if the storage accepts them.
fn check(
    shared: &Shared,
    switches: &Switches,
    upload: &Upload,
    sent: Vec<(u32, &str)>,
) -> Result<Vec<u32>, String> {
    let Some((last, _)) = sent.last().copied() else { return Err("no parts".into()) };
    if !sent.is_sorted_by(|(one, _), (other, _)| one < other) {
        return Err("the parts are not in ascending order".into());
    }
    for (number, etag) in &sent {
        let Some(part) = upload.parts.get(number) else {
            return Err(format!("part {number} is not stored"));
        };
        let bare = etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"'));
        let is_form_right = match switches.etag_form {
            EtagForm::Any => true,
            EtagForm::Quoted => bare.is_some(),
            EtagForm::Bare => bare.is_none(),
        };
        if !is_form_right || bare.unwrap_or(etag) != part.etag {
            return Err(format!("part {number} has another eTag"));
        }
        let length = part.stored.length;
        if *number != last && length < shared.settings.part_size_min {
            return Err(format!("part {number} has only {length} bytes"));
        }
    }
    Ok(sent.into_iter().map(|(number, _)| number).collect())
}
