//! The name of an upload at its destination: what stands under it, whose that is, and what follows.

use super::answer::{AnswerContext, Decision};
use super::life::Doubt;
use super::{Step, Upload};
use crate::engine::plan;
use crate::engine::settings::DestinationSettings;
use crate::model::remote::ContentMark;
use crate::model::{
    ByteCount, ETag, Fact, NamePolicy, Now, ParkReason, PlaceHolder, RemoteFile, Stage,
};

/// Names tried under the policy `rename`.
const RENAME_MAX: u32 = 100;

/// What is known of the file under the name of an upload.
#[derive(Debug, Clone)]
pub(super) struct NameMemory {
    /// A file that stands under it, to be compared.
    found: Option<RemoteFile>,
    owner: Owner,
    /// An upload of ours made or found a file there in this life.
    is_filled: bool,
    /// The platform refused to begin because the name is taken.
    is_refused: bool,
    /// The platform knows a file of this name, and whose it is must be asked before anything is sent.
    is_met: bool,
    /// A damaged file of this upload stands there, with this ETag.
    damaged: Option<ETag>,
    version: u32,
}

/// What the rows say of the source that a file under the name of an upload belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    Unknown,
    NoneOfOurs,
    Ours(Box<PlaceHolder>),
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
        }
    }

    pub(super) fn forget_owner(&mut self) {
        (self.owner, self.found) = (Owner::Unknown, None);
    }

    pub(super) fn accepted(&mut self) {
        self.is_refused = false;
    }

    /// Returns whether a begin was refused for this name, and forgets it.
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

    /// Returns whether what stands there must be looked at before anything is sent.
    pub(super) fn must_be_located(&self) -> bool {
        self.is_met || self.is_ours()
    }
}

impl Upload {
    /// Returns the policy for a name that is taken. A sentinel describes its run as it is: it replaces the
    /// one before.
    fn name_policy(&self, settings: &DestinationSettings) -> NamePolicy {
        if self.ticket.is_sentinel { NamePolicy::Overwrite } else { settings.when_name_taken }
    }

    fn policy(&self, context: AnswerContext<'_>) -> NamePolicy {
        context.destination.map_or(NamePolicy::Park, |to| self.name_policy(to))
    }

    /// Returns whether whatever stands under its name is replaced: never what belongs to another source of
    /// ours.
    pub(crate) fn replaces(&self, settings: &DestinationSettings) -> bool {
        self.name_policy(settings) == NamePolicy::Overwrite && !self.life.name.is_ours()
    }

    /// Returns the ETag of a damaged file of this upload, which is replaced.
    pub(crate) fn damaged_file(&self) -> Option<&ETag> {
        self.life.name.damaged.as_ref()
    }

    pub(crate) fn fill_place(&mut self) {
        self.life.name.is_filled = true;
    }

    /// Returns whether it must be known whose a file under its name is: before that is replaced, and once
    /// one was found.
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
        self.life.name.damaged = None;
        let Some(file) = found else { return self.go_ahead() };
        // What this very upload made there is no stranger's: the same content counts, another is damage.
        if let Some(maker) = file.maker.as_ref().filter(|maker| maker.token == self.token()) {
            if file.size == Some(self.size()) && file.mark.is_some() {
                return self.compare(file);
            }
            return self.replace_own(maker.etag.clone());
        }
        match &self.life.name.owner {
            // Whose it is comes first, and then this again.
            Owner::Unknown => return self.compare(file),
            Owner::Ours(holder) => {
                let holder = (**holder).clone();
                return self.meet_ours(file, &holder, context);
            }
            Owner::NoneOfOurs => {}
        }
        match self.policy(context) {
            NamePolicy::Overwrite => self.go_ahead(),
            NamePolicy::Rename => self.rename(context.now),
            // An equal length proves sameness only when it is zero, and then whatever a digest says.
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

    fn go_ahead(&mut self) -> Decision {
        self.life.doubt = Doubt::None;
        Decision::NONE
    }

    fn compare(&mut self, file: RemoteFile) -> Decision {
        self.life.name.found = Some(file);
        Decision::NONE
    }

    /// A damaged file of this upload is replaced while it is still that one.
    fn replace_own(&mut self, etag: ETag) -> Decision {
        self.life.name.damaged(etag);
        self.go_ahead()
    }

    pub(super) fn on_holder_found(
        &mut self,
        holder: Option<PlaceHolder>,
        context: AnswerContext<'_>,
    ) -> Decision {
        if self.state.stage != Stage::Queued {
            return Decision::NONE;
        }
        let name = &mut self.life.name;
        name.owner = holder.map_or(Owner::NoneOfOurs, |holder| Owner::Ours(Box::new(holder)));
        match name.found.take() {
            Some(file) => self.on_located(Some(file), context),
            None => Decision::NONE,
        }
    }

    /// A file of another source of ours has our name: it is never replaced. The same content is
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
        let own = &self.ticket;
        let PlaceHolder { upload, source } = holder;
        let detail = format!(
            "upload {upload} of {source} holds {}, and {}/{} is another file",
            own.target_path(),
            own.drop,
            own.path,
        );
        Decision::park(ParkReason::PlaceTakenByOurs, detail, context.now.wall)
    }

    fn rename(&mut self, now: Now) -> Decision {
        let version = &mut self.life.name.version;
        *version += 1;
        if *version > RENAME_MAX {
            return Decision::park(ParkReason::NameTaken, "a hundred names are taken", now.wall);
        }
        let original = plan::readable(self.ticket.path.file_name());
        Decision::fact(Fact::Renamed { name: plan::next_name(&original, *version) })
    }

    /// The source was read in the layout of the file that stands there.
    pub(super) fn on_file_hashed(
        &mut self,
        mark: ContentMark,
        context: AnswerContext<'_>,
    ) -> Decision {
        let holder = self.life.name.holder();
        match self.life.name.found.take() {
            Some(file) if file.mark == Some(mark) => Decision::present(file, context.now),
            Some(RemoteFile { maker: Some(maker), .. }) if maker.token == self.token() => {
                self.replace_own(maker.etag)
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
    format!("file {}{size} stands under this name, and {proof}", file.id)
}
