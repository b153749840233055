//! What the Illumina instruments have in common: documents, InterOp, cycles, thumbnails, locks.

use super::Words;
use super::script::Script;

/// Filters are known after this cycle.
pub(super) const FILTER_CYCLE: usize = 26;

/// One read, as in `RunInfo.xml`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) cycles: usize,
    pub(super) is_index: bool,
}

/// The contents of `RunInfo.xml`.
#[derive(Debug)]
pub(super) struct RunInfo {
    pub(super) version: u32,
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) flowcell: String,
    pub(super) instrument: String,
    /// In the form of the instrument family.
    pub(super) date: String,
    pub(super) reads: Vec<Read>,
    pub(super) lanes: usize,
    pub(super) surfaces: usize,
    /// The number of tiles of each lane and surface.
    pub(super) tiles: usize,
}

impl RunInfo {
    pub(super) fn cycle_count(&self) -> usize {
        self.reads.iter().map(|read| read.cycles).sum()
    }

    /// The names of a lane's tiles, such as `1101`.
    pub(super) fn tile_names(&self) -> Vec<String> {
        let surface = |surface| (1..=self.tiles).map(move |tile| format!("{surface}1{tile:02}"));
        (1..=self.surfaces).flat_map(surface).collect()
    }

    pub(super) fn xml(&self) -> String {
        let read = |(index, read): (usize, &Read)| {
            let indexed = if read.is_index { "Y" } else { "N" };
            let reverse = match self.version >= 6 {
                true => " IsReverseComplement=\"N\"",
                false => "",
            };
            format!(
                "      <Read Number=\"{}\" NumCycles=\"{}\" IsIndexedRead=\"{indexed}\"{reverse}/>\n",
                index + 1,
                read.cycles
            )
        };
        let reads: String = self.reads.iter().enumerate().map(read).collect();
        let names = self.tile_names();
        let tile = |lane| names.iter().map(move |t| format!("<Tile>{lane}_{t}</Tile>"));
        let tiles: String = (1..=self.lanes).flat_map(tile).collect();
        let Self { version, id, number, flowcell, instrument, date, .. } = self;
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
             <RunInfo xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" Version=\"{version}\">\n\
             \x20 <Run Id=\"{id}\" Number=\"{number}\">\n\
             \x20   <Flowcell>{flowcell}</Flowcell>\n    <Instrument>{instrument}</Instrument>\n\
             \x20   <Date>{date}</Date>\n    <Reads>\n{reads}    </Reads>\n\
             \x20   <FlowcellLayout LaneCount=\"{}\" SurfaceCount=\"{}\" SwathCount=\"1\" TileCount=\"{}\">\n\
             \x20     <TileSet TileNamingConvention=\"FourDigit\"><Tiles>{tiles}</Tiles></TileSet>\n\
             \x20   </FlowcellLayout>\n  </Run>\n</RunInfo>\n",
            self.lanes, self.surfaces, self.tiles
        )
    }

    /// `RunParameters.xml`, as far as it says who made what.
    pub(super) fn parameters(&self, application: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<RunParameters>\n\
             \x20 <ApplicationName>{application}</ApplicationName>\n  <RunId>{}</RunId>\n\
             \x20 <InstrumentId>{}</InstrumentId>\n  <RunNumber>{}</RunNumber>\n\
             \x20 <FlowCellSerial>{}</FlowCellSerial>\n</RunParameters>\n",
            self.id, self.instrument, self.number, self.flowcell
        )
    }
}

/// A sheet in the older form.
pub(super) fn sheet_v1(date: &str, samples: &[String]) -> String {
    let rows = samples.iter().enumerate().map(|(index, sample)| {
        format!("{sample},{sample},,A{:02},N701,TAAGGCGA,Project_1,\r\n", index + 1)
    });
    format!(
        "[Header]\r\nIEMFileVersion,4\r\nDate,{date}\r\nWorkflow,GenerateFASTQ\r\n\r\n\
         [Reads]\r\n12\r\n12\r\n\r\n[Data]\r\n\
         Sample_ID,Sample_Name,Sample_Plate,Sample_Well,I7_Index_ID,index,Sample_Project,Description\r\n\
         {}",
        rows.collect::<String>()
    )
}

/// A sheet in the newer form.
pub(super) fn sheet_v2(run: &str, samples: &[String]) -> String {
    let rows = samples.iter().enumerate();
    let rows = rows.map(|(index, sample)| format!("{},{sample},ACGTAC{index:02}\n", index % 2 + 1));
    format!(
        "[Header]\nFileFormatVersion,2\nRunName,{run}\n\n[Reads]\nRead1Cycles,12\nRead2Cycles,12\n\n\
         [BCLConvert_Settings]\nSoftwareVersion,4.2.7\n\n[BCLConvert_Data]\nLane,Sample_ID,Index\n{}",
        rows.collect::<String>()
    )
}

