//! Compares the parts a platform knows with the parts we have checkpoints for.
//!
//! Recovery trusts only proof: a part counts only with a checkpoint of ours, or after its range was
//! read again and its digest agreed; everything else is sent again.
//!
//! | we have | the platform has | then |
//! |---|---|---|
//! | nothing | nothing | send |
//! | nothing | an MD5-like ETag | read the range and compare |
//! | nothing | another ETag | send |
//! | accepted | the same ETag | mark as reported |
//! | accepted | nothing | report again; send again where parts are not reported |
//! | accepted, reported | another ETag | send again |
//! | reported | the same ETag | nothing |
//! | reported | nothing | send again |

use std::collections::BTreeMap;

use crate::model::{ETag, Fact, Md5, PartNumber, PartState, RemotePart};

/// The result of the comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PartsCompared {
    pub(super) repairs: Vec<Fact>,
    /// Parts that must be read and compared before they count.
    pub(super) unproved: BTreeMap<PartNumber, ETag>,
}

/// Compares `ours`, in order from part 1, with the platform's list; `reports` where it learns of a
/// part only by our report.
pub(super) fn compare(ours: &[PartState], listed: &[RemotePart], reports: bool) -> PartsCompared {
    let theirs: BTreeMap<_, _> = listed.iter().map(|part| (part.number, &part.etag)).collect();
    let mut compared = PartsCompared::default();
    let mut reported = Vec::new();
    for (index, part) in ours.iter().enumerate() {
        let number = PartNumber::from_index(index);
        let reopen = |was_reported| Fact::PartReopened { part: number, was_reported };
        match (part, theirs.get(&number)) {
            (PartState::Open, Some(etag)) if Md5::parse(etag.as_str()).is_some() => {
                compared.unproved.insert(number, (*etag).clone());
            }
            (PartState::Open, Some(_) | None) => {}
            (PartState::Accepted { .. }, None) if reports => {}
            (PartState::Accepted { etag, .. }, Some(said)) if etag == *said => {
                reported.push(number)
            }
            (PartState::Accepted { .. }, Some(_) | None) => compared.repairs.push(reopen(false)),
            (PartState::Reported { etag, .. }, Some(said)) if etag == *said => {}
            (PartState::Reported { .. }, Some(_) | None) => compared.repairs.push(reopen(true)),
        }
    }
    if !reported.is_empty() {
        compared.repairs.push(Fact::PartsReported { parts: reported });
    }
    compared
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: Md5 = Md5([7; 16]);

    fn part(number: u32) -> PartNumber {
        PartNumber::new(number).expect("from 1")
    }

    fn etag(text: &str) -> ETag {
        ETag::from_header(text)
    }

    fn remote(number: u32, text: &str) -> RemotePart {
        RemotePart { number: part(number), etag: etag(text), note: None }
    }

    #[test]
    fn every_row_of_the_table() {
        let md5_like = "0cc175b9c0f1b6a831c399e269772661";
        let accepted = |text| PartState::Accepted { md5: MD5, etag: etag(text), note: None };
        let reported = |text| PartState::Reported { md5: MD5, etag: etag(text) };
        let ours = [
            PartState::Open,
            PartState::Open,
            PartState::Open,
            accepted("a"),
            accepted("b"),
            accepted("c"),
            reported("d"),
            reported("e"),
            reported("f"),
        ];
        let theirs = [
            remote(2, md5_like),
            remote(3, "opaque-3"),
            remote(4, "a"),
            remote(6, "other"),
            remote(7, "d"),
            remote(9, "other"),
            remote(99, "beyond the plan"),
        ];
        let compared = compare(&ours, &theirs, true);
        let reopened =
            |number, was_reported| Fact::PartReopened { part: part(number), was_reported };
        assert_eq!(
            compared.repairs,
            [
                reopened(6, false),
                reopened(8, true),
                reopened(9, true),
                Fact::PartsReported { parts: vec![part(4)] },
            ]
        );
        assert_eq!(compared.unproved, BTreeMap::from([(part(2), etag(md5_like))]));
    }
}
