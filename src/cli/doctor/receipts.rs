//! Receipts: each as it was written, by the digest in its row.

use std::path::Path;

use super::lines::Checks;
use crate::receipt;
use crate::store::snapshot::Snapshot;

/// Receipts that are read at most; a report should come within seconds.
const READ_MAX: u64 = 20_000;
/// Damaged receipts that are named; the others are counted.
const SHOWN: usize = 3;

/// What was found so far.
#[derive(Default)]
struct ReceiptsFound {
    count: u64,
    damage: Vec<String>,
    damaged_count: u64,
}

impl ReceiptsFound {
    fn add(&mut self, damage: impl FnOnce() -> Option<String>) {
        self.count += 1;
        if self.count > READ_MAX {
            return;
        }
        let damage = damage();
        self.damaged_count += u64::from(damage.is_some());
        self.damage.extend(damage.filter(|_| self.damage.len() < SHOWN));
    }
}

pub(super) fn check(state: &Path) -> Checks {
    let mut checks = Checks::of("receipts");
    match read(state) {
        Err(error) => checks.warn("all", format!("{error:#}"), "see the lines of the database"),
        Ok(found) if found.damaged_count > 0 => {
            let (named, count) = (found.damage.join("; "), found.damaged_count);
            let more = if count > SHOWN as u64 { "; and more" } else { "" };
            let text = format!("{count} do not hold: {named}{more}");
            let cure = "restore them from a backup of the state directory; nothing of their runs is \
                moved or deleted until then";
            checks.fail("all", text, cure);
        }
        Ok(found) if found.count > READ_MAX => {
            let text = format!(
                "{READ_MAX} of {} were read and are as they were written; `dropferry receipts` reads all",
                found.count
            );
            checks.ok("all", text);
        }
        Ok(found) => checks.ok("all", format!("{} are as they were written", found.count)),
    }
    checks
}

fn read(state: &Path) -> anyhow::Result<ReceiptsFound> {
    let snapshot = Snapshot::open(state)?;
    let mut found = ReceiptsFound::default();
    for run in snapshot.receipted_runs()? {
        found.add(|| receipt::run_damage(state, &run));
    }
    snapshot.receipted_files(None, &mut |file| {
        found.add(|| receipt::file_damage(state, &file));
        Ok(())
    })?;
    Ok(found)
}
