//! The classification of instruments' paths by each profile, and the messages about bad ones.

use super::super::tests::{path, settings};
use super::super::{Filter, Settings};
use super::*;
use crate::model::{ByteCount, Fingerprint, IgnoreReason, Role, Seen, Unit};

fn filter(profile: &str, include: &[&str], order: &[&str]) -> Filter {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let profile = Profile::builtin(profile).unwrap();
    let settings = Settings { profile, include: owned(include), order: owned(order), ..settings() };
    Filter::new(&settings).unwrap()
}

/// Returns a path's result: `left out`, `left over`, or its run, its role, and its position in the order.
fn fate(filter: &Filter, text: &str) -> String {
    let path = path(text);
    if let Some(reason) = filter.refusal(&path) {
        if reason == IgnoreReason::LeftOver {
            return "left over".to_owned();
        }
        assert_eq!(reason, IgnoreReason::ByProfile, "{text}");
        return "left out".to_owned();
    }
    let place = filter.place(&path);
    let role = match place.role {
        Role::Plain => "plain".to_owned(),
        Role::Held => "held".to_owned(),
        Role::Marker(at) => format!("marker {at}"),
    };
    let many = filter.order.len() + filter.profile.first_count();
    let class = match usize::try_from(place.rank).unwrap() {
        rank if rank < many => format!("first {rank}"),
        rank if rank == many => "many".to_owned(),
        _ => "last".to_owned(),
    };
    format!("{} {role} {class}", place.run(&path))
}

/// Each line of a table: a path below the run, and its result without the run.
fn check(profile: &str, run: &str, table: &[(&str, &str)]) {
    let filter = filter(profile, &[], &[]);
    for (below, expected) in table {
        let found = fate(&filter, &format!("{run}/{below}"));
        let found = found.strip_prefix(&format!("{run} ")).unwrap_or(&found);
        assert_eq!(found, *expected, "{profile}: {run}/{below}");
    }
}

#[test]
fn every_profile_that_is_compiled_in_is_understood() {
    for name in NAMES {
        let profile = Profile::builtin(name).unwrap();
        assert_eq!(profile.name(), name);
        assert!(!profile.description().is_empty());
        assert!(profile.markers().len() <= 64);
        let based = Profile::parse(name, &format!("based_on = {name:?}\n")).unwrap();
        assert_eq!(based.markers(), profile.markers());
    }
    assert!(Profile::builtin("illumna").is_none());
    assert!(*Profile::plain() != *Profile::builtin("mgi").unwrap());
    // Two hours at the quiet period's default.
    assert!(Profile::builtin("mgi").unwrap().quiet_periods() * 2 >= 120);
    assert_eq!(Profile::builtin("nanopore").unwrap().stale_after(), Duration::from_hours(168));
}

#[test]
fn plain() {
    let plain = filter("plain", &[], &["*.xml"]);
    let table = [
        ("run/a/RunInfo.xml", "run plain first 0"),
        ("run/CopyComplete.txt", "run plain many"),
        ("run/Thumbs.db", "left over"),
        ("alone", "alone plain many"),
        (".DS_Store", "left over"),
    ];
    for (path, expected) in table {
        assert_eq!(fate(&plain, path), expected);
    }
}

#[test]
fn novaseq_x() {
    check(
        "illumina",
        "20260301_LH00123_0045_A22ABCDLT3",
        &[
            ("RunInfo.xml", "plain first 0"),
            ("RunParameters.xml", "held first 1"),
            ("SampleSheet.csv", "held first 2"),
            ("RTA.cfg", "plain many"),
            ("Data/Intensities/s.locs", "plain many"),
            ("Data/Intensities/BaseCalls/L001/C1.1/L001_1.cbcl", "plain many"),
            ("Data/Intensities/BaseCalls/L001/s_1_1101.filter", "plain many"),
            ("InterOp/C1.1/TileMetricsOut.bin", "held many"),
            ("InstrumentAnalyticsLogs/a.bin", "held many"),
            ("Logs/a/b.txt", "held many"),
            ("Manifest.tsv", "held many"),
            ("RunCompletionStatus.xml", "held many"),
            ("RTAComplete.txt", "marker 1 last"),
            ("CopyComplete.txt", "marker 0 last"),
            ("Analysis/1/Data/Secondary_Analysis_Complete.txt", "marker 3 last"),
            ("Analysis/1/CopyComplete.txt", "marker 4 last"),
            ("Analysis/1/Data/x.vcf", "plain many"),
            ("Thumbs.db", "left over"),
        ],
    );
}

