//! A stand-in for Seven Bridges API v2: projects, folders, files, multipart uploads.
//!
//! `world` holds what exists and answers as the vendor does; `calls` turns requests into it. Every
//! answer about the state of things is the vendor's; every breach of his rules is also in the ledger.

mod calls;
mod exports;
mod uploads;
mod world;

pub(super) use calls::routes;
pub(super) use world::World;
