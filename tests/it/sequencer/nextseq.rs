//! NextSeq 2000: one lane of cbcl, the end of the run recorded in `RunCompletionStatus.xml`.

use super::Phase;
use super::illumina::{self, RunInfo};
use super::script::Script;

pub(super) fn write(script: &mut Script) {
    let instrument = format!("VH00{}", script.digits(3));
    let number = 1 + script.below(400);
    let flowcell = format!("AA{}M5", script.code(5));
    let info = RunInfo {
        version: 6,
        id: format!("260301_{instrument}_{number}_{flowcell}"),
        number,
        flowcell,
        instrument,
        date: "2026-03-01T17:26:34Z".into(),
        reads: illumina::paired(script.scale.count),
        lanes: 1,
        surfaces: 2,
        tiles: 2,
    };
    let samples = illumina::open(script, &info, 2);
    script.write_first("RunInfo.xml", info.xml());
    script.write_first("RunParameters.xml", info.parameters("NextSeq 1000/2000 Control Software"));
    script.write_first("SampleSheet.csv", illumina::sheet_v2("pool 3", &samples));
    script.write("RTA3.cfg", "[RTA]\nVersion=3.9.25\n");
    let positions = script.data(&[1, 0, 0, 0], 2000);
    script.write("Data/Intensities/s.locs", positions);
    run(script, &info);
    script.phase(Phase::Closing);
    illumina::interop(script, info.cycle_count() + 1);
    script
        .write("RunCompletionStatus.xml", illumina::completion_status(&info, "CompletedAsPlanned"));
    script.write("RTAComplete.txt", "");
    script.write_marker("CopyComplete.txt", "");
}

fn run(script: &mut Script, info: &RunInfo) {
    script.phase(Phase::Running);
    script.write_left_out("Thumbnail_Images/Thumbs.db", "thumbs");
    for cycle in 1..=info.cycle_count() {
        illumina::cbcl(script, info, cycle);
        illumina::log(script, "Logs/control.log", cycle - 1);
        if cycle % 5 == 1 {
            illumina::interop(script, cycle - 1);
        }
        if cycle % 3 == 1 {
            illumina::thumbnail(script, cycle);
        }
        if cycle == illumina::FILTER_CYCLE {
            illumina::filters(script, info);
        }
    }
}
