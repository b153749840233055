//! Orphans: unfinished uploads at a destination that no row needs.
//!
//! No platform stores a readable mark of ours with an unfinished upload, so only its id proves that
//! it is ours: a row names it whose upload has ended, or it was queued for removal and the platform
//! confirmed that. Only such a one is removed, on request, and never a recent one. One that no row
//! knows may belong to anybody, and is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use super::LIMIT;
use super::lines::{CheckState, Checks};
use crate::cli::render;
use crate::config::{Config, Destination};
use crate::model::{
    DestinationName, OpenUpload, RemoteUploadId, Shown, Target, UploadId, WallTime,
};
use crate::platform::contract::SharedPlatform;
use crate::store::snapshot::{Ownership, Snapshot};
use crate::store::{Error, Kind};

/// Limit of orphans shown for each destination.
const SHOWN_MAX: usize = 20;

/// What to do with orphans.
pub(super) struct Wish {
    pub(super) abort: bool,
    pub(super) yes: bool,
    pub(super) older_than: Duration,
}

/// The classification of an unfinished upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OrphanVerdict {
    /// A row needs it, or may: it is not reported.
    Needed,
    /// It is ours, and not needed.
    Ours,
    /// It is ours, and too recent to be sure that it is not needed.
    Young,
    /// No row knows it.
    Unknown,
}

pub(super) async fn check(
    config: &Config,
    clients: &[(DestinationName, SharedPlatform)],
    wish: &Wish,
    now: WallTime,
) -> Checks {
    let mut checks = Checks::of("orphans");
    for (target, (_, client)) in config.destinations.iter().zip(clients) {
        let name = target.name.as_str();
        let below = fixed_part(&target.folder);
        let listed = match tokio::time::timeout(LIMIT, client.list_open(below)).await {
            Ok(Ok(Some(listed))) => listed,
            Ok(Ok(None)) => {
                checks.ok(name, "the platform lists no unfinished uploads: none can be looked for");
                continue;
            }
            Ok(Err(failure)) => {
                checks.warn(name, format!("they cannot be looked for: {failure}"), {
                    "see the lines of the destination"
                });
                continue;
            }
            Err(_) => {
                let found = format!("no list of them within {} s", LIMIT.as_secs());
                checks.warn(name, found, "ask again when less is going on");
                continue;
            }
        };
        match judge_all(&config.state_directory, target, &listed, wish.older_than, now) {
            Err(error) => checks.add(name, CheckState::Warn, error.to_string(), error.hint()),
            Ok(verdicts) => {
                let found = OrphansFound { target, client, listed: &listed, verdicts, now };
                found.tell(&mut checks, wish);
                if wish.abort {
                    found.abort(&mut checks, config, wish).await;
                }
            }
        }
    }
    checks
}

/// The part of a folder's template that is the same for every file.
fn fixed_part(folder: &str) -> &str {
    let end = folder.find('{').unwrap_or(folder.len());
    folder[..end].trim_start_matches('/')
}

/// Classifies the listed uploads by rows that were read after the list, so that a listed one cannot
/// have a row that came too late.
fn judge_all(
    state: &Path,
    target: &Destination,
    listed: &[OpenUpload],
    older_than: Duration,
    now: WallTime,
) -> Result<Vec<OrphanVerdict>, Error> {
    let ids: BTreeSet<_> = listed.iter().map(|upload| upload.id.clone()).collect();
    let (owners, beginning) = match Snapshot::open(state) {
        Ok(rows) => (rows.owners(&target.name, &ids)?, rows.beginning(&target.name)?),
        // Without rows nothing is known to be ours.
        Err(error) if error.kind == Kind::Missing => (BTreeMap::new(), Vec::new()),
        Err(error) => return Err(error),
    };
    let judge = |upload: &OpenUpload| judge(upload, &owners, &beginning, older_than, now);
    Ok(listed.iter().map(judge).collect())
}

fn judge(
    upload: &OpenUpload,
    owners: &BTreeMap<RemoteUploadId, Ownership>,
    beginning: &[(UploadId, Target)],
    older_than: Duration,
    now: WallTime,
) -> OrphanVerdict {
    let is_named = |target: &Target| upload.place.rsplit('/').next() == Some(target.name());
    match owners.get(&upload.id) {
        Some(Ownership::Upload(_) | Ownership::Queued | Ownership::Elsewhere) => {
            OrphanVerdict::Needed
        }
        Some(Ownership::Ended) => match upload.begun_at {
            Some(at) if at.after(older_than) <= now => OrphanVerdict::Ours,
            Some(_) | None => OrphanVerdict::Young,
        },
        // It may be the one whose id is not in a row yet.
        None if beginning.iter().any(|(_, target)| is_named(target)) => OrphanVerdict::Needed,
        None => OrphanVerdict::Unknown,
    }
}

struct OrphansFound<'a> {
    target: &'a Destination,
    client: &'a SharedPlatform,
    listed: &'a [OpenUpload],
    verdicts: Vec<OrphanVerdict>,
    now: WallTime,
}

