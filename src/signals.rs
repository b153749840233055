//! signals: being built.
