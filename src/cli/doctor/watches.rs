//! The kernel's limits of inotify watches, compared with the directories to watch.

use super::lines::Checks;

/// The kernel's files for them.
const LIMITS: &str = "/proc/sys/fs/inotify";
/// Minimum of queued events: copying a run folder in creates that many in a moment.
const EVENTS_LOW: u64 = 16_384;
/// Minimum of instances: other programs of the user need some too.
const INSTANCES_LOW: u64 = 64;

pub(super) fn check(directory_count: u64) -> Checks {
    let mut checks = Checks::of("watches");
    let limit = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("{LIMITS}/{name}")).ok()?.trim().parse().ok()
    };
    if let Some(limit) = limit("max_user_watches") {
        let found =
            format!("{directory_count} directories to watch, {limit} allowed for each user");
        match is_enough(limit, directory_count) {
            true => checks.ok("max_user_watches", found),
            false => checks.warn("max_user_watches", found, {
                sysctl("max_user_watches", (directory_count * 2).next_power_of_two())
            }),
        }
    }
    for (name, low) in [("max_user_instances", INSTANCES_LOW), ("max_queued_events", EVENTS_LOW)] {
        match limit(name) {
            Some(limit) if limit < low => {
                checks.warn(name, format!("{limit}"), sysctl(name, low * 2));
            }
            Some(limit) => checks.ok(name, format!("{limit}")),
            None => {}
        }
    }
    checks
}

/// Requires half as many again, because run folders grow.
fn is_enough(limit: u64, directory_count: u64) -> bool {
    directory_count + directory_count / 2 <= limit
}

fn sysctl(name: &str, value: u64) -> String {
    format!(
        "echo fs.inotify.{name}={value} >> /etc/sysctl.d/90-dropferry.conf && sysctl --system; \
         until then scans find what events do not tell"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_leaves_room_to_grow() {
        assert!(is_enough(8192, 5000));
        assert!(!is_enough(8192, 6000));
        assert!(sysctl("max_user_watches", 16_384).contains("fs.inotify.max_user_watches=16384 "));
    }
}
