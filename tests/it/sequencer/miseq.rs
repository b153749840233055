//! MiSeq: a file for each tile and cycle, `runParameters.xml` in lower case, local analysis at the end.

use super::Phase;
use super::illumina::{self, Read, RunInfo};
use super::script::Script;

pub(super) fn write(script: &mut Script) {
    let info = describe(script);
    let samples = illumina::open(script, &info, 2);
    script.write_first("RunInfo.xml", info.xml());
    script.write_first("runParameters.xml", info.parameters("MiSeq Control Software"));
    script.write_first("SampleSheet.csv", illumina::sheet_v1("3/1/2026", &samples));
    script.write("Recipe/MiSeq.xml", "<Recipe/>\n");
    for tile in info.tile_names() {
        let positions = script.data(&[1, 0, 0, 0], 500);
        script.write(&format!("Data/Intensities/L001/s_1_{tile}.locs"), positions);
    }
    run(script, &info);
    script.phase(Phase::Closing);
    illumina::interop(script, info.cycle_count() + 1);
    script.write("Basecalling_Netcopy_complete.txt", "3/2/2026,11:59:00.000,RTA v1.18\r\n");
    script.write_marker("RTAComplete.txt", "");
    analyse(script, &samples);
}

fn describe(script: &mut Script) -> RunInfo {
    let instrument = format!("M0{}", script.digits(4));
    let number = 1 + script.below(900);
    let flowcell = format!("000000000-K{}", script.code(4));
    let length = 14 * script.scale.count;
    RunInfo {
        version: 2,
        id: format!("260301_{instrument}_{number:04}_{flowcell}"),
        number,
        flowcell,
        instrument,
        date: "260301".into(),
        reads: [(length, false), (2, true), (length, false)]
            .map(|(cycles, is_index)| Read { cycles, is_index })
            .to_vec(),
        lanes: 1,
        surfaces: 1,
        tiles: 2,
    }
}

fn run(script: &mut Script, info: &RunInfo) {
    script.phase(Phase::Running);
    for cycle in 1..=info.cycle_count() {
        let folder = format!("Data/Intensities/BaseCalls/L001/C{cycle}.1");
        for tile in info.tile_names() {
            let bytes = script.data(&[0, 1, 0, 0], 1200);
            script.write(&format!("{folder}/s_1_{tile}.bcl"), bytes);
            let bytes = script.data(&[], 120);
            script.write(&format!("{folder}/s_1_{tile}.stats"), bytes);
        }
        illumina::log(script, "Logs/run.log", cycle - 1);
        illumina::log(script, "Data/RTALogs/RTA.log", cycle - 1);
        illumina::thumbnail(script, cycle);
        if cycle % 5 == 1 {
            illumina::interop(script, cycle - 1);
        }
        if cycle == illumina::FILTER_CYCLE {
            illumina::filters(script, info);
            for tile in info.tile_names() {
                let bytes = script.data(&[], 300);
                let path = format!("Data/Intensities/BaseCalls/L001/s_1_{tile}.control");
                script.write(&path, bytes);
            }
        }
    }
    for read in 1..=info.reads.len() {
        let path = format!("Basecalling_Netcopy_complete_Read{read}.txt");
        script.write(&path, "3/2/2026,11:58:00.000,RTA v1.18\r\n");
    }
}

fn analyse(script: &mut Script, samples: &[String]) {
    script.phase(Phase::Late);
    script.write("QueuedForAnalysis.txt", "");
    let calls = "Data/Intensities/BaseCalls";
    for (index, sample) in samples.iter().enumerate() {
        for read in ["R1", "R2"] {
            let bytes = script.data(&[0x1f, 0x8b, 8, 0], 2000);
            let name = format!("{sample}_S{}_L001_{read}_001.fastq.gz", index + 1);
            script.write(&format!("{calls}/{name}"), bytes);
        }
    }
    script.write(&format!("{calls}/Alignment_1/DemultiplexSummaryF1L1.txt"), "SampleName\r\n");
    script.write("GenerateFASTQRunStatistics.xml", "<StatisticsGenerateFASTQ/>\n");
    script.write_late_marker("CompletedJobInfo.xml", "<AnalysisJobInfo/>\n");
}
