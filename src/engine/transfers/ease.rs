//! A limit of requests of one kind in flight, for a platform that refuses some of them.
//!
//! Each refusal lowers the limit by one, and as many successes as the limit raise it by one: additive
//! increase and decrease, so that a storage that refuses one request in a hundred costs next to nothing,
//! and one that can serve two at a time soon gets two at a time. Calls and parts have one each, because
//! they mostly go to different hosts. The line's capacity is measured in [`super::width`].

use crate::engine::settings::WIDTH_MAX;
use crate::model::FailureKind;

/// Without refusals at this limit, there is no bound.
const UNBOUNDED: u32 = 2 * WIDTH_MAX;

/// See the module documentation. A crash resets it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ease {
    most: Option<u32>,
    arrived_count: u32,
}

impl Ease {
    /// Returns the limit.
    pub(super) fn most(self) -> u32 {
        self.most.unwrap_or(u32::MAX)
    }

    /// Counts a finished one of `under_way`, itself included.
    pub(super) fn landed(&mut self, failed: Option<FailureKind>, under_way: u32) {
        match failed {
            None => self.arrived(),
            Some(kind) if is_overload(kind) => {
                let before = self.most().min(under_way.max(1));
                (self.most, self.arrived_count) = (Some((before - 1).max(1)), 0);
            }
            Some(_) => {}
        }
    }

    fn arrived(&mut self) {
        let Some(most) = self.most else { return };
        self.arrived_count += 1;
        if self.arrived_count >= most {
            (self.most, self.arrived_count) = (Some(most + 1).filter(|most| *most < UNBOUNDED), 0);
        }
    }
}

/// Returns whether too many requests at a time may cause a failure.
fn is_overload(kind: FailureKind) -> bool {
    use FailureKind::{Broken, ServerFault, Throttled, TimedOut};
    matches!(kind, Throttled { .. } | ServerFault | TimedOut | Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Option<FailureKind> = Some(FailureKind::ServerFault);

    #[test]
    fn one_refusal_costs_one_place_until_as_many_answers_came() {
        let mut ease = Ease::default();
        ease.landed(None, 8);
        assert_eq!(ease.most(), u32::MAX);
        ease.landed(REFUSED, 8);
        assert_eq!(ease.most(), 7);
        (0..7).for_each(|_| ease.landed(None, 7));
        assert_eq!(ease.most(), 8);
    }

    #[test]
    fn a_far_side_that_refuses_all_is_asked_one_at_a_time() {
        let mut ease = Ease::default();
        (0..50).for_each(|_| ease.landed(REFUSED, 8));
        assert_eq!(ease.most(), 1);
        (0..10_000).for_each(|_| ease.landed(None, 8));
        assert_eq!(ease.most(), u32::MAX, "and without a bound when it takes all again");
    }

    #[test]
    fn what_is_wrong_with_one_object_says_nothing_of_the_load() {
        let mut ease = Ease::default();
        for kind in [FailureKind::NotFound, FailureKind::Forbidden, FailureKind::BadRequest] {
            ease.landed(Some(kind), 8);
        }
        assert_eq!(ease.most(), u32::MAX);
    }
}
