//! Keeps the daemon's own files apart from what it uploads.
//!
//! A state directory in a drop directory would be uploaded without end: its database, each receipt,
//! the receipt of each receipt. One that contains a drop directory could be disposed of. A
//! credential in a drop directory would be uploaded to where others read it. Links are resolved.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Resolver;
use crate::config::Drop;
use crate::model::Disposition;

/// A file or directory of the daemon's own.
pub(super) struct Own<'a> {
    pub(super) what: String,
    pub(super) path: &'a Path,
    /// Its position in the configuration, if it is there.
    pub(super) span: Option<Range<usize>>,
    /// No drop directory may be inside it either.
    pub(super) is_tree: bool,
    pub(super) hint: &'static str,
}

impl<'a> Own<'a> {
    /// A file that must never be uploaded.
    pub(super) fn secret(what: String, path: &'a Path) -> Self {
        let hint = "it would be uploaded: keep it outside of every drop directory";
        Self { what, path, span: None, is_tree: false, hint }
    }
}

impl Resolver<'_> {
    /// Refuses files in a directory that is uploaded, or around one.
    pub(super) fn check_apart(&mut self, drops: &[Drop], own: Vec<Own<'_>>) {
        let own: Vec<_> = own.into_iter().map(|own| (self.real(own.path), own)).collect();
        for drop in drops {
            let name = drop.settings.name.as_str();
            let directory = self.real(&drop.source.directory);
            let target = match &drop.settings.disposal.disposition {
                Disposition::Move(to) => Some(self.real(Path::new(to))),
                Disposition::Keep | Disposition::Delete => None,
            };
            for (path, own) in &own {
                let (what, shown) = (&own.what, path.display());
                if own.is_tree && overlap(path, &directory) {
                    let message =
                        format!("{what} {shown} and the directory of drop {name:?} overlap");
                    self.problem(own.span.clone(), message, Some(own.hint.into()));
                } else if path.starts_with(&directory) {
                    let message =
                        format!("{what}, {shown}, lies in the directory of drop {name:?}");
                    self.problem(own.span.clone(), message, Some(own.hint.into()));
                }
                if own.is_tree && target.as_ref().is_some_and(|target| overlap(path, target)) {
                    let message = format!("move_to of drop {name:?} and {what} {shown} overlap");
                    let hint = "what is moved there could replace it";
                    self.problem(own.span.clone(), message, Some(hint.into()));
                }
            }
        }
    }

    /// Returns a path with its links resolved, as far as it exists and answers.
    fn real(&mut self, path: &Path) -> PathBuf {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        self.ask(&absolute, resolved).unwrap_or(absolute)
    }
}

fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Resolves the existing part of a path, and keeps the rest.
fn resolved(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}
