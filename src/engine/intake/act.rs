//! The acts of a drop directory, as the engine keeps them until their outcome.

use crate::model::SourcePath;

/// One act in flight, with what its answer needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum IntakeAct {
    Scan,
    Look(Vec<SourcePath>),
    Compare(SourcePath),
    FindMoved(Vec<SourcePath>),
    ReadRun(SourcePath),
    WriteRunReceipt(SourcePath),
    CheckProofs(SourcePath),
    Dispose(SourcePath),
}

impl IntakeAct {
    /// Returns whether it changes nothing, so that a stop need not wait for it.
    pub(in crate::engine) fn only_reads(&self) -> bool {
        match self {
            Self::Scan
            | Self::Look(_)
            | Self::Compare(_)
            | Self::FindMoved(_)
            | Self::ReadRun(_) => true,
            Self::WriteRunReceipt(_) | Self::CheckProofs(_) | Self::Dispose(_) => false,
        }
    }

    /// Returns whether it counts against the limit of acts of runs.
    pub(in crate::engine) fn is_of_run(&self) -> bool {
        matches!(self, Self::ReadRun(_) | Self::WriteRunReceipt(_) | Self::Dispose(_))
    }

    /// Returns whether it reads files that have settled or settle.
    pub(in crate::engine) fn reads_files(&self) -> bool {
        matches!(self, Self::Look(_) | Self::Compare(_) | Self::FindMoved(_))
    }
}
