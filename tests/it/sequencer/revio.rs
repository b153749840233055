//! Revio: each cell is a run, with a list of the transferred files by the instrument's own paths.

use super::script::Script;
use super::{Phase, Unit, Words};

struct Cell {
    run: String,
    well: &'static str,
    movie: String,
    sample: String,
}

pub(super) fn write(script: &mut Script) {
    let instrument = format!("84{}", script.digits(3));
    let run = format!("r{instrument}_20260301_172634");
    let cells = [("1_A01", "s1"), ("1_B01", "s2")].map(|(well, slot)| Cell {
        run: run.clone(),
        well,
        movie: format!("m{instrument}_260301_172634_{slot}"),
        sample: format!("Genome {}", script.digits(3)),
    });
    script.enter(&run);
    script.write_left_out("Transfer_Test_260301_172634.txt", "transfer test\n");
    let [a, b] = &cells;
    start(script, a, &instrument);
    script.phase(Phase::Running);
    data(script, a);
    start(script, b, &instrument);
    script.phase(Phase::Closing);
    close(script, a, 0);
    script.phase(Phase::Late);
    data(script, b);
    close(script, b, 1);
}

impl Cell {
    fn folder(&self) -> String {
        format!("{}/{}", self.run, self.well)
    }

    /// Its data files, relative to the cell, with the first bytes of their format, or, for a text, all of it.
    fn files(&self, count: usize) -> Vec<(String, &'static [u8])> {
        let movie = &self.movie;
        let mut files = Vec::new();
        for barcode in (2001..).take(2 * count) {
            let bam = format!("hifi_reads/{movie}.hifi_reads.bc{barcode}.bam");
            files.push((format!("{bam}.pbi"), &[0x1f, 0x8b, 8, 4][..]));
            files.push((bam, &[0x1f, 0x8b, 8, 4]));
        }
        files.push((format!("fail_reads/{movie}.fail_reads.bam"), &[0x1f, 0x8b, 8, 4]));
        let sets = ["hifi_reads", "fail_reads"];
        files.extend(sets.map(|set| {
            (format!("pb_formats/{movie}.{set}.consensusreadset.xml"), &b"<ConsensusReadSet/>"[..])
        }));
        files.push((format!("statistics/{movie}.ccs_report.json"), b"{}"));
        files.push((format!("statistics/{movie}.zmw_metrics.json.gz"), &[0x1f, 0x8b, 8, 0]));
        files
    }
}

fn start(script: &mut Script, cell: &Cell, instrument: &str) {
    script.enter(&cell.folder());
    let words = Words {
        run_id: cell.movie.clone(),
        instrument: instrument.to_owned(),
        flowcell: cell.well.to_owned(),
        date: "2026-03-01".into(),
        samples: vec![cell.sample.clone()],
    };
    script.units.push(Unit { name: cell.folder(), words, ..Unit::default() });
    let metadata = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<PacBioDataModel>\n\
         \x20 <CollectionMetadata Context=\"{}\" InstrumentId=\"{instrument}\" CreatedAt=\"2026-03-01T17:26:34Z\">\n\
         \x20   <WellSample Name=\"{}\"><WellName>{}</WellName></WellSample>\n\
         \x20 </CollectionMetadata>\n</PacBioDataModel>\n",
        cell.movie, cell.sample, cell.well
    );
    script.write_first(&format!("metadata/{}.metadata.xml", cell.movie), metadata);
}

/// Transferred one after the other, each first under a temporary name.
fn data(script: &mut Script, cell: &Cell) {
    script.enter(&cell.folder());
    for (path, magic) in cell.files(script.scale.count) {
        let about = if path.ends_with(".bam") { 60_000 } else { 700 };
        let is_text = path.ends_with(".xml") || path.ends_with(".json");
        let bytes = if is_text { magic.to_vec() } else { script.data(magic, about) };
        let (folder, name) = path.rsplit_once('/').expect("a folder");
        script.write_aside(&format!("{folder}/.{name}.part"), &path, &bytes);
    }
}

fn close(script: &mut Script, cell: &Cell, unit: usize) {
    script.enter(&cell.folder());
    let files = cell.files(script.scale.count);
    let mut list = format!("{}\n{}\n", files.len(), cell.movie);
    for (path, _) in files {
        list += &format!("/data/pa/{}/{path}\n", cell.folder());
    }
    let path = format!("metadata/{}.transferdone", cell.movie);
    script.units[unit].markers.push(format!("{}/{path}", cell.folder()));
    script.write(&path, list);
}