impl OrphansFound<'_> {
    fn with(&self, verdict: OrphanVerdict) -> impl Iterator<Item = &OpenUpload> {
        let both = self.listed.iter().zip(&self.verdicts);
        both.filter(move |(_, found)| **found == verdict).map(|(upload, _)| upload)
    }

    fn shown(&self, upload: &OpenUpload) -> String {
        let age = upload.begun_at.map_or("at an unknown time".to_owned(), |at| {
            format!("{} ago", render::duration(at.until(self.now).as_secs()))
        });
        let size = upload.size.map_or(String::new(), |size| format!(", {size}"));
        format!("{} of {:?}, begun {age}{size}", Shown(upload.id.as_str()), upload.place)
    }

    fn tell(&self, checks: &mut Checks, wish: &Wish) {
        let name = self.target.name.as_str();
        let needed = self.with(OrphanVerdict::Needed).count();
        if needed == self.listed.len() {
            let found = format!("{needed} uploads are unfinished there, none without an owner");
            return checks.ok(name, found);
        }
        if !wish.abort {
            for upload in self.with(OrphanVerdict::Ours).take(SHOWN_MAX) {
                let found = format!("{}: ours, and nothing needs it", self.shown(upload));
                checks.warn(name, found, "dropferry doctor --abort-orphans");
            }
        }
        for upload in self.with(OrphanVerdict::Young).take(SHOWN_MAX) {
            let found = format!("{}: ours, and too young to be removed", self.shown(upload));
            checks.ok(name, found);
        }
        for upload in self.with(OrphanVerdict::Unknown).take(SHOWN_MAX) {
            let found = format!("{}: not provably ours, left alone", self.shown(upload));
            let cure = "if it is not needed, remove it with the platform's own tools";
            let is_old = upload.begun_at.is_some_and(|at| at.after(wish.older_than) <= self.now);
            let state = if is_old { CheckState::Warn } else { CheckState::Ok };
            checks.add(name, state, found, Some(cure.to_owned()).filter(|_| is_old));
        }
        let more = [OrphanVerdict::Ours, OrphanVerdict::Young, OrphanVerdict::Unknown]
            .map(|v| self.with(v).count());
        let more: usize = more.iter().map(|count| count.saturating_sub(SHOWN_MAX)).sum();
        if more > 0 {
            checks.ok(name, format!("and {more} more"));
        }
    }

    async fn abort(&self, checks: &mut Checks, config: &Config, wish: &Wish) {
        let name = self.target.name.as_str();
        let ours: Vec<_> = self.with(OrphanVerdict::Ours).cloned().collect();
        if ours.is_empty() {
            return checks.ok(name, "there is nothing to remove");
        }
        if !wish.yes && !self.may_remove(&ours) {
            return checks
                .ok(name, format!("{} unfinished uploads are left as they are", ours.len()));
        }
        // Answers may have taken long: the rows are read again.
        let state = &config.state_directory;
        let verdicts = judge_all(state, self.target, &ours, wish.older_than, self.now);
        let Ok(verdicts) = verdicts else {
            return checks.warn(name, "the rows cannot be read again", "ask again");
        };
        let both = ours.iter().zip(verdicts);
        for (upload, _) in both.filter(|(_, verdict)| *verdict == OrphanVerdict::Ours) {
            let shown = self.shown(upload);
            match tokio::time::timeout(LIMIT, self.client.abort(&upload.id)).await {
                Ok(Ok(())) => checks.ok(name, format!("{shown}: ours, removed")),
                Ok(Err(failure)) => checks.fail(
                    name,
                    format!("{shown}: ours, and cannot be removed: {failure}"),
                    "remove it with the platform's own tools",
                ),
                Err(_) => checks.fail(
                    name,
                    format!("{shown}: whether it was removed was not said in time"),
                    "ask again",
                ),
            }
        }
    }

    fn may_remove(&self, ours: &[OpenUpload]) -> bool {
        for upload in ours {
            render::talk(&format!("{}: {}", self.target.name, self.shown(upload)));
        }
        render::talk(&format!("remove these {} unfinished uploads? [y/N]", ours.len()));
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "yes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(10_000_000_000_000);
    const HOUR: Duration = Duration::from_hours(1);

    fn open(id: &str, begun_at: Option<WallTime>) -> OpenUpload {
        let id = RemoteUploadId::new(id);
        OpenUpload { id, place: "runs/run1/a.bam".into(), size: None, begun_at }
    }

    #[test]
    fn only_what_a_row_knows_to_have_ended_is_ours_to_remove() {
        let old = Some(WallTime(0));
        let target = |name: &str| Target::new(["run1"], name);
        let beginning = [(UploadId(3), target("a.bam"))];
        let known = |ownership| BTreeMap::from([(RemoteUploadId::new("u"), ownership)]);
        let verdict = |ownership, begun_at| {
            judge(&open("u", begun_at), &known(ownership), &beginning, HOUR, NOW)
        };
        assert_eq!(verdict(Ownership::Ended, old), OrphanVerdict::Ours);
        assert_eq!(verdict(Ownership::Ended, Some(NOW)), OrphanVerdict::Young);
        assert_eq!(verdict(Ownership::Ended, None), OrphanVerdict::Young, "its age is not known");
        let needed = [Ownership::Upload(UploadId(1)), Ownership::Queued, Ownership::Elsewhere];
        for ownership in needed {
            assert_eq!(verdict(ownership, old), OrphanVerdict::Needed, "{ownership:?}");
        }
        let unknown = |beginning: &[_]| {
            judge(&open("u", old), &BTreeMap::new(), beginning, Duration::ZERO, NOW)
        };
        assert_eq!(unknown(&beginning), OrphanVerdict::Needed, "it may be the one being begun");
        assert_eq!(unknown(&[(UploadId(3), target("b.bam"))]), OrphanVerdict::Unknown);
    }

    #[test]
    fn a_list_is_asked_for_below_what_is_the_same_for_all_files() {
        assert_eq!(fixed_part("/runs/{drop}/x"), "runs/");
        assert_eq!(fixed_part("runs"), "runs");
        assert_eq!(fixed_part(""), "");
    }
}
