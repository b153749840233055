//! sdnotify: being built.
