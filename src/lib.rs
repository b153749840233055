//! dropferry watches drop directories and uploads their settled files by resumable multipart
//! upload. This page is the architecture; the compiler checks its links.
//!
//! # Ideas
//! 1. *The rows are the only state.* Memory is a cache of them ([`store`]).
//! 2. *Decide, commit, act, in that order.* The pure [`engine`] decides, the store commits, and only
//!    then the shell ([`daemon`]) acts.
//! 3. *One act, one outcome.* Every act yields exactly one event, also when it was cancelled.
//! 4. *Start is recovery.* There is no other start, so killing the process is a supported way to stop it.
//!
//! # Layers
//! A module imports only from layers with a lower number; adapters never import each other. A test
//! reads the sources and enforces both.
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
//! Known exceptions: a platform counts its calls with [`limiter`], reads [`clock`] for them, and
//! registers its token with [`telemetry`] so that the log never shows it.
//!
//! # From a file to a receipt
//! ```text
//! seen ─► settled ─► admitted + plan ─► begun ─► part sent ─► checkpoint ─► reported
//!                                                                              │
//!   receipt durable ◄─ (exported) ◄─ verified ◄─ (described) ◄─ completed ◄─ complete intended
//!      │
//!      └─ every upload of a run ─► the run's receipt durable ─► (sentinel) ─► (disposed of)
//! ```
//! The plan is frozen at admission. A later version of the source is a *new* upload, and the old
//! one ends. A different size makes another version. Where only the inode or a time differs, the
//! content is compared first: before the parts are put together, and before anything is sent again.
//! A file that is already at the destination and is equal is completed without sending a byte.
//!
//! # The crash table
//! A remote act has an intent where repeating it blindly would do harm; where it has none, it may
//! be repeated. The simulation in `tests/it/sim` kills at every row. `engine/transfers/upload.rs`
//! lists what an upload in doubt asks the platform.
//!
//! | step | durable before | killed after the act, before its record | on restart |
//! |---|---|---|---|
//! | admit | – | nothing happened | a scan sees the file again |
//! | record which directory the name of a drop directory means | – (its row, in one transaction with the first admission there) | nothing happened | recorded with the next admission |
//! | claim a place | the admission; if another open upload holds the place, also the row that names it | nothing happened | uploads claim their places in the order of their ids, except those that wait for another one |
//! | find the owner of a place | every earlier commit (rows are read) | nothing changed | asked again |
//! | begin again at another target | the row with that target; the remote upload at the old one queued for removal | nothing happened | its target is compared with that of its destination |
//! | read rows for another configuration | every commit before it | nothing changed | a start reads all of them |
//! | send to a new target what the former one has | the order, with the id below which uploads do not count | nothing happened | the order is in the rows: those uploads do not count as sent |
//! | begin | the intent, with its time | a remote upload without owner | found by name, place and time: adopted, others removed; if there is none, begun again |
//! | put part | – (same bytes, same number) | part stored, ETag unknown | parts are listed; one without checkpoint counts only if its range is read again and is equal; else it is sent again |
//! | put whole file | the admission, from which its token follows | the file exists, not recorded | the object under the name is asked for, or the request is refused because of it. Our token and the digest of the source: it is complete. Our token and another digest, or none: not proved, so it is sent again and replaces exactly that object |
//! | check whether a file that was sent whole was written to meanwhile | – (local read) | the file exists, not recorded | as put whole file; where no file can be replaced, an object that this process does not know belongs to someone else: parked |
//! | count bytes in flight | – (about once a second, while they change) | at most what one second moves is not counted | the recorded bytes count as sent |
//! | probe a destination that is closed: let one request through, or ask whether it refuses everything | – (a request like any other, or a question) | nothing changed | a destination starts open, until failures close it |
//! | send larger or smaller parts | the size, with the end of the refused upload | nothing happened | begun again with that size |
//! | report part | the checkpoint | reported, not recorded | reported again |
//! | check that the source is still what was read, before the parts are put together | – (local read) | nothing changed | checked again |
//! | record that a source was touched while it was sent | – (one transaction, before complete) | nothing happened | checked again |
//! | complete | the intent, with its time; where the storage has no conditional requests, the place is checked just before | the file exists, not recorded | the platform is asked for the outcome. Pending: completed again; done; gone: begun again; unknown: parked, because a second file would be worse |
//! | describe | the completed row | metadata set, not recorded | set again |
//! | verify | the completed row | nothing to lose | verified again |
//! | read back | the completed row, and that its ETags are no digests | nothing to lose | read back again |
//! | replace our own file that was read back and differs | the fact that it does not count any more | the damaged file is still there | found under its name by its token, and replaced while it has that ETag |
//! | replace our own earlier version | which version that is (its upload, id and ETag); its place was checked just before | the newer one is there, not recorded | found under its name by its token, or asked for as after any complete; the file there is replaced while it has that ETag, else it belongs to someone else |
//! | swap the names of a newer and an earlier version, where files are renamed by id | the newer one is verified under a name of its own; each step: the earlier one is renamed, the newer one gets the name, the earlier one is removed | it has that name, or is gone | done again with the same name; a missing file counts as removed |
//! | record that there is no file at a path | – (a look shows it) | nothing happened | a path that is empty only between two looks counts as one that always held a file |
//! | learn from a destination's answers | – (with the checkpoint that showed it) | nothing happened | the next answer shows it again |
//! | fetch access keys | – (kept in memory only) | the issued keys stay unused | others are fetched |
//! | renew a login by SSO | a file beside the one of the login, which will replace it | the file has the former login | renewed again; if that is refused, a person logs in again |
//! | test our permissions | – (belongs to no upload) | an unfinished upload of one part below the prefix | no list of ours shows it: a lifecycle rule removes it |
//! | export | the intent, with its place | a job exists, its id unknown | the volume's jobs are listed: one of this file and place is adopted; only if there is none, one is started |
//! | receipt | the verified row, the export done | its line is in the ledger, no row names it | a whole line that continues the chain is adopted, never written again; an incomplete tail is cut off, kept beside the ledger, and its lines are appended again |
//! | append after a power failure | the ledger's length and head, in the row of the line before | unsynced lines are gone, or garbage | everything the rows know must be unchanged, else the ledger is damaged: it is reported, never written to again, and the next file of its name continues it |
//! | check the ledgers | – (read only) | nothing changed | the next check reads them again |
//! | record that a ledger is damaged, or whole again | its row, in one transaction with its notice | nothing happened | the next check or start finds it again |
//! | record that a run is gone, so that a later run of its name has its own ledger | – (a scan, or its disposal, shows it) | nothing happened | a scan shows it again |
//! | first line of a run whose name came again | the number of its ledger, in its row | the line is in that ledger, no row names it | the row has the number: the line is found there, and adopted |
//! | cut a torn tail | its copy beside the ledger, synced | the tail is still in the ledger | copied and cut again |
//! | line of an export | the line of its upload, in one write | both, the first, or neither | the missing line is appended |
//! | compare a touched file | – (local read) | the read is lost | a scan finds it touched, and it is read again |
//! | accept another root | its row, before the answer | nothing happened, or the order is recorded | the path must hold the accepted directory |
//! | find a moved file | – (local look) | nothing changed | a scan finds it under its new path, and it is looked up again |
//! | find a run under another name | – (a scan looks here) | its row does not have the name | the next scan finds it by its files again |
//! | close, complete or skip a run, begin a wave of it | its row | nothing happened | scans find it unchanged |
//! | adopt ledger lines at a start | the line in its ledger | rows of some lines are written, of others not | the rest is adopted: a ledger's row says how far it was read |
//! | restore a copy of the database | the whole copy under another name; the old files, moved aside | there is no database | a start that finds receipts says so; the copy is restored again |
//! | line that a run is complete | every upload's receipt | the line is in the ledger, no row names it | if it is the last line and says the same, it is adopted; else another one is appended |
//! | make the sentinel | the line that its run is complete | the sentinel is below `STATE/sentinels`, no row names it | made again from the same lines: the same bytes |
//! | remove a sentinel that was sent | the receipts of all its uploads | it is still below `STATE/sentinels` | the next tidying removes it |
//! | send the sentinel | the run's completed row, in one transaction with its admission | – | an upload like any other |
//! | ask the destinations before a source is disposed of | – (a question) | nothing changed | every destination is asked about every file again |
//! | dispose | the intent; before it: receipts unchanged, every file at every destination as it was sent, exports done, grace passed, every fingerprint equal | source gone, row missing | done again: a missing source was disposed of |
//! | set one file of a disposal aside | the intent | the file has its private name in its directory | the next act of the run continues with it if it is the proved version, else gives it its name back |
//! | copy it to another file system | the intent | a partial copy under a random name; or a whole copy, and the source | the partial copy is removed; the whole one is compared, then the source is removed |
//! | report the end of a run | the row of the open run | the platform knows, not recorded | reported again |
//! | notify | the notice's row, in one transaction with its fact | accepted, not recorded | sent again with the same id |
//! | hand a file in | its row, with the file's owner and file system, before the answer | nothing happened, or it is admitted | it continues; under its path only that file is read |
//! | order (pause, abandon) | its row, before the answer | nothing happened, or the order is recorded | the order applies; an abandoned upload ends once it is known what was begun for it |
//! | decide about a taken name | its row, before the answer | nothing happened, or the decision is recorded | the decision applies; the destination is asked again before anything is replaced |
//! | close a run by hand | its row, before the answer | nothing happened, or the run is closed | it is closed, and completed like any other; its row names who closed it until its line is written |
//! | line that a run was closed by hand | the run's closed row; before the line that it is complete, in one write | both, the first, or neither | the missing line is appended |
//! | add a file to the next notice of its group | its row in the notice's list, in one transaction with its fact | nothing happened | the pause continues, and so does the list |
//! | report on a period | – (rows are read) | nothing happened | the next survey finds that the period has no row, and summarises it |
//! | give up a notice | – | nothing happened | it is sent once more, and given up |
//! | heartbeat | – | nothing | the next one is sent when the loop turns |
//! | copy the database | – (another name until it is whole) | a partial copy under that name | the next copy removes it |
//! | remove rows of old parts | – (one transaction) | nothing happened | they are found again |
//! | park an upload whose record no row can hold | – (in the transaction of all other records) | nothing happened | the source of the value is seen or asked for again |
//! | clean up | a row in the queue, with the upload that gave it up for another one | remote upload gone | "not found" is success; the remote upload is kept until that upload has begun again |
//!
//! One kill costs at most twice as many parts sent again as may be in flight: the parts in flight,
//! and as many that had arrived without a durable checkpoint. No part waits for a checkpoint until
//! that many lack one.
//!
//! # Differences from the first plan
//! - Time in the engine is [`model::Monotonic`], not `Instant`, so that a simulation can make it.
//! - Acts do not wait for commits one by one. The engine says which must wait
//!   ([`engine::event::Effect`]): all that change something at the destination. Parts wait too, so
//!   that a kill never costs more of them than may be in flight, however slow the disk is.
//! - The vocabulary uses `serde` besides `std`: the control socket and recordings
//!   (`daemon/recording.rs`) carry the engine's own types, not copies of them.
//! - Completed files are known from the rows only, and scans are compared with them off the loop.
//!   Queued uploads are also in memory, each as its admission. While one waits, its file may
//!   change, disappear or be moved, its place may be claimed, its destination removed, or an order
//!   given about it; each of these is decided in the turn that receives it. If they were read from
//!   the rows on demand, every such turn would wait for the commits before the read. They are
//!   loaded in portions while the first parts are sent; `benches/start.rs` measures their memory.
//! - A receipt has one fact, written after its line is durable. A line that no row names is found
//!   when it is asked for again, so an intent would gain nothing.
//! - An export is done before the receipt, and has a line of its own after that of its upload.
//! - `find_completed` is an operation of its own, because platforms differ most in what they can answer there.
//! - No platform is wrapped to inject faults: the simulation injects them around any act, and the
//!   sandbox before and after any call.

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
