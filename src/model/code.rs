//! Codes: the closed list of what may want a person, each with its text and its cure.
//!
//! `doctor`, notices and docs/troubleshooting.md have them from here. A code is a word that programs may
//! compare; texts and cures are for people. Where a cure says `ID`, an upload's id belongs there.

use super::failure::ParkReason;
use super::file::IgnoreReason;
use super::notice::NoticeKind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Parked(ParkReason),
    /// A path is not uploaded.
    Ignored(IgnoreReason),
    Notice(NoticeKind),
    /// A channel does not accept notices.
    NoticesWaiting,
    /// The source of a run is not disposed of.
    DisposalHeld,
}

impl Code {
    /// Returns every code. Reasons that park and that ignore may share a word, and then share the cure.
    pub fn all() -> impl Iterator<Item = Self> {
        let parked = ParkReason::ALL.into_iter().map(Self::Parked);
        let ignored = IgnoreReason::ALL.into_iter().map(Self::Ignored);
        let notices = NoticeKind::all_told().map(Self::Notice);
        let others = [Self::NoticesWaiting, Self::DisposalHeld];
        parked.chain(ignored).chain(notices).chain(others)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked(reason) => reason.as_str(),
            Self::Ignored(reason) => reason.as_str(),
            Self::Notice(kind) => kind.as_str(),
            Self::NoticesWaiting => "notices-waiting",
            Self::DisposalHeld => "disposal-held",
        }
    }

    /// Says what it means.
    pub fn text(self) -> &'static str {
        match self {
            Self::Parked(reason) => reason.sentence(),
            Self::Ignored(reason) => reason.sentence(),
            Self::Notice(kind) => kind.sentence(),
            Self::NoticesWaiting => "notices wait for a channel that does not accept them",
            Self::DisposalHeld => "the source of a run is not disposed of",
        }
    }

    /// Says what to do about it, where there is something to do.
    pub fn cure(self) -> Option<&'static str> {
        match self {
            Self::Parked(reason) => Some(cure_of_parked(reason)),
            Self::Ignored(reason) => cure_of_ignored(reason),
            Self::Notice(kind) => cure_of_notice(kind),
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
            "look at the file there; take it away, or set when_name_taken = \"rename\" or \"overwrite\" \
             (when_changed, where it is an earlier version of the same file)"
        }
        ParkReason::PlaceTakenByOurs => {
            "tell the drop directories apart with {drop} in folder or prefix, or set \
             when_name_taken = \"rename\"; then: dropferry retry ID"
        }
        ParkReason::SourceMissing => "put the file back, or give the upload up",
        ParkReason::SourceUnreadable => "let the daemon's user read the file",
        ParkReason::Forbidden => {
            "give the credential's owner the right to write there, or use another credential"
        }
        ParkReason::TargetMissing => {
            "make the project, folder or bucket, or correct it in [destinations.NAME]"
        }
        ParkReason::BadRequest => "read the message: dropferry show ID; it names what is refused",
        ParkReason::TooLarge => "split the file, or send it to a platform that takes such sizes",
        ParkReason::NameNotAllowed => "rename the file",
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
