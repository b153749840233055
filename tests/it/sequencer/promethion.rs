//! PromethION: one file per tick, renamed into place; then the hashes, and the final summary after all other files.

use sha2::{Digest, Sha256};

use super::script::{Script, hex};
use super::{Phase, Words};

/// The parts of the names of all files of an acquisition.
struct Names {
    flowcell: String,
    run: String,
    acquisition: String,
    sample: String,
    folder: String,
}

pub(super) fn write(script: &mut Script) {
    let names = describe(script);
    let words = Words {
        run_id: names.folder.rsplit('/').next().unwrap_or_default().to_owned(),
        instrument: "P24S01234".into(),
        flowcell: names.flowcell.clone(),
        date: "2026-03-01".into(),
        samples: vec![names.sample.clone()],
    };
    let folder = names.folder.clone();
    script.open(&folder, words);
    start(script, &names);
    script.phase(Phase::Running);
    for tick in 0..12 * script.scale.count {
        run_tick(script, &names, tick);
    }
    close(script, &names);
}

fn describe(script: &mut Script) -> Names {
    let flowcell = format!("PAM{}", script.digits(5));
    let run = hex(&script.data(&[], 4)[..4]);
    let acquisition = hex(&script.data(&[], 4)[..4]);
    let sample = format!("Prøve {}", script.digits(3));
    let folder = format!("Group 7/{sample}/20260301_1726_1A_{flowcell}_{run}");
    Names { flowcell, run, acquisition, sample, folder }
}

impl Names {
    fn tail(&self) -> String {
        format!("{}_{}_{}", self.flowcell, self.run, self.acquisition)
    }

    fn data(&self, kind: &str, barcode: &str, number: usize, ending: &str) -> String {
        let Self { flowcell, run, acquisition, .. } = self;
        format!("{flowcell}_{kind}_{barcode}_{run}_{acquisition}_{number}.{ending}")
    }
}

fn start(script: &mut Script, names: &Names) {
    let sheet = format!(
        "protocol_run_id,position_id,flow_cell_id,sample_id,experiment_id\n\
         {}-0000-4000-8000-000000000000,1A,{},{},Group 7\n",
        names.run, names.flowcell, names.sample
    );
    script.write_first(&format!("sample_sheet_{}.csv", names.tail()), sheet);
    script.mkdir("queued_reads");
    script.mkdir("other_reports");
}

/// One tick: waiting reads, and one more data file, which is made elsewhere and renamed into place.
fn run_tick(script: &mut Script, names: &Names, tick: usize) {
    let waiting = format!("queued_reads/batch_{tick}.bin");
    let bytes = script.data(&[], 800);
    script.write_left_out(&waiting, bytes);
    let barcode = format!("barcode{:02}", tick % 3 + 1);
    let (kind, ending, magic) = match tick % 4 {
        0 => ("pod5_pass", "pod5", &b"\x8bPOD\r\n\x1a\n"[..]),
        3 => ("fastq_fail", "fastq.gz", &[0x1f, 0x8b, 8, 0][..]),
        1 => ("bam_pass", "bam", &[0x1f, 0x8b, 8, 4][..]),
        _ => ("fastq_pass", "fastq.gz", &[0x1f, 0x8b, 8, 0][..]),
    };
    let quality = kind.rsplit('_').next().unwrap_or_default();
    let name = names.data(quality, &barcode, tick, ending);
    let bytes = script.data(magic, 6000);
    script.write_aside(&format!("tmp/{name}.tmp"), &format!("{kind}/{barcode}/{name}"), &bytes);
    script.remove(&waiting);
}

fn close(script: &mut Script, names: &Names) {
    script.phase(Phase::Closing);
    let tail = names.tail();
    for ending in ["html", "json", "md"] {
        script.write(&format!("report_{tail}.{ending}"), "{}\n");
    }
    for name in ["throughput", "pore_activity"] {
        script.write(&format!("{name}_{tail}.csv"), "Experiment Time (minutes),Reads\n0,0\n");
    }
    script.write(&format!("barcode_alignment_{tail}.tsv"), "barcode\ttarget\n");
    let summary = format!("sequencing_summary_{tail}.txt");
    script.write(&summary, "filename_fastq\tread_id\n");
    script.append(&summary, "PAM\t0\n");
    let listing = script.listing();
    let lines = listing.iter().map(|(path, bytes)| {
        let hash = hex(&Sha256::digest(bytes));
        format!("{},Group 7,{},{},{hash},{path},,\n", names.run, names.flowcell, names.sample)
    });
    let hashes =
        "runid,protocol_group_id,flow_cell_id,sample_id,file_hash,file_path,barcode,barcode_alias\n"
            .to_owned() + &lines.collect::<String>();
    script.write(&format!("output_hash_{tail}.csv"), hashes);
    let end = format!(
        "instrument=P24S01234\nposition=1A\nflow_cell_id={}\nsample_id={}\n\
         protocol_run_id={}-0000-4000-8000-000000000000\nstarted=2026-03-01T17:26:34.000000+00:00\n\
         acquisition_stopped=2026-03-04T17:26:34.000000+00:00\n\
         processing_stopped=2026-03-04T17:40:00.000000+00:00\n\
         sequencing_summary_file={summary}\n",
        names.flowcell, names.sample, names.run
    );
    script.write_marker(&format!("final_summary_{tail}.txt"), end);
}
