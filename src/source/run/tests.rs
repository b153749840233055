//! Whole runs, as instruments write them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::super::tests::{path, settings};
use super::*;
use crate::model::FailureKind;
use crate::source::{Profile, Settings};

struct Run {
    root: tempfile::TempDir,
    run: &'static str,
    profile: &'static str,
}

impl Run {
    fn new(profile: &'static str, run: &'static str) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(run)).unwrap();
        Self { root, run, profile }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(self.run).join(name)
    }

    fn with(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        fs::write(self.at(name), bytes).unwrap();
        self
    }

    fn read(&self) -> RunReading {
        self.read_without(&[])
    }

    /// Reads it where matching files are not uploaded.
    fn read_without(&self, exclude: &[&str]) -> RunReading {
        let filter = filter(self.profile, exclude);
        read_run(&DirectoryRoot::at(self.root.path()), &path(self.run), &filter).unwrap()
    }
}

fn filter(profile: &str, exclude: &[&str]) -> Filter {
    let exclude = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
    let profile = Profile::builtin(profile).unwrap();
    Filter::new(&Settings { profile, exclude, ..settings() }).unwrap()
}

fn word<'a>(reading: &'a RunReading, name: &str) -> &'a str {
    reading.words.get(name).map_or("", String::as_str)
}

fn run_info(instrument: &str, date: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\r\n<RunInfo Version=\"5\">\r\n  <Run Id=\"the-run\" Number=\"42\">\r\n    \
         <Flowcell>HXYZDRX5</Flowcell>\r\n    <Instrument>{instrument}</Instrument>\r\n    \
         <Date>{date}</Date>\r\n  </Run>\r\n</RunInfo>\r\n"
    )
}

const NOVASEQ: &str = "260301_A00123_0042_BHXYZDRX5";

#[test]
fn illumina_says_who_it_is_and_each_generation_ends_in_its_way() {
    let copy = (vec![0b001], "CopyComplete.txt");
    let rta = (vec![0b010], "RTAComplete.txt");
    let either =
        (vec![0b010, 0b100, 0b001], "RTAComplete.txt or RTAComplete.xml or CopyComplete.txt");
    let unknown = (vec![0b001], "CopyComplete.txt (the instrument is not known)");
    let table = [
        ("A00123", "3/1/2026 5:26:34 PM", &copy),
        ("LH00123", "2026-03-01T17:26:34Z", &copy),
        ("VH00123", "2026-03-01T17:26:34Z", &copy),
        ("SH00123", "2026-03-01T17:26:34Z", &copy),
        ("SL00123", "2026-03-01T17:26:34Z", &copy),
        ("7001234F", "260301", &rta),
        ("HWUSI-EAS1", "260301", &rta),
        ("M01234", "260301", &rta),
        ("D00123", "260301", &rta),
        ("K00123", "260301", &rta),
        ("ST-E00123", "260301", &rta),
        ("MN01234", "260301", &either),
        ("NB501234", "260301", &either),
        ("NDX550123", "260301", &either),
        ("FS10000123", "260301", &either),
        ("Custom", "260301", &unknown),
    ];
    for (instrument, date, (closers, waits_for)) in table {
        let run =
            Run::new("illumina", "renamed by hand").with("RunInfo.xml", run_info(instrument, date));
        let reading = run.read();
        assert_eq!(word(&reading, "run_id"), "the-run");
        assert_eq!(word(&reading, "instrument"), instrument);
        assert_eq!(word(&reading, "flowcell"), "HXYZDRX5");
        assert_eq!(word(&reading, "date"), "2026-03-01", "{date}");
        assert!(reading.is_identified);
        assert_eq!((&reading.closers, reading.waits_for.as_str()), (closers, *waits_for));
        let waits_longer = instrument.starts_with(['F', 'N', 'M']);
        let expected = if waits_longer { (0b001, 5) } else { (0, 1) };
        assert_eq!((reading.sooner_with, reading.patience), expected, "{instrument}");
    }
}

