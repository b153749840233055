//! Codes: the closed list of conditions that may need a person, each with its text and its cure.
//!
//! `doctor`, notices and docs/troubleshooting.md use it. A code is a word for programs to compare;
//! texts and cures are for people. In a cure, `ID` stands for the id of an upload.

use super::failure::ParkReason;
use super::file::IgnoreReason;
use super::health::{DestinationState, WatchState};
use super::id::{DestinationName, UploadId};
use super::notice::NoticeKind;
use super::run::RunWait;
use super::words::words;

words! {
    /// Why an upload is not sent, or a place is not as it could be, while it continues by itself or by an order.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum WaitCode {
        Retrying = "retrying", "the last try failed";
        Paused = "paused", "an operator paused it";
        PlaceAwaited = "place-awaited", "another upload goes to the same place first";
        Throttled = "destination-throttled", "a destination asked for a pause, or its calls are spread over time";
        BandwidthStopped = "bandwidth-stopped", "the bandwidth is 0, by the timetable or by an order";
        Scanning = "scanning", "a drop directory is watched by scans alone";
        SourceChanged = "source-changed", "the source changed; the new version is an upload of its own";
        SourceGone = "source-gone", "the file was removed or moved before anything was sent";
        GivenUp = "given-up", "an operator gave the upload up";
    }
}

/// The reason for a state: for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub code: Code,
    pub text: String,
    /// The upload and its destination, where the reason is about one.
    pub upload: Option<UploadId>,
    pub destination: Option<DestinationName>,
}

impl Reason {
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), upload: None, destination: None }
    }

    /// Returns what to do about it, where there is something to do.
    pub fn cure(&self) -> Option<String> {
        let mut cure = self.code.cure()?.to_owned();
        if let Some(id) = self.upload {
            for verb in ["show", "retry", "abandon"] {
                cure = cure.replace(&format!("{verb} ID"), &format!("{verb} {id}"));
            }
        }
        if let Some(to) = &self.destination {
            cure = cure.replace("DESTINATION", to.as_str());
        }
        Some(cure)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Parked(ParkReason),
    /// A path is not uploaded.
    Ignored(IgnoreReason),
    Notice(NoticeKind),
    Wait(WaitCode),
    /// Why a run is not completed.
    Run(RunWait),
    /// A channel does not accept notices.
    NoticesWaiting,
    /// The source of a run is not disposed of.
    DisposalHeld,
    DatabaseDamaged,
    BackupFailed,
    /// One of several machines has sent no sign for long.
    HostSilent,
    /// The daemon on one of several machines does not run.
    NotRunning,
}

impl Code {
    /// Returns every code. A park reason and an ignore reason may share a word, and then share the cure.
    pub fn all() -> impl Iterator<Item = Self> {
        let parked = ParkReason::ALL.into_iter().map(Self::Parked);
        let ignored = IgnoreReason::ALL.into_iter().map(Self::Ignored);
        let notices = NoticeKind::all_told().map(Self::Notice);
        let waits = WaitCode::ALL.into_iter().map(Self::Wait);
        let runs = RunWait::ALL.into_iter().map(Self::Run);
        let others = [
            Self::NoticesWaiting,
            Self::DisposalHeld,
            Self::DatabaseDamaged,
            Self::BackupFailed,
            Self::HostSilent,
            Self::NotRunning,
        ];
        parked.chain(ignored).chain(notices).chain(waits).chain(runs).chain(others)
    }

    /// Returns the code of a destination's state, unless the state is that it accepts calls.
    pub fn of_destination(state: &str) -> Option<Self> {
        match DestinationState::parse(state)? {
            DestinationState::Ok | DestinationState::Unknown => None,
            DestinationState::Throttled => Some(Self::Wait(WaitCode::Throttled)),
            DestinationState::Unreachable => Some(Self::Notice(NoticeKind::DestinationUnreachable)),
            DestinationState::Halted => Some(Self::Notice(NoticeKind::DestinationHalted)),
        }
    }

    /// Returns the code for the reason beside a drop directory's watch state.
    pub fn of_watch(watch: &str) -> Option<Self> {
        match WatchState::parse(watch)? {
            // Here the reason names what is not visible in it.
            WatchState::Events => Some(Self::Ignored(IgnoreReason::DirectoryUnreadable)),
            WatchState::Scanning => Some(Self::Wait(WaitCode::Scanning)),
            WatchState::Deaf => Some(Self::Notice(NoticeKind::Deaf)),
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked(reason) => reason.as_str(),
            Self::Ignored(reason) => reason.as_str(),
            Self::Notice(kind) => kind.as_str(),
            Self::Wait(code) => code.as_str(),
            Self::Run(code) => code.as_str(),
            Self::NoticesWaiting => "notices-waiting",
            Self::DisposalHeld => "disposal-held",
            Self::DatabaseDamaged => "database-damaged",
            Self::BackupFailed => "backup-failed",
            Self::HostSilent => "host-silent",
            Self::NotRunning => "not-running",
        }
    }

