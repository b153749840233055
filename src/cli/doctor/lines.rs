//! The lines of the report.

use std::fmt;

use crate::model::Shown;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckState {
    Ok,
    Warn,
    Fail,
}

impl CheckState {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

#[derive(Debug)]
pub(super) struct DoctorCheck {
    pub(super) group: &'static str,
    /// The subject within the group: a destination, a drop directory, a quantity.
    pub(super) name: String,
    pub(super) state: CheckState,
    pub(super) found: String,
    pub(super) cure: Option<String>,
}

impl fmt::Display for DoctorCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, found) = (Shown(&self.name), Shown(&self.found));
        write!(f, "{:<4}  {} {name}: {found}", self.state.word(), self.group)?;
        match &self.cure {
            Some(cure) => write!(f, "\n      cure: {}", Shown(cure)),
            None => Ok(()),
        }
    }
}

/// The lines of one group.
#[derive(Debug)]
pub(super) struct Checks {
    group: &'static str,
    list: Vec<DoctorCheck>,
}

impl Checks {
    pub(super) fn of(group: &'static str) -> Self {
        Self { group, list: Vec::new() }
    }

    pub(super) fn ok(&mut self, name: &str, found: impl Into<String>) {
        self.add(name, CheckState::Ok, found.into(), None);
    }

    pub(super) fn warn(&mut self, name: &str, found: impl Into<String>, cure: impl Into<String>) {
        self.add(name, CheckState::Warn, found.into(), Some(cure.into()));
    }

    pub(super) fn fail(&mut self, name: &str, found: impl Into<String>, cure: impl Into<String>) {
        self.add(name, CheckState::Fail, found.into(), Some(cure.into()));
    }

    /// Adds a line with its cure, where one is known.
    pub(super) fn add(
        &mut self,
        name: &str,
        state: CheckState,
        found: String,
        cure: Option<String>,
    ) {
        self.list.push(DoctorCheck {
            group: self.group,
            name: name.to_owned(),
            state,
            found,
            cure,
        });
    }

    pub(super) fn into_list(self) -> Vec<DoctorCheck> {
        self.list
    }
}
