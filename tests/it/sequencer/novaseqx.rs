//! NovaSeq X: a manifest at the top, `CopyComplete.txt`, and then the files of on-board analysis.

use md5::{Digest, Md5};

use super::Phase;
use super::illumina::{self, RunInfo};
use super::script::{Script, hex};

pub(super) fn write(script: &mut Script) {
    let info = describe(script);
    let samples = illumina::open(script, &info, 4);
    script.write_first("RunInfo.xml", info.xml());
    script.write_first("RunParameters.xml", info.parameters("NovaSeqX Control Software"));
    script.write_first("SampleSheet.csv", illumina::sheet_v2("week 9", &samples));
    script.write("RTA.cfg", "[RTA]\nVersion=4.29.3\n");
    let positions = script.data(&[1, 0, 0, 0], 2000);
    script.write("Data/Intensities/s.locs", positions);
    script.phase(Phase::Running);
    for cycle in 1..=info.cycle_count() {
        illumina::cbcl(script, &info, cycle);
        illumina::log(script, "Logs/RTA.log", cycle - 1);
        illumina::log(script, "InstrumentAnalyticsLogs/events.log", cycle - 1);
        if cycle % 6 == 1 {
            illumina::interop(script, cycle - 1);
        }
        if cycle == illumina::FILTER_CYCLE {
            illumina::filters(script, &info);
        }
    }
    close(script, &info);
    analyse(script, &samples);
}

fn describe(script: &mut Script) -> RunInfo {
    let instrument = format!("LH00{}", script.digits(3));
    let number = 1 + script.below(900);
    let flowcell = format!("22{}LT3", script.code(4));
    RunInfo {
        version: 6,
        id: format!("20260301_{instrument}_{number:04}_A{flowcell}"),
        number,
        flowcell,
        instrument,
        date: "2026-03-01T17:26:34Z".into(),
        reads: illumina::paired(script.scale.count),
        lanes: 1,
        surfaces: 2,
        tiles: 3,
    }
}

fn close(script: &mut Script, info: &RunInfo) {
    script.phase(Phase::Closing);
    illumina::interop(script, info.cycle_count() + 1);
    script.write("RTAComplete.txt", "");
    script
        .write("RunCompletionStatus.xml", illumina::run_status(info, "RunCompleted", "2026-03-01"));
    let manifest = manifest(script, "");
    script.write("Manifest.tsv", manifest);
    script.write_marker("CopyComplete.txt", "");
}

/// Path and checksum of each file below a folder of the run.
fn manifest(script: &Script, below: &str) -> String {
    let files = script.listing();
    let lines = files.iter().filter(|(path, _)| path.starts_with(below));
    lines
        .map(|(path, bytes)| {
            format!("{}\t{}\n", path.trim_start_matches(below), hex(&Md5::digest(bytes)))
        })
        .collect()
}

fn analyse(script: &mut Script, samples: &[String]) {
    script.phase(Phase::Late);
    let sheet = illumina::sheet_v2("analysis 1", samples);
    script.write("Analysis/1/Data/BCLConvert/SampleSheet.csv", sheet);
    for (index, sample) in samples.iter().enumerate() {
        for read in ["R1", "R2"] {
            let bytes = script.data(&[0x1f, 0x8b, 8, 0], 3000);
            let name = format!("{sample}_S{}_L001_{read}_001.fastq.gz", index + 1);
            let aside = format!("Analysis/1/Data/BCLConvert/fastq/{name}.tmp");
            script.write_aside(&aside, aside.trim_end_matches(".tmp"), &bytes);
        }
        let report = format!("Analysis/1/Data/DragenGermline/{sample}/{sample}.metrics.csv");
        script.write(&report, "MAPPING/ALIGNING SUMMARY,,Total input reads,1000\n");
    }
    script.write("Analysis/1/Data/summary/report.html", "<html></html>\n");
    let manifest = manifest(script, "Analysis/1/");
    script.write("Analysis/1/Manifest.tsv", manifest);
    script.write_late_marker("Analysis/1/Data/Secondary_Analysis_Complete.txt", "");
}
