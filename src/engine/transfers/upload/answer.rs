//! Turns what came back for one upload into facts: one function per outcome, none of them acts.
//!
//! Success hangs on exactly one arm each: a file counts as completed when the platform said so to
//! our complete, or when the platform found it after a complete whose answer was lost; as verified
//! when its length equals the source's, and its content is proved (`answer/stored.rs`).

use std::time::Duration;

mod failed;
mod stored;

pub(crate) use self::failed::in_vain;

pub(crate) use self::stored::{ETagMemory, Put, WholePut};
use super::{Doubt, Upload};
use crate::engine::claims::Owner;
use crate::engine::plan;
use crate::engine::transfers::recover;
use crate::model::remote::ContentMark;
use crate::model::{
    ByteCount, Completion, Fact, NamePolicy, Now, ParkReason, PartNumber, PartState, PlaceHolder,
    RemoteFile, RemotePart, RemoteUpload, RemoteUploadId, Stage, WallTime,
};

/// A complete is refused this often before the upload starts over.
const REFUSAL_MAX: u32 = 3;
/// The platform may lose an upload this often in one life of the daemon. What a kill loses, an address
/// that was in memory alone, is not the platform's doing: it costs one in each life.
const RESTART_MAX: u32 = 5;
/// Names tried under the policy `rename`.
const RENAME_MAX: u32 = 100;
/// After a complete without answer: the platform may still be at it.
const COMPLETE_PAUSE: Duration = Duration::from_secs(10);

/// What follows from an outcome.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// What happened, in order.
    pub(crate) facts: Vec<Fact>,
    /// Remote uploads that must be removed.
    pub(crate) cleanups: Vec<RemoteUploadId>,
    /// An ETag was the MD5 of what was sent.
    pub(crate) is_md5_seen: bool,
    /// The digest of a file of many proved parts is made by another rule: both digests, for people.
    pub(crate) strange_digest: Option<String>,
}

impl Answer {
    pub(crate) fn fact(fact: Fact) -> Self {
        Self { facts: vec![fact], ..Self::default() }
    }

    /// The file is there as it should be. Who made it is not kept.
    fn present(file: RemoteFile, now: Now) -> Self {
        Self::fact(Fact::FoundPresent { file: RemoteFile { maker: None, ..file }, at: now.wall })
    }

    fn park(reason: ParkReason, detail: impl Into<String>, at: WallTime) -> Self {
        Self::fact(Fact::Parked { reason, detail: detail.into(), at })
    }
}

/// What a failed act was, as far as its failure is judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tried {
    /// Its name, kept with the attempt.
    pub(crate) act: &'static str,
    pub(crate) part: Option<PartNumber>,
    /// Bytes that went in vain.
    pub(crate) sent: ByteCount,
    /// The destination takes nothing any more; the act goes again when it does.
    pub(crate) closed: bool,
}

impl Upload {
    /// A file of our name is there, or none is.
    pub(crate) fn on_located(
        &mut self,
        found: Option<RemoteFile>,
        policy: NamePolicy,
        now: Now,
    ) -> Answer {
        self.life.replaces = None;
        let Some(file) = found else {
            self.life.doubt = Doubt::None;
            return Answer::default();
        };
        // What this very upload made there is no stranger's: the same content counts, another is damage.
        if let Some(maker) = file.maker.as_ref().filter(|maker| maker.token == self.token()) {
            if file.size == Some(self.size()) && file.mark.is_some() {
                self.life.found = Some(file);
            } else {
                self.life.replaces = Some(maker.etag.clone());
                self.life.doubt = Doubt::None;
            }
            return Answer::default();
        }
        if self.life.owner == Owner::Unknown {
            // Whose it is comes first, and then this again.
            self.life.found = Some(file);
            return Answer::default();
        }
        if let Owner::Ours(holder) = &self.life.owner {
            let holder = (**holder).clone();
            return self.meet_ours(file, &holder, policy, now);
        }
        match policy {
            NamePolicy::Overwrite => {
                self.life.doubt = Doubt::None;
                Answer::default()
            }
            NamePolicy::Rename => self.rename(now),
            // An equal length proves sameness only when it is zero, and then whatever a digest says.
            NamePolicy::SkipIfSame if file.size == Some(ByteCount(0)) && self.size().0 == 0 => {
                Answer::present(file, now)
            }
            NamePolicy::SkipIfSame if file.size == Some(self.size()) && file.mark.is_some() => {
                self.life.found = Some(file);
                Answer::default()
            }
            NamePolicy::SkipIfSame | NamePolicy::Park => {
                Answer::park(ParkReason::NameTaken, name_taken(&file), now.wall)
            }
        }
    }

    /// The rows say whose a file under our name is.
    pub(crate) fn on_holder_found(
        &mut self,
        holder: Option<PlaceHolder>,
        policy: NamePolicy,
        now: Now,
    ) -> Answer {
        if self.state.stage != Stage::Queued {
            return Answer::default();
        }
        self.life.owner = holder.map_or(Owner::NoneOfOurs, |holder| Owner::Ours(Box::new(holder)));
        match self.life.found.take() {
            Some(file) => self.on_located(Some(file), policy, now),
            None => Answer::default(),
        }
    }

    /// A file of another source of ours has our name: it is never replaced. The same content is
    /// complete.
    fn meet_ours(
        &mut self,
        file: RemoteFile,
        holder: &PlaceHolder,
        policy: NamePolicy,
        now: Now,
    ) -> Answer {
        if file.size == Some(self.size()) {
            if self.size().0 == 0 {
                return Answer::present(file, now);
            }
            if file.mark.is_some() {
                self.life.found = Some(file);
                return Answer::default();
            }
        }
        self.differ_from_ours(holder, policy, now)
    }

