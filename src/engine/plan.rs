//! Plans one upload: the part size to wish for, and its folder and name at the destination.
//!
//! Both are frozen at admission. A file that cannot fit is refused here, before the platform is
//! asked, with the reason that an operator reads.

use crate::model::{
    ByteCount, Description, ParkReason, PartLimits, PartSize, RunReading, SourcePath, Target,
    WallTime,
};

use super::settings::{DestinationSettings, DirectorySettings, PartWish};

const MIB: u64 = 1024 * 1024;
/// Seconds of its own speed that a lost part may cost.
const PART_SECONDS: u64 = 10;
/// The part size when the line's speed is unknown: on a fast line larger parts are no faster, and
/// they delay the first byte of a file, whose first parts are digested in parallel.
const UNKNOWN_SIZE: u64 = 8 * MIB;
/// Larger parts are no faster, and a file with fewer parts has less parallelism.
const AUTO_MAX: u64 = 64 * MIB;
/// A file should have this many parts, unless they become too small: they are digested in parallel.
const COUNT_WANTED: u64 = 8;
/// Parts are not made smaller than this for the sake of their number.
const SPREAD_MIN: u64 = 8 * MIB;

/// Returns the part size to wish for, given the bytes per second of one part.
///
/// A chosen size is a power of two, so that the parts of most files are equally long.
pub(crate) fn wish(wish: PartWish, size: ByteCount, speed: Option<u64>) -> PartSize {
    let by_line = match (wish, speed) {
        (PartWish::Fixed(wished), _) => return wished,
        (PartWish::Auto, None) => UNKNOWN_SIZE,
        (PartWish::Auto, Some(speed)) => speed.saturating_mul(PART_SECONDS),
    };
    let by_count = (size.0 / COUNT_WANTED).max(SPREAD_MIN);
    let bytes = by_line.min(by_count).clamp(MIB, AUTO_MAX);
    PartSize::new(1 << bytes.ilog2()).expect("a power of two is not zero")
}

/// Chooses the part size for a file: the wish, raised until the parts are few enough.
///
/// A raised size is a whole number of MiB and leaves a tenth of the part numbers unused, for a
/// platform that chooses a smaller size than wished.
///
/// # Errors
/// [`ParkReason::TooLarge`] when no allowed part size makes the file fit.
fn part_size(limits: &PartLimits, wish: PartSize, size: ByteCount) -> Result<PartSize, ParkReason> {
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

/// Chooses the part size for a file that goes to a target.
///
/// # Errors
/// Why the platform does not accept a file of this size or name.
pub(crate) fn fit(
    limits: &PartLimits,
    wish: PartSize,
    size: ByteCount,
    target: &Target,
) -> Result<PartSize, ParkReason> {
    match target.path().len() as u64 > limits.path_max.0 {
        true => Err(ParkReason::NameNotAllowed),
        false => part_size(limits, wish, size),
    }
}

/// The values of the words in a template.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words<'a> {
    /// `{drop}`: the configured name of the drop directory.
    pub drop: &'a DirectorySettings,
    pub path: &'a SourcePath,
    /// Its run; the file itself where it is alone.
    pub run: &'a SourcePath,
    /// What the run's own files say.
    pub reading: Option<&'a RunReading>,
    /// Time of admission.
    pub at: WallTime,
}

/// Words whose values come from a run's own files.
const RUN_WORDS: [&str; 4] = ["run_id", "instrument", "flowcell", "sample"];
/// The value of a word that the run does not give.
const UNKNOWN: &str = "unknown";

/// Returns whether a template has words from a run's own files.
pub(crate) fn needs_reading(template: &str) -> bool {
    RUN_WORDS.iter().chain(&["date"]).any(|word| template.contains(&format!("{{{word}}}")))
}

