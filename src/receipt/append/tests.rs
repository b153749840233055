use super::*;
use crate::model::SourcePath;

/// Rows with the content that a test gives them.
#[derive(Default)]
struct Rows {
    ledgers: BTreeMap<String, KnownLedger>,
    awaiting: BTreeSet<UploadId>,
}

impl LedgerRows for Rows {
    fn known(&self, ledger: &str) -> io::Result<KnownLedger> {
        Ok(self.ledgers.get(ledger).cloned().unwrap_or_default())
    }

    fn awaiting(&self) -> io::Result<BTreeSet<UploadId>> {
        Ok(self.awaiting.clone())
    }
}

impl Rows {
    fn note(&mut self, written: &WrittenLine) {
        let known = KnownLedger { head: written.head, damage: None };
        self.ledgers.insert(written.line.ledger.to_string(), known);
    }
}

struct State(tempfile::TempDir);

impl State {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn life(&self) -> Appender {
        Appender::new(self.0.path().to_owned(), "here".into())
    }

    fn path(&self, number: u32) -> PathBuf {
        run().numbered(number).path(self.0.path())
    }

    fn bytes(&self, number: u32) -> Vec<u8> {
        fs::read(self.path(number)).unwrap()
    }

    /// Ids of uploads and waves of runs, in the order of their lines, in a valid ledger.
    fn ids(&self, number: u32) -> Vec<i64> {
        let bytes = self.bytes(number);
        let lines = LedgerReader::new(&bytes[..]).map(|line| line.unwrap().body().unwrap());
        let id = |body: LineBody| match &body {
            LineBody::RunCompleted(line) => -i64::from(line.wave),
            LineBody::Exported(line) => 1000 + line.id.0,
            LineBody::ClosedByHand(_) => 0,
            LineBody::Upload(_) | LineBody::FoundAgain(_) | LineBody::Other { .. } => {
                body.upload().unwrap().source.id.0
            }
        };
        lines.map(id).collect()
    }

    fn torn(&self) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(self.path(1).parent().unwrap()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let is_torn = |path: &PathBuf| path.to_string_lossy().contains(".jsonl.torn-");
        paths.filter(is_torn).map(|path| fs::read(path).unwrap()).collect()
    }
}

fn run() -> LedgerName {
    LedgerName::of_run("lab", &SourcePath::from_bytes(b"run"))
}

fn upload(id: i64) -> WantedLines {
    upload_of(id, "run/a")
}

fn upload_of(id: i64, path: &str) -> WantedLines {
    let line = UploadLine::example(id, path);
    let what = WantedLine::Upload { body: LineBody::Upload(Box::new(line)), exported: None };
    WantedLines { ledger: run(), what }
}

fn exported(id: i64) -> WantedLines {
    let mut wanted = upload(id);
    if let WantedLine::Upload { exported, .. } = &mut wanted.what {
        *exported = Some(ExportedLine {
            id: UploadId(id),
            volume: "v".into(),
            location: "l".into(),
            job: "j".into(),
            exported_at: None,
        });
    }
    wanted
}

fn completed(wave: u32) -> WantedLines {
    let line = RunCompletedLine {
        drop: "lab".into(),
        run: "run".into(),
        run_bytes: None,
        wave,
        file_count: 1,
        bytes: 4,
        late_file_count: 0,
        given_up_count: 0,
        opened_at: None,
        closed_at: None,
        outcome: None,
        forced_by: None,
    };
    let what = WantedLine::RunCompleted { line: Box::new(line), before: Vec::new() };
    WantedLines { ledger: run(), what }
}

fn append(life: &mut Appender, wanted: WantedLines, rows: &Rows) -> WrittenLine {
    let written = life.append(WallTime(1), &[wanted], rows);
    written.into_iter().next().unwrap().unwrap()
}