#[test]
fn a_wave_waits_for_a_marker_of_its_own_directory() {
    let run = Run::new("illumina", NOVASEQ).with("Analysis/notes.txt", "");
    assert_eq!((run.read().late.missing, run.read().late.ends), (vec![], 0b11000));
    let run = run.with("Analysis/1/Data/a.vcf", "").with("Analysis/2/Data/b.vcf", "");
    let end = "Analysis/1/Data/Secondary_Analysis_Complete.txt";
    let other = "Analysis/2/Data/Secondary_Analysis_Complete.txt";
    assert_eq!(run.read().late.missing, [end, other]);
    let run = run.with(end, "");
    assert_eq!(run.read().late.missing, [other]);
    assert!(run.with("Analysis/2/CopyComplete.txt", "").read().late.missing.is_empty());
}

#[test]
fn a_run_is_skipped_by_what_it_says_and_by_what_it_lacks() {
    let skip = |text: &str| {
        Run::new("element", "20260301_AV1_Ax").with("RunParameters.json", text).read().skip
    };
    let yes = |why: &str| SkipVerdict::Yes(why.to_owned());
    for kind in ["Wash", "PrimeRun", "MaintenanceWash"] {
        let said = skip(&format!("{{\"RunType\": {kind:?}}}"));
        assert_eq!(said, yes("it is a wash or prime run"), "{kind}");
    }
    assert_eq!(skip("{\"RunType\": \"Sequencing\"}"), SkipVerdict::No);
    for undecided in ["{\"RunType\": ", "{}", ""] {
        assert_eq!(skip(undecided), SkipVerdict::Undecided, "{undecided}");
    }
    let name = "study/S 1/20260301_1726_1A_PAW12345_0123abcd";
    let run = Run::new("nanopore", name).with("report_x.html", "");
    assert_eq!(run.read().skip, SkipVerdict::Undecided);
    let run = run.with("final_summary_x.txt", "instrument=X\n");
    assert_eq!(run.read().skip, yes("it ended before there was a read"));
    assert_eq!(run.with("pod5_pass/barcode01/a.pod5", "").read().skip, SkipVerdict::No);
    assert_eq!(Run::new("illumina", NOVASEQ).read().skip, SkipVerdict::No);
}

#[test]
fn run_that_is_not_whole_is_not_identified_and_its_name_stands_in() {
    let whole = run_info("A00123", "260301");
    let mut odd = b"\xef\xbb\xbf".to_vec();
    odd.extend_from_slice(whole.as_bytes());
    assert!(Run::new("illumina", NOVASEQ).with("RunInfo.xml", &odd).read().is_identified);
    assert!(Run::new("illumina", NOVASEQ).with("runinfo.xml", &whole).read().is_identified);
    let latin = whole.replace("HXYZDRX5", "H\u{e9}").replace('\u{e9}', "?").into_bytes();
    let latin: Vec<u8> = latin.iter().map(|b| if *b == b'?' { 0xe9 } else { *b }).collect();
    let html = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>";
    for text in [&whole.as_bytes()[..whole.len() / 2], b"", html.as_bytes(), &latin, b"\0\xff"] {
        let reading = Run::new("illumina", NOVASEQ).with("RunInfo.xml", text).read();
        assert!(!reading.is_identified);
        assert_eq!(word(&reading, "run_id"), NOVASEQ);
        assert_eq!(word(&reading, "instrument"), "A00123");
        assert_eq!(word(&reading, "flowcell"), "HXYZDRX5");
        assert_eq!(word(&reading, "date"), "2026-03-01");
        assert_eq!(reading.waits_for, "CopyComplete.txt");
    }
    let reading = Run::new("illumina", "stray").read();
    assert!(!reading.is_identified);
    assert_eq!(reading.words.len(), 1, "its name: {reading:?}");
}