impl Words<'_> {
    /// `{run}`: the run's own name.
    fn run_name(&self) -> String {
        readable(self.run.file_name())
    }

    /// `{date}`: that of the run where it gives one, else of admission, UTC.
    fn date(&self) -> String {
        let said = self.reading.and_then(|reading| reading.words.get("date"));
        said.cloned().unwrap_or_else(|| date(self.at))
    }

    fn run_word(&self, word: &str) -> String {
        let Some(reading) = self.reading else { return UNKNOWN.to_owned() };
        let said = match word {
            "sample" => reading.sample_of(self.path.file_name()),
            word => reading.words.get(word).map(String::as_str),
        };
        said.unwrap_or(UNKNOWN).to_owned()
    }

    /// Replaces the words in braces. Values from a run may contain anything; a slash in one makes
    /// no folder.
    pub(crate) fn render(&self, template: &str) -> String {
        let mut text =
            template.replace("{drop}", self.drop.name.as_str()).replace("{run}", &self.run_name());
        if text.contains("{date}") {
            text = text.replace("{date}", &self.date());
        }
        for word in RUN_WORDS {
            let braced = format!("{{{word}}}");
            if text.contains(&braced) {
                text = text.replace(&braced, &self.run_word(word).replace('/', "_"));
            }
        }
        text
    }

    /// Returns the file's own directories; without those above its run where the template names the run.
    fn own_directories(&self, template: &str) -> impl Iterator<Item = &[u8]> {
        let names_run = self.run != self.path
            && ["{run}", "{run_id}"].iter().any(|word| template.contains(word));
        let depth = if names_run { self.run.directories().count() + 1 } else { 0 };
        self.path.directories().skip(depth)
    }
}

/// Returns the file's target: the rendered folder, then the file's own directories.
///
/// Where the folder already names the run (`{run}`), the file's top-level directory is not repeated
/// below it.
pub(crate) fn target(destination: &DestinationSettings, words: Words<'_>) -> Target {
    Target::new(folders(&destination.folder, words), &readable(words.path.file_name()))
}

/// Returns the rendered template's folders, then the file's own directories.
pub(crate) fn folders(template: &str, words: Words<'_>) -> Vec<String> {
    let own = words.own_directories(template).map(readable);
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

/// Returns a name as text that any platform accepts: bytes that are not UTF-8 become `%XX`.
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

/// The plan of an upload, without admitting it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preview {
    /// Its target.
    pub target: Target,
    /// The part size to wish for.
    pub part_size: PartSize,
    /// The number of parts.
    pub part_count: u32,
}

