//! A stand-in for Seven Bridges API v2: projects, folders, files, multipart uploads.
//!
//! `world` holds what exists and answers as the vendor does; `calls` turns requests into it. Every
//! answer about the state of things is the vendor's; every breach of his rules is also in the ledger.

mod calls;
mod exports;
mod uploads;
mod world;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(super) use calls::routes;
pub(super) use world::World;

/// How the stand-in may differ from what the documents say, where they leave it open.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switches {
    /// A taken name is found out at complete, not at initialise.
    pub clash_at_complete: bool,
    /// A taken name is renamed (`_1_name`), not refused.
    pub clash_renames: bool,
    /// 8004 and 8005 mean each other.
    pub swap_8004_8005: bool,
    /// A second initialisation of one name is refused with 8006.
    pub second_init_refused: bool,
    /// `iso`, `s`, `ms` or `missing`.
    pub expires_format: String,
    /// Success codes stand under `report`.
    pub success_codes_under_report: bool,
    /// Headers that the storage answers a part with, and that must be reported with it.
    pub report_headers: BTreeMap<String, String>,
    /// Headers that the storage demands.
    pub put_headers: BTreeMap<String, String>,
    /// Parts must go one at a time.
    pub sequential: bool,
    /// `FILE` and `FOLDER`.
    pub upper_case_types: bool,
    pub exports: ExportSwitches,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            clash_at_complete: false,
            clash_renames: false,
            swap_8004_8005: false,
            second_init_refused: false,
            expires_format: "iso".into(),
            success_codes_under_report: false,
            report_headers: BTreeMap::new(),
            put_headers: BTreeMap::new(),
            sequential: false,
            upper_case_types: false,
            exports: ExportSwitches::default(),
        }
    }
}

/// How export jobs go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExportSwitches {
    /// Questions after which an export job has ended.
    pub questions: u64,
    /// Keys, by how they end, whose first export fails with 9100.
    pub fails_once: Vec<String>,
    /// Keys, by how they end, that are taken on the volume.
    pub taken: Vec<String>,
}

impl Default for ExportSwitches {
    fn default() -> Self {
        Self { questions: 1, fails_once: Vec::new(), taken: Vec::new() }
    }
}
