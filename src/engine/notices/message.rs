//! Messages to people, made from records and findings.

use crate::model::{
    Channel, DamagedLedger, DestinationName, DestinationState, DirectoryHealth, DirectoryName,
    Fact, LedgerFinding, LedgerPath, Notice, NoticeFacts, NoticeGroup, NoticeId, NoticeKind,
    NoticeNumber, Record, RunRow, SourcePath, Space, WallTime, WatchState,
};

/// A notice without id and channel.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) kind: NoticeKind,
    pub(super) group: NoticeGroup,
    pub(super) is_over: bool,
    pub(super) facts: NoticeFacts,
}

impl Message {
    fn new(kind: NoticeKind, parts: &[&str], is_over: bool, facts: NoticeFacts) -> Self {
        Self { kind, group: NoticeGroup::of(kind, parts), is_over, facts }
    }

    /// Builds the notice of a channel.
    pub(super) fn notice(
        &self,
        id: NoticeId,
        channel: &Channel,
        at: WallTime,
        due: WallTime,
    ) -> Notice {
        let Self { kind, group, is_over, facts } = self.clone();
        // The end of a period shows a start that it was reported.
        let until = facts.numbers.get(&NoticeNumber::Until).and_then(|at| i64::try_from(*at).ok());
        let at = until.map_or(at, WallTime);
        Notice { id, channel: channel.clone(), kind, group, is_over, facts, at, due }
    }

    /// Returns the conditions that begin or end by a record; it may end ones that never began.
    pub(super) fn conditions_in(record: &Record) -> Vec<Self> {
        if let Record::DirectoryHealth(health) = record {
            return Self::directory(health).into_iter().collect();
        }
        if let Record::Run(row) = record {
            let reason =
                row.reason.as_ref().filter(|_| row.is_stale).map(|reason| reason.text.as_str());
            return vec![Self::run(NoticeKind::RunStale, &row.drop, &row.name, reason)];
        }
        if let Record::DestinationHealth { destination, state, .. } = record {
            // After a start a destination is unknown until it has answered.
            let answers = match state {
                DestinationState::Unknown
                | DestinationState::Ok
                | DestinationState::Unreachable => false,
                DestinationState::Throttled | DestinationState::Halted => true,
            };
            let reached = answers.then(|| Self::unreachable(destination, None));
            return reached.into_iter().collect();
        }
        if let Record::LedgerAppended(written)
        | Record::Upload(_, Fact::ReceiptWritten { written, .. }) = record
        {
            let ledger =
                |damaged: &DamagedLedger| Self::ledger(&damaged.ledger, Some(&damaged.why));
            return written.damaged.iter().map(ledger).collect();
        }
        if let Record::LedgerChecked(LedgerFinding { ledger, damage }) = record {
            return vec![Self::ledger(ledger, damage.as_deref())];
        }
        Vec::new()
    }

    /// A ledger that is damaged, so that its next number continues it; or that is whole again.
    fn ledger(ledger: &LedgerPath, damage: Option<&str>) -> Self {
        let facts = NoticeFacts {
            name: ledger.to_string(),
            reason: damage.map(str::to_owned),
            ..NoticeFacts::default()
        };
        Self::new(NoticeKind::ReceiptsDamaged, &[ledger.as_str()], damage.is_none(), facts)
    }

    /// A drop directory that is unreadable; or readable again, once a scan has seen it.
    fn directory(health: &DirectoryHealth) -> Option<Self> {
        let is_deaf = health.watch == WatchState::Deaf;
        if !is_deaf && !health.is_scanned {
            return None;
        }
        let reason = || health.reason.clone().unwrap_or("it cannot be watched".into());
        let facts = NoticeFacts {
            drop: Some(health.drop.clone()),
            name: health.drop.to_string(),
            directory: Some(health.directory.clone()),
            reason: is_deaf.then(reason),
            ..NoticeFacts::default()
        };
        Some(Self::new(NoticeKind::Deaf, &[health.drop.as_str()], !is_deaf, facts))
    }

