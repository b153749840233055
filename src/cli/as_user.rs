//! Checks files with the rights of the daemon's user: root may read everything, and the service may not.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::control::LocalUser;

/// The user of the packages' service.
pub(super) const SERVICE: &str = "dropferry";

/// Returns the user and the group of a daemon on this state, if the caller is root and they differ:
/// the state's owner, else the packages' user.
pub(super) fn service(state: Option<&Path>) -> Option<LocalUser> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let found = state.and_then(|state| std::fs::metadata(state).ok());
    let user = match found {
        Some(found) => {
            let (uid, gid) = (found.uid(), found.gid());
            let name = || LocalUser { name: uid.to_string(), uid, gid };
            LocalUser::of(uid).unwrap_or_else(name)
        }
        None => LocalUser::named(SERVICE)?,
    };
    (user.uid != 0).then_some(user)
}

/// Runs a check on a thread with only the rights of a user and its groups.
pub(super) fn judged_as<T: Send>(
    user: Option<&LocalUser>,
    check: impl FnOnce() -> T + Send,
) -> anyhow::Result<T> {
    let Some(user) = user else { return Ok(check()) };
    let groups: Vec<Gid> = user.groups().into_iter().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    std::thread::scope(|scope| {
        let run = || {
            set_thread_groups(&groups)?;
            set_thread_gid(gid)?;
            set_thread_uid(uid)?;
            Ok(check())
        };
        let ended = scope.spawn(run).join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
