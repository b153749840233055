//! One list of scenarios over every platform: the fake, and each client against its stand-in.
//!
//! A small driver does what the engine does, by the contract alone: it asks before it repeats what
//! must not be repeated, and takes up what was begun.

mod driver;
mod sites;

use dropferry::testing::model::{Completion, FailureKind, Replaces, Target};
use dropferry::testing::sandbox::faults::{Action, When};

use self::driver::{Sent, bytes, complete_request, drive, part_request, request, try_put};
use self::sites::{Site, sites};

const PART: u64 = 1000;

/// Runs a scenario over every site.
fn everywhere(scenario: impl AsyncFn(&Site)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        for site in sites().await {
            scenario(&site).await;
            assert_eq!(site.breaches(), Vec::<String>::new(), "{}: rules were broken", site.name);
        }
    });
}

#[test]
fn every_size_arrives_whole() {
    everywhere(async |site| {
        for size in [0, 1, PART - 1, PART, PART + 1, 3 * PART + PART / 2] {
            let sent = Sent::new(&format!("size-{size}"), bytes(size, size));
            let file = drive(site, &sent).await;
            let inspected = site.platform.inspect(&file.id).await.expect("asked").expect("there");
            assert_eq!(inspected.size.map(|size| size.0), Some(size), "{}", site.name);
            site.assert_holds(&sent);
        }
    });
}

#[test]
fn every_name_arrives_as_it_is() {
    let long = "n".repeat(200);
    let names = [
        "with spaces and  two",
        "ünïcödé 日本語 🧬",
        "100%",
        "%41 is no A",
        "a+b",
        "a#b",
        "a&b=c",
        "it's \"quoted\"",
        "semi;colon,comma",
        "back\\slash",
        "question?mark",
        &long,
    ];
    everywhere(async |site| {
        for (index, name) in names.iter().enumerate() {
            let sent = Sent::new(name, bytes(2 * PART + index as u64, index as u64));
            drive(site, &sent).await;
            site.assert_holds(&sent);
            let small = Sent::new(&format!("small {name}"), bytes(10, index as u64));
            drive(site, &small).await;
            site.assert_holds(&small);
        }
        let mut deep = Sent::new("leaf & more", bytes(PART * 2, 77));
        let folders = (0..20).map(|level| format!("level {level} #+%"));
        let folders: Vec<_> = deep.target.folders().map(str::to_owned).chain(folders).collect();
        deep.target = Target::new(folders, deep.target.name());
        drive(site, &deep).await;
        site.assert_holds(&deep);
    });
}

#[test]
fn an_upload_goes_on_with_all_some_or_none_of_its_parts() {
    everywhere(async |site| {
        for there in [0, 2, 4] {
            let sent = Sent::new(&format!("resume-{there}"), bytes(3 * PART + 7, there));
            let request = request(site, &sent, false);
            let remote = site.platform.begin(&request).await.expect("begun");
            let mut put = Vec::new();
            for number in 1..=u32::try_from(there).expect("few") {
                let part = part_request(&remote, number, &request);
                put.push(try_put(site, &part, &sent).await.expect("taken"));
            }
            if site.platform.traits().reports_parts {
                site.platform.report_parts(&remote, &put).await.expect("told");
            }
            if let Some(mut listed) = site.platform.list_parts(&remote).await.expect("listed") {
                listed.sort_by_key(|part| part.number);
                assert_eq!(listed, put, "{}: {there} parts", site.name);
            }
            // Only a whole upload is ever completed. A platform that can answer the question only
            // by completing has then done so.
            let is_whole = put.len() == remote.part_count as usize;
            let asked = complete_request(&remote, &put, &request);
            let is_done = is_whole
                && site.platform.find_completed(&asked).await.expect("told") != Completion::Pending;
            if !is_done {
                driver::finish(site, &remote, put, &sent).await;
            }
            site.assert_holds(&sent);
        }
    });
}

