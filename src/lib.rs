//! dropferry watches drop directories and uploads what settles there by resumable multipart upload.
//! This page is the architecture; the compiler checks its links.
//!
//! # Ideas
//! 1. *The rows are the only state.* Memory is a cache of them ([`store`]).
//! 2. *Decide, commit, act, in that order.* The pure [`engine`] decides, the store commits, and only
//!    then the shell ([`daemon`]) acts.
//! 3. *One act, one outcome.* Every act yields exactly one event back, also when it was cut.
//! 4. *Start is recovery.* There is no other start, so killing the process is a way to stop it.
//!
//! # Layers
//! A module imports only from layers with a lower number; adapters never import each other. A test
//! reads the sources and holds them to it.
//!
//! | layer | modules |
//! |---|---|
//! | 0 vocabulary | [`model`] |
//! | 1 pure: decides, computes | [`engine`], [`digest`] |
//! | 2 adapters | [`store`], [`platform`], [`source`], [`receipt`], [`mod@notify`], [`control`], [`limiter`], [`signals`], [`sdnotify`], [`clock`], [`telemetry`], [`web`] |
//! | 2b sandbox, an island | [`sandbox`] |
//! | 3 settings | [`config`] |
//! | 4 shell | [`daemon`] |
//! | 5 surface | [`cli`] |
//!
//! Known exceptions: a platform counts its calls with [`limiter`], reads [`clock`] for them, and tells
//! [`telemetry`] its token so that the log never shows it.
//!
//! # From a file to a receipt
//! ```text
//! seen ─► settled ─► admitted + plan ─► begun ─► part sent ─► checkpoint ─► reported
//!                                                                              │
//!   receipt durable ◄─ (exported) ◄─ verified ◄─ (described) ◄─ completed ◄─ complete intended
//!      │
//!      └─ all of a drop ─► its receipt durable ─► (sentinel) ─► (disposed of)
//! ```
//! The plan is frozen at admission. A source that is another version later is a *new* upload; the
//! old one ends. What tells versions apart is the size; where the inode or a time alone is another
//! one, the content is compared here: before the parts are put together, and before anything is sent again. A file that is at the destination and is the same is complete with no byte sent.
//!
//! # The crash table
//! Every remote act has an intent where repeating it blindly would do harm, and may be repeated
//! where it has none. The simulation in `tests/it/sim` cuts at every row. What an upload asks when it is in doubt
//! is in `engine/transfers/upload.rs`.
//!
//! | step | durable before | killed after the act, before its record | on restart |
//! |---|---|---|---|
//! | admit | – | nothing happened | a scan sees the file again |
//! | note which directory has the name of a drop directory | – (its row, in one transaction with the first admission there) | nothing happened | it is noted with the next admission |
//! | claim a place | the admission; where another open upload has the place, also the row that says for which one it waits | nothing happened | uploads claim their places in the order of their ids, but for those that wait |
//! | find whose a place is | every commit before it (rows are read) | nothing changed | it is asked again |
//! | begin anew at another target | the row with that target; the remote upload at the old one queued for removal there | nothing happened | its target is compared with that of its destination |
//! | read rows for another configuration | every commit before it | nothing changed | a start reads all of them |
//! | send again what a former target has | the order, with the id before which uploads do not count | nothing happened | the order is in the rows: those uploads do not count as sent |
//! | begin | the intent, with its time | a remote upload without owner | found by name, place and time: adopted; others are removed; none: begun again |
//! | put part | – (same bytes, same number) | part stored, ETag unknown | parts are listed; one without checkpoint counts only if its range is read again and agrees; else it is sent again |
//! | put whole file | the admission, from which its token follows | the file exists, we do not know | what stands under the name is asked for, or refuses: with our token and the digest of what is read it is complete; with our token and another digest, or none, it is not proved: it is sent again, and replaces that very object |
//! | look whether a file that was sent whole was overwritten meanwhile | – (it reads here, and nothing else) | the file exists, we do not know | as put whole file |
//! | count what is in flight | – (about once a second, while it changes) | bytes sent that no row counts: what a second moves | what was recorded counts as sent |
//! | let one request through to a destination that was closed, ask it whether it refuses everything | – (a request like any other, or a question) | nothing changed | a destination is held to be open until it is found to be closed |
//! | send larger or smaller parts | the size, with the end of the upload that was refused | nothing happened | begun again with that size |
//! | report part | the checkpoint | reported, not marked | reported again |
//! | look whether the source is still what was read of it, before the parts are put together | – (it reads here, and nothing else) | nothing changed | it is looked at again |
//! | note that a source was touched while it was sent | – (one transaction, before complete) | nothing happened | it is looked at again |
//! | complete | the intent, with its time; where the storage knows no conditions the place is looked at just before | the file exists, we do not know | the platform is asked what became of it: pending: completed again; done; gone: begun again; unknown: parked, for a second file would be worse |
//! | describe | the completed row | metadata set, not marked | set again |
//! | verify | the completed row | nothing to lose | verified again |
//! | read back | the completed row, and that its ETags are no digests | nothing to lose | read back again |
//! | replace a file of ours that was read back and differs | that it is gone, before it is | it stands there, damaged | found under its name by its token, and replaced while it has that ETag |
//! | replace our own earlier version | which version that is (its upload, id and ETag); its place was looked at just before | the newer one is there, we do not know | found under its name by its token, or asked for as any complete; what is there is replaced while it has that ETag, else it is a stranger's |
//! | have a newer version and the earlier one change places, where files are renamed by their ids | the newer one is verified under a name of its own; each step: the earlier one gets another name, the newer one gets the name, the earlier one is removed | it has that name, or is gone | done again: the same name again; what is not there counts as removed |
//! | note that nothing is at a path | – (a look shows it) | nothing happened | a path that is empty only between two looks counts as one that always held a file |
//! | learn what a destination's answers show | – (with the checkpoint that showed it) | nothing happened | shown again by the next answer |
//! | fetch keys | – (they are kept in memory alone) | keys were given out that nobody uses | others are fetched |
//! | try our rights | – (it is no part of any upload) | an unfinished upload below the prefix, of one part | no list of ours shows it: a lifecycle rule removes it |
//! | export | the intent, with its place | a job exists, its id unknown | the volume's jobs are asked for: one of this file and place is adopted; only then one is started |
//! | receipt | the verified row, the export done | its line stands in the ledger, no row names it | a whole line that continues the chain is adopted, never written again; a tail that is no whole line is cut off, kept beside the ledger, and its lines are appended again |
//! | append after the power failed | the ledger's length and head, in the row of the line before | lines that were not synced are gone, or garbage | what the rows know must be there as it was, else the ledger is damaged: never written to again, said, and the next of its name is gone on with |
//! | check the ledgers | – (it reads, and nothing else) | nothing changed | the next check reads them again |
//! | note that a ledger is damaged, or whole again | its row, in one transaction with its notice | nothing happened | the next check or start finds it again |
//! | note that a run is not there, so that another of its name has a ledger of its own | – (a scan, or its disposal, shows it) | nothing happened | a scan shows it again |
//! | first line of a run that came again | the number of its ledger, in its row | it stands in that ledger, no row names it | the row has that number: it is found there, and adopted |
//! | cut a torn tail | its copy beside the ledger, synced | it stands there still | cut again, kept again |
//! | line of an export | the line of its upload, in one write | both, the first, or none | the one that lacks is appended |
//! | compare a file that was touched | – (it reads here, and nothing else) | it was read in vain | a scan finds it touched, it is read again |
//! | accept another root | its row, before it is answered | nothing happened, or it holds | the directory that was accepted is the one that has to stand there |
//! | find what was moved | – (it looks here, and nothing else) | nothing changed | a scan finds it under its new path, it is asked about again |
//! | find a run under another name | – (a scan looks here, and nothing else) | its row does not have the name | the next scan finds it by its files again |
//! | close, complete or skip a run, begin a wave of it | its row | nothing happened | scans find it as it is |
//! | adopt at a start | the line in its ledger | rows of some lines are written, of others not | the rest is adopted: a ledger's row says how far it was read |
//! | put a copy back | the copy, whole under another name; the old files, moved aside | there is no database | a start beside receipts says so; the copy is put back again |
//! | line that a run is complete | every upload's receipt | it stands in the ledger, no row names it | where it is the last line and says the same it is adopted; else one more is appended |
//! | make the sentinel | the line that its run is complete | it stands below `STATE/sentinels`, no row names it | made again of the same lines: the same bytes |
//! | remove a sentinel that was sent | the receipts of all its uploads | it stands below `STATE/sentinels` | the next tidying removes it |
//! | send the sentinel | the drop's completed row, in one transaction with its admission | – | an upload like any other |
//! | ask before a source goes | – (it asks, and nothing else) | nothing changed | every destination is asked about every file again |
//! | dispose | the intent; before it: receipts as they were written, every file at every destination as it was sent, exports done, grace passed, every fingerprint equal | source gone, row missing | done again: what is not there was done |
//! | one file of a disposal is set aside | the intent | it stands under its private name in its directory | the next act of the run goes on with it if it is the proved version, else gives it its name again |
//! | it is copied to another file system | the intent | an unfinished copy under a random name; or a whole one, and the source | the one is removed; the other is compared, then the source goes |
//! | end of a drop | the open row | the platform knows, not marked | told again |
//! | notify | the notice's row, in one transaction with its fact | accepted, not marked | sent again with the same id |
//! | hand a file in | its row, with the file's owner and file system, before it is answered | nothing happened, or it is admitted | it goes on; under its path nothing but that file is read |
//! | order (pause, give up) | its row, before it is answered | nothing happened, or it holds | it holds; what is given up ends once it is known what was begun for it |
//! | decide about a name that is taken | its row, before it is answered | nothing happened, or it holds | it holds; the far side is looked at again before anything is replaced |
//! | close a run by hand | its row, before it is answered | nothing happened, or it holds | it is closed, and completed as any; who closed it is in the row until its line is written |
//! | line that a run was closed by hand | the run's closed row; before the line that it is complete, in one write | both, the first, or none | the one that lacks is appended |
//! | add a file to the next notice of its group | its row in the notice's list, in one transaction with its fact | nothing happened | the pause goes on, and so does the list |
//! | report a period | – (it reads rows, and nothing else) | nothing happened | the next survey finds that the period has no row, and summarises it |
//! | give a notice up | – | nothing happened | it is tried once more, and given up |
//! | heartbeat | – | nothing | the next beat comes when the loop turns |
//! | copy the database | – (another name until it is whole) | a torn copy under that name | the next one removes it |
//! | remove old parts | – (one transaction) | nothing happened | they are found again |
//! | park what no row can hold | – (in the transaction of all else) | nothing happened | what brought the value is seen or asked for again |
//! | clean up | a row in the queue, with the upload that gave it up for another one | remote upload gone | "not found" is success; it is kept until that upload has begun again |
//!
//! One kill costs at most twice as many parts sent again as may be on their way: those that were, and
//! those that had arrived and whose checkpoints were not durable. No part waits for a checkpoint before
//! that many lack one.
//!
//! # Where this departs from the first plan
//! - Time in the engine is [`model::Monotonic`], not `Instant`: a value that a simulation can make.
//! - Acts do not wait for commits one by one. The engine says which must
//!   ([`engine::event::Effect`]): all that change something at the far side. Parts wait too, so that a
//!   kill never costs more of them than may be on their way, however slow the disk is.
//! - The vocabulary is not of `std` alone: it derives `serde`, for what goes over the control socket and into a
//!   recording (`daemon/recording.rs`) is what the engine works with, and no copy of it.
//! - What is known of files that were sent stays in the rows, and scans are compared with it off the loop.
//!   Uploads that are queued are in memory as well, each as its admission: while it waits its file may change, go or be
//!   moved, its place may be claimed, its destination may be taken out, an order may be about it, and each of
//!   these has to be decided in the turn in which it is heard. Read from the rows on demand, every such turn
//!   would wait for a read behind the commits before it. They are loaded beside the first parts, portion by
//!   portion; `benches/start.rs` measures what they take.
//! - A receipt has one fact, written after its line is durable: a line that no row names is found when it is
//!   asked for again, so an intent would buy nothing.
//! - An export is done before the receipt, and is a line of its own behind that of its upload.
//! - `find_completed` is an operation of its own: platforms differ most in what they can tell then.
//! - Wrapping a platform to inject faults proved needless: the simulation does it around any act, and
//!   the sandbox before and after any call.

