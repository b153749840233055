//! telemetry: being built.
