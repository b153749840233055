//! sevenbridges: being built.