pub mod cli;
pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod daemon;
pub(crate) mod digest;
pub(crate) mod engine;
pub(crate) mod limiter;
pub(crate) mod model;
pub(crate) mod notify;
pub(crate) mod platform;
pub(crate) mod receipt;
pub(crate) mod sandbox;
pub(crate) mod sdnotify;
pub(crate) mod signals;
pub(crate) mod source;
pub(crate) mod store;
pub(crate) mod telemetry;
pub(crate) mod web;

#[cfg(test)]
#[path = "../tests/it/skipped.rs"]
mod skipped;

/// What the integration tests and the benches drive. It is no interface: it changes with them.
#[doc(hidden)]
pub mod testing {
    pub mod clock {
        pub use crate::clock::Clock;
    }
    pub mod config {
        pub use crate::config::{Config, DEFAULT};
    }
    pub mod control {
        pub use crate::control::{ControlRequest, Reply, ask};
    }
    pub mod daemon {
        pub use crate::daemon::{LineSubject, append, clients, desk, receipt_of, recording};
    }
    pub mod digest {
        pub use crate::digest::{Hasher, VectorWidth, advance, digest_many};
    }
    pub mod engine {
        pub use crate::engine::{Engine, check, event, handed, orders, settings};
    }
    pub mod model {
        pub use crate::model::*;
    }
    pub mod notify {
        pub use crate::notify::body;
    }
    pub mod platform {
        #[cfg(feature = "testing")]
        pub use crate::platform::fake;
        pub use crate::platform::{call, contract, put};
        pub mod s3 {
            pub use crate::platform::s3::TRAITS;
        }
    }
    pub mod receipt {
        pub use crate::receipt::{Appender, check, directory, ledger, line, place, sentinel};
    }
    pub mod sandbox {
        pub use crate::sandbox::{Sandbox, Settings, Vendor, faults};
    }
    pub mod source {
        pub use crate::source::{DirectoryRoot, Filter, Profile, Settings, scan};
    }
    pub mod store {
        pub use crate::store::{Loaded, Settings, rest, snapshot, writer};
    }
    pub mod telemetry {
        pub use crate::telemetry::field;
    }
    pub mod web {
        pub use crate::web::{
            FileSearch, PageResource, PageView, Password, Read, Settings, listen, serve,
        };
    }
}