#[test]
fn a_part_may_be_sent_again() {
    everywhere(async |site| {
        let sent = Sent::new("again", bytes(2 * PART, 3));
        let request = request(site, &sent, false);
        let remote = site.platform.begin(&request).await.expect("begun");
        for number in [2, 1, 2] {
            let part = part_request(&remote, number, &request);
            try_put(site, &part, &sent).await.expect("taken");
        }
        driver::finish(site, &remote, Vec::new(), &sent).await;
        site.assert_holds(&sent);
    });
}

#[test]
fn an_upload_that_the_platform_lost_is_said_to_be_gone() {
    everywhere(async |site| {
        let sent = Sent::new("gone", bytes(2 * PART, 4));
        let request = request(site, &sent, false);
        let remote = site.platform.begin(&request).await.expect("begun");
        let part = part_request(&remote, 1, &request);
        try_put(site, &part, &sent).await.expect("taken");
        site.vanish();
        let listed = site.platform.list_parts(&remote).await;
        assert_eq!(
            listed.map_err(|failure| failure.kind),
            Err(FailureKind::UploadGone),
            "{}",
            site.name
        );
        site.platform.abort(&remote.id).await.expect("what is not there is aborted");
        drive(site, &sent).await;
        site.assert_holds(&sent);
    });
}

#[test]
fn an_aborted_upload_leaves_nothing_and_may_be_aborted_again() {
    everywhere(async |site| {
        let sent = Sent::new("aborted", bytes(2 * PART, 5));
        let request = request(site, &sent, false);
        let remote = site.platform.begin(&request).await.expect("begun");
        let part = part_request(&remote, 1, &request);
        try_put(site, &part, &sent).await.expect("taken");
        site.platform.abort(&remote.id).await.expect("aborted");
        site.platform.abort(&remote.id).await.expect("aborted again");
        assert_eq!(site.open_uploads(), Vec::<String>::new(), "{}", site.name);
    });
}

#[test]
fn what_is_unfinished_is_listed_by_its_id_as_long_as_it_is_where_anything_is() {
    everywhere(async |site| {
        let sent = Sent::new("unfinished", bytes(2 * PART, 5));
        let request = request(site, &sent, false);
        let remote = site.platform.begin(&request).await.expect("begun");
        let listed = site.platform.list_open("").await.expect("asked");
        let Some(listed) = listed else {
            assert!(!["sevenbridges", "s3"].contains(&site.name), "{} has a list", site.name);
            return site.platform.abort(&remote.id).await.expect("aborted");
        };
        let [one] = &listed[..] else { panic!("{}: {listed:?}", site.name) };
        assert_eq!(one.id, remote.id, "{}", site.name);
        assert!(one.place.ends_with(request.target.name()), "{}: {one:?}", site.name);
        assert!(one.begun_at.is_some(), "{}: {one:?}", site.name);
        site.platform.abort(&remote.id).await.expect("aborted");
        assert_eq!(site.platform.list_open("").await, Ok(Some(Vec::new())), "{}", site.name);
    });
}

#[test]
fn a_name_that_is_taken_is_found_and_its_content_proved() {
    everywhere(async |site| {
        for size in [500, 3 * PART] {
            let sent = Sent::new(&format!("taken-{size}"), bytes(size, 6));
            let done = drive(site, &sent).await;
            let found = site.platform.locate(&sent.target).await.expect("asked");
            if !site.looks_up {
                assert_eq!(found, None, "{}", site.name);
                continue;
            }
            let found = found.expect("it is there");
            assert_eq!((found.id, found.size.map(|size| size.0)), (done.id, Some(size)));
            // If the part size is not ours, a digest is the client's guess and proves nothing.
            if let Some(mark) = found.mark.filter(|mark| mark.part_size.get() >= size.min(PART)) {
                let digest = sent.digest(mark.part_size);
                let is_ours = mark.part_size.get() == PART || size <= PART;
                assert!(!is_ours || mark.md5_of_parts == digest, "{}: {mark:?}", site.name);
            }
        }
    });
}