#[test]
fn outcome_is_kept_in_both_dialects_and_others_are_flagged() {
    let outcome = |text: &str| {
        let run = Run::new("illumina", NOVASEQ).with("RunCompletionStatus.xml", text);
        run.read().outcome.map(|outcome| (outcome.word, outcome.is_success))
    };
    let says = |element: &str, word: &str| {
        let body = format!("<{element}>{word}</{element}><CompletedReads>4</CompletedReads>");
        outcome(&format!(
            "<?xml version=\"1.0\"?><RunCompletionStatus>{body}</RunCompletionStatus>"
        ))
    };
    assert_eq!(says("RunStatus", "RunCompleted"), Some(("RunCompleted".into(), true)));
    assert_eq!(says("RunStatus", "RunErrored"), Some(("RunErrored".into(), false)));
    let planned = Some(("CompletedAsPlanned".into(), true));
    assert_eq!(says("CompletionStatus", "CompletedAsPlanned"), planned);
    let early = Some(("ExceptionEndedEarly".into(), false));
    assert_eq!(says("CompletionStatus", "ExceptionEndedEarly"), early);
    assert_eq!(outcome("<RunCompletionStatus><RunStatus>RunCompl"), None);
    let element = |text: &str| {
        let run = Run::new("element", "20260301_AV1_Ax").with("RunUploaded.json", text);
        run.read().outcome.map(|outcome| (outcome.word, outcome.is_success))
    };
    let failed = element("{\"version\": \"1\", \"outcome\": \"OutcomeFailed\"}");
    assert_eq!(failed, Some(("OutcomeFailed".into(), false)));
    let fine = element("{\"outcome\": \"OutcomeCompleted\"}");
    assert_eq!(fine, Some(("OutcomeCompleted".into(), true)));
    assert_eq!(element("{\"outcome\": "), None);
}

#[test]
fn samples_name_their_files() {
    let sheet = "[Header]\r\n[BCLConvert_Data]\r\nSample_ID,Index\r\nNA1,A\r\nNA1_2,C\r\n";
    let reading = Run::new("illumina", NOVASEQ).with("SampleSheet.csv", sheet).read();
    assert_eq!(reading.samples, ["NA1", "NA1_2"]);
    assert_eq!(reading.sample_of(b"NA1_2_S1_L001_R1_001.fastq.gz"), Some("NA1_2"));
    assert_eq!(reading.sample_of(b"L001_1.cbcl"), None);
}

#[test]
fn manifest_tells_what_is_not_there() {
    let list = "Path\tChecksum\r\nData/a.cbcl\t0a\r\nData\\b.cbcl\t0b\r\n../c\t0c\r\n\r\n";
    let run = Run::new("illumina", NOVASEQ).with("Manifest.tsv", list).with("Data/a.cbcl", "");
    assert_eq!(run.read().missing, ["Data/b.cbcl"]);
    assert!(run.with("Data/b.cbcl", "").read().missing.is_empty());
    let many: String = (0..100).map(|at| format!("Data/{at}\t0\n")).collect();
    let run = Run::new("illumina", NOVASEQ).with("Manifest.tsv", many);
    assert_eq!(run.read().missing.len(), 5);
}

#[test]
fn a_heading_of_a_manifest_is_told_by_what_it_says() {
    for heading in ["Path\t0", "File Path\tMD5", "#file_name\t0"] {
        let run = Run::new("illumina", NOVASEQ).with("Manifest.tsv", format!("{heading}\nb\t0\n"));
        assert_eq!(run.read().missing, ["b"], "{heading}");
    }
    for first in ["Data/gone.cbcl", "RunInfo.xml", "README", "pathology.bin"] {
        let run = Run::new("illumina", NOVASEQ).with("Manifest.tsv", format!("{first}\t0\n"));
        assert_eq!(run.read().missing, [first]);
    }
}

