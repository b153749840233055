//! A finished folder that arrives by rsync: in the order of names, so that the marker comes first.

use super::script::Script;
use super::{Phase, novaseq};

/// Turns a whole NovaSeq 6000 run into a copy of its finished folder.
pub(super) fn write(script: &mut Script) {
    novaseq::write(script);
    let finished = script.finished();
    script.left_out.retain(|path| finished.contains_key(path));
    let folder = script.units[0].name.clone();
    let below = format!("{folder}/");
    let relative = |path: &str| path.strip_prefix(&below).expect("below the run").to_owned();
    let mut files: Vec<_> =
        finished.into_iter().map(|(path, bytes)| (relative(&path), bytes)).collect();
    // Files of a directory come before the directories in it.
    files.sort_by_key(|(path, _)| (path.contains('/'), path.clone()));
    let count = files.len();
    let mut copy = Script::new(0, script.scale);
    copy.enter(&folder);
    for (index, (path, bytes)) in files.into_iter().enumerate() {
        copy.phase(match path.contains('/') {
            false => Phase::Start,
            true if index + 1 < count => Phase::Running,
            true => Phase::Closing,
        });
        let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let aside = format!("{above}/.{name}.Xq3TzL");
        copy.write_aside(aside.trim_start_matches('/'), &path, &bytes);
    }
    script.steps = copy.steps;
    script.left_out.extend(copy.left_out);
}
