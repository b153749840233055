//! The name of an upload at its destination: the file there, its owner, and what follows.

use super::answer::{AnswerContext, Decision};
use super::life::Doubt;
use super::{Step, Upload};
use crate::engine::plan;
use crate::engine::settings::DestinationSettings;
use crate::model::remote::ContentMark;
use crate::model::{
    ByteCount, ChangePolicy, ETag, EarlierVersion, Fact, Hold, NameDecision, NamePolicy, Now,
    ParkReason, PlaceFound, PlaceHolder, RemoteFile, RenameStep, Replaces, Stage, Supersession,
};

/// Names tried under the policy `rename`.
const RENAME_MAX: u32 = 100;

/// What is known about the file under the name of an upload.
#[derive(Debug, Clone)]
pub(super) struct NameMemory {
    /// A file with that name, to be compared.
    found: Option<RemoteFile>,
    owner: Owner,
    /// An upload of ours made or found a file there since the start.
    is_filled: bool,
    /// The platform refused to begin because the name is taken.
    is_refused: bool,
    /// A file with that name exists, and its owner must be found before anything is sent.
    is_met: bool,
    /// A damaged file of this upload is there, with this ETag.
    damaged: Option<ETag>,
    version: u32,
    /// An earlier version of its file keeps the name, although it was to be replaced.
    is_beside: bool,
}

/// What the rows say about the source of the file under the name of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    Unknown,
    NoneOfOurs,
    Ours(Box<PlaceHolder>),
    /// The same source left a version of itself there, unless the file was replaced since.
    Itself(Box<EarlierVersion>, Presence),
}

/// Whether the source of an earlier version existed all the time since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Unbroken,
    /// It was disposed of, or its path was seen empty.
    Broken,
}

impl NameMemory {
    pub(super) const fn new() -> Self {
        Self {
            found: None,
            owner: Owner::Unknown,
            is_filled: false,
            is_refused: false,
            is_met: false,
            damaged: None,
            version: 1,
            is_beside: false,
        }
    }

    pub(super) fn forget_owner(&mut self) {
        (self.owner, self.found) = (Owner::Unknown, None);
    }

    pub(super) fn accepted(&mut self) {
        self.is_refused = false;
    }

    /// Returns whether a begin was refused for this name, and clears that.
    pub(super) fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.is_refused)
    }

    pub(super) fn damaged(&mut self, etag: ETag) {
        self.damaged = Some(etag);
    }

    fn is_ours(&self) -> bool {
        matches!(self.owner, Owner::Ours(_))
    }

    fn holder(&self) -> Option<PlaceHolder> {
        if let Owner::Ours(holder) = &self.owner { Some((**holder).clone()) } else { None }
    }

    /// Returns the earlier version, if the found file is that.
    fn earlier(&self, found: &RemoteFile) -> Option<(EarlierVersion, Presence)> {
        match &self.owner {
            Owner::Itself(earlier, presence) if earlier.is(found) => {
                Some(((**earlier).clone(), *presence))
            }
            Owner::Unknown | Owner::NoneOfOurs | Owner::Ours(_) | Owner::Itself(..) => None,
        }
    }

    /// Returns whether the name must be looked up before anything is sent.
    pub(super) fn must_be_located(&self) -> bool {
        self.is_met || matches!(self.owner, Owner::Ours(_) | Owner::Itself(..))
    }
}

impl Upload {
    /// Returns the policy for a taken name: the operator's decision for this upload, else the configured
    /// one.
    fn name_policy(&self, settings: &DestinationSettings) -> NamePolicy {
        match self.admission.decision {
            Some(NameDecision::Overwrite) => NamePolicy::Overwrite,
            Some(NameDecision::KeepBoth) => NamePolicy::Rename,
            None => settings.policies.taken,
        }
    }

    /// Returns the policy for an earlier version of the same file. A sentinel describes the present state of its
    /// run: it replaces the one before.
    fn change_policy(&self, context: AnswerContext<'_>) -> ChangePolicy {
        match self.admission.decision {
            _ if self.admission.file.is_sentinel => ChangePolicy::Replace,
            Some(NameDecision::Overwrite) => ChangePolicy::Replace,
            Some(NameDecision::KeepBoth) => ChangePolicy::KeepBoth,
            None => context.destination.map_or(ChangePolicy::Park, |to| to.policies.changed),
        }
    }

