//! Records for journald, by its native protocol: a datagram of fields.
//!
//! Each field of [`super::field`] becomes `DROPFERRY_` and its name in upper case; other fields of
//! a dependency are added to the message. Every value passes the scrubber before it is sent.
//!
//! A module of our own, because the crate `tracing-journald` has no hook for scrubbing a value
//! before it is sent, and waits without limit for a journal that does not read.
//!
//! *Never* waits for long: when the journal has no room, a record waits for a moment, and after a
//! failure none waits until one was accepted again; dropped ones are counted. A record too large
//! for a datagram is sent as a sealed memory file; if that is impossible, it is cut. If the journal
//! cannot be reached at all, the line is written to standard error as text.

use std::fmt::{self, Write as _};
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr, sendto,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::field;
use super::scrub::scrub;
use crate::model::Shown;

pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// Limit of a field's value; the rest is cut.
const VALUE_MAX: usize = 1 << 20;
/// Limit of a value if only a datagram can be sent: all fields together fit into any.
const VALUE_MAX_CUT: usize = 4 << 10;

/// How long a record waits for room: journald makes some within it, unless it hangs.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// Returns whether standard error is connected to the journal.
pub(super) fn is_standard_error() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(error) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    let found = std::fs::File::from(error).metadata();
    found.is_ok_and(|found| is_stream(&stream, found.st_dev(), found.st_ino()))
}

/// Returns whether `$JOURNAL_STREAM` names this file.
fn is_stream(stream: &str, device: u64, inode: u64) -> bool {
    stream == format!("{device}:{inode}")
}

pub(super) struct JournalLayer {
    socket: UnixDatagram,
    address: SocketAddrUnix,
    /// It had no room for the last record.
    is_stalled: AtomicBool,
    /// Records that found no room.
    lost_count: AtomicU64,
}

/// Fields of a line and of its spans.
#[derive(Default)]
struct Fields {
    message: String,
    known: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format_args!("{value:?}"));
    }
}

impl Fields {
    fn take(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        if field.name() == "message" {
            self.message.insert_str(0, &value.to_string());
        } else if field::ALL.contains(&field.name()) {
            self.known.push((field.name(), value.to_string()));
        } else {
            write!(self.message, " {}={value}", field.name()).unwrap_or(());
        }
    }

    /// Renders it for the protocol.
    fn record(&self, level: Level, module: &str, value_max: usize) -> Vec<u8> {
        let mut record = Vec::new();
        push(&mut record, "MESSAGE", &self.message, value_max);
        push(&mut record, "PRIORITY", priority(level), value_max);
        push(&mut record, "SYSLOG_IDENTIFIER", "dropferry", value_max);
        push(&mut record, "CODE_MODULE", module, value_max);
        for (name, value) in &self.known {
            let name = format!("DROPFERRY_{}", name.to_ascii_uppercase());
            push(&mut record, &name, value, value_max);
        }
        record
    }

    /// Renders it as a line of text.
    fn line(&self, level: Level) -> String {
        let mut line = format!("{level:>5} {}", Shown(&self.message));
        for (name, value) in &self.known {
            write!(line, " {name}={}", Shown(value)).unwrap_or(());
        }
        line.push('\n');
        line
    }
}

/// Returns syslog's number for a level.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

/// Adds one field: scrubbed, escaped so that it is one line, and cut.
fn push(record: &mut Vec<u8>, name: &str, value: &str, value_max: usize) {
    let value = Shown(&scrub(value)).to_string();
    let value = &value[..value.floor_char_boundary(value_max)];
    record.extend_from_slice(name.as_bytes());
    record.push(b'=');
    record.extend_from_slice(value.as_bytes());
    record.push(b'\n');
}

