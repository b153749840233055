//! Plans one upload: the part size to wish for, and the place and name at the destination.
//!
//! Both are frozen at admission. What cannot fit is refused here, before anything is asked of the
//! platform, with the reason an operator reads.

use crate::model::{
    ByteCount, Description, ParkReason, PartLimits, PartSize, SourcePath, Target, Unit, WallTime,
};

use super::settings::{DestinationSettings, DropSettings};

const MIB: u64 = 1024 * 1024;

/// Chooses the part size for a file: the wish, raised until the parts are few enough.
///
/// A raised size is a whole number of MiB and leaves a tenth of the part numbers unused, for a
/// platform that settles on a smaller size than wished.
///
/// # Errors
/// [`ParkReason::TooLarge`] when no allowed part size makes the file fit.
pub(crate) fn part_size(
    limits: &PartLimits,
    wish: PartSize,
    size: ByteCount,
) -> Result<PartSize, ParkReason> {
    if size > limits.file_max {
        return Err(ParkReason::TooLarge);
    }
    let wished = wish.get().clamp(limits.size_min.0.max(1), limits.size_max.0.max(1));
    let count_wanted = u64::from(limits.count_max) - u64::from(limits.count_max / 10);
    let needed = if size.0.div_ceil(wished) > u64::from(limits.count_max) {
        size.0.div_ceil(count_wanted).next_multiple_of(MIB).min(limits.size_max.0)
    } else {
        wished
    };
    PartSize::new(needed)
        .filter(|chosen| chosen.count_for(size).is_some_and(|count| count <= limits.count_max))
        .ok_or(ParkReason::TooLarge)
}

/// What a template may speak of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words<'a> {
    /// `{drop}`: the configured name of the drop directory.
    pub(crate) drop: &'a DropSettings,
    /// The file.
    pub(crate) path: &'a SourcePath,
    /// When it was admitted.
    pub(crate) at: WallTime,
}

impl Words<'_> {
    /// `{drop_name}`: the top-level directory, or the file itself where each file is a drop.
    fn drop_name(&self) -> String {
        let first = match self.drop.unit {
            Unit::Directory => self.path.directories().next(),
            Unit::File => None,
        };
        readable(first.unwrap_or_else(|| self.path.file_name()))
    }

    /// Replaces `{drop}`, `{drop_name}` and `{date}`.
    pub(crate) fn render(&self, template: &str) -> String {
        template
            .replace("{drop}", self.drop.name.as_str())
            .replace("{drop_name}", &self.drop_name())
            .replace("{date}", &date(self.at))
    }
}

/// Returns where a file shall stand: the rendered folder, then the file's own directories.
///
/// Where the folder already names the drop (`{drop_name}`), the file's top-level directory is not
/// repeated below it.
pub(crate) fn target(destination: &DestinationSettings, words: Words<'_>) -> Target {
    let folders = folders(&destination.folder, words);
    Target { folders, name: readable(words.path.file_name()) }
}

/// Returns the rendered template's folders, then the file's own directories.
pub(crate) fn folders(template: &str, words: Words<'_>) -> Vec<String> {
    let names_drop = words.drop.unit == Unit::Directory && template.contains("{drop_name}");
    let own = words.path.directories().skip(usize::from(names_drop)).map(readable);
    let rendered = words.render(template);
    let folders = rendered.split('/').filter(|part| !part.is_empty()).map(str::to_owned);
    folders.chain(own).collect()
}

/// Returns the metadata and tags for a file, without the mark.
pub(crate) fn description(destination: &DestinationSettings, words: Words<'_>) -> Description {
    let pairs = destination.metadata.iter();
    Description {
        metadata: pairs.map(|(key, value)| (key.clone(), words.render(value))).collect(),
        tags: destination.tags.iter().map(|tag| words.render(tag)).collect(),
        mark: None,
    }
}

/// Returns the name to try after `name` turned out to be taken: `a.fastq.gz`, `a.v2.fastq.gz`, ….
pub(crate) fn next_name(original: &str, version: u32) -> String {
    let dot = original.char_indices().skip(1).find(|(_, c)| *c == '.').map(|(at, _)| at);
    let (stem, rest) = original.split_at(dot.unwrap_or(original.len()));
    format!("{stem}.v{version}{rest}")
}

/// A name as text that a platform can carry: bytes that are not UTF-8 become `%XX`.
pub(crate) fn readable(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        out.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("%{byte:02X}")));
    }
    out
}