    /// Returns what the code means.
    pub fn text(self) -> &'static str {
        match self {
            Self::Parked(reason) => reason.sentence(),
            Self::Ignored(reason) => reason.sentence(),
            Self::Notice(kind) => kind.sentence(),
            Self::NoticesWaiting => "notices wait for a channel that does not accept them",
            Self::DisposalHeld => "the source of a run is not disposed of",
            Self::Wait(code) => code.sentence(),
            Self::Run(code) => code.sentence(),
            Self::DatabaseDamaged => "the database is damaged",
            Self::BackupFailed => "the database was not backed up",
            Self::HostSilent => "nothing was heard of the machine",
            Self::NotRunning => "dropferry does not run there",
        }
    }

    /// Returns what to do about it, where there is something to do.
    pub fn cure(self) -> Option<&'static str> {
        match self {
            Self::Parked(reason) => Some(cure_of_parked(reason)),
            Self::Ignored(reason) => cure_of_ignored(reason),
            Self::Notice(kind) => cure_of_notice(kind),
            Self::Wait(code) => cure_of_wait(code),
            Self::Run(code) => cure_of_run(code),
            Self::DatabaseDamaged => {
                Some("stop the daemon and restore a backup, see docs/backup.md")
            }
            Self::BackupFailed => {
                Some("correct what the reason names; it is tried again by itself")
            }
            Self::HostSilent => Some(
                "see whether the machine is on and reached, and whether its status is collected",
            ),
            Self::NotRunning => Some("systemctl start dropferry, or: dropferry run"),
            Self::NoticesWaiting => {
                Some("mend the channel in [notify]; they are sent by themselves then")
            }
            Self::DisposalHeld => Some("mend what the reason names; it is tried again by itself"),
        }
    }
}

fn cure_of_parked(reason: ParkReason) -> &'static str {
    match reason {
        ParkReason::NameTaken => {
            "look at the file there. To send ours in its place: dropferry retry ID --overwrite; beside it: \
             --keep-both; always so: when_name_taken (when_changed, where it is an earlier version of \
             the same file). To leave it: dropferry abandon ID"
        }
        ParkReason::PlaceTakenByOurs => {
            "to send it under another name: dropferry retry ID --keep-both; for all: tell the drop \
             directories apart with {drop} in folder or prefix, or set when_name_taken = \"rename\""
        }
        ParkReason::SourceMissing => {
            "put the file back, or give the upload up: dropferry abandon ID"
        }
        ParkReason::SourceUnreadable => "let the daemon's user read the file",
        ParkReason::Forbidden => {
            "give the credential's owner the right to write there, or use another credential"
        }
        ParkReason::TargetMissing => {
            "make the project, folder or bucket, or correct it in [destinations.NAME]"
        }
        ParkReason::BadRequest => {
            "dropferry show ID has the platform's message: correct the key, name or size that it names"
        }
        ParkReason::TooLarge => "split the file, or send it to a platform that takes such sizes",
        ParkReason::NameNotAllowed => {
            "shorten the path of the file, or the folder or prefix in [destinations.NAME]"
        }
        ParkReason::PartCorrupt => {
            "read the message: dropferry show ID. Something on the way or there changes bytes: look at \
             network cards, proxies, memory and the storage, then retry"
        }
        ParkReason::NoProgress => {
            "read the message: dropferry show ID; correct what it names there, or on the way there, \
             then retry"
        }
        ParkReason::CompleteRefused => {
            "read the message: dropferry show ID; ask the platform's support with its request id"
        }
        ParkReason::SizeDiffers | ParkReason::ContentDiffers => {
            "do not use the file there: take it away, so that it can be sent again"
        }
        ParkReason::CompletionUnknown => {
            "look whether the file is there, whole; if it is not, the upload may be retried"
        }
        ParkReason::ExportRefused => {
            "look at the job: dropferry exports; correct the volume's credentials or the prefix"
        }
        ParkReason::Quota => "make room there, or have the quota raised or the bill paid",
        ParkReason::RestartedTooOften => {
            "ask the platform's support why it loses uploads: dropferry show ID has the request ids"
        }
        ParkReason::NotConfigured => {
            "put the drop or the destination back into the configuration, or give the upload up"
        }
        ParkReason::CannotBeStored => {
            "dropferry show ID names the value; correct the file or the platform it comes from, then retry"
        }
        ParkReason::Bug => "please report it with the log",
    }
}

