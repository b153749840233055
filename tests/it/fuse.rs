//! A share that misbehaves on request: a FUSE file system with one flat directory, served by the test.
//!
//! It implements just enough of the kernel's protocol (version 7) to list directories and read files.
//! Answers are never cached, so that a change of its behaviour takes effect with the next call.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::{Errno, FdFlags, fcntl_setfd};

/// Larger than any request: what is written is at most a page.
const REQUEST_MAX: usize = 1 << 17;
const IN_HEADER: usize = 40;
const ROOT: u64 = 1;

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Like a healthy share.
    Well,
    /// Every call fails.
    Failing(Errno),
    /// No call is answered until the mood changes.
    Hanging,
    /// The server ends.
    Gone,
}

/// What happens to reads of one file from some offset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sick {
    /// They fail.
    Failing(Errno),
    /// They are not answered until the file is healed.
    Hanging,
}

struct State {
    mood: Mood,
    files: BTreeMap<String, Vec<u8>>,
    sick: BTreeMap<String, (u64, Sick)>,
}

impl State {
    /// Returns what happens to a request if it is a read of a sick file at a sick offset.
    fn sickness(&self, request: &[u8]) -> Option<Sick> {
        if word(request, 4) != READ {
            return None;
        }
        let name = self.files.keys().nth(index_of(long(request, 16)).ok()?)?;
        let (from, sick) = self.sick.get(name)?;
        let end = long(request, IN_HEADER + 8) + u64::from(word(request, IN_HEADER + 16));
        (end > *from).then_some(*sick)
    }
}

/// A mounted share; dropping it ends all calls that wait for it.
pub(crate) struct Fuse {
    state: Arc<Mutex<State>>,
    server: Option<JoinHandle<()>>,
}

impl Fuse {
    /// Mounts it on `directory` as the process `pid` sees that path.
    ///
    /// # Errors
    /// Why it cannot be mounted here.
    pub(crate) fn mount(
        pid: u32,
        directory: &Path,
        files: BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, String> {
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).expect("a flag");
        let opened =
            OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open("/dev/fuse");
        let device = opened.map_err(|error| format!("/dev/fuse: {error}"))?;
        fcntl_setfd(&device, FdFlags::empty()).map_err(|errno| errno.to_string())?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let mut mount = Command::new("nsenter");
        mount.args(["-m", "-t", &pid.to_string(), "mount", "-i", "-t", "fuse", "-o", &options]);
        let mounted = mount.arg("share").arg(directory).output();
        let mounted = mounted.map_err(|error| format!("nsenter: {error}"))?;
        // From here on only the server holds the device, so that the share ends with the server.
        fcntl_setfd(&device, FdFlags::CLOEXEC).map_err(|errno| errno.to_string())?;
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).into_owned());
        }
        let state = Arc::new(Mutex::new(State { mood: Mood::Well, files, sick: BTreeMap::new() }));
        let serving = Arc::clone(&state);
        let server = std::thread::spawn(move || serve(device, &serving));
        Ok(Self { state, server: Some(server) })
    }

    pub(crate) fn become_(&self, mood: Mood) {
        lock(&self.state).mood = mood;
    }

    /// Makes reads of a file misbehave from an offset on.
    pub(crate) fn sicken(&self, name: &str, from: u64, sick: Sick) {
        lock(&self.state).sick.insert(name.to_owned(), (from, sick));
    }

    /// Makes all files readable again.
    pub(crate) fn heal(&self) {
        lock(&self.state).sick.clear();
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        lock(&self.state).files.insert(name.to_owned(), bytes.to_vec());
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.become_(Mood::Gone);
        if let Some(server) = self.server.take() {
            server.join().ok();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics with it")
}

fn serve(mut device: File, state: &Mutex<State>) {
    let mut buffer = vec![0; REQUEST_MAX];
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        let mood = lock(state).mood;
        if mood == Mood::Gone {
            return;
        }
        let is_held = |request: &[u8]| {
            mood == Mood::Hanging && is_held(request)
                || lock(state).sickness(request) == Some(Sick::Hanging)
        };
        let (still, free): (Vec<_>, Vec<_>) = held.drain(..).partition(|held| is_held(held));
        held = still;
        free.iter().for_each(|request| answer(&mut device, request, state));
        match device.read(&mut buffer) {
            Ok(length) if is_held(&buffer[..length]) => {
                held.push(buffer[..length].to_vec());
            }
            Ok(length) => answer(&mut device, &buffer[..length], state),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            // The kernel has withdrawn a request.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => return,
        }
    }
}

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

