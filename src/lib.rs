//! dropferry: watches drop directories and uploads what settles there.

pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod limiter;
pub mod model;
pub mod platform;
pub mod receipt;
pub mod sandbox;
pub mod sdnotify;
pub mod signals;
pub mod source;
pub mod store;
pub mod telemetry;
