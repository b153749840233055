//! AVITI: `RunParameters.json` before all other files, `RunUploaded.json` after them, with the outcome.

use serde_json::json;

use super::script::Script;
use super::{Phase, Words};

pub(super) fn write(script: &mut Script, outcome: &str) {
    let instrument = format!("AV24{}", script.digits(4));
    let flowcell = format!("23{}", script.digits(8));
    let samples: Vec<_> = (1..=3).map(|number| format!("lib {number}")).collect();
    let folder = format!("20260301_{instrument}_A{flowcell}");
    let run_id = format!("{}-a1b2-4c3d-8e4f-0123456789ab", script.digits(8));
    let words = Words {
        run_id: run_id.clone(),
        instrument: instrument.clone(),
        flowcell: flowcell.clone(),
        date: "2026-03-01".into(),
        samples: samples.clone(),
    };
    script.open(&folder, words);
    script.units[0].failed = outcome != "OutcomeCompleted";
    let length = 6 * script.scale.count;
    let parameters = json!({
        "FileVersion": "5.0.0", "RunName": format!("run {flowcell}"), "RunID": run_id,
        "Side": "SideA", "RunType": "Sequencing", "FlowcellID": flowcell,
        "Cycles": {"R1": length, "R2": length, "I1": 2, "I2": 2},
        "InstrumentName": instrument, "Date": "2026-03-01T17:26:34.123456789Z",
        "OperatorName": "Ольга",
    });
    script.write_first("RunParameters.json", parameters.to_string());
    let rows: String = samples.iter().map(|sample| format!("{sample},ACGT,TGCA\n")).collect();
    script.write_first("RunManifest.csv", format!("[SAMPLES]\nSampleName,Index1,Index2\n{rows}"));
    let manifest =
        json!({"Samples": samples.iter().map(|s| json!({"SampleName": s})).collect::<Vec<_>>()});
    script.write_first("RunManifest.json", manifest.to_string());
    run(script, length);
    script.phase(Phase::Closing);
    script.write("AvitiRunStats.json", json!({"RunID": run_id, "RunStats": {}}).to_string());
    let uploaded = json!({
        "version": "1.0.0", "instrument": instrument, "instrumentId": "0f1e2d3c",
        "runType": "Sequencing", "recipeExecutionId": "recipe-1", "runID": run_id,
        "outcome": outcome,
    });
    script.write_marker("RunUploaded.json", uploaded.to_string());
}

fn run(script: &mut Script, length: usize) {
    script.phase(Phase::Running);
    for (read, cycles) in [("I1", 2), ("I2", 2), ("R1", length), ("R2", length)] {
        for cycle in 1..=cycles {
            let bytes = script.data(b"PK\x03\x04", 5000);
            script.write(&format!("BaseCalls/{read}_C{cycle:03}.zip"), bytes);
        }
    }
    for tile in ["L1R01C01S1", "L1R02C01S1", "L2R01C01S2", "L2R02C01S2"] {
        for (folder, ending) in [("Filter", "filter"), ("Location", "loc"), ("Alignment", "aln")] {
            let bytes = script.data(&[0, 0, 0, 1], 800);
            script.write(&format!("{folder}/{tile}.{ending}"), bytes);
        }
    }
    let picture = script.data(b"\x89PNG\r\n\x1a\n", 900);
    script.write_left_out("RunThumbnail.png", picture);
}
