//! A start with much stored state: known files are not taken for new ones, and damage is found.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Output};

use dropferry::testing::model::{
    Admission, AdmittedFile, ByteCount, DestinationName, DirectoryName, ETag, Fact, Fingerprint,
    Md5, PartNumber, PartSize, Record, RemoteFile, RemoteFileId, RemoteUpload, RemoteUploadId,
    SourcePath, Target, TargetId, UploadId, WallTime,
};
use dropferry::testing::store::{Settings, writer::Writer};
use rusqlite::Connection;

use self::written::written;
use super::stage::{program, until};

#[path = "../../benches/parts/written.rs"]
mod written;

const AT: WallTime = WallTime(1_800_000_000_000_000_000);
const KNOWN: i64 = 2_500;
const QUEUED: i64 = 1_200;

/// A state directory, a drop directory, and a destination where no server answers.
struct Place {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
    _port: TcpListener,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // The port accepts connections and never answers, so that nothing is decided about the destination.
        let port = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = port.local_addr().expect("bound");
        let place = Self { directory, daemon: None, _port: port };
        fs::create_dir(place.path("drop")).expect("made");
        let keys = "[default]\naws_access_key_id = A\naws_secret_access_key = B\n";
        fs::write(place.path("keys"), keys).expect("written");
        fs::set_permissions(place.path("keys"), fs::Permissions::from_mode(0o600)).expect("set");
        let text = format!(
            "[state]\ndirectory = \"state\"\n[web]\nlisten = \"off\"\n[destinations.far]\nplatform = \"s3\"\n\
             base_url = \"http://{address}\"\nbucket = \"lab\"\ncredential = {{ file = \"keys\" }}\n\
             [drops.lab]\ndirectory = \"drop\"\ndestinations = [\"far\"]\n\
             quiet_period = \"50ms\"\nscan_interval = \"1h\"\n"
        );
        fs::write(place.path("config.toml"), text).expect("written");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn writer(&self) -> Writer {
        Writer::open(&Settings { directory: self.path("state"), is_new: false }).expect("opens").0
    }

    /// Makes a file and returns the store's records of it.
    fn file(&self, id: i64, is_sent: bool) -> Vec<Record> {
        let name = format!("run/{id}");
        let file = self.path("drop").join(&name);
        fs::create_dir_all(file.parent().expect("below")).expect("made");
        fs::write(&file, name.as_bytes()).expect("written");
        let found = fs::metadata(&file).expect("there");
        let nanos = |seconds: i64, nanos: i64| seconds * 1_000_000_000 + nanos;
        let fingerprint = Fingerprint {
            device: found.dev(),
            inode: found.ino(),
            size: ByteCount(found.len()),
            mtime_ns: nanos(found.mtime(), found.mtime_nsec()),
            ctime_ns: Some(nanos(found.ctime(), found.ctime_nsec())),
        };
        let admission = Admission {
            id: UploadId(id),
            target_id: TargetId(1),
            destination: DestinationName::new("far"),
            target: Target::new(["run"], &id.to_string()),
            part_size: PartSize::new(8 << 20).expect("not zero"),
            rank: 0,
            at: AT,
            parked: None,
            decision: None,
            file: AdmittedFile {
                drop: DirectoryName::new("lab"),
                path: SourcePath::from_bytes(name.as_bytes()),
                run: SourcePath::from_bytes(b"run"),
                provenance: None,
                is_sentinel: false,
                fingerprint,
                root: None,
            },
        };
        let mut records = vec![Record::Admit(Box::new(admission))];
        if is_sent {
            let facts = all_facts(fingerprint.size);
            records.extend(facts.map(|fact| Record::Upload(UploadId(id), fact)));
        }
        records
    }

    fn command(&self) -> Command {
        let mut program = program();
        program.args(["run", "--log-level", "warn", "--config"]).arg(self.path("config.toml"));
        program
    }

    fn ask(&self, sql: &str) -> i64 {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let opened = Connection::open_with_flags(self.path("state/dropferry.db"), flags);
        opened.and_then(|opened| opened.query_row(sql, [], |row| row.get(0))).unwrap_or(-1)
    }

    fn uploads(&self) -> i64 {
        self.ask("SELECT sum(upload_count) FROM tallies")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn all_facts(size: ByteCount) -> [Fact; 7] {
    let part_size = PartSize::new(8 << 20).expect("not zero");
    let id = RemoteUploadId::new("u");
    let file = RemoteFile {
        id: RemoteFileId::new("f"),
        name: "n".into(),
        size: Some(size),
        mark: None,
        created_at: Some(AT),
        etag: None,
        version: None,
        maker: None,
    };
    [
        Fact::BeginIntended { part_size: None, at: AT },
        Fact::Begun {
            remote: RemoteUpload { id, part_size, part_count: 1, sequential: false },
            at: AT,
        },
        Fact::PartAccepted {
            part: PartNumber::new(1).expect("from 1"),
            md5: Md5([9; 16]),
            etag: ETag::from_header("e"),
            note: None,
            sent: size,
            at: AT,
        },
        Fact::CompleteIntended { at: AT },
        Fact::Completed { file, at: AT },
        Fact::Verified { mark: None, there: None, etag: None, at: AT },
        Fact::ReceiptWritten { written: written(1), at: AT },
    ]
}

#[test]
fn what_is_known_or_queued_is_not_admitted_again() {
    let mut place = Place::new();
    let mut writer = place.writer();
    let known = (1..=KNOWN).flat_map(|id| place.file(id, true));
    let queued = (1..=QUEUED).flat_map(|id| place.file(KNOWN + id, false));
    let applied = writer.apply(&[known.chain(queued).collect()]).expect("written");
    assert!(applied.is_whole());
    writer.leave();
    drop(writer);
    place.daemon = Some(place.command().spawn().expect("it starts"));
    let scanned = || place.ask("SELECT max(last_full_scan_at_ns) FROM drop_health");
    until("it is scanned", || Some(scanned()).filter(|at| *at > 0));
    // Any file that the scan mistakes for a new one has settled before this one does.
    fs::write(place.path("drop/run/late"), "late").expect("written");
    let late = "SELECT count(*) FROM uploads WHERE path = x'72756e2f6c617465'";
    until("a new file is admitted", || Some(place.ask(late)).filter(|count| *count == 1));
    assert_eq!(place.uploads(), KNOWN + QUEUED + 1, "and no other");
}

#[test]
fn damage_in_a_large_database_ends_the_daemon_and_deletes_nothing() {
    let place = Place::new();
    let mut writer = place.writer();
    writer.apply(&[place.file(1, true)]).expect("written");
    writer.leave();
    drop(writer);
    let path = place.path("state/dropferry.db");
    let connection = Connection::open(&path).expect("opens");
    let fill = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 9000) \
        INSERT INTO attempts (upload_id, act, kind, message, at_ns) \
        SELECT 1, 'a', 'k', hex(zeroblob(1500)), 1 FROM n";
    connection.execute(fill, []).expect("filled");
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("folded");
    drop(connection);
    let length = fs::metadata(&path).expect("there").len();
    assert!(length > 24 << 20, "{length} bytes");
    let file = fs::File::options().write(true).open(&path).expect("opens");
    file.write_all_at(&[0xA5; 4096], length / 8192 * 4096).expect("written");
    let Output { status, stderr, .. } = place.command().output().expect("it ends");
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(4), "{said}");
    assert!(said.contains("the database is damaged") && said.contains("hint: "), "{said}");
    assert!(fs::metadata(&path).expect("there").len() >= length, "nothing is deleted");
}
