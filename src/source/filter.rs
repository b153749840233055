//! `include`, `exclude` and `order`: which paths are uploaded, and which go first.
//!
//! A pattern with a slash is matched against the path below the drop directory, one without
//! against the file's name at any depth. `*` and `?` do not cross a slash, `**` does.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::model::SourcePath;

/// Compiled patterns.
#[derive(Debug, Clone)]
pub struct Filter {
    include: GlobSet,
    exclude: GlobSet,
    order: GlobSet,
    order_count: u32,
}

impl Filter {
    /// Compiles patterns.
    ///
    /// # Errors
    /// When a pattern is none; the message names it.
    pub fn new(
        include: &[String],
        exclude: &[String],
        order: &[String],
    ) -> Result<Self, globset::Error> {
        Ok(Self {
            include: compile(include)?,
            exclude: compile(exclude)?,
            order: compile(order)?,
            order_count: u32::try_from(order.len()).unwrap_or(u32::MAX),
        })
    }

    /// Tells whether a file is uploaded.
    pub fn takes(&self, path: &SourcePath) -> bool {
        self.include.is_match(path.as_path()) && !self.exclude.is_match(path.as_path())
    }

    /// Tells whether nothing below a directory can be uploaded, so that it need not be read.
    pub fn prunes(&self, directory: &SourcePath) -> bool {
        let probe = [directory.as_bytes(), b"/\xff"].concat();
        self.exclude.is_match(Path::new(OsStr::from_bytes(&probe)))
            && self.exclude.is_match(Path::new(OsStr::from_bytes(&[&probe[..], b"/\xff"].concat())))
    }

    /// Returns a file's place in the order: smaller goes first.
    pub fn rank(&self, path: &SourcePath) -> u32 {
        let first = self.order.matches(path.as_path()).into_iter().min();
        first.and_then(|index| u32::try_from(index).ok()).unwrap_or(self.order_count)
    }
}

fn compile(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let anchored =
            if pattern.contains('/') { pattern.clone() } else { format!("**/{pattern}") };
        set.add(GlobBuilder::new(&anchored).literal_separator(true).build()?);
    }
    set.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str], order: &[&str]) -> Filter {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        Filter::new(&owned(include), &owned(exclude), &owned(order)).expect("patterns")
    }

    fn path(text: &str) -> SourcePath {
        SourcePath::from_bytes(text.as_bytes())
    }

    #[test]
    fn patterns_without_a_slash_match_names_at_any_depth() {
        let filter = filter(&["**"], &["*.tmp", "**/Thumbnail_Images/**"], &["*.xml"]);
        assert!(filter.takes(&path("run/a.bcl")));
        assert!(!filter.takes(&path("run/deep/a.tmp")));
        assert!(!filter.takes(&path("run/Thumbnail_Images/L001/a.jpg")));
        assert_eq!((filter.rank(&path("run/RunInfo.xml")), filter.rank(&path("run/a"))), (0, 1));
    }

    #[test]
    fn only_directories_that_are_left_out_whole_are_pruned() {
        let filter = filter(&["**"], &["**/Thumbnail_Images/**", "logs/*"], &[]);
        assert!(filter.prunes(&path("run/Thumbnail_Images")));
        assert!(!filter.prunes(&path("run")));
        assert!(!filter.prunes(&path("logs")), "logs/a/b is uploaded");
    }

    #[test]
    fn names_need_not_be_text() {
        let filter = filter(&["*.gz"], &[], &[]);
        assert!(filter.takes(&SourcePath::from_bytes(b"a\xff\n.gz")));
    }
}
