//! Acts of one drop directory.

mod act;

pub(super) use act::IntakeAct;
