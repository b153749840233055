//! sandbox: being built.