/// The calendar date in UTC, `YYYY-MM-DD`.
fn date(at: WallTime) -> String {
    let moment = jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default();
    moment.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Describes, DestinationName, DropName, NamePolicy, PartNumber, Traits};
    use proptest::prelude::*;
    use std::time::Duration;

    const LIMITS: PartLimits = PartLimits {
        size_min: ByteCount(5 * MIB),
        size_max: ByteCount(5 * 1024 * MIB),
        count_max: 10_000,
        file_max: ByteCount(5 * 1024 * 1024 * MIB),
    };

    fn planned(size: u64, wish: u64) -> Result<u64, ParkReason> {
        let wish = PartSize::new(wish).expect("not zero");
        part_size(&LIMITS, wish, ByteCount(size)).map(PartSize::get)
    }

    #[test]
    fn part_size_at_every_edge() {
        let wish = 64 * MIB;
        let full = wish * 10_000;
        for (size, expected) in [
            (0, Ok(wish)),
            (1, Ok(wish)),
            (wish - 1, Ok(wish)),
            (wish, Ok(wish)),
            (wish + 1, Ok(wish)),
            (full, Ok(wish)),
            (full + 1, Ok(72 * MIB)),
            (LIMITS.file_max.0, Ok(583 * MIB)),
            (LIMITS.file_max.0 + 1, Err(ParkReason::TooLarge)),
            (u64::MAX, Err(ParkReason::TooLarge)),
        ] {
            assert_eq!(planned(size, wish), expected, "size {size}");
        }
        assert_eq!(planned(10, 1), Ok(5 * MIB), "a wish below the minimum is raised");
        assert_eq!(planned(10, u64::MAX), Ok(5 * 1024 * MIB), "a wish above the maximum is cut");
    }

    proptest! {
        #[test]
        fn a_plan_covers_the_file_once_in_order_within_limits(
            size in 0..LIMITS.file_max.0,
            wish in 1..8 * 1024 * MIB,
        ) {
            let size = ByteCount(size);
            let chosen = part_size(&LIMITS, PartSize::new(wish).expect("not zero"), size)
                .expect("below the largest file");
            let count = chosen.count_for(size).expect("few parts");
            prop_assert!((1..=LIMITS.count_max).contains(&count));
            prop_assert!(chosen.get() >= LIMITS.size_min.0 && chosen.get() <= LIMITS.size_max.0);
            let mut next = 0;
            for number in 1..=count {
                let range = chosen.range_of(PartNumber::new(number).expect("from 1"), size);
                prop_assert_eq!(range.offset, next);
                prop_assert!(range.length == chosen.get() || number == count);
                next += range.length;
            }
            prop_assert_eq!(next, size.0);
        }
    }

    fn drop_settings(unit: Unit) -> DropSettings {
        DropSettings {
            name: DropName::new("novaseq"),
            directory: "/data".into(),
            destinations: vec![],
            unit,
            quiet_period: Duration::ZERO,
            scan_interval: Duration::ZERO,
            priority: 0,
        }
    }

    fn destination(folder: &str) -> DestinationSettings {
        DestinationSettings {
            name: DestinationName::new("cavatica"),
            platform: "sevenbridges".into(),
            traits: Traits {
                limits: LIMITS,
                reports_parts: true,
                report_max: 25,
                describes: Describes::AfterCompletion,
                finishes_drops: false,
                wants_md5_first: false,
            },
            part_size: PartSize::new(MIB).expect("not zero"),
            folder: folder.into(),
            when_name_taken: NamePolicy::Park,
            metadata: vec![("run".into(), "{drop_name}".into())],
            tags: vec!["{drop}:{date}".into()],
            export: None,
        }
    }

    fn folders(folder: &str, unit: Unit, path: &[u8]) -> (String, String) {
        let path = SourcePath::from_bytes(path);
        let drop = drop_settings(unit);
        let words = Words { drop: &drop, path: &path, at: WallTime(86_400_000_000_000) };
        let target = target(&destination(folder), words);
        (target.folders.join("/"), target.name)
    }

    #[test]
    fn targets_follow_the_template_and_the_files_own_directories() {
        let unit = Unit::Directory;
        for (folder, path, expected) in [
            ("", &b"a.txt"[..], ("", "a.txt")),
            ("runs/{drop}", b"run1/Data/a.txt", ("runs/novaseq/run1/Data", "a.txt")),
            ("runs/{drop_name}", b"run1/Data/a.txt", ("runs/run1/Data", "a.txt")),
            ("/{date}//x/", b"a b%c", ("1970-01-02/x", "a b%c")),
            ("", b"d\xff/n\xfe", ("d%FF", "n%FE")),
        ] {
            let (dirs, name) = folders(folder, unit, path);
            assert_eq!((dirs.as_str(), name.as_str()), expected);
        }
        assert_eq!(folders("{drop_name}", Unit::File, b"d/a.txt").0, "a.txt/d");
    }

    #[test]
    fn taken_names_get_a_version_before_the_first_dot() {
        assert_eq!(next_name("a.fastq.gz", 2), "a.v2.fastq.gz");
        assert_eq!(next_name("README", 3), "README.v3");
        assert_eq!(next_name(".hidden", 2), ".hidden.v2");
    }
}