/// The older form of `RunCompletionStatus.xml`.
pub(super) fn completion_status(info: &RunInfo, status: &str) -> String {
    let cycles = info.cycle_count();
    format!(
        "<?xml version=\"1.0\"?>\n<RunCompletionStatus>\n\
         \x20 <CompletionStatus>{status}</CompletionStatus>\n  <RunId>{}</RunId>\n\
         \x20 <PlannedCycles>{cycles}</PlannedCycles>\n  <CompletedCycles>{cycles}</CompletedCycles>\n\
         \x20 <ErrorDescription>None</ErrorDescription>\n</RunCompletionStatus>\n",
        info.id
    )
}

/// The newer form of `RunCompletionStatus.xml`.
pub(super) fn run_status(info: &RunInfo, status: &str, day: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<RunCompletionStatus>\n  <RunId>{}</RunId>\n\
         \x20 <RunStatus>{status}</RunStatus>\n\
         \x20 <RunStartTime>{day}T17:26:34.1234567+00:00</RunStartTime>\n\
         \x20 <RunEndTime>{day}T23:59:01.7654321+00:00</RunEndTime>\n\
         \x20 <CompletedReads>{}</CompletedReads>\n</RunCompletionStatus>\n",
        info.id,
        info.reads.len()
    )
}

const INTEROP: [&str; 5] = [
    "InterOp/ExtractionMetricsOut.bin",
    "InterOp/QMetricsOut.bin",
    "InterOp/ErrorMetricsOut.bin",
    "InterOp/TileMetricsOut.bin",
    "InterOp/CorrectedIntMetricsOut.bin",
];

/// Makes the InterOp files, or rewrites them, longer with each cycle.
pub(super) fn interop(script: &mut Script, cycle: usize) {
    for path in INTEROP {
        let bytes = script.data(&[3, 38], 200 * (cycle + 1));
        match cycle {
            0 => script.write(path, bytes),
            _ => script.rewrite(path, bytes),
        }
    }
}

/// A line for the log that is written throughout the run.
pub(super) fn log(script: &mut Script, path: &str, cycle: usize) {
    let line = format!("2026-03-01 17:{:02}:00,Info,cycle {cycle} is done\r\n", cycle % 60);
    match cycle {
        0 => script.write(path, line),
        _ => script.append(path, line),
    }
}

/// Thumbnails of one cycle, which are not uploaded.
pub(super) fn thumbnail(script: &mut Script, cycle: usize) {
    let picture = script.data(&[0xff, 0xd8, 0xff, 0xe0], 1500);
    let path = format!("Thumbnail_Images/L001/C{cycle}.1/s_1_1101_green.jpg");
    script.write_left_out(&path, picture);
}

/// One cycle of the patterned flow cells: one file for each lane and surface.
pub(super) fn cbcl(script: &mut Script, info: &RunInfo, cycle: usize) {
    for lane in 1..=info.lanes {
        for surface in 1..=info.surfaces {
            let bytes = script.data(&[1, 0], 4000);
            let name = format!("L{lane:03}_{surface}.cbcl");
            script
                .write(&format!("Data/Intensities/BaseCalls/L{lane:03}/C{cycle}.1/{name}"), bytes);
        }
    }
}

/// The filters of all tiles.
pub(super) fn filters(script: &mut Script, info: &RunInfo) {
    for lane in 1..=info.lanes {
        for tile in info.tile_names() {
            let bytes = script.data(&[0, 0, 0, 0, 3, 0, 0, 0], 900);
            let name = format!("s_{lane}_{tile}.filter");
            script.write(&format!("Data/Intensities/BaseCalls/L{lane:03}/{name}"), bytes);
        }
    }
}

/// The reads of a small paired run with two indices; `count` times as long.
pub(super) fn paired(count: usize) -> Vec<Read> {
    let read = |cycles, is_index| Read { cycles, is_index };
    vec![read(12 * count, false), read(3, true), read(3, true), read(12 * count, false)]
}

/// Opens the folder of a run, and returns the names of its samples.
pub(super) fn open(script: &mut Script, info: &RunInfo, sample_count: usize) -> Vec<String> {
    let sample = |number| format!("S{}-{number}", script.digits(4));
    let samples: Vec<_> = (1..=sample_count).map(sample).collect();
    let words = Words {
        run_id: info.id.clone(),
        instrument: info.instrument.clone(),
        flowcell: info.flowcell.clone(),
        date: "2026-03-01".into(),
        samples: samples.clone(),
    };
    script.open(&info.id, words);
    samples
}