fn cure_of_ignored(reason: IgnoreReason) -> Option<&'static str> {
    match reason {
        IgnoreReason::LinkOutside | IgnoreReason::LinkBroken => {
            Some("put the file there instead of the link")
        }
        IgnoreReason::DirectoryUnreadable => Some("let the daemon's user read the directory"),
        IgnoreReason::PathTooLong => Some("give the directories above it shorter names"),
        IgnoreReason::HardLink => {
            Some("copy the file there instead, or give it to the owner of the directory")
        }
        IgnoreReason::CannotBeStored => Some(cure_of_parked(ParkReason::CannotBeStored)),
        IgnoreReason::Filtered => Some("correct include and exclude, if it is to be uploaded"),
        IgnoreReason::ByProfile | IgnoreReason::LeftOver => {
            Some("name it in include, if it is to be uploaded")
        }
        IgnoreReason::NameInUse => Some("give the directory another name"),
        IgnoreReason::LinkToDirectory
        | IgnoreReason::Socket
        | IgnoreReason::Fifo
        | IgnoreReason::Device
        | IgnoreReason::Moved => None,
    }
}

fn cure_of_wait(code: WaitCode) -> Option<&'static str> {
    match code {
        WaitCode::Paused => Some("dropferry resume --all, or what was paused"),
        WaitCode::Retrying => {
            Some("nothing: it is tried again by itself; at once: dropferry retry ID")
        }
        WaitCode::Throttled => {
            Some("nothing: it goes on by itself; at once: dropferry retry DESTINATION")
        }
        WaitCode::BandwidthStopped => Some(
            "by [transfer] it goes on by itself; where an order stopped it: dropferry bandwidth unlimited",
        ),
        WaitCode::PlaceAwaited
        | WaitCode::Scanning
        | WaitCode::SourceChanged
        | WaitCode::SourceGone
        | WaitCode::GivenUp => None,
    }
}

fn cure_of_run(code: RunWait) -> Option<&'static str> {
    match code {
        RunWait::ManifestIncomplete => {
            Some("bring the files that are listed, or close the run by hand: dropferry close RUN")
        }
        RunWait::MarkerMissing => Some(
            "nothing while the instrument writes; else bring the marker, or: dropferry close RUN",
        ),
        RunWait::Unread => Some("let the daemon's user read what the reason names"),
        RunWait::StillChanging => Some(
            "nothing while the instrument writes; else end the program that writes to that file, or leave \
             the file out: exclude",
        ),
        RunWait::CopyOf => Some(
            "nothing while it is moved: it goes on under its first name once only this directory is left; \
             else take one of the two away",
        ),
        RunWait::Unnamed | RunWait::CameLate | RunWait::LeftOut => None,
    }
}

fn cure_of_notice(kind: NoticeKind) -> Option<&'static str> {
    match kind {
        NoticeKind::RunCompleted | NoticeKind::Replaced | NoticeKind::Report | NoticeKind::Test => {
            None
        }
        NoticeKind::RunStale => Some(
            "Has the instrument stopped, or a copy broken off? The reason names what the run waits for: \
             bring it, or take the run away. It is closed by itself when that is there.",
        ),
        NoticeKind::Parked => Some(
            "They wait until someone acts. `dropferry show ID` says what happened to the first, and \
             `dropferry status` lists all that are parked.",
        ),
        NoticeKind::UploadStuck => Some(
            "They are still tried, at least once an hour. `dropferry show ID` says what happened to the \
             first: a disk that fails, a share that hangs, a bucket that is not there, a quota.",
        ),
        NoticeKind::Deaf => Some(
            "Files that arrive there are not seen until it is readable again. Is its share mounted, \
             and may the daemon read it?",
        ),
        NoticeKind::DestinationHalted => Some(
            "Nothing is sent there until it accepts our calls again. Mostly its credential is to be \
             replaced; the file is read again by itself.",
        ),
        NoticeKind::DestinationUnreachable => {
            Some("Nothing is lost: what waits is sent when it answers again.")
        }
        NoticeKind::DiskLow => Some("Make room there before it is full."),
        NoticeKind::CredentialExpiring => {
            Some("Replace it in time: the file is read again by itself.")
        }
        NoticeKind::ReceiptsDamaged => Some(
            "Nothing of the run is moved or deleted here. Restore the ledger from a backup of receipts/ \
             and restart the daemon; `dropferry receipts --check` says where it does not hold.",
        ),
        NoticeKind::GoneAtDestination => Some(
            "Nothing of the run is moved or deleted here. `dropferry verify` asks the destination \
             about each file; bring the files back there, or set disposition = \"keep\".",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_document_lists_every_code_as_it_is() {
        let document = include_str!("../../docs/troubleshooting.md");
        let (_, table) =
            document.split_once("\n| code | what it means | cure |\n").expect("a table");
        let row = |code: Code| {
            let cure = code.cure().unwrap_or("–");
            format!("| `{}` | {} | {cure} |", code.as_str(), code.text())
        };
        let wanted: Vec<_> = Code::all().map(row).collect();
        let found: Vec<_> =
            table.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
        assert_eq!(found, wanted, "the table is:\n{}", wanted.join("\n"));
    }

    #[test]
    fn one_word_has_one_cure() {
        let mut cures = BTreeMap::new();
        for code in Code::all() {
            let known = cures.insert(code.as_str(), code.cure());
            assert!(known.is_none_or(|known| known == code.cure()), "{}", code.as_str());
        }
    }
}