    /// A destination that refuses calls; without a reason, it accepts them again.
    pub(super) fn halted(name: &DestinationName, reason: Option<&str>) -> Self {
        Self::destination(NoticeKind::DestinationHalted, name, reason)
    }

    /// A destination that has been unreachable for long; without a reason, it is reachable again.
    pub(super) fn unreachable(name: &DestinationName, reason: Option<&str>) -> Self {
        Self::destination(NoticeKind::DestinationUnreachable, name, reason)
    }

    fn destination(kind: NoticeKind, name: &DestinationName, reason: Option<&str>) -> Self {
        let facts = NoticeFacts {
            name: name.to_string(),
            reason: reason.map(str::to_owned),
            ..NoticeFacts::default()
        };
        Self::new(kind, &[name.as_str()], reason.is_none(), facts)
    }

    /// A run that is stale, or not disposed of; without a reason, the condition has ended.
    pub(super) fn run(
        kind: NoticeKind,
        drop: &DirectoryName,
        run: &SourcePath,
        reason: Option<&str>,
    ) -> Self {
        let name = run.to_string();
        let group = NoticeGroup::of(kind, &[drop.as_str(), &name]);
        let (drop, is_over) = (Some(drop.clone()), reason.is_none());
        let reason = reason.map(str::to_owned);
        let facts = NoticeFacts { drop, name, reason, ..NoticeFacts::default() };
        Self { kind, group, is_over, facts }
    }

    /// A credential that expires soon; without a time, it does not.
    pub(super) fn credential(name: &DestinationName, expires_at: Option<WallTime>) -> Self {
        let mut facts = NoticeFacts { name: name.to_string(), ..NoticeFacts::default() };
        if let Some(at) = expires_at {
            facts = facts.with_time(NoticeNumber::ExpiresAt, at);
        }
        let kind = NoticeKind::CredentialExpiring;
        Self::new(kind, &[name.as_str()], expires_at.is_none(), facts)
    }

    /// The free space of a file system.
    pub(super) fn free_space(directory: &str, drop: Option<DirectoryName>, space: Space) -> Self {
        let (name, directory) = (directory.to_owned(), Some(directory.to_owned()));
        let facts = NoticeFacts { drop, name, directory, ..NoticeFacts::default() };
        let facts = facts.with(NoticeNumber::FreeBytes, space.free.0);
        let facts = facts.with(NoticeNumber::TotalBytes, space.total.0);
        let group = NoticeGroup::of(NoticeKind::DiskLow, &[&facts.name]);
        Self { kind: NoticeKind::DiskLow, group, is_over: false, facts }
    }

    /// A run, or a file that is a run of its own, that is complete at these destinations; `which`
    /// distinguishes its completions.
    pub(super) fn completed(row: &RunRow, destinations: &[DestinationName], which: &str) -> Self {
        let facts = NoticeFacts {
            drop: Some(row.drop.clone()),
            destinations: destinations.to_vec(),
            name: row.name.to_string(),
            outcome: row.outcome.clone(),
            detail: row.closed_by_hand.as_ref().map(ToString::to_string),
            ledger: row.completion.receipt.clone(),
            ..NoticeFacts::default()
        };
        let facts = facts
            .with(NoticeNumber::Files, row.files.count)
            .with(NoticeNumber::Bytes, row.files.size.0)
            .with(NoticeNumber::LateFiles, row.late_count())
            .with(NoticeNumber::Completions, u64::from(row.completion.generation))
            .with(NoticeNumber::GivenUp, row.files.given_up_count);
        let times = row.closed_at.zip(row.completion.at).filter(|(closed, there)| there >= closed);
        let facts = match times {
            Some((closed, there)) => {
                facts.with(NoticeNumber::SecondsToThere, closed.until(there).as_secs())
            }
            None => facts,
        };
        let kind = NoticeKind::RunCompleted;
        let group = NoticeGroup::of(kind, &[row.drop.as_str(), which, &facts.name]);
        Self { kind, group, is_over: false, facts }
    }

    /// The summary of a period.
    pub(super) fn report(facts: NoticeFacts) -> Self {
        let until = facts.number(NoticeNumber::Until).to_string();
        Self::new(NoticeKind::Report, &[&until], false, facts)
    }
}