#[test]
fn another_file_of_the_name_is_replaced_only_when_asked_for() {
    everywhere(async |site| {
        if !site.overwrites {
            return;
        }
        for size in [500, 3 * PART] {
            let old = Sent::new(&format!("clash-{size}"), bytes(size, 7));
            drive(site, &old).await;
            let new = Sent { content: bytes(size + 1, 8), ..old.clone() };
            let refused = driver::upload_once(site, &new, false).await;
            let refused = refused.map_err(|failure| failure.kind);
            assert_eq!(refused.err(), Some(FailureKind::NameTaken), "{} {size}", site.name);
            site.assert_holds(&old);
            driver::upload_once(site, &new, true).await.expect("replaced");
            site.assert_holds(&new);
        }
    });
}

#[test]
fn files_change_places_by_renaming_where_that_is_how_they_are_replaced() {
    everywhere(async |site| {
        let is_by_renaming = site.platform.traits().replaces == Replaces::ByRenaming;
        let old = Sent::new("version", bytes(2 * PART, 20));
        let mut newer = Sent::new("version.newer", bytes(2 * PART + 1, 21));
        let (first, second) = (drive(site, &old).await, drive(site, &newer).await);
        let platform = &site.platform;
        let refused = platform.rename(&second.id, "version").await.map_err(|failure| failure.kind);
        if !is_by_renaming && site.name != "fake" {
            assert_eq!(refused, Err(FailureKind::BadRequest), "{}", site.name);
            let refused = platform.remove(&first.id).await.map_err(|failure| failure.kind);
            assert_eq!(refused, Err(FailureKind::BadRequest), "{}", site.name);
            return site.assert_holds(&old);
        }
        assert_eq!(refused, Err(FailureKind::NameTaken), "{}", site.name);
        for _ in 0..2 {
            assert_eq!(platform.rename(&first.id, "version.earlier").await, Ok(true));
        }
        for _ in 0..2 {
            assert_eq!(platform.rename(&second.id, "version").await, Ok(true));
        }
        for _ in 0..2 {
            assert_eq!(platform.remove(&first.id).await, Ok(()));
        }
        assert_eq!(platform.rename(&first.id, "version.earlier").await, Ok(false));
        assert_eq!(platform.inspect(&first.id).await, Ok(None), "{}", site.name);
        newer.target = old.target.clone();
        site.assert_holds(&newer);
    });
}

#[test]
fn a_fault_before_or_after_any_call_makes_neither_a_second_file_nor_none() {
    everywhere(async |site| {
        let Some(faults) = &site.faults else { return };
        for size in [10, 2 * PART + 1] {
            let clean = Sent::new(&format!("clean-{size}"), bytes(size, 9));
            let before = faults.calls();
            drive(site, &clean).await;
            let operations = faults.calls_since(&before);
            assert!(!operations.is_empty(), "{}", site.name);
            for operation in operations {
                for when in [When::Before, When::After] {
                    for (index, action) in
                        [Action::Reset, Action::Html(502), Action::Truncate].into_iter().enumerate()
                    {
                        let name = format!("{operation}-{when:?}-{index}-{size}");
                        let sent = Sent::new(&name, bytes(size, 10 + index as u64));
                        faults.set(&operation, when, action);
                        drive(site, &sent).await;
                        faults.clear();
                        site.assert_holds(&sent);
                    }
                }
            }
        }
    });
}

#[test]
fn a_refused_credential_and_a_platform_under_maintenance_are_told_apart_from_failures() {
    everywhere(async |site| {
        let Some(faults) = &site.faults else { return };
        site.platform.check_access().await.expect("all is well");
        faults.switch(|switches| switches.token_revoked = true);
        let refused = site.platform.check_access().await.expect_err("revoked");
        assert_eq!(refused.kind, FailureKind::Unauthorized, "{}: {refused}", site.name);
        faults.switch(|switches| switches.token_revoked = false);
        site.platform.check_access().await.expect("all is well again");
        faults.switch(|switches| switches.maintenance = true);
        let closed = site.platform.check_access().await.expect_err("closed").kind;
        let is_passing = matches!(
            closed,
            FailureKind::Maintenance | FailureKind::ServerFault | FailureKind::Throttled { .. }
        );
        assert!(is_passing, "{}: {closed:?}", site.name);
        faults.switch(|switches| switches.maintenance = false);
    });
}