    /// Returns whether it is parked for a reason that this decision ends. Of two files of ours
    /// neither replaces the other.
    pub(crate) fn waits_for(&self, decision: NameDecision) -> bool {
        let Hold::Parked { reason } = self.state.hold else { return false };
        match decision {
            NameDecision::Overwrite => reason == ParkReason::NameTaken,
            NameDecision::KeepBoth => {
                matches!(reason, ParkReason::NameTaken | ParkReason::PlaceTakenByOurs)
            }
        }
    }

    fn policy(&self, context: AnswerContext<'_>) -> NamePolicy {
        context.destination.map_or(NamePolicy::Park, |to| self.name_policy(to))
    }

    /// Returns whether the file under its name is replaced: never one of another source of ours.
    pub(crate) fn replaces(&self, settings: &DestinationSettings) -> bool {
        self.name_policy(settings) == NamePolicy::Overwrite
            && !self.life.name.is_ours()
            && self.state.supersedes.is_none()
    }

    /// Returns the ETag of the file to replace: a damaged one of this upload, else the earlier
    /// version of its source.
    pub(crate) fn replaced_file(&self) -> Option<&ETag> {
        let earlier = || {
            let by = self.state.supersedes.as_ref().filter(|by| by.renames.is_none());
            by?.earlier.etag.as_ref()
        };
        self.life.name.damaged.as_ref().or_else(earlier)
    }

    /// Returns whether it got another name because an earlier version could not be replaced.
    pub(crate) fn is_beside_earlier(&self) -> bool {
        self.life.name.is_beside && self.life.name.version == 2
    }

    pub(crate) fn fill_place(&mut self) {
        self.life.name.is_filled = true;
    }

    /// Returns whether the owner of a file under its name must be known: before that is replaced,
    /// and once one was found.
    pub(super) fn asks_for_owner(&self, to: &DestinationSettings) -> bool {
        let name = &self.life.name;
        self.state.stage == Stage::Queued
            && name.owner == Owner::Unknown
            && (name.is_filled || name.found.is_some() || to.traits.has_places && self.replaces(to))
    }

    pub(super) fn locate(&self) -> Step {
        match self.life.name.found.as_ref().and_then(|file| file.mark) {
            Some(mark) => Step::HashFile(mark),
            None => Step::Locate,
        }
    }

    pub(super) fn on_located(
        &mut self,
        found: Option<RemoteFile>,
        context: AnswerContext<'_>,
    ) -> Decision {
        if self.state.is_renaming() {
            return self.on_standing(found.as_ref(), context.now);
        }
        self.life.name.damaged = None;
        let Some(file) = found else {
            let decision = self.go_ahead();
            return self.beside_none(decision);
        };
        // A file that this upload made is not someone else's: equal content counts, other content is damage.
        if let Some(maker) = file.maker.as_ref().filter(|maker| maker.token == self.token()) {
            if file.size == Some(self.size()) && file.mark.is_some() {
                return self.compare(file);
            }
            return self.replace_own(&file, maker.etag.clone(), context);
        }
        // The owner is found first, and then this runs again.
        if self.life.name.owner == Owner::Unknown {
            return self.compare(file);
        }
        if let Some(holder) = self.life.name.holder() {
            return self.meet_ours(file, &holder, context);
        }
        if self.life.name.earlier(&file).is_some() {
            return self.meet_earlier(file, context);
        }
        let decision = self.meet_stranger(file, context);
        self.beside_none(decision)
    }

    fn meet_stranger(&mut self, file: RemoteFile, context: AnswerContext<'_>) -> Decision {
        match self.policy(context) {
            NamePolicy::Overwrite => self.go_ahead(),
            NamePolicy::Rename => self.rename(context.now),
            // An equal length proves equality only when it is zero, and then whatever a digest says.
            NamePolicy::SkipIfSame if file.size == Some(ByteCount(0)) && self.size().0 == 0 => {
                Decision::present(file, context.now)
            }
            NamePolicy::SkipIfSame if file.size == Some(self.size()) && file.mark.is_some() => {
                self.compare(file)
            }
            NamePolicy::SkipIfSame | NamePolicy::Park => {
                Decision::park(ParkReason::NameTaken, name_taken(&file), context.now.wall)
            }
        }
    }

