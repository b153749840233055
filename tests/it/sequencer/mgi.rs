//! DNBSEQ: reads by lane and barcode, one report for each lane, and no file that says that the run is done.

use super::script::Script;
use super::{Phase, Words};

pub(super) fn write(script: &mut Script) {
    let flowcell = format!("V3500{}", script.digits(5));
    let words = Words {
        run_id: flowcell.clone(),
        flowcell: flowcell.clone(),
        samples: Vec::new(),
        ..Words::default()
    };
    script.open(&flowcell, words);
    let lanes = ["L01", "L02", "L03", "L04"];
    lanes.iter().for_each(|lane| script.mkdir(lane));
    script.phase(Phase::Running);
    for lane in lanes {
        for barcode in (1..).take(3 * script.scale.count) {
            let name = format!("{lane}/{flowcell}_{lane}_{barcode}");
            for read in 1..=2 {
                let bytes = script.data(&[0x1f, 0x8b, 8, 0], 4000);
                let (head, tail) = bytes.split_at(bytes.len() / 2);
                script.write(&format!("{name}_{read}.fq.gz"), head);
                script.append(&format!("{name}_{read}.fq.gz"), tail);
            }
            script.write(&format!("{name}.fq.fqStat.txt"), "#Name\tread\n");
        }
    }
    script.phase(Phase::Closing);
    for lane in lanes {
        script.write(&format!("{lane}/BarcodeStat.txt"), "#SpeciesNO\tCorrect\n");
        script.write(&format!("{lane}/SequenceStat.txt"), "#Sequence\tBarcode\n");
        let report = format!("{lane}/{flowcell}_{lane}.summaryReport.html");
        script.write(&report, "<html></html>\n");
        script.write(&format!("{lane}/BioInfo.csv"), format!("Flowcell ID,{flowcell}\n"));
    }
}
