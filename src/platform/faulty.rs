//! faulty: being built.