#[test]
fn a_manifest_is_asked_for_what_would_be_sent() {
    let list = "Thumbnail_Images/L001/a.jpg\t0\nLogs/x.log\t0\n.DS_Store\t0\nData/b.cbcl\t0\n";
    let run = Run::new("illumina", NOVASEQ).with("Manifest.tsv", list);
    assert_eq!(run.read().missing, ["Logs/x.log", "Data/b.cbcl"]);
    assert_eq!(run.read_without(&["*.log", "**/Data/**"]).missing, Vec::<String>::new());
}

#[test]
fn nanopore_is_known_by_its_path() {
    let run = Run::new("nanopore", "study/S 1/20260301_1726_1A_PAW12345_0123abcd")
        .with(
            "sample_sheet_PAW.csv",
            "flow_cell_id,sample_id,barcode,alias\nPAW,S 1,barcode01,mouse\n",
        )
        .with(
            "output_hash_PAW.csv",
            "runid,file_hash,file_path\nr,0,pod5/a.pod5\nr,0,./pod5/b.pod5\n",
        )
        .with("pod5/a.pod5", "");
    let reading = run.read();
    assert!(reading.is_identified);
    assert_eq!(word(&reading, "run_id"), "20260301_1726_1A_PAW12345_0123abcd");
    assert_eq!(word(&reading, "instrument"), "1A");
    assert_eq!(word(&reading, "flowcell"), "PAW12345");
    assert_eq!(word(&reading, "date"), "2026-03-01");
    assert_eq!(word(&reading, "sample"), "S 1");
    assert_eq!(reading.samples, ["S 1", "mouse"]);
    assert_eq!(reading.waits_for, "final_summary_*.txt");
    assert_eq!(reading.missing, ["pod5/b.pod5"]);
    let bare = Run::new("nanopore", "20260301_1726_1A_PAW12345_0123abcd")
        .with("final_summary_x.txt", "instrument=h\r\nsample_id=S2\r\n");
    assert_eq!(word(&bare.read(), "sample"), "S2");
}

#[test]
fn pacbio_is_known_by_its_movie() {
    let done = "2\nm84001_260301_101500_s1\n/data/icc/r84001_20260301_101112/1_A01/hifi_reads/a.bam\n\
        /data/icc/r84001_20260301_101112/1_A01/hifi_reads/b.bam\n";
    let run = Run::new("pacbio", "r84001_20260301_101112/1_A01");
    let early = run.read();
    assert!(!early.is_identified);
    assert_eq!(word(&early, "run_id"), "r84001_20260301_101112");
    let reading = run
        .with("metadata/m84001_260301_101500_s1.transferdone", done)
        .with("hifi_reads/a.bam", "")
        .read();
    assert!(reading.is_identified);
    assert_eq!(word(&reading, "run_id"), "m84001_260301_101500_s1");
    assert_eq!(word(&reading, "instrument"), "84001");
    assert_eq!(word(&reading, "flowcell"), "1_A01");
    assert_eq!(word(&reading, "date"), "2026-03-01");
    assert_eq!(reading.missing, ["hifi_reads/b.bam"]);
    assert_eq!(reading.waits_for, "metadata/*.transferdone");
}

#[test]
fn element_is_known_by_its_parameters() {
    let text = "{\"RunName\": \"r\", \"RunID\": \"0b5f-run/1\", \"FlowcellID\": \"2412345678\",\
        \"InstrumentName\": \"AV123456\", \"Date\": \"2026-03-01T17:26:34.123Z\"}";
    let reading = Run::new("element", "20260301_AV123456_Ar")
        .with("RunParameters.json", text)
        .with("RunManifest.csv", "[Settings],\nx,y\n[SAMPLES],,\nSampleName,Index1\nS1,A\nPhiX,C\n")
        .read();
    assert!(reading.is_identified);
    assert_eq!(word(&reading, "run_id"), "0b5f-run-1", "a word is no path");
    assert_eq!(word(&reading, "instrument"), "AV123456");
    assert_eq!(word(&reading, "flowcell"), "2412345678");
    assert_eq!(word(&reading, "date"), "2026-03-01");
    assert_eq!(reading.samples, ["S1", "PhiX"]);
}

