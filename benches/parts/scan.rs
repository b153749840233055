//! A walk over 200 000 empty files in 10 000 directories, warm.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use dropferry::testing::model::{DirectoryName, Unit};
use dropferry::testing::source::{DirectoryRoot, Filter, Profile, Settings, scan};

use crate::{Table, raw};

const UNITS: usize = 100;
const DIRECTORIES: usize = 100;
const FILES: usize = 20;

pub(crate) fn measure() {
    let drop = tempfile::tempdir().expect("a temporary directory");
    for directory in 0..UNITS * DIRECTORIES {
        let place = format!("run-{:04}/{directory:06}", directory / DIRECTORIES);
        let place = drop.path().join(place);
        fs::create_dir_all(&place).expect("made");
        for file in 0..FILES {
            fs::write(place.join(format!("s_1_{file:04}.bcl.gz")), "").expect("written");
        }
    }
    let mut table = Table::of("file");
    table.case("getdents and statx", || raw::walk(drop.path()));
    for profile in ["plain", "illumina"] {
        let (root, filter) = (DirectoryRoot::at(drop.path()), filter(drop.path(), profile));
        table.case(format!("scan, profile {profile}"), move || {
            let mut count = 0;
            let seen = scan(&root, &filter, &BTreeSet::new(), |batch| {
                count += batch.len();
                ControlFlow::Continue(())
            });
            assert!(seen.expect("scanned").complete && count == UNITS * DIRECTORIES * FILES);
            count
        });
    }
    table.print();
}

fn filter(drop: &Path, profile: &str) -> Filter {
    let settings = Settings {
        name: DirectoryName::new("lab"),
        directory: drop.to_owned(),
        unit: Unit::Directory,
        include: Vec::new(),
        exclude: Vec::new(),
        order: Vec::new(),
        profile: Profile::builtin(profile).expect("compiled in"),
        takes_all: false,
    };
    Filter::new(&settings).expect("no pattern")
}