impl JournalLayer {
    /// Writes to the journal that listens at `path`, now or later.
    pub(super) fn new(path: impl AsRef<Path>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(WAIT_MAX))?;
        let address = SocketAddrUnix::new(path.as_ref())?;
        let (is_stalled, lost_count) = (AtomicBool::new(false), AtomicU64::new(0));
        Ok(Self { socket, address, is_stalled, lost_count })
    }

    fn write(&self, event: &Event<'_>, around: Vec<(&'static str, String)>) {
        let mut fields = Fields { message: String::new(), known: around };
        event.record(&mut fields);
        let level = *event.metadata().level();
        let module = event.metadata().module_path().unwrap_or_default();
        let lost = self.lost_count.load(Ordering::Relaxed);
        if lost > 0 {
            let message = format!("the journal had no room for {lost} records");
            let told = Fields { message, known: Vec::new() };
            if self.give(&told, Level::WARN, module) {
                self.lost_count.fetch_sub(lost, Ordering::Relaxed);
            }
        }
        if !self.give(&fields, level, module) {
            self.lost_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes it to the journal or to standard error; false if the journal has no room.
    fn give(&self, fields: &Fields, level: Level, module: &str) -> bool {
        let sent = self.send(fields, level, module);
        let is_stalled =
            sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.is_stalled.store(is_stalled, Ordering::Relaxed);
        match sent {
            Ok(()) => true,
            Err(_) if is_stalled => false,
            Err(_) => {
                let line = fields.line(level);
                // If standard error is closed too, there is no output left.
                io::stderr().lock().write_all(scrub(&line).as_bytes()).unwrap_or(());
                true
            }
        }
    }

    fn send(&self, fields: &Fields, level: Level, module: &str) -> io::Result<()> {
        let record = fields.record(level, module, VALUE_MAX);
        match sendto(&self.socket, &record, self.flags(), &self.address) {
            Err(Errno::MSGSIZE | Errno::NOBUFS) => {}
            sent => return sent.map(|_| ()).map_err(Into::into),
        }
        if self.send_file(&record).is_ok() {
            return Ok(());
        }
        let cut = fields.record(level, module, VALUE_MAX_CUT);
        sendto(&self.socket, &cut, self.flags(), &self.address)?;
        Ok(())
    }

    fn flags(&self) -> SendFlags {
        match self.is_stalled.load(Ordering::Relaxed) {
            true => SendFlags::DONTWAIT,
            false => SendFlags::empty(),
        }
    }

    /// Sends a record as a sealed memory file.
    fn send_file(&self, record: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create("dropferry-journal", flags)?;
        let mut file = std::fs::File::from(memory);
        file.write_all(record)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd()];
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let nothing = [IoSlice::new(&[])];
        sendmsg_addr(&self.socket, &self.address, &nothing, &mut control, self.flags())?;
        Ok(())
    }
}

