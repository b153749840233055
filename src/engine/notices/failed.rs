//! Files that notices list: those that parked in a turn or have failed for long, and those that
//! changed after they were sent.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use super::message::Message;
use crate::engine::transfers::Upload;
use crate::engine::turn::Turn;
use crate::model::{
    Admission, ByteCount, DestinationName, DirectoryName, Fact, FailedAttempts, Monotonic,
    NoticeFacts, NoticeGroup, NoticeItem, NoticeKind, NoticeNumber, Now, Record, SourcePath,
    UploadId, WallTime,
};

/// Interval of reminders while an upload is stuck.
const REMINDER: Duration = Duration::from_hours(24);

/// What a record does not contain about its upload.
#[derive(Debug)]
pub(in crate::engine) struct FailingUpload {
    pub(super) drop: DirectoryName,
    pub(super) destination: DestinationName,
    pub(super) path: SourcePath,
    pub(super) size: ByteCount,
    pub(super) failed: FailedAttempts,
    /// It has replaced an earlier version of its file.
    pub(super) replaces_earlier: bool,
    /// It has another name, because an earlier version could not be replaced.
    pub(super) is_beside_earlier: bool,
}

impl FailingUpload {
    pub(in crate::engine) fn of(upload: &Upload) -> Self {
        let admission = upload.admission();
        Self {
            drop: admission.file.drop.clone(),
            destination: admission.destination.clone(),
            path: admission.file.path.clone(),
            size: admission.file.fingerprint.size,
            failed: upload.state().failed,
            replaces_earlier: upload.has_replaced(),
            is_beside_earlier: upload.is_beside_earlier(),
        }
    }
}

/// Uploads that were notified as stuck: since when they are, and when that was.
#[derive(Debug, Default)]
pub(super) struct Stuck(BTreeMap<UploadId, (WallTime, Monotonic)>);

impl Stuck {
    /// Returns one message for each group of files that failed in a turn; uploads that have failed
    /// for `stuck_after` are stuck.
    pub(super) fn failed_in(
        &mut self,
        turn: &Turn,
        stuck_after: Duration,
        upload: impl Fn(UploadId) -> Option<FailingUpload>,
    ) -> Vec<Message> {
        let mut failed = BTreeMap::new();
        for record in turn.records() {
            let Some(one) = self.failed_by(record, stuck_after, turn.now(), &upload) else {
                continue;
            };
            match failed.entry(one.group.clone()) {
                Entry::Vacant(entry) => drop(entry.insert(one)),
                Entry::Occupied(mut entry) => {
                    let message: &mut Message = entry.get_mut();
                    message.facts.append(&one.facts);
                }
            }
        }
        failed.into_values().collect()
    }

    /// Returns the file that a record parks, shows to be stuck, or lets replace an earlier version.
    fn failed_by(
        &mut self,
        record: &Record,
        stuck_after: Duration,
        now: Now,
        upload: &impl Fn(UploadId) -> Option<FailingUpload>,
    ) -> Option<Message> {
        if let Record::Admit(admission) = record {
            let reason = admission.parked?;
            let parked = FailingUpload::from(&**admission);
            let text = (reason.as_str(), reason.sentence());
            return Some(parked.message(NoticeKind::Parked, admission.id, text.0, text.1));
        }
        let Record::Upload(id, fact) = record else { return None };
        if let Fact::Parked { reason, detail, .. } = fact {
            let parked = upload(*id)?;
            return Some(parked.message(NoticeKind::Parked, *id, reason.as_str(), detail));
        }
        let is_replaced = matches!(fact, Fact::Verified { .. } | Fact::Superseding { .. });
        if is_replaced || matches!(fact, Fact::Renamed { .. }) {
            let is_news = |one: &FailingUpload| {
                if is_replaced { one.replaces_earlier } else { one.is_beside_earlier }
            };
            let newer = upload(*id).filter(is_news)?;
            let reason = if is_replaced { "replaced" } else { "kept-both" };
            return Some(newer.message(NoticeKind::Replaced, *id, reason, ""));
        }
        let Fact::AttemptFailed { failure, retry_at: Some(retry_at), .. } = fact else {
            return None;
        };
        let stuck = upload(*id)?;
        let since = stuck.failed.in_vain_since()?;
        let waited = since.until(*retry_at);
        let is_known = self.0.get(id).is_some_and(|(known, notified)| {
            *known == since && now.monotonic.since(*notified) < REMINDER
        });
        if waited < stuck_after || is_known {
            return None;
        }
        let since_of = |id| upload(id).and_then(|upload| upload.failed.in_vain_since());
        self.0.retain(|id, (known, _)| since_of(*id) == Some(*known));
        self.0.insert(*id, (since, now.monotonic));
        let (word, text) = (failure.kind.as_str(), &failure.message);
        Some(stuck.message(NoticeKind::UploadStuck, *id, word, text))
    }
}

impl FailingUpload {
    fn message(self, kind: NoticeKind, id: UploadId, reason: &str, detail: &str) -> Message {
        let Self { drop, destination, path, size, .. } = self;
        let group = NoticeGroup::of(kind, &[drop.as_str(), destination.as_str(), reason]);
        let (upload, name) = (Some(id), path.to_string());
        let item =
            NoticeItem { upload, drop: drop.clone(), name: name.clone(), file_count: 1, size };
        let facts = NoticeFacts {
            drop: Some(drop),
            destinations: vec![destination],
            name,
            reason: Some(reason.to_owned()),
            detail: Some(detail.to_owned()),
            items: vec![item],
            ..NoticeFacts::default()
        };
        let facts = facts.with(NoticeNumber::Count, 1).with(NoticeNumber::Bytes, size.0);
        Message { kind, group, is_over: false, facts }
    }
}

impl From<&Admission> for FailingUpload {
    fn from(admission: &Admission) -> Self {
        Self {
            drop: admission.file.drop.clone(),
            destination: admission.destination.clone(),
            path: admission.file.path.clone(),
            size: admission.file.fingerprint.size,
            failed: FailedAttempts::default(),
            replaces_earlier: false,
            is_beside_earlier: false,
        }
    }
}
