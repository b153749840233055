//! What an upload knows only in this life of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::claims::Owner;
use crate::engine::event::ActId;
use crate::engine::ticket::AtStart;
use crate::model::{ETag, Monotonic, PartNumber, RemoteFile, UploadId};

/// What an upload knows only in this life of the process.
#[derive(Debug)]
pub(crate) struct Life {
    /// Whether it must ask before it acts.
    pub(crate) doubt: Doubt,
    /// The act under way that is not a part.
    pub(crate) control: Option<ActId>,
    /// Parts on their way.
    pub(crate) flying: BTreeSet<PartNumber>,
    /// Parts that failed: when they go again, and how often they failed.
    pub(crate) part_waits: BTreeMap<PartNumber, (Monotonic, u32)>,
    /// Parts that did not arrive as they were read.
    pub(crate) damage: BTreeMap<PartNumber, Damage>,
    /// A damaged file of this upload stands at its place, with this ETag.
    pub(crate) replaces: Option<ETag>,
    /// Parts that the platform has and we have no checkpoint for: to be read and compared.
    pub(crate) doubtful: BTreeMap<PartNumber, ETag>,
    /// A file that stands under our name, to be compared.
    pub(crate) found: Option<RemoteFile>,
    /// What the rows say of the source that a file under our name belongs to.
    pub(crate) owner: Owner,
    /// An upload of ours made or found a file under our name in this life.
    pub(crate) is_place_filled: bool,
    /// The drop directory that its file is in, where its name stands for another one by now.
    pub(crate) directory: Option<Arc<str>>,
    /// The upload that holds our place.
    pub(crate) waits_for: Option<UploadId>,
    /// Since when accepted parts wait to be reported.
    pub(crate) unreported_since: Option<Monotonic>,
    /// How often the platform refused to complete.
    pub(crate) refusal_count: u32,
    /// How often the platform did not have the upload any more.
    pub(crate) lost_count: u32,
    /// The platform said at begin that the name is taken.
    pub(crate) name_taken: bool,
    /// The platform knows a file of our name, and whose it is must be asked before anything is sent.
    pub(crate) name_met: bool,
    /// All of it is on its way, in one request.
    pub(crate) is_whole_flying: bool,
    /// When its export job is asked about, and how often it was.
    pub(crate) poll: (Monotonic, u32),
    /// Until when it waits, by the clock that never goes back.
    pub(crate) hold_until: Option<Monotonic>,
    /// When the engine looks at it by itself.
    pub(crate) timer: Option<Monotonic>,
    /// How many names were tried.
    pub(crate) name_version: u32,
    /// The source is another version, and what may have been begun for this one is to be found and
    /// removed before the upload ends.
    pub(crate) is_superseded: bool,
    /// The operator gave it up.
    pub(crate) is_given_up: bool,
    /// Since when its file cannot be read, though it is there.
    pub(crate) failing_since: Option<Monotonic>,
    /// No part before this one is open.
    pub(super) cursor: usize,
}

/// What is known of a part that did not arrive as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// How often that was so.
    pub(crate) count: u32,
    /// The ETag that the storage gave to what it has.
    pub(crate) etag: ETag,
}

/// Whether an upload must ask before it acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    None,
    /// It asks what is true at the platform.
    Ask,
}

impl AtStart for Life {
    fn at_start() -> &'static Self {
        static AT_START: Life = Life::new();
        &AT_START
    }

    fn new_at_start() -> Self {
        Self::new()
    }
}

impl Life {
    pub(super) const fn new() -> Self {
        Self {
            doubt: Doubt::Ask,
            control: None,
            flying: BTreeSet::new(),
            part_waits: BTreeMap::new(),
            damage: BTreeMap::new(),
            replaces: None,
            doubtful: BTreeMap::new(),
            found: None,
            owner: Owner::Unknown,
            is_place_filled: false,
            directory: None,
            waits_for: None,
            unreported_since: None,
            refusal_count: 0,
            lost_count: 0,
            name_taken: false,
            name_met: false,
            is_whole_flying: false,
            poll: (Monotonic(Duration::ZERO), 0),
            hold_until: None,
            timer: None,
            name_version: 1,
            is_superseded: false,
            is_given_up: false,
            failing_since: None,
            cursor: 0,
        }
    }

    /// Whose the place is may change meanwhile.
    pub(super) fn forget_owner(&mut self) {
        if self.owner != Owner::Unknown || self.found.is_some() {
            self.owner = Owner::Unknown;
            self.found = None;
        }
    }

    pub(super) fn forget_parts(&mut self) {
        self.part_waits.clear();
        self.doubtful.clear();
        self.flying.clear();
        self.unreported_since = None;
        self.cursor = 0;
    }
}