#[test]
fn novaseq_6000() {
    check(
        "illumina",
        "260301_A00123_0042_BHXYZDRX5",
        &[
            ("RunInfo.xml", "plain first 0"),
            ("RTA3.cfg", "plain many"),
            ("Config/Effective.cfg", "plain many"),
            ("Recipe/recipe.xml", "held many"),
            ("Data/Intensities/BaseCalls/L002/C151.1/L002_2.cbcl", "plain many"),
            ("Thumbnail_Images/L001/C1.1/s_1_1101_green.jpg", "left out"),
            ("SequenceComplete.txt", "held many"),
            ("RTAComplete.txt", "marker 1 last"),
            ("CopyComplete.txt", "marker 0 last"),
        ],
    );
}

#[test]
fn nextseq_2000() {
    check(
        "illumina",
        "260301_VH00123_7_AAABBBCM5",
        &[
            ("Data/Intensities/BaseCalls/L001/C5.1/L001_1.cbcl", "plain many"),
            ("Logs/SystemLog.log", "held many"),
            ("InterOp/QMetricsOut.bin", "held many"),
            ("CopyComplete.txt", "marker 0 last"),
        ],
    );
}

#[test]
fn nextseq_550() {
    check(
        "illumina",
        "260301_NB501234_0101_AHXYZBGX9",
        &[
            ("Data/Intensities/BaseCalls/L001/0001.bcl.bgzf", "plain many"),
            ("Data/Intensities/BaseCalls/L001/s_1.bci", "plain many"),
            ("RTALogs/GlobalLog.tsv", "held many"),
            ("RTARead1Complete.txt", "held many"),
            ("RTAComplete.txt", "marker 1 last"),
            ("rtacomplete.XML", "marker 2 last"),
            ("RunCompletionStatus.xml", "held many"),
        ],
    );
}

#[test]
fn miseq() {
    check(
        "illumina",
        "260301_M01234_0099_000000000-ABCDE",
        &[
            ("runParameters.xml", "held first 1"),
            ("Data/Intensities/L001/s_1_1101.locs", "plain many"),
            ("Data/Intensities/BaseCalls/L001/C1.1/s_1_1101.bcl", "plain many"),
            ("Images/L001/C1.1/s_1_1101.tif", "left out"),
            ("thumbnail_images/L001/C1.1/a.jpg", "left out"),
            ("Basecalling_Netcopy_complete_Read1.txt", "held many"),
            ("RTAComplete.txt", "marker 1 last"),
            (".~lock.SampleSheet.csv#", "left over"),
        ],
    );
}

#[test]
fn promethion() {
    let run = "study/sample 1/20260301_1726_1A_PAW12345_0123abcd";
    check(
        "nanopore",
        run,
        &[
            ("sample_sheet_PAW12345_20260301_1726_0123abcd.csv", "plain first 0"),
            ("pod5/PAW12345_0123abcd_89ef0123_0.pod5", "plain many"),
            (
                "fastq_pass/barcode01/PAW12345_pass_barcode01_0123abcd_89ef0123_7.fastq.gz",
                "plain many",
            ),
            ("tmp/PAW12345_0.pod5", "left out"),
            ("queued_reads/a/b.pod5", "left out"),
            ("report_PAW12345_20260301_1726_0123abcd.html", "held many"),
            ("sequencing_summary_PAW12345_0123abcd_89ef0123.txt", "held many"),
            ("output_hash_PAW12345_0123abcd_89ef0123.csv", "held many"),
            ("other_reports/temperature.csv", "held many"),
            ("final_summary_PAW12345_0123abcd_89ef0123.txt", "marker 0 last"),
        ],
    );
    let nanopore = filter("nanopore", &[], &[]);
    // Not below a run: the top directory is the run, and nothing in it hides a run.
    assert_eq!(fate(&nanopore, "study/notes.txt"), "study plain many");
    assert_eq!(
        fate(&nanopore, "20260301_1726_1A_PAW12345_0123abcd/x").split(' ').next(),
        Some("20260301_1726_1A_PAW12345_0123abcd")
    );
    assert!(!nanopore.prunes(&path("study/tmp")));
    assert!(nanopore.prunes(&path("study/s/20260301_1726_1A_PAW12345_0123abcd/queued_reads")));
}