#[test]
fn mgi_and_plain_close_for_want_of_change() {
    let reading = Run::new("mgi", "V350012345").read();
    assert!(reading.is_identified && reading.closers.is_empty());
    assert_eq!(word(&reading, "flowcell"), "V350012345");
    assert_eq!(reading.waits_for, "no change (the vendor names no marker)");
    let plain = Run::new("plain", "anything").read();
    assert!(plain.is_identified && plain.closers.is_empty() && plain.words.is_empty());
    assert_eq!(plain.waits_for, "no change");
}

#[test]
fn words_that_are_no_names_are_not_taken() {
    for bad in ["..", ".", "", " ", "a\nb", &"x".repeat(300)] {
        let text = run_info(bad, "soon");
        let reading = Run::new("illumina", "run").with("RunInfo.xml", text).read();
        assert_eq!(word(&reading, "instrument"), "", "{bad}");
        assert_eq!(word(&reading, "date"), "");
        assert!(reading.is_identified);
    }
}

#[test]
fn nothing_is_read_from_elsewhere_or_from_what_is_no_file() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("RunInfo.xml"), run_info("A1", "260301")).unwrap();
    let run = Run::new("illumina", NOVASEQ);
    symlink(outside.path().join("RunInfo.xml"), run.at("RunInfo.xml")).unwrap();
    assert!(!run.read().is_identified);
    fs::remove_file(run.at("RunInfo.xml")).unwrap();
    fs::create_dir(run.at("RunInfo.xml")).unwrap();
    assert!(!run.read().is_identified);
    fs::remove_dir(run.at("RunInfo.xml")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, run.at("RunInfo.xml"), rustix::fs::Mode::RWXU).unwrap();
    assert!(!run.read().is_identified);
    fs::remove_file(run.at("RunInfo.xml")).unwrap();
    let run = run.with("real.xml", run_info("A1", "260301"));
    symlink("real.xml", run.at("RunInfo.xml")).unwrap();
    assert!(run.read().is_identified, "a link within the drop directory is followed");
}

proptest::proptest! {
    /// Whatever the content of the files, reading never fails and never panics.
    #[test]
    fn no_bytes_make_it_fail(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), cut in 0_usize..300) {
        let mut whole = run_info("A00123", "260301").into_bytes();
        whole.truncate(cut);
        whole.extend_from_slice(&bytes);
        let run = Run::new("illumina", NOVASEQ)
            .with("RunInfo.xml", &whole)
            .with("RunCompletionStatus.xml", &bytes)
            .with("SampleSheet.csv", [b"[Data]\nSample_ID\n", bytes.as_slice()].concat())
            .with("Manifest.tsv", [b"a\tb\n", bytes.as_slice()].concat());
        let reading = run.read();
        proptest::prop_assert!(reading.words.contains_key("run_id"));
        let element = Run::new("element", "run").with("RunParameters.json", &bytes);
        proptest::prop_assert!(!element.read().is_identified);
    }
}

#[test]
fn too_long_a_file_is_said() {
    let run = Run::new("illumina", NOVASEQ).with("RunInfo.xml", vec![b' '; (4 << 20) + 1]);
    let reading = run.read();
    assert!(!reading.is_identified);
    assert_eq!(reading.notes, ["RunInfo.xml is longer than 4 MiB and was not read"]);
}

#[test]
fn file_on_its_own_is_read_by_its_name_and_a_missing_run_is_gone() {
    let run = Run::new("illumina", NOVASEQ).with("../alone.txt", "");
    let (root, filter) = (DirectoryRoot::at(run.root.path()), filter("illumina", &[]));
    let alone = read_run(&root, &path("alone.txt"), &filter).unwrap();
    assert!(alone.is_identified && alone.closers.is_empty());
    assert_eq!(word(&alone, "run_id"), "alone.txt");
    let gone = read_run(&root, &path("gone"), &filter).unwrap_err();
    assert_eq!(gone.kind, FailureKind::SourceGone);
}