#[test]
fn lines_of_a_batch_go_to_their_ledgers_and_each_is_found_where_it_is_said_to_be() {
    let (state, rows) = (State::new(), Rows::default());
    let mut life = state.life();
    let other = LedgerName::of_files("lab", WallTime(0));
    let mut wanted: Vec<_> = (1..=5).map(upload).collect();
    wanted[2].ledger = other.clone();
    wanted.push(completed(1));
    let written = life.append(WallTime(1), &wanted, &rows);
    let written: Vec<_> = written.into_iter().map(Result::unwrap).collect();
    assert_eq!(state.ids(1), [1, 2, 4, 5, -1]);
    assert_eq!(written[2].line.ledger.as_str(), other.as_str());
    for one in &written {
        assert!(read_line(state.0.path(), &one.line).is_ok());
        let changed = LineRef { sha256: [1; 32], ..one.line.clone() };
        assert!(read_line(state.0.path(), &changed).is_err());
        let elsewhere = LineRef { offset: one.line.offset + 1, ..one.line.clone() };
        assert!(read_line(state.0.path(), &elsewhere).is_err());
        let another = LineRef { seq: one.line.seq + 1, ..one.line.clone() };
        assert!(read_line(state.0.path(), &another).is_err());
    }
    let length = state.bytes(1).len() as u64;
    assert!(written.iter().all(|one| one.head.length == length || one.head.count == 1));
}

#[test]
fn lines_that_no_row_names_are_adopted_and_never_written_twice() {
    let (state, mut rows) = (State::new(), Rows::default());
    let known = append(&mut state.life(), upload(1), &rows);
    rows.note(&known);
    let mut cut = state.life();
    let lost: Vec<_> =
        [upload(2), exported(3), completed(1)].map(|one| append(&mut cut, one, &rows)).into();
    let before = state.bytes(1);
    let mut life = state.life();
    let again = [upload(2), exported(3)].map(|one| append(&mut life, one, &rows));
    assert_eq!(again.each_ref().map(|one| &one.line), [&lost[0].line, &lost[1].line]);
    assert_eq!(append(&mut life, completed(1), &rows).line, lost[2].line);
    assert_eq!(state.bytes(1), before);
    // The rows know lines after it, and its upload has no receipt.
    rows.note(&lost[2]);
    rows.awaiting.insert(UploadId(2));
    let mut life = state.life();
    assert_eq!(append(&mut life, upload(2), &rows).line, lost[0].line);
    assert_eq!(append(&mut life, upload(4), &rows).line.seq, 6);
    assert_eq!(append(&mut life, completed(1), &rows).line.seq, 7, "a file came in between");
    assert_eq!(state.ids(1), [1, 2, 3, 1003, -1, 4, -1]);
}

#[test]
fn a_line_of_another_file_with_the_same_id_is_not_adopted() {
    let (state, rows) = (State::new(), Rows::default());
    append(&mut state.life(), upload_of(1, "run/a"), &rows);
    let other = append(&mut state.life(), upload_of(1, "run/b"), &rows);
    assert_eq!((other.line.seq, state.ids(1)), (2, vec![1, 1]));
}

#[test]
fn an_export_without_its_line_gets_it_and_its_upload_no_second_one() {
    let (state, rows) = (State::new(), Rows::default());
    let line = append(&mut state.life(), upload(1), &rows).line;
    assert_eq!(append(&mut state.life(), exported(1), &rows).line, line);
    assert_eq!(append(&mut state.life(), exported(1), &rows).line, line);
    assert_eq!(state.ids(1), [1, 1001]);
}

#[test]
fn a_torn_tail_is_kept_aside_wherever_it_is_torn_and_whatever_it_holds() {
    let (state, mut rows) = (State::new(), Rows::default());
    let known = append(&mut state.life(), upload(1), &rows);
    rows.note(&known);
    let whole = state.bytes(1);
    append(&mut state.life(), upload(2), &rows);
    let two = state.bytes(1);
    let garbage = [&whole[..], &[0; 5000]].concat();
    let hole = [&whole[..], &[0; 700], b"\n", &two[whole.len()..]].concat();
    let cuts = (whole.len() + 1..two.len()).step_by(97).map(|end| two[..end].to_vec());
    let mut count = 0;
    for bytes in cuts.chain([garbage, hole, two[..two.len() - 1].to_vec()]) {
        count += 1;
        fs::write(state.path(1), &bytes).unwrap();
        let mut life = state.life();
        let written = life.append(WallTime(count), &[upload(2)], &rows).remove(0).unwrap();
        assert_eq!((written.line.seq, written.damaged), (2, None));
        assert_eq!(state.ids(1), [1, 2]);
        assert!(state.torn().contains(&bytes[whole.len()..].to_vec()), "it is kept");
    }
    assert_eq!(state.torn().len() as i64, count);
}

