//! Sentinels: the receipt of a completed run, sent to each destination where the operator wants that.

use super::intake::ReceiptFile;
use super::turn::Turn;
use super::upload::Upload;
use super::{Engine, RunKey, plan};
use crate::model::{Admission, DestinationName, Record, SourcePath, Target, UploadId};

impl Engine {
    pub(super) fn send_sentinels(&mut self, key: &RunKey, file: &ReceiptFile, turn: &mut Turn) {
        let Some(settings) = self.intakes.get(&key.0).map(|intake| intake.settings()) else {
            return;
        };
        let Some(name) = settings.sentinel.clone() else { return };
        for destination in settings.destinations.clone() {
            let to = SentinelPlace { destination: &destination, name: &name };
            let Some(admission) = self.sentinel(key, file, to, turn) else { continue };
            turn.record(Record::Admit(Box::new(admission.clone())));
            let id = admission.id;
            self.uploads.insert(id, Box::new(Upload::admitted(admission)));
            self.claim(id, turn);
            self.place(id, turn);
        }
    }

    fn sentinel(
        &mut self,
        key: &RunKey,
        file: &ReceiptFile,
        to: SentinelPlace<'_>,
        turn: &Turn,
    ) -> Option<Admission> {
        let (intake, gate) = (self.intakes.get(&key.0)?, self.gates.get(to.destination)?);
        let below = [key.1.as_bytes(), b"/", to.name.as_bytes()].concat();
        let words = plan::Words {
            drop: intake.settings(),
            path: &SourcePath::from_bytes(&below),
            run: &key.1,
            reading: intake.runs().reading(&key.1),
            at: turn.now.wall,
        };
        let ReceiptFile { path, version } = file.clone();
        let limits = &gate.settings.traits.limits;
        let wish = gate.wish(version.size);
        let planned = plan::part_size(limits, wish, version.size);
        let folders = plan::folders(&gate.settings.folder, words);
        let id = UploadId(self.next_upload);
        self.next_upload += 1;
        Some(Admission {
            id,
            drop: key.0.clone(),
            run: path.clone(),
            path,
            fingerprint: version,
            provenance: None,
            is_sentinel: true,
            destination: to.destination.clone(),
            target_id: gate.targets.own(),
            target: Target { folders, name: to.name.to_owned() },
            part_size: planned.unwrap_or(wish),
            rank: 0,
            at: turn.now.wall,
            parked: planned.err(),
            root: None,
        })
    }
}

/// Where a sentinel is sent, and under which name.
#[derive(Debug, Clone, Copy)]
struct SentinelPlace<'a> {
    destination: &'a DestinationName,
    name: &'a str,
}
