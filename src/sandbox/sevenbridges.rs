//! A stand-in for Seven Bridges API v2: projects, folders, files, multipart uploads.
//!
//! `world` holds the state and answers in the vendor's form; `calls` handles requests. Every breach
//! of the vendor's rules is also in the ledger.

mod calls;
mod exports;
mod uploads;
mod world;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(super) use calls::routes;
pub(super) use world::World;

/// Deviations where the documentation leaves the behaviour open.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switches {
    /// A taken name is detected at complete, not at initialise.
    pub clash_at_complete: bool,
    /// A taken name is renamed (`_1_name`), not refused.
    pub clash_renames: bool,
    /// 8004 and 8005 are swapped.
    pub swap_8004_8005: bool,
    /// A second initialisation of one name is refused with 8006.
    pub second_init_refused: bool,
    /// `iso`, `s`, `ms` or `missing`.
    pub expires_format: String,
    /// Success codes are under `report`.
    pub success_codes_under_report: bool,
    /// Headers in the storage's answer to a part, which must be reported with it.
    pub report_headers: BTreeMap<String, String>,
    /// Headers that the storage requires.
    pub put_headers: BTreeMap<String, String>,
    /// Parts must be sent one at a time.
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

/// The behaviour of export jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExportSwitches {
    /// Polls after which an export job has ended.
    pub questions: u64,
    /// Suffixes of keys whose first export fails with 9100.
    pub fails_once: Vec<String>,
    /// Suffixes of keys that are taken on the volume.
    pub taken: Vec<String>,
}

impl Default for ExportSwitches {
    fn default() -> Self {
        Self { questions: 1, fails_once: Vec::new(), taken: Vec::new() }
    }
}
