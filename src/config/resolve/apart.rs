//! What the daemon writes lies apart from what it uploads.
//!
//! A state directory in a drop directory would be uploaded without end: its database, each receipt, the
//! receipt of each receipt. One above it would be in danger of disposal. A credential in a drop directory
//! would be handed to whoever reads the destination. Links are resolved.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Resolver;
use crate::config::{Destination, Drop};
use crate::model::Disposition;

/// Something that the daemon writes.
pub(super) struct Own<'a> {
    pub(super) path: &'a Path,
    /// Where the file names it, if it does.
    pub(super) span: Option<Range<usize>>,
}

impl Resolver<'_> {
    /// Refuses a state directory, or a control socket, that overlaps what is watched or disposed of.
    pub(super) fn check_apart(&mut self, drops: &[Drop], state: Own<'_>, socket: Own<'_>) {
        let (state, state_span) = (self.real(state.path), state.span);
        let (socket, socket_span) = (self.real(socket.path), socket.span);
        for drop in drops {
            let name = drop.settings.name.as_str();
            let place = self.real(&drop.source.directory);
            if overlap(&state, &place) {
                let message = format!(
                    "the state directory {} and the directory of drop {name:?} overlap",
                    state.display()
                );
                let hint = "the daemon would upload its own database and receipts: set [state] \
                    directory to one outside of every drop directory";
                self.problem(state_span.clone(), message, Some(hint.into()));
            } else if socket.starts_with(&place) {
                let message = format!(
                    "the control socket {} lies in the directory of drop {name:?}",
                    socket.display()
                );
                let hint = "set [control] socket to a path outside of every drop directory";
                self.problem(socket_span.clone(), message, Some(hint.into()));
            }
            if let Disposition::Move(to) = &drop.settings.disposition
                && overlap(&state, &self.real(Path::new(to)))
            {
                let message = format!(
                    "move_to of drop {name:?} and the state directory {} overlap",
                    state.display()
                );
                let hint = "what is moved there could take the place of the state";
                self.problem(state_span.clone(), message, Some(hint.into()));
            }
        }
    }

    /// Refuses a configuration or a credential that lies in a drop directory: it would be uploaded.
    pub(super) fn check_secrets_apart(&mut self, drops: &[Drop], destinations: &[Destination]) {
        let mut own = vec![("the configuration".to_owned(), self.real(self.path))];
        for to in destinations {
            let what = format!("the credential of destination {:?}", to.name.as_str());
            own.push((what, self.real(to.credential.file())));
        }
        for drop in drops {
            let (name, place) = (drop.settings.name.as_str(), self.real(&drop.source.directory));
            for (what, file) in own.iter().filter(|(_, file)| file.starts_with(&place)) {
                let file = file.display();
                let message = format!("{what}, {file}, lies in the directory of drop {name:?}");
                let hint = "it would be uploaded: keep it outside of every drop directory";
                self.problem(None, message, Some(hint.into()));
            }
        }
    }

    /// A path with its links resolved, as far as it is there and answers.
    fn real(&mut self, path: &Path) -> PathBuf {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        self.ask(&absolute, resolved).unwrap_or(absolute)
    }
}

fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Resolves what is there of a path, and keeps the rest.
fn resolved(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}