impl Preview {
    /// Plans a file as admission would.
    ///
    /// # Errors
    /// Why it would be parked.
    pub(crate) fn of(
        destination: &DestinationSettings,
        words: Words<'_>,
        size: ByteCount,
    ) -> Result<Self, ParkReason> {
        let wish = wish(destination.part_size, size, None);
        let target = target(destination, words);
        let part_size = fit(&destination.traits.limits, wish, size, &target)?;
        let part_count = part_size.count_for(size).ok_or(ParkReason::TooLarge)?;
        Ok(Self { target, part_size, part_count })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{
        ChangePolicy, Describes, DestinationName, DirectoryName, NamePolicies, NamePolicy,
        PartNumber, Replaces, Traits,
    };
    use proptest::prelude::*;

    const LIMITS: PartLimits = PartLimits {
        size_min: ByteCount(5 * MIB),
        size_max: ByteCount(5 * 1024 * MIB),
        count_max: 10_000,
        file_max: ByteCount(5 * 1024 * 1024 * MIB),
        path_max: ByteCount(1024),
    };

    fn planned(size: u64, wish: u64) -> Result<u64, ParkReason> {
        let wish = PartSize::new(wish).expect("not zero");
        part_size(&LIMITS, wish, ByteCount(size)).map(PartSize::get)
    }

    #[test]
    fn a_path_that_is_too_long_fits_nowhere() {
        let wish = PartSize::new(5 * MIB).expect("not zero");
        let planned = |length: usize| {
            let target = Target::new(["runs"], &"n".repeat(length - 5));
            fit(&LIMITS, wish, ByteCount(1), &target)
        };
        assert_eq!(planned(1024), Ok(wish));
        assert_eq!(planned(1025), Err(ParkReason::NameNotAllowed));
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
        let largest = LIMITS.file_max.0;
        assert_eq!(planned(10, largest), Ok(5 * 1024 * MIB), "a wish above the maximum is cut");
    }

    #[test]
    fn the_wish_follows_the_line_and_spreads_a_file() {
        let wished = |size, speed| wish(PartWish::Auto, ByteCount(size), speed).get() / MIB;
        let huge = 1 << 40;
        for (size, speed, expected) in [
            (0, None, 8),
            (64 * MIB, None, 8),
            (127 * MIB, None, 8),
            (128 * MIB, None, 8),
            (huge, None, 8),
            (huge, Some(125_000), 1),
            (huge, Some(1), 1),
            (huge, Some(900_000), 8),
            (huge, Some(12_000_000), 64),
            (huge, Some(u64::MAX), 64),
            (64 * MIB, Some(u64::MAX), 8),
            (256 * MIB, Some(u64::MAX), 32),
        ] {
            assert_eq!(wished(size, speed), expected, "{size} at {speed:?}");
        }
        let fixed = PartSize::new(7).expect("not zero");
        assert_eq!(wish(PartWish::Fixed(fixed), ByteCount(huge), Some(1)), fixed);
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

    pub(in crate::engine) fn destination(folder: &str) -> DestinationSettings {
        DestinationSettings {
            name: DestinationName::new("cavatica"),
            platform: "sevenbridges".into(),
            address: crate::model::TargetAddress {
                platform: "sevenbridges".into(),
                base_url: "https://api.example".into(),
                container: "lab/demo".into(),
            },
            same_as: Vec::new(),
            traits: Traits {
                limits: LIMITS,
                reports_parts: true,
                report_max: 25,
                describes: Describes::AfterCompletion,
                finishes_runs: false,
                has_places: true,
                wants_md5_first: false,
                sends_whole: false,
                can_inspect: true,
                replaces: Replaces::ByETag,
                parts_need_account: true,
                etags: crate::model::ETagLaw::Mostly { reads_back: true },
            },
            part_size: PartWish::Auto,
            folder: folder.into(),
            policies: NamePolicies { taken: NamePolicy::Park, changed: ChangePolicy::Park },
            metadata: vec![("run".into(), "{run}".into())],
            tags: vec!["{drop}:{date}".into()],
            export: None,
        }
    }

    fn folders(folder: &str, run: &[u8], path: &[u8]) -> (String, String) {
        let (path, run) = (SourcePath::from_bytes(path), SourcePath::from_bytes(run));
        let drop = DirectorySettings::plain(DirectoryName::new("novaseq"), "/data".into(), vec![]);
        let said = [("run_id", "R/1"), ("date", "2026-03-01")];
        let reading = RunReading {
            words: said.map(|(word, value)| (word.to_owned(), value.to_owned())).into(),
            samples: vec!["S1".into(), "S1_A".into()],
            ..RunReading::default()
        };
        let reading = Some(&reading).filter(|_| !run.as_bytes().is_empty());
        let at = WallTime(86_400_000_000_000);
        let words = Words { drop: &drop, path: &path, run: &run, reading, at };
        let target = target(&destination(folder), words);
        (target.folder().to_owned(), target.name().to_owned())
    }

    #[test]
    fn targets_follow_the_template_and_the_files_own_directories() {
        for (folder, run, path, expected) in [
            ("", "", &b"a.txt"[..], ("", "a.txt")),
            ("runs/{drop}", "run1", b"run1/Data/a.txt", ("runs/novaseq/run1/Data", "a.txt")),
            ("runs/{run}", "run1", b"run1/Data/a.txt", ("runs/run1/Data", "a.txt")),
            ("{run}", "g/s/run1", b"g/s/run1/Data/a.txt", ("run1/Data", "a.txt")),
            ("{run_id}/{flowcell}", "r", b"r/a/S1_A_x.gz", ("R_1/unknown/a", "S1_A_x.gz")),
            ("{date}/{sample}", "r", b"r/S1_A.gz", ("2026-03-01/S1_A/r", "S1_A.gz")),
            ("/{date}//x/", "", b"a b%c", ("1970-01-02/x", "a b%c")),
            ("", "", b"d\xff/n\xfe", ("d%FF", "n%FE")),
            ("{run}", "d/a.txt", b"d/a.txt", ("a.txt/d", "a.txt")),
        ] {
            let (dirs, name) = folders(folder, run.as_bytes(), path);
            assert_eq!((dirs.as_str(), name.as_str()), expected, "{folder}");
        }
        assert!(needs_reading("x/{sample}") && !needs_reading("{drop}/{run}"));
    }

    #[test]
    fn taken_names_get_a_version_before_the_first_dot() {
        assert_eq!(next_name("a.fastq.gz", 2), "a.v2.fastq.gz");
        assert_eq!(next_name("README", 3), "README.v3");
        assert_eq!(next_name(".hidden", 2), ".hidden.v2");
    }
}