    /// The earlier version that was to be replaced does not exist any more.
    fn beside_none(&self, decision: Decision) -> Decision {
        match self.state.supersedes {
            Some(_) => decision.after(Fact::Superseding { by: None, name: None }),
            None => decision,
        }
    }

    /// An earlier version of the same file exists. Equal content is complete.
    fn meet_earlier(&mut self, file: RemoteFile, context: AnswerContext<'_>) -> Decision {
        if file.size == Some(self.size()) {
            if self.size().0 == 0 {
                return Decision::present(file, context.now);
            }
            if file.mark.is_some() {
                return self.compare(file);
            }
        }
        self.follow_earlier(&file, context)
    }

    /// Decides about an earlier version with other content. It is replaced only where the platform
    /// does that safely, and where its source has existed ever since; an empty file replaces none.
    fn follow_earlier(&mut self, file: &RemoteFile, context: AnswerContext<'_>) -> Decision {
        let now = context.now;
        let Some((earlier, presence)) = self.life.name.earlier(file) else { return Decision::NONE };
        let policy = self.change_policy(context);
        let renames = match context.traits().map(|traits| traits.replaces) {
            // Without one, it cannot be checked that the file is still there when it is overwritten.
            Some(Replaces::ByETag)
                if file.etag.as_ref().is_some_and(|etag| !etag.as_str().is_empty()) =>
            {
                Some(None)
            }
            Some(Replaces::ByRenaming) => Some(Some(RenameStep::Beside)),
            Some(Replaces::ByETag | Replaces::Never) | None => None,
        };
        let is_safe = presence == Presence::Unbroken && self.size().0 > 0;
        match policy {
            ChangePolicy::Replace if let Some(renames) = renames.filter(|_| is_safe) => {
                self.life.doubt = Doubt::None;
                let earlier = EarlierVersion { etag: file.etag.clone(), ..earlier };
                let by = Supersession { earlier, renames };
                if self.state.supersedes.as_deref() == Some(&by) {
                    return Decision::NONE;
                }
                Decision::fact(Fact::Superseding { by: Some(by), name: None })
            }
            ChangePolicy::Replace | ChangePolicy::KeepBoth => {
                self.life.name.is_beside = policy == ChangePolicy::Replace;
                self.rename(now)
            }
            ChangePolicy::Park => {
                let detail = format!(
                    "file {} is the version of this file that upload {} sent",
                    file.id, earlier.upload
                );
                Decision::park(ParkReason::NameTaken, detail, now.wall)
            }
        }
    }

    fn go_ahead(&mut self) -> Decision {
        self.life.doubt = Doubt::None;
        Decision::NONE
    }

    fn compare(&mut self, file: RemoteFile) -> Decision {
        self.life.name.found = Some(file);
        Decision::NONE
    }

    /// A damaged file of this upload, or one of another content that its source had, is replaced while it is still
    /// that one. Where none can be, it is an earlier version that keeps its name.
    fn replace_own(
        &mut self,
        file: &RemoteFile,
        etag: ETag,
        context: AnswerContext<'_>,
    ) -> Decision {
        if context.traits().is_none_or(|traits| traits.replaces != Replaces::Never) {
            self.life.name.damaged(etag);
            return self.go_ahead();
        }
        match self.change_policy(context) {
            policy @ (ChangePolicy::Replace | ChangePolicy::KeepBoth) => {
                self.life.name.is_beside = policy == ChangePolicy::Replace;
                self.rename(context.now)
            }
            ChangePolicy::Park => {
                let detail = format!("file {} is another content of this very file", file.id);
                Decision::park(ParkReason::NameTaken, detail, context.now.wall)
            }
        }
    }

