//! Checks that names at a target distinguish drop directories.

use super::Resolver;
use crate::config::{Destination, Drop, Problem};
use crate::model::TargetAddress;

/// One drop directory's names at one target.
struct PlaceNames<'a> {
    drop: &'a Drop,
    destination: &'a Destination,
    address: TargetAddress,
    /// The folders of its files, with the drop directory's name in place of its word.
    folder: String,
}

impl Resolver<'_> {
    /// Warns of drop directories with indistinguishable names at one target: files with the same
    /// path have the same place, and only one of them can get it.
    pub(super) fn warn_of_shared_places(&mut self, drops: &[Drop], destinations: &[Destination]) {
        let mut all: Vec<PlaceNames<'_>> = Vec::new();
        for drop in drops {
            let targets = &drop.settings.destinations;
            let to = destinations
                .iter()
                .filter(|to| targets.contains(&to.name) && to.platform.traits().has_places);
            all.extend(to.map(|destination| PlaceNames::of(drop, destination)));
        }
        for (index, names) in all.iter().enumerate() {
            for other in all.iter().skip(index + 1).filter(|other| names.are_as(other)) {
                self.warnings.push(Problem {
                    place: None,
                    message: names.warning(other),
                    hint: None,
                });
            }
        }
    }
}

impl<'a> PlaceNames<'a> {
    fn of(drop: &'a Drop, destination: &'a Destination) -> Self {
        let folder = destination.folder.replace("{drop}", drop.settings.name.as_str());
        let parts = folder.split('/').filter(|part| !part.is_empty());
        let folder = parts.collect::<Vec<_>>().join("/");
        Self { drop, destination, address: destination.address(), folder }
    }

    fn are_as(&self, other: &Self) -> bool {
        self.drop.settings.name != other.drop.settings.name
            && (self.is_at_target_of(other) || self.may_be_at_target_of(other))
            && self.folder == other.folder
    }

    fn is_at_target_of(&self, other: &Self) -> bool {
        let own = |names: &Self| names.destination.addresses();
        own(self).contains(&other.address) || own(other).contains(&self.address)
    }

    /// Buckets with one name at two addresses may be one bucket: a region's host and the general
    /// one, a storage by its name and by its IP address.
    fn may_be_at_target_of(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.address, &other.address);
        ours.platform == theirs.platform && ours.container == theirs.container
    }

    fn warning(&self, other: &Self) -> String {
        let key = match self.destination.platform.name() {
            "s3" => "prefix",
            _ => "folder",
        };
        let (one, two) = (&self.drop.settings.name, &other.drop.settings.name);
        let at = match self.destination.name == other.destination.name {
            true => format!("destination {}", self.destination.name),
            false => {
                format!("destinations {} and {}", self.destination.name, other.destination.name)
            }
        };
        if !self.is_at_target_of(other) {
            return format!(
                "drop directories {one} and {two} have the same names at {at}, which name {} at two \
                 addresses: if it is one, say so by same_as, or a file may be written over; or put \
                 {{drop}} into {key}",
                self.address.container
            );
        }
        format!(
            "drop directories {one} and {two} have the same names at {at}: of two files of the same path \
             one is sent and the other parks; put {{drop}} into {key}"
        )
    }
}
