//! Export jobs of the platform in memory.

use super::{Fake, FakeJob, refuse};
use crate::model::{
    ExportId, ExportItem, ExportJob, ExportMode, ExportState, Failure, FailureKind,
};
use crate::platform::contract::{Answer, Exports};

impl Exports for Fake {
    fn find<'a>(&'a self, items: &'a [ExportItem]) -> Answer<'a, Vec<Option<ExportJob>>> {
        let found = self.enter("find exports").map(|state| {
            let find = |item: &ExportItem| {
                let jobs = state.jobs.iter().enumerate().rev();
                let mut jobs = jobs.filter(|(_, job)| job.item == *item);
                let (index, job) =
                    jobs.find(|(_, job)| !matches!(job.state(), ExportState::Failed(_)))?;
                Some(ExportJob { id: ExportId::new(index.to_string()), state: job.state() })
            };
            items.iter().map(find).collect()
        });
        Box::pin(std::future::ready(found))
    }

    fn start<'a>(
        &'a self,
        items: &'a [ExportItem],
        _: ExportMode,
    ) -> Answer<'a, Vec<std::result::Result<ExportId, Failure>>> {
        let started = self.enter("start exports").map(|mut state| {
            let start = |item: &ExportItem| {
                let ends = |(end, _): &(String, FailureKind)| item.place.location.ends_with(end);
                let end = state.faults.bad_jobs.iter().position(ends);
                let end = end.map(|index| state.faults.bad_jobs.remove(index).1);
                state.jobs.push(FakeJob { item: item.clone(), questions_left: 1, end });
                Ok(ExportId::new((state.jobs.len() - 1).to_string()))
            };
            items.iter().map(start).collect()
        });
        Box::pin(std::future::ready(started))
    }

    fn poll<'a>(
        &'a self,
        jobs: &'a [ExportId],
    ) -> Answer<'a, Vec<std::result::Result<ExportState, Failure>>> {
        let told = self.enter("poll exports").map(|mut state| {
            let mut ask = |id: &ExportId| {
                let index = id.as_str().parse::<usize>().ok();
                let Some(job) = index.and_then(|index| state.jobs.get_mut(index)) else {
                    return refuse(FailureKind::NotFound, "no such job");
                };
                job.questions_left = job.questions_left.saturating_sub(1);
                Ok(job.state())
            };
            jobs.iter().map(&mut ask).collect()
        });
        Box::pin(std::future::ready(told))
    }
}