fn is_held(request: &[u8]) -> bool {
    !matches!(word(request, 4), INIT | FORGET | INTERRUPT | BATCH_FORGET)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn answer(device: &mut File, request: &[u8], state: &Mutex<State>) {
    if matches!(word(request, 4), FORGET | INTERRUPT | BATCH_FORGET) {
        return;
    }
    let state = lock(state);
    let failing = match state.sickness(request) {
        Some(Sick::Failing(errno)) => Some(errno),
        Some(Sick::Hanging) | None => None,
    };
    let reply = match (word(request, 4), state.mood) {
        _ if failing.is_some() => Err(failing.expect("just seen")),
        (INIT | RELEASE | RELEASEDIR | FLUSH, _) | (_, Mood::Well) => reply(request, &state.files),
        (_, Mood::Failing(errno)) => Err(errno),
        (_, Mood::Hanging | Mood::Gone) => Err(Errno::IO),
    };
    let (error, body) = match reply {
        Ok(body) => (0, body),
        Err(errno) => (-errno.raw_os_error(), Vec::new()),
    };
    let length = u32::try_from(16 + body.len()).expect("small");
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(error.to_le_bytes());
    bytes.extend(long(request, 8).to_le_bytes());
    bytes.extend(body);
    // A request that was interrupted takes no answer.
    device.write_all(&bytes).ok();
}

fn reply(request: &[u8], files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, Errno> {
    let node = long(request, 16);
    let body = &request[IN_HEADER..];
    match word(request, 4) {
        INIT => {
            let mut out = words(&[7, 31, 0, 0]);
            out.extend([12_u16, 10].iter().flat_map(|half| half.to_le_bytes()));
            out.extend(words(&[4096, 1]));
            out.resize(64, 0);
            Ok(out)
        }
        GETATTR => Ok([words(&[0; 4]), attributes(node, files)?].concat()),
        LOOKUP => {
            let name = String::from_utf8_lossy(body);
            let name = name.trim_end_matches('\0');
            let index = files.keys().position(|key| key == name).ok_or(Errno::NOENT)?;
            let node = index as u64 + 2;
            Ok([longs(&[node, 0, 0, 0, 0]), attributes(node, files)?].concat())
        }
        // The kernel keeps nothing of it: FOPEN_DIRECT_IO.
        OPEN => Ok([longs(&[0]), words(&[1, 0])].concat()),
        OPENDIR => Ok(vec![0; 16]),
        READ => {
            let content = files.values().nth(index_of(node)?).ok_or(Errno::STALE)?;
            let from = usize::try_from(long(body, 8)).unwrap_or(0).min(content.len());
            let to = (from + word(body, 16) as usize).min(content.len());
            Ok(content[from..to].to_vec())
        }
        READDIR => Ok(entries(long(body, 8), word(body, 16) as usize, files)),
        STATFS => Ok(vec![0; 80]),
        RELEASE | RELEASEDIR | FLUSH => Ok(Vec::new()),
        _ => Err(Errno::NOSYS),
    }
}

fn index_of(node: u64) -> Result<usize, Errno> {
    node.checked_sub(2).and_then(|index| usize::try_from(index).ok()).ok_or(Errno::STALE)
}

fn attributes(node: u64, files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, Errno> {
    let (mode, size) = match node {
        ROOT => (0o040_755, 0),
        _ => (0o100_644, files.values().nth(index_of(node)?).ok_or(Errno::STALE)?.len() as u64),
    };
    let times = [1_000_000_000; 3];
    let head = longs(&[&[node, size, size.div_ceil(512)][..], &times].concat());
    Ok([head, words(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])].concat())
}

fn entries(from: u64, room: usize, files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, name) in (0_u64..).zip(files.keys()).skip_while(|(index, _)| *index < from) {
        let length = u32::try_from(name.len()).expect("short");
        let mut entry = [longs(&[index + 2, index + 1]), words(&[length, 8])].concat();
        entry.extend(name.bytes());
        entry.resize(entry.len().next_multiple_of(8), 0);
        if out.len() + entry.len() > room {
            break;
        }
        out.extend(entry);
    }
    out
}

fn words(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn longs(list: &[u64]) -> Vec<u8> {
    list.iter().flat_map(|long| long.to_le_bytes()).collect()
}
