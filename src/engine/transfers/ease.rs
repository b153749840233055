//! How many requests of one kind may be under way where the far side refuses some of them.
//!
//! Each refusal takes one away, as many answers as may be under way give one back: additive increase and
//! decrease, so that a storage that refuses one request in a hundred costs next to nothing, and one that
//! can serve two at a time is soon asked for two at a time. Calls and parts have one each, for they mostly
//! go to different hosts. It is no measure of the line: that is [`super::width`].

use crate::engine::settings::WIDTH_MAX;
use crate::model::FailureKind;

/// Where nothing was refused for so many, there is no bound.
const UNBOUNDED: u32 = 2 * WIDTH_MAX;

/// See the module's head. At a crash it is forgotten.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ease {
    most: Option<u32>,
    arrived_count: u32,
}

impl Ease {
    /// Returns how many may be under way.
    pub(super) fn most(self) -> u32 {
        self.most.unwrap_or(u32::MAX)
    }

    /// Counts one that came back of `under_way`, itself included.
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

/// Returns whether a failure may come of too many requests at a time.
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