    pub(super) fn on_holder_found(
        &mut self,
        found: PlaceFound,
        context: AnswerContext<'_>,
    ) -> Decision {
        if self.state.stage != Stage::Queued {
            return Decision::NONE;
        }
        let presence = if found.was_absent { Presence::Broken } else { Presence::Unbroken };
        let name = &mut self.life.name;
        name.owner = match (found.other, found.earlier) {
            (Some(holder), _) => Owner::Ours(Box::new(holder)),
            (None, Some(earlier)) => Owner::Itself(Box::new(earlier), presence),
            (None, None) => Owner::NoneOfOurs,
        };
        match name.found.take() {
            Some(file) => self.on_located(Some(file), context),
            None => Decision::NONE,
        }
    }

    /// A file of another source of ours has our name: it is never replaced. Equal content is
    /// complete.
    fn meet_ours(
        &mut self,
        file: RemoteFile,
        holder: &PlaceHolder,
        context: AnswerContext<'_>,
    ) -> Decision {
        if file.size == Some(self.size()) {
            if self.size().0 == 0 {
                return Decision::present(file, context.now);
            }
            if file.mark.is_some() {
                return self.compare(file);
            }
        }
        self.differ_from_ours(holder, context)
    }

    fn differ_from_ours(&mut self, holder: &PlaceHolder, context: AnswerContext<'_>) -> Decision {
        if self.policy(context) == NamePolicy::Rename {
            return self.rename(context.now);
        }
        let own = &self.admission;
        let PlaceHolder { upload, source } = holder;
        let detail = format!(
            "upload {upload} of {source} holds {}, and {}/{} is another file",
            own.target.path(),
            own.file.drop,
            own.file.path,
        );
        Decision::park(ParkReason::PlaceTakenByOurs, detail, context.now.wall)
    }

    fn rename(&mut self, now: Now) -> Decision {
        let version = &mut self.life.name.version;
        *version += 1;
        if *version > RENAME_MAX {
            return Decision::park(ParkReason::NameTaken, "a hundred names are taken", now.wall);
        }
        let original = plan::readable(self.admission.file.path.file_name());
        Decision::fact(Fact::Renamed { name: plan::next_name(&original, *version) })
    }

    /// The source was read in the layout of the file at the destination.
    pub(super) fn on_file_hashed(
        &mut self,
        mark: ContentMark,
        context: AnswerContext<'_>,
    ) -> Decision {
        let holder = self.life.name.holder();
        match self.life.name.found.take() {
            Some(file) if file.mark == Some(mark) => Decision::present(file, context.now),
            Some(file) if file.maker.as_ref().is_some_and(|maker| maker.token == self.token()) => {
                let etag = file.maker.as_ref().map(|maker| maker.etag.clone());
                etag.map_or(Decision::NONE, |etag| self.replace_own(&file, etag, context))
            }
            Some(file) if self.life.name.earlier(&file).is_some() => {
                self.follow_earlier(&file, context)
            }
            Some(file) => match holder {
                Some(holder) => self.differ_from_ours(&holder, context),
                None => Decision::park(ParkReason::NameTaken, name_taken(&file), context.now.wall),
            },
            None => Decision::NONE,
        }
    }

    pub(super) fn on_name_taken(&mut self, now: Now) -> Decision {
        let name = &mut self.life.name;
        (name.is_met, name.damaged) = (true, None);
        match self.state.stage {
            Stage::Sending { .. } | Stage::Completing { .. } => {
                return self.remove_and_start_over(now);
            }
            Stage::Queued => self.life.doubt = Doubt::Ask,
            Stage::Beginning { .. } => self.life.name.is_refused = true,
            Stage::Verified { .. } if self.state.is_renaming() => {
                return self.park_beside("a file of others", now);
            }
            Stage::Completed { .. }
            | Stage::Verified { .. }
            | Stage::Receipted { .. }
            | Stage::Ended(_) => {}
        }
        Decision::NONE
    }
}

fn name_taken(file: &RemoteFile) -> String {
    let size = file.size.map_or(String::new(), |size| format!(" of {} bytes", size.0));
    let proof = match file.mark {
        Some(_) => "its digest does not prove the same content",
        None => "there is no digest to compare",
    };
    format!("it is file {}{size}, and {proof}", file.id)
}
