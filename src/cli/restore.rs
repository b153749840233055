//! `restore`: restores the database from a copy, or from the receipts.

use std::path::PathBuf;

use clap::Args;

use super::run::restrict_umask;
use super::{Common, Exit, render};
use crate::clock::Clock;
use crate::config::{Config, locate};
use crate::daemon::adoption::{self, Adopted};
use crate::model::DirectoryName;
use crate::store::writer::Writer;
use crate::store::{self, restore};

#[derive(Debug, Args)]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    from: RestoreFrom,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct RestoreFrom {
    /// Replace the database by this copy; the present files are kept beside it
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,
    /// Rebuild a lost database from the receipts
    #[arg(long)]
    receipts: bool,
}

pub(super) fn execute(common: &Common, asked: &RestoreArguments) -> anyhow::Result<Exit> {
    let environment = |name: &str| std::env::var(name).ok();
    // Only the service may be able to read a credential.
    let path = locate(common.config.as_deref(), &environment);
    let state = &common.state_directory()?;
    let named = Config::load_drop_directories(&path, &environment)?.into_iter();
    let directories = named
        .map(|(name, place)| (DirectoryName::new(name), place.display().to_string()))
        .collect();
    restrict_umask();
    let at = Clock::real().now().wall;
    let kept = match &asked.from.backup {
        Some(copy) => restore::put_back(state, copy, at)?,
        None => restore::make_room(state, at)?,
    };
    if let Some(kept) = kept {
        render::talk(&format!("what was there is kept in {}", kept.display()));
    }
    let settings = store::Settings { directory: state.clone(), is_new: true };
    let mut adopted = Adopted::default();
    let (writer, loaded) = Writer::open_after(&settings, |writer| {
        adopted = adoption::adopt(state, directories, writer)?;
        writer.raise_ids()
    })?;
    writer.leave();
    let Adopted { ledgers, uploads, runs, faults, .. } = adopted;
    let next = loaded.state.next_upload.map_or(1, |id| id.0);
    render::data(&format!(
        "{uploads} uploads and {runs} completed runs of {ledgers} ledgers are known again; ids go on at {next}\n"
    ))?;
    for (ledger, why) in &faults {
        render::talk(&format!("{ledger}: {why}"));
    }
    Ok(if faults.is_empty() { Exit::Fine } else { Exit::Failed })
}