    fn differ_from_ours(&mut self, holder: &PlaceHolder, policy: NamePolicy, now: Now) -> Answer {
        if policy == NamePolicy::Rename {
            return self.rename(now);
        }
        let own = &self.admission;
        let PlaceHolder { upload, source } = holder;
        let detail = format!(
            "upload {upload} of {source} holds {}, and {}/{} is another file",
            own.target_path(),
            own.drop,
            own.path,
        );
        Answer::park(ParkReason::PlaceTakenByOurs, detail, now.wall)
    }

    fn rename(&mut self, now: Now) -> Answer {
        self.life.name_version += 1;
        if self.life.name_version > RENAME_MAX {
            return Answer::park(ParkReason::NameTaken, "a hundred names are taken", now.wall);
        }
        let original = plan::readable(self.admission.path.file_name());
        let name = plan::next_name(&original, self.life.name_version);
        Answer::fact(Fact::Renamed { name })
    }

    /// What became of a complete whose answer was lost, or whose upload is said to be gone.
    pub(crate) fn on_completion_found(&mut self, completion: Completion, now: Now) -> Answer {
        match completion {
            Completion::Done(file) => Answer::fact(Fact::Completed { file, at: now.wall }),
            Completion::Pending => {
                self.life.doubt = Doubt::None;
                Answer::default()
            }
            Completion::Gone => self.start_over(Vec::new(), now),
            Completion::Unknown(why) => Answer::park(ParkReason::CompletionUnknown, why, now.wall),
        }
    }

    /// The source was read in the layout of the file that stands there.
    pub(crate) fn on_file_hashed(
        &mut self,
        mark: ContentMark,
        policy: NamePolicy,
        now: Now,
    ) -> Answer {
        let holder = match &self.life.owner {
            Owner::Ours(holder) => Some((**holder).clone()),
            Owner::Unknown | Owner::NoneOfOurs => None,
        };
        match self.life.found.take() {
            Some(file) if file.mark == Some(mark) => Answer::present(file, now),
            Some(RemoteFile { maker: Some(maker), .. }) if maker.token == self.token() => {
                self.life.replaces = Some(maker.etag);
                self.life.doubt = Doubt::None;
                Answer::default()
            }
            Some(file) => match holder {
                Some(holder) => self.differ_from_ours(&holder, policy, now),
                None => Answer::park(ParkReason::NameTaken, name_taken(&file), now.wall),
            },
            None => Answer::default(),
        }
    }

    /// The platform has an upload for us; one that was found may have parts, so they are asked for.
    pub(crate) fn on_begun(&mut self, remote: RemoteUpload, doubt: Doubt, now: Now) -> Answer {
        if !matches!(self.state.stage, Stage::Beginning { .. }) {
            return Answer { cleanups: vec![remote.id], ..Answer::default() };
        }
        if self.life.is_superseded {
            return Answer { cleanups: vec![remote.id], ..self.superseded(now) };
        }
        if !self.fits_in(&remote) {
            let detail = "the platform's part size and part count do not cover the file";
            let answer = Answer::park(ParkReason::BadRequest, detail, now.wall);
            return Answer { cleanups: vec![remote.id], ..answer };
        }
        self.life.doubt = doubt;
        self.life.name_taken = false;
        Answer::fact(Fact::Begun { remote, at: now.wall })
    }

    /// Remote uploads that may be ours: the newest in which the file fits is adopted, the others,
    /// begun for other versions of it too, are removed.
    pub(crate) fn on_found_begun(&mut self, found: Vec<RemoteUpload>, now: Now) -> Answer {
        let is_wanted = |remote: &RemoteUpload| !self.life.is_superseded && self.fits_in(remote);
        let (wanted, others): (Vec<_>, Vec<_>) = found.into_iter().partition(is_wanted);
        let mut wanted = wanted.into_iter();
        let mut answer = match wanted.next() {
            Some(newest) => self.on_begun(newest, Doubt::Ask, now),
            None if self.life.is_superseded => self.superseded(now),
            None => self.on_none_begun(now),
        };
        answer.cleanups.extend(wanted.chain(others).map(|remote| remote.id));
        answer
    }

    fn on_none_begun(&mut self, now: Now) -> Answer {
        self.life.doubt = Doubt::None;
        if std::mem::take(&mut self.life.name_taken) {
            return self.start_over(Vec::new(), now);
        }
        Answer::default()
    }

    /// Compares what the platform knows with what we know; what has a checkpoint counts where it
    /// cannot tell.
    pub(crate) fn on_parts_listed(
        &mut self,
        listed: Option<Vec<RemotePart>>,
        reports: bool,
    ) -> Answer {
        self.life.doubt = Doubt::None;
        let Some(listed) = listed else { return Answer::default() };
        let compared = recover::compare(&self.parts, &listed, reports);
        self.life.doubtful = compared.doubtful;
        Answer { facts: compared.repairs, ..Answer::default() }
    }

    /// The platform was told of these parts.
    pub(crate) fn on_reported(&mut self, parts: Vec<PartNumber>, now: Now) -> Answer {
        let still = |part: &PartNumber| {
            matches!(self.parts.get(part.index()), Some(PartState::Accepted { .. }))
        };
        let parts: Vec<_> = parts.into_iter().filter(still).collect();
        let pending = self.state.accepted_count - self.state.reported_count;
        let left = pending as usize > parts.len();
        self.life.unreported_since = left.then_some(now.monotonic);
        if parts.is_empty() {
            return Answer::default();
        }
        Answer::fact(Fact::PartsReported { parts })
    }
}

impl Tried {
    /// An act without part and bytes.
    pub(crate) fn plain(act: &'static str) -> Self {
        Self { act, part: None, sent: ByteCount(0), closed: false }
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
