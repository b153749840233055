//! What the work costs without a daemon around it: the programs that targets are ratios to.
//!
//! Each runs in a process of its own, like a client. They keep no state, retry nothing and end at the
//! first error; what they send is what dropferry sends to the same storage.

mod connection;
mod costs;
mod pipeline;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Advice, fadvise};

use crate::files::Work;

pub(crate) use self::costs::{Costs, measured as costs};
pub(crate) use self::pipeline::Hashing;

/// Bytes that the readers take at once.
const READ: usize = 1024 * 1024;

/// What a reference does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Sends from the page cache and digests nothing.
    Floor,
    /// Reads, digests side by side and sends.
    Bare,
    /// The same, one digest at a time.
    Scalar,
    /// Reads in order, and sends nothing.
    ReadInOrder,
    /// Reads at four places, and sends nothing.
    ReadAtFour,
}

impl Mode {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Floor, Self::Bare, Self::Scalar, Self::ReadInOrder, Self::ReadAtFour];

    /// As the table shows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor: sendfile, no digest",
            Self::Bare => "bare pipeline, MD5 side by side",
            Self::Scalar => "bare pipeline, one MD5 at a time",
            Self::ReadInOrder => "bare read, in order",
            Self::ReadAtFour => "bare read, at four places",
        }
    }

    /// As the command line names it.
    pub(crate) fn word(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Tells whether it asks the far side for anything.
    pub(crate) fn sends(self) -> bool {
        !matches!(self, Self::ReadInOrder | Self::ReadAtFour)
    }
}

/// Does it.
pub(crate) fn run(
    mode: Mode,
    address: &str,
    work: &Work,
    certificate: Option<&Path>,
) -> io::Result<()> {
    let hashing = match mode {
        Mode::Floor => Hashing::None,
        Mode::Bare => Hashing::SideBySide,
        Mode::Scalar => Hashing::OneByOne,
        Mode::ReadInOrder => return read_in_order(work),
        Mode::ReadAtFour => return read_at_four(work),
    };
    pipeline::upload(work, address, certificate, hashing)
}

fn read_in_order(work: &Work) -> io::Result<()> {
    let (mut room, from) = aligned(READ);
    for (name, size) in &work.files {
        let file = File::open(work.directory.join(name))?;
        fadvise(&file, 0, None, Advice::Sequential)?;
        for at in (0..*size).step_by(READ) {
            file.read_at(&mut room[from..from + READ], at)?;
        }
    }
    Ok(())
}

fn read_at_four(work: &Work) -> io::Result<()> {
    for (name, size) in &work.files {
        let file = File::open(work.directory.join(name))?;
        let next = AtomicUsize::new(0);
        let reader = || {
            let (mut room, from) = aligned(READ);
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed) as u64 * READ as u64;
                if at >= *size {
                    return Ok(());
                }
                file.read_at(&mut room[from..from + READ], at)?;
            }
        };
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..4).map(|_| scope.spawn(reader)).collect();
            readers.into_iter().try_for_each(|reader| reader.join().expect("no panic"))
        })
        .map_err(|error: io::Error| error)?;
    }
    Ok(())
}

/// Returns room, and where in it a page begins: a buffer that does not begin with one doubles what the
/// kernel takes to read and to send on some machines.
pub(crate) fn aligned(length: usize) -> (Vec<u8>, usize) {
    const PAGE: usize = 4096;
    let room = vec![0; length + PAGE];
    let from = room.as_ptr().align_offset(PAGE);
    (room, from)
}
