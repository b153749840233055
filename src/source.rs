//! Drop directories on the file system: what stands there, what changed, and the bytes of a part.
//!
//! *Owns* nothing: it only reads. *Promises*: no path leads out of the drop directory; a part's
//! bytes all come from the version that was planned, proved before and after reading; what cannot
//! be read says why. *Never* follows a link to a directory, opens what is not a regular file, or
//! holds more of a file in memory than [`part::MEMORY_PER_PART`].

pub mod filter;
pub mod part;
pub mod scan;
pub mod watch;

use std::path::PathBuf;

use crate::model::DropName;

/// One drop directory.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[drops.NAME]`.
    pub name: DropName,
    /// The directory.
    pub directory: PathBuf,
    /// Patterns of what is uploaded.
    pub include: Vec<String>,
    /// Patterns of what is not.
    pub exclude: Vec<String>,
    /// Patterns of what goes first.
    pub order: Vec<String>,
}

/// One drop directory, ready to be looked at.
#[derive(Debug, Clone)]
pub struct Source {
    /// The directory.
    pub directory: PathBuf,
    /// What of it is uploaded, and in which order.
    pub filter: filter::Filter,
}

impl Source {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// When a pattern is none; the message names it.
    pub fn new(settings: &Settings) -> Result<Self, globset::Error> {
        let filter = filter::Filter::new(&settings.include, &settings.exclude, &settings.order)?;
        Ok(Self { directory: settings.directory.clone(), filter })
    }
}