#[test]
fn revio() {
    check(
        "pacbio",
        "r84001_20260301_101112/1_A01",
        &[
            ("metadata/m84001_260301_101500_s1.metadata.xml", "held first 0"),
            ("hifi_reads/m84001_260301_101500_s1.hifi_reads.bc2001.bam", "plain many"),
            ("pb_formats/m84001_260301_101500_s1.hifi_reads.consensusreadset.xml", "held first 1"),
            ("statistics/m84001_260301_101500_s1.ccs_report.json", "held many"),
            ("metadata/m84001_260301_101500_s1.transferdone", "marker 0 last"),
            ("other/m84001_260301_101500_s1.transferdone", "plain many"),
        ],
    );
    let pacbio = filter("pacbio", &[], &[]);
    assert_eq!(
        fate(&pacbio, "lab/r64001_20260301_101112/2_B12/x.bam"),
        "lab/r64001_20260301_101112/2_B12 plain many"
    );
    assert_eq!(fate(&pacbio, "r84001_20260301_101112/Transfer_Test_1.txt"), "left out");
    let above = "r84001_20260301_101112/run.metadata.xml";
    assert_eq!(fate(&pacbio, above), format!("{above} plain many"), "it is of no cell");
    let second = Duration::from_secs(1);
    assert!(Profile::builtin("pacbio").unwrap().closing(second).has_groups);
}

#[test]
fn mass_spectrometers() {
    let massspec = filter("massspec", &[], &[]);
    let table = [
        ("project/a.d/analysis.tdf_bin", "project/a.d held many"),
        ("project/a.d/analysis.tdf-journal", "left out"),
        ("b.raw/_FUNC001.DAT", "b.raw held many"),
        ("project/day/c.raw", "project/day/c.raw plain many"),
    ];
    for (path, expected) in table {
        assert_eq!(fate(&massspec, path), expected);
    }
    let second = Duration::from_secs(1);
    assert!(!Profile::builtin("massspec").unwrap().closing(second).has_groups);
}

#[test]
fn an_empty_file_that_is_never_empty_waits_for_its_run() {
    let filter = filter("pacbio", &[], &[]);
    let run = "r84001_20260301_101112/1_A01";
    let role = |file: &str, size: u64| {
        let version =
            Fingerprint { device: 1, inode: 1, size: ByteCount(size), mtime_ns: 0, ctime_ns: None };
        filter.place_of(&path(format!("{run}/{file}")), &Seen::File(version)).role
    };
    assert_eq!(role("hifi_reads/m.bam", 0), Role::Held);
    assert_eq!(role("hifi_reads/m.bam", 1), Role::Plain);
    assert_eq!(role("hifi_reads/m.txt", 0), Role::Plain);
    assert_eq!(role("metadata/m.transferdone", 0), Role::Marker(0));
}

#[test]
fn aviti() {
    check(
        "element",
        "20260301_AV123456_A2412345678",
        &[
            ("RunParameters.json", "plain first 0"),
            ("RunManifest.csv", "held first 1"),
            ("BaseCalls/R1_C001.zip", "plain many"),
            ("Filter/s1.filter", "plain many"),
            ("AvitiRunStats.json", "held many"),
            ("RunUploaded.json", "marker 0 last"),
        ],
    );
}

#[test]
fn dnbseq() {
    check(
        "mgi",
        "V350012345",
        &[
            ("L01/V350012345_L01_1_1.fq.gz", "plain many"),
            ("L01/BioInfo.csv", "held many"),
            ("L01/V350012345_L01.summaryReport.html", "held many"),
            ("L01/SequenceStat.txt", "held many"),
            ("L01/.nfs000001", "left over"),
        ],
    );
}

#[test]
fn what_is_left_out_may_be_asked_for() {
    let run = "260301_A00123_0042_BHXYZDRX5";
    let thumbnail = path(format!("{run}/Thumbnail_Images/L001/a.jpg"));
    let directory = path(format!("{run}/Thumbnail_Images"));
    for include in [&[][..], &["**"], &["**/*"], &["*"]] {
        let filter = filter("illumina", include, &[]);
        assert_eq!(filter.refusal(&thumbnail), Some(IgnoreReason::ByProfile), "{include:?}");
        assert_eq!(filter.pruning(&directory), Some(IgnoreReason::ByProfile), "{include:?}");
        assert!(filter.is_pruned_away(&thumbnail));
        assert!(!filter.prunes(&path("Thumbnail_Images")), "a run of that name is one");
    }
    let asked = filter("illumina", &["**", "**/Thumbnail_Images/**"], &[]);
    assert_eq!(asked.refusal(&thumbnail), None);
    assert!(!asked.prunes(&directory) && !asked.is_pruned_away(&thumbnail));
    assert!(asked.admits(&path(format!("{run}/RunInfo.xml"))));
    assert_eq!(asked.refusal(&path(format!("{run}/Images/a.tif"))), Some(IgnoreReason::ByProfile));
}