impl<S> Layer<S> for JournalLayer
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &SpanRecord<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut around = Vec::new();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                around.extend_from_slice(&fields.known);
            }
        }
        self.write(event, around);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read, Seek};

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::register_secret;

    struct Listener {
        directory: tempfile::TempDir,
        socket: UnixDatagram,
    }

    impl Listener {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(directory.path().join("socket")).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self { directory, socket }
        }

        fn log(&self, log: impl FnOnce()) {
            let journal = JournalLayer::new(self.directory.path().join("socket")).unwrap();
            tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), log);
        }

        /// Receives the next record, in either form.
        fn record(&self) -> Option<BTreeMap<String, String>> {
            let mut bytes = vec![0; 1 << 20];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut slices = [io::IoSliceMut::new(&mut bytes)];
            let got = recvmsg(&self.socket, &mut slices, &mut control, RecvFlags::empty()).ok()?;
            bytes.truncate(got.bytes);
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(files) = message {
                    for file in files {
                        let mut file = std::fs::File::from(file);
                        file.rewind().unwrap();
                        file.read_to_end(&mut bytes).unwrap();
                    }
                }
            }
            Some(parsed(&bytes))
        }
    }

    /// Reads a record as journald does.
    fn parsed(mut bytes: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !bytes.is_empty() {
            let at = bytes.iter().position(|b| matches!(b, b'=' | b'\n')).unwrap();
            let name = String::from_utf8(bytes[..at].to_vec()).unwrap();
            let (start, end) = if bytes[at] == b'=' {
                (at + 1, at + bytes[at..].iter().position(|b| *b == b'\n').unwrap())
            } else {
                let length: [u8; 8] = bytes[at + 1..at + 9].try_into().unwrap();
                let length = usize::try_from(u64::from_le_bytes(length)).unwrap();
                (at + 9, at + 9 + length)
            };
            fields.insert(name, String::from_utf8(bytes[start..end].to_vec()).unwrap());
            bytes = &bytes[end + 1..];
        }
        fields
    }

    #[test]
    fn a_line_is_a_record_with_its_fields_and_those_of_its_span() {
        let listener = Listener::new();
        listener.log(|| {
            let span = tracing::info_span!("call", destination = "far");
            span.in_scope(|| {
                tracing::warn!(upload_id = 7, path = "a\nb", other = true, "said\nso");
            });
        });
        let record = listener.record().unwrap();
        let known = [
            ("MESSAGE", "said\\nso other=true"),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "dropferry"),
            ("CODE_MODULE", module_path!()),
            ("DROPFERRY_UPLOAD_ID", "7"),
            ("DROPFERRY_DESTINATION", "far"),
            ("DROPFERRY_PATH", "a\\nb"),
        ];
        let known = known.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(record, BTreeMap::from(known));
        assert_eq!(listener.record(), None);
    }

    #[test]
    fn no_secret_leaves_by_any_field() {
        register_secret("journal-s3cret");
        let listener = Listener::new();
        listener.log(|| {
            let span = tracing::info_span!("call", destination = "journal-s3cret");
            let _in = span.enter();
            tracing::info!(path = "a journal-s3cret", kind = ?"journal-s3cret", "journal-s3cret");
            tracing::info!(other = "journal-s3cret", path = "?sig=abc\n", "said");
        });
        let records: Vec<_> = std::iter::from_fn(|| listener.record()).collect();
        let text = format!("{records:?}");
        assert_eq!(records.len(), 2);
        assert!(!text.contains("s3cret") && !text.contains("abc"), "{text}");
        assert_eq!(text.matches("[redacted]").count(), 7, "{text}");
    }

    #[test]
    fn a_record_too_large_for_a_datagram_arrives_whole_up_to_a_bound() {
        let listener = Listener::new();
        listener.log(|| {
            tracing::info!(upload_id = 1, "{}", "x".repeat(900_000));
            tracing::info!(upload_id = 2, "{}", "y".repeat(VALUE_MAX + 10));
        });
        let large = listener.record().unwrap();
        assert_eq!((large["MESSAGE"].len(), &*large["DROPFERRY_UPLOAD_ID"]), (900_000, "1"));
        assert_eq!(listener.record().unwrap()["MESSAGE"].len(), VALUE_MAX);
    }

    #[test]
    fn a_journal_that_does_not_read_blocks_nobody_and_what_was_lost_is_counted() {
        let listener = Listener::new();
        listener.log(|| {
            let mut sent = 0;
            (0..10_000).for_each(|upload_id| tracing::info!(upload_id, "completed"));
            while listener.record().is_some() {
                sent += 1;
            }
            assert!((1..10_000).contains(&sent), "{sent}");
            tracing::info!("more");
            let said = listener.record().unwrap();
            let lost = format!("the journal had no room for {} records", 10_000 - sent);
            assert_eq!((&said["MESSAGE"], &*said["PRIORITY"]), (&lost, "4"));
            assert_eq!(listener.record().unwrap()["MESSAGE"], "more");
        });
    }

    #[test]
    fn a_journal_that_is_away_harms_nobody_and_is_found_again() {
        let listener = Listener::new();
        let place = listener.directory.path().join("socket");
        listener.log(|| {
            std::fs::remove_file(&place).unwrap();
            tracing::info!("to standard error");
            let socket = UnixDatagram::bind(&place).unwrap();
            tracing::info!("to the journal");
            let mut bytes = [0; 1024];
            let count = socket.recv(&mut bytes).unwrap();
            assert_eq!(parsed(&bytes[..count])["MESSAGE"], "to the journal");
        });
    }

    #[test]
    fn the_stream_of_the_journal_is_told_by_device_and_inode() {
        assert!(is_stream("9:4711", 9, 4711));
        for other in ["", "9", "9:", "9:47110", "4711:9", " 9:4711"] {
            assert!(!is_stream(other, 9, 4711), "{other}");
        }
    }
}
