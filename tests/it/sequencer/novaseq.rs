//! NovaSeq 6000: cycles as cbcl, `SequenceComplete.txt` long before `CopyComplete.txt`.

use super::Phase;
use super::illumina::{self, RunInfo};
use super::script::Script;

pub(super) fn write(script: &mut Script) {
    let info = describe(script);
    let samples = illumina::open(script, &info, 3);
    start(script, &info, &samples);
    script.phase(Phase::Running);
    for cycle in 1..=info.cycle_count() {
        run_cycle(script, &info, cycle);
    }
    script.phase(Phase::Closing);
    script.write("Basecalling_Netcopy_complete.txt", "3/2/2026,11:59:00.000,RTA v3.4.4\r\n");
    illumina::interop(script, info.cycle_count() + 1);
    script.rewrite("RunParameters.xml", info.parameters("NovaSeq Control Software, ended"));
    script.write("SequenceComplete.txt", "");
    script.write("RTAComplete.txt", "");
    script.remove("Logs/.~lock.run.log#");
    script.write_marker("CopyComplete.txt", "");
}

fn describe(script: &mut Script) -> RunInfo {
    let instrument = format!("A0{}", script.digits(4));
    let number = 1 + script.below(900);
    let flowcell = format!("H{}DSX7", script.code(4));
    RunInfo {
        version: 5,
        id: format!("260301_{instrument}_{number:04}_A{flowcell}"),
        number,
        flowcell,
        instrument,
        date: "3/1/2026 5:26:34 PM".into(),
        reads: illumina::paired(script.scale.count),
        lanes: 2,
        surfaces: 2,
        tiles: 2,
    }
}

fn start(script: &mut Script, info: &RunInfo, samples: &[String]) {
    script.mkdir("Data/Intensities/BaseCalls");
    script.write_first("RunInfo.xml", info.xml());
    script.write_left_out("RunParameters.xml.tmp", info.parameters("NovaSeq Control Software"));
    script.rename("RunParameters.xml.tmp", "RunParameters.xml");
    let parameters = format!("{}/RunParameters.xml", info.id);
    script.first.push(parameters);
    script.write_first("SampleSheet.csv", illumina::sheet_v1("3/1/2026", samples));
    script.write("RTA3.cfg", "[RTA]\r\nVersion=3.4.4\r\n");
    script.write("Config/Effective.cfg", "[Effective]\r\n");
    script.write(&format!("Recipe/{}.xml", info.flowcell), "<Recipe/>\n");
    script.write_left_out("Logs/.~lock.run.log#", "");
    let positions = script.data(&[1, 0, 0, 0], 2000);
    script.write("Data/Intensities/s.locs", positions);
}

fn run_cycle(script: &mut Script, info: &RunInfo, cycle: usize) {
    illumina::cbcl(script, info, cycle);
    illumina::log(script, "Logs/run.log", cycle - 1);
    if cycle % 5 == 1 {
        illumina::interop(script, cycle - 1);
        illumina::thumbnail(script, cycle);
    }
    if cycle == illumina::FILTER_CYCLE {
        illumina::filters(script, info);
    }
    let ends: Vec<_> = info
        .reads
        .iter()
        .scan(0, |sum, read| {
            *sum += read.cycles;
            Some(*sum)
        })
        .collect();
    if let Some(read) = ends.iter().position(|end| *end == cycle) {
        script.write(&format!("RTARead{}Complete.txt", read + 1), "");
    }
}