/// Damages a ledger; `None` removes it.
type Damage = fn(&[u8]) -> Option<Vec<u8>>;

#[test]
fn damage_is_said_and_never_written_over_and_what_comes_goes_into_the_next_ledger() {
    let damages: [Damage; 5] = [
        |_| None,
        |bytes| Some(bytes[..bytes.len() - 1].to_vec()),
        |bytes| Some(bytes[..bytes.len() / 2].to_vec()),
        |bytes| Some(String::from_utf8(bytes.to_vec()).unwrap().replace("far", "fat").into()),
        |_| Some(Vec::new()),
    ];
    for damage in damages {
        let (state, mut rows) = (State::new(), Rows::default());
        let mut life = state.life();
        for id in 1..=2 {
            let written = append(&mut life, upload(id), &rows);
            rows.note(&written);
        }
        let damaged = damage(&state.bytes(1));
        match &damaged {
            Some(bytes) => fs::write(state.path(1), bytes).unwrap(),
            None => fs::remove_file(state.path(1)).unwrap(),
        }
        // Whether the damage is found at the start or later.
        let is_found_later = damaged.as_ref().is_none_or(|bytes| bytes.len() < 100);
        let mut life = if is_found_later { life } else { state.life() };
        let written = append(&mut life, upload(3), &rows);
        let said = written.damaged.clone().expect("it is said");
        assert_eq!(said.ledger.as_str(), "lab/run.jsonl");
        assert_eq!(written.line.ledger.as_str(), "lab/run~2.jsonl");
        assert_eq!(append(&mut life, upload(4), &rows).damaged, None, "once");
        assert_eq!(fs::read(state.path(1)).ok(), damaged, "nothing was written there");
        assert_eq!(state.ids(2), [3, 4]);
        // The rows know of it from then on.
        rows.ledgers.get_mut("lab/run.jsonl").unwrap().damage = Some(said.why);
        let written = append(&mut state.life(), upload(5), &rows);
        assert_eq!((written.damaged, state.ids(2)), (None, vec![3, 4, 5]));
    }
}

#[test]
fn a_ledger_that_others_change_in_its_length_is_found_before_it_is_gone_on_with() {
    for is_link in [false, true] {
        let (state, mut rows) = (State::new(), Rows::default());
        let mut life = state.life();
        rows.note(&append(&mut life, upload(1), &rows));
        let other = state.path(1).with_extension("other");
        let bytes = state.bytes(1);
        let damaged = match is_link {
            false => vec![0; bytes.len()],
            true => String::from_utf8(bytes).unwrap().replace("far", "fat").into(),
        };
        fs::write(&other, &damaged).unwrap();
        match is_link {
            true => {
                fs::remove_file(state.path(1)).unwrap();
                std::os::unix::fs::symlink(&other, state.path(1)).unwrap();
            }
            false => fs::rename(&other, state.path(1)).unwrap(),
        }
        let written = append(&mut life, upload(2), &rows);
        assert_eq!(written.line.ledger.as_str(), "lab/run~2.jsonl");
        assert!(written.damaged.is_some(), "it is said");
        assert!(state.bytes(1) == damaged, "nothing was written there");
    }
}

#[test]
fn another_ledger_in_its_place_is_damage_though_it_holds() {
    let (state, mut rows) = (State::new(), Rows::default());
    rows.note(&append(&mut state.life(), upload(1), &rows));
    fs::remove_file(state.path(1)).unwrap();
    append(&mut state.life(), upload(2), &Rows::default());
    let written = append(&mut state.life(), upload(3), &rows);
    assert_eq!(written.line.ledger.as_str(), "lab/run~2.jsonl");
    assert!(written.damaged.unwrap().why.contains("another"), "it is said");
}

#[test]
fn a_disk_that_takes_nothing_is_tried_again() {
    let (state, rows) = (State::new(), Rows::default());
    fs::create_dir_all(state.0.path()).unwrap();
    fs::write(state.0.path().join("receipts"), "in the way").unwrap();
    let mut life = state.life();
    assert!(life.append(WallTime(1), &[upload(1), upload(2)], &rows).iter().all(Result::is_err));
    fs::remove_file(state.0.path().join("receipts")).unwrap();
    assert_eq!(append(&mut life, upload(1), &rows).line.seq, 1);
}
