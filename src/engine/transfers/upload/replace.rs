//! Replaces an earlier version by a newer one, where the platform replaces no file in one step.
//!
//! The newer file is sent, completed, described and verified under a name of its own. Then, each
//! step durable before its act:
//!
//! | step | act | killed after the act, before its record |
//! |---|---|---|
//! | beside | the name is looked up: is the file still the earlier version? | looked up again |
//! | aside | the earlier file gets another name | it gets that name again |
//! | in, alone | the newer file gets the name | it gets that name again |
//! | out | the earlier file is removed | a missing file counts as removed |
//!
//! Files are identified by their ids, so a repeated act changes no other file. At every moment one
//! of the two is complete and in place. Any other file there is never renamed and never removed:
//! the upload parks, with the newer file beside it.

use super::answer::{AnswerContext, Decision, Tried};
use super::{Step, Upload};
use crate::model::{
    Fact, Failure, FailureKind, Now, ParkReason, RemoteFile, RenameStep, Stage, Supersession,
    Target,
};

/// Longest name at the platforms that rename files, in characters.
const NAME_MAX: usize = 255;

impl Upload {
    /// Returns where its file is created: beside the earlier version that it replaces by renaming.
    pub(crate) fn target_to_begin(&self) -> Target {
        let target = &self.admission.target;
        match self.state.rename_step() {
            Some(_) => target.with_name(&self.name_beside("newer")),
            None => target.clone(),
        }
    }

    /// Returns a name that no other upload uses, and with another ending than the file's own, so
    /// that searches by file type do not find it.
    fn name_beside(&self, what: &str) -> String {
        let end = format!(".{}.{what}", self.token());
        let length = NAME_MAX.saturating_sub(end.chars().count());
        self.admission.target.name().chars().take(length).collect::<String>() + &end
    }

    /// Returns whether it is verified, and has replaced the earlier version of its file.
    pub(crate) fn has_replaced(&self) -> bool {
        let is_verified = matches!(self.state.stage, Stage::Verified { .. });
        is_verified && self.state.supersedes.as_ref().is_some_and(|by| by.renames.is_none())
    }

    /// Returns the next step of the replacement.
    pub(super) fn replacing_step(&self, newer: &RemoteFile) -> Option<Step> {
        let by = self.state.supersedes.as_ref()?;
        let earlier = by.earlier.file.clone();
        Some(match by.renames? {
            RenameStep::Beside => Step::Locate,
            RenameStep::Aside => Step::Rename(earlier, self.name_beside("earlier")),
            RenameStep::In | RenameStep::Alone => {
                Step::Rename(newer.id.clone(), self.admission.target.name().to_owned())
            }
            RenameStep::Out => Step::Remove(earlier),
        })
    }

    fn advance(&self, renames: Option<RenameStep>, name: Option<String>) -> Decision {
        let Some(by) = self.state.supersedes.as_deref() else { return Decision::NONE };
        let by = Some(Supersession { renames, ..by.clone() });
        Decision::fact(Fact::Superseding { by, name })
    }

    /// The name was looked up after the newer file was verified.
    pub(super) fn on_standing(&self, found: Option<&RemoteFile>, now: Now) -> Decision {
        let is_earlier = |file: &RemoteFile| {
            self.state.supersedes.as_ref().is_some_and(|by| by.earlier.is(file))
        };
        match found {
            Some(file) if is_earlier(file) => self.advance(Some(RenameStep::Aside), None),
            Some(file) => self.park_beside(&format!("file {}", file.id), now),
            None => self.advance(Some(RenameStep::Alone), None),
        }
    }

    pub(super) fn on_renamed(&mut self, is_there: bool, context: AnswerContext<'_>) -> Decision {
        let name = || Some(self.admission.target.name().to_owned());
        match self.state.rename_step() {
            Some(RenameStep::Aside) => self.advance(Some(RenameStep::In), None),
            Some(RenameStep::In) if is_there => self.advance(Some(RenameStep::Out), name()),
            Some(RenameStep::Alone) if is_there => self.advance(None, name()),
            Some(RenameStep::In | RenameStep::Alone) => {
                let message = "the newer version is not at the destination any more";
                let failure = Failure::new(FailureKind::NotFound, message);
                self.on_failed(failure, Tried::plain("rename"), context)
            }
            Some(RenameStep::Beside | RenameStep::Out) | None => Decision::NONE,
        }
    }

    pub(super) fn on_removed(&self) -> Decision {
        match self.state.rename_step() {
            Some(RenameStep::Out) => self.advance(None, None),
            Some(RenameStep::Beside | RenameStep::Aside | RenameStep::In | RenameStep::Alone)
            | None => Decision::NONE,
        }
    }

    /// A file of someone else has the name.
    pub(super) fn park_beside(&self, other: &str, now: Now) -> Decision {
        let detail = format!(
            "{other} took the name of the version of this file that upload {} sent; the newer one is \
             {} beside it",
            self.state.supersedes.as_ref().map_or(0, |by| by.earlier.upload.0),
            self.name_beside("newer"),
        );
        Decision::park(ParkReason::NameTaken, detail, now.wall)
    }
}