#[test]
fn the_drops_own_order_goes_before_the_profiles_and_markers_after_all() {
    let filter = filter("illumina", &[], &["*.txt", "*.filter"]);
    let run = |below: &str| fate(&filter, &format!("run/{below}"));
    assert_eq!(run("a.txt"), "run plain first 0");
    assert_eq!(run("Data/s_1_1101.filter"), "run plain first 1");
    assert_eq!(run("RunInfo.xml"), "run plain first 2");
    assert_eq!(run("Data/x.cbcl"), "run plain many");
    assert_eq!(run("CopyComplete.txt"), "run marker 0 last");
    assert_eq!(fate(&filter, "CopyComplete.txt"), "CopyComplete.txt plain first 0");
}

#[test]
fn files_as_runs_have_no_roles() {
    let filter = Filter::new(&Settings { unit: Unit::File, ..settings() }).unwrap();
    assert_eq!(fate(&filter, "a/b/CopyComplete.txt"), "a/b/CopyComplete.txt plain many");
}

#[test]
fn own_profiles_say_what_differs() {
    let own =
        "based_on = \"mgi\"\nquiet_periods = 3\n[[closes]]\nany_of = [[\"Done.txt\", \"b\"]]\n";
    let own = Profile::parse("ours", own).unwrap();
    assert_eq!((own.quiet_periods(), own.markers().len()), (3, 2));
    assert_eq!(own.stale_after(), Profile::builtin("mgi").unwrap().stale_after());
    assert_eq!(own.classify(b"done.TXT").role, Role::Marker(0));
    assert_eq!(own.classify(b"L01/BioInfo.csv").role, Role::Held);
}

#[test]
fn refusals_name_key_and_cure() {
    let base = "based_on = \"plain\"\n";
    let table = [
        ("quiet_periods = 0", "quiet_periods = 0 is not possible", "a number from 1 to 10000"),
        ("stale_after = \"9 weeks\"", "stale_after = \"9 weeks\" is no duration", "min h d"),
        ("held = [\"a[\"]", "pattern \"a[\" in held is not understood", "* and ?"),
        ("first = [\"/\"]", "first has an empty pattern", "leave it out"),
        ("runs = [\"{a\"]", "pattern \"{a\" in runs is not understood", ""),
        ("[[closes]]\nany_of = [[\"\"]]", "any_of has \"\"", "at most 64"),
        ("[[closes]]\n[[closes]]", "without `when` is not the last", "put it last"),
        ("identified_by = [\"**/a\"]", "file = \"**/a\" is not possible", "below the run"),
        ("identified_by = [\"../a\"]", "file = \"../a\" is not possible", "below the run"),
        ("[words]\ndate = [{ path = '(' }]", "\"(\" is no regular expression", "group"),
        ("[words]\ndate = [{ path = '.' }]", "has no group named date", "(?<date>"),
        ("[words]\ndate = [{ file = 'a' }]", "date does not say where", "one of xml"),
        ("[words]\ndate = [{ file = 'a', key = 'b', json = 'c' }]", "date does not say", "one of"),
        ("[words]\ndate = [{ key = 'b' }]", "a source of date is not possible", "file ="),
        ("[words]\ndate = [{ file = 'a', xml = 'a//b' }]", "xml = \"a//b\" is no place", "Element"),
        ("[[samples]]\nfile = 'a'", "[[samples]] has no columns", "Sample_ID"),
        ("[[samples]]\ncolumns = ['a']", "[[samples]] has no file", "file ="),
        ("[[outcome]]\nfile = 'a'\njson = 'b'", "[[outcome]] has no success", "RunCompleted"),
        ("[[manifest]]\nfile = 'a'\nseparator = 'dot'", "separator = \"dot\"", "line, tab, comma"),
        ("[[manifest]]\nfile = 'a'\ncolumn = 0", "column = 0 is not possible", "from 1"),
    ];
    for (text, expected, cure) in table {
        let error = Profile::parse("ours", &format!("{base}{text}\n")).unwrap_err();
        let ProfileError::Value { message, hint, span } = error else { panic!("{error}") };
        assert!(message.contains(expected), "{text}: {message}");
        assert!(hint.unwrap_or_default().contains(cure), "{text}");
        assert!(span.is_some_and(|span| span.start >= base.len()), "{text}");
    }
    for (text, expected) in [
        ("based_on = \"ours\"", "based_on = \"ours\" is no profile"),
        ("quiet_periods = 3", "stale_after is missing"),
        ("stale_after = \"1h\"", "quiet_periods is missing"),
    ] {
        let error = Profile::parse("ours", text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let many: Vec<_> = (0..65).map(|at| format!("\"m{at}\"")).collect();
    let many = format!("{base}[[closes]]\nany_of = [[{}]]\n", many.join(", "));
    assert!(Profile::parse("ours", &many).unwrap_err().to_string().contains("m64"));
}
