//! The width against a simulated line: a bottleneck, a limit for one connection, a round trip.

use proptest::prelude::*;

use super::*;

const STEP: Duration = Duration::from_millis(50);
const MIB: u64 = 1024 * 1024;

/// A line, with its parts in flight.
#[derive(Debug, Clone)]
struct Line {
    /// Bytes per second for all.
    capacity: u64,
    /// Bytes per second for one connection.
    each: u64,
    /// Time of each part besides its bytes.
    round_trip: Duration,
    part: u64,
    /// Limit of the parts.
    queue: u32,
    /// For each part: bytes left, and since when it is in flight.
    parts: Vec<(u64, Monotonic, Flown)>,
    now: Monotonic,
    sent: u64,
    arrived: u64,
}

impl Line {
    fn new(capacity: u64, each: u64, part: u64) -> Self {
        let round_trip = Duration::from_millis(100);
        let now = Monotonic(Duration::from_secs(7));
        let parts = Vec::new();
        let queue = u32::MAX;
        Self { capacity, each, round_trip, part, queue, parts, now, sent: 0, arrived: 0 }
    }

    fn goodput(&self, width: u32) -> u64 {
        self.capacity.min(self.each * u64::from(width))
    }

    /// The highest rate, and the smallest width that reaches nine tenths of it.
    fn best(&self) -> (u64, u32) {
        let best = self.goodput(WIDTH_MAX);
        let least = (1..=WIDTH_MAX).find(|width| self.goodput(*width) * 10 >= best * 9);
        (best, least.unwrap_or(WIDTH_MAX))
    }

    fn run(&mut self, width: &mut Width, time: Duration) {
        let until = self.now.after(time);
        let mut steps = 0_u32;
        while self.now < until {
            self.fill(width);
            self.now = self.now.after(STEP);
            self.carry(width);
            self.fill(width);
            steps += 1;
            if steps.is_multiple_of(10) {
                width.tick(self.sent, self.now);
            }
        }
    }

    fn fill(&mut self, width: &mut Width) {
        while width.flying() < width.get().min(self.queue) {
            self.parts.push((self.part, self.now, width.take_off(self.now)));
        }
    }

    fn carry(&mut self, width: &mut Width) {
        let count = u64::try_from(self.parts.len()).unwrap().max(1);
        let share = (self.capacity / count).min(self.each) / 20;
        for (left, since, part) in &mut self.parts {
            let bytes = share.min(*left);
            *left -= bytes;
            self.sent += bytes;
            if *left == 0 && self.now.since(*since) >= self.round_trip {
                width.land(*part, Landing::Arrived, self.now);
                self.arrived += 1;
                *since = Monotonic(Duration::MAX);
            }
        }
        self.parts.retain(|(_, since, _)| since.0 != Duration::MAX);
    }

    fn break_all(&mut self, width: &mut Width) {
        for (_, _, part) in self.parts.drain(..) {
            width.land(part, Landing::Trouble, self.now);
        }
    }
}

const MINUTES: Duration = Duration::from_mins(10);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_width_is_about_the_smallest_that_is_about_as_fast_as_any(
        capacity in 100_000..125_000_000_u64,
        connections in 1..48_u64,
        part in 5 * MIB..64 * MIB,
    ) {
        let mut line = Line::new(capacity, (capacity / connections).max(1), part);
        let mut width = Width::new();
        line.run(&mut width, MINUTES);
        let (best, least) = line.best();
        // A trial may be in progress: the time it takes counts.
        let before = line.sent;
        line.run(&mut width, Duration::from_mins(5));
        let goodput = (line.sent - before) / 300;
        prop_assert!(goodput * 5 >= best * 4, "{goodput} of {best} with {}", width.get());
        let is_slow = line.goodput(width.get()) / u64::from(width.get()) < SLOW / 2;
        let is_narrow = width.get() <= least * 3 / 2 + 3;
        prop_assert!(is_narrow || !is_slow, "{} where {least} do", width.get());
    }

    #[test]
    fn it_is_found_in_the_first_half_minute_on_a_line_that_is_not_slow(
        capacity in 20_000_000..125_000_000_u64,
        connections in 1..32_u64,
    ) {
        let mut line = Line::new(capacity, capacity / connections, 16 * MIB);
        let mut width = Width::new();
        line.run(&mut width, Duration::from_secs(30));
        let before = line.sent;
        line.run(&mut width, Duration::from_secs(30));
        let (goodput, best) = ((line.sent - before) / 30, line.best().0);
        prop_assert!(goodput * 5 >= best * 4, "{goodput} of {best} with {}", width.get());
    }
}

#[test]
fn small_files_are_as_many_as_their_round_trips_allow() {
    let mut line = Line::new(100_000_000, 100_000_000, 2000);
    line.round_trip = Duration::from_millis(300);
    let mut width = Width::new();
    line.run(&mut width, Duration::from_mins(1));
    assert!(width.get() >= 24, "{}", width.get());
    assert_eq!(width.speed(), None, "round trips are no speed");
}

#[test]
fn an_idle_queue_proves_nothing() {
    let mut line = Line::new(100_000_000, 1_000_000, 16 * MIB);
    line.queue = 1;
    let mut width = Width::new();
    line.run(&mut width, MINUTES);
    assert_eq!(width.get(), WIDTH_START);
    assert!(width.speed().is_some_and(|speed| speed.abs_diff(1_000_000) < 50_000), "{width:?}");
    line.queue = u32::MAX;
    line.run(&mut width, Duration::from_mins(1));
    assert!(width.get() > 24, "{}", width.get());
}

#[test]
fn trouble_halves_once_for_all_parts_of_one_time_and_success_widens_again() {
    let mut line = Line::new(100_000_000, 3_000_000, 16 * MIB);
    let mut width = Width::new();
    line.run(&mut width, Duration::from_mins(2));
    let wide = width.get();
    assert!(wide >= 24, "{wide}");
    line.break_all(&mut width);
    assert!(width.get() == wide / 2 || width.get() == wide / 2 - 3, "{} of {wide}", width.get());
    for _ in 0..6 {
        line.run(&mut width, Duration::from_secs(1));
        line.break_all(&mut width);
    }
    assert_eq!(width.get(), 1, "one part at a time, and never none");
    line.run(&mut width, Duration::from_mins(3));
    assert!(width.get() >= 24, "{}", width.get());
}

#[test]
fn a_line_that_was_limited_is_searched_again_when_the_limit_is_gone() {
    let mut line = Line::new(1_000_000, 5_000_000, 8 * MIB);
    let mut width = Width::new();
    line.run(&mut width, MINUTES);
    assert!(width.get() <= 3, "{}", width.get());
    line.capacity = 100_000_000;
    width.restart(line.now);
    line.run(&mut width, Duration::from_mins(1));
    assert!(width.get() >= 12, "{}", width.get());
}

#[test]
fn a_line_that_grows_worse_and_better_is_followed_without_being_told() {
    let mut line = Line::new(1_000_000, 5_000_000, 8 * MIB);
    let mut width = Width::new();
    line.run(&mut width, MINUTES);
    line.capacity = 100_000_000;
    line.run(&mut width, MINUTES);
    assert!(width.get() >= 12, "{}", width.get());
}

#[test]
fn a_refusal_of_ours_is_no_trouble() {
    for (kind, landing) in [
        (FailureKind::TimedOut, Landing::Trouble),
        (FailureKind::Unreachable, Landing::Trouble),
        (FailureKind::Broken, Landing::Trouble),
    ] {
        assert_eq!(Landing::of_failure(kind), landing, "{kind:?}");
    }
    for kind in [
        FailureKind::Throttled { after: None },
        FailureKind::ServerFault,
        FailureKind::SourceChanged,
        FailureKind::Cancelled,
        FailureKind::Unauthorized,
    ] {
        assert_eq!(Landing::of_failure(kind), Landing::Failed(kind));
    }
    let mut width = Width::new();
    let at = Monotonic(Duration::from_secs(1));
    let part = width.take_off(at);
    width.land(part, Landing::Failed(FailureKind::SourceChanged), at);
    assert_eq!(width.get(), WIDTH_START);
}

#[test]
fn one_refusal_in_twenty_does_not_make_the_width_small() {
    let mut width = Width::new();
    let mut now = Monotonic(Duration::from_secs(1));
    for number in 0..2000 {
        now = now.after(Duration::from_millis(10));
        while width.flying() < width.get() {
            width.take_off(now);
        }
        let part = Flown { number: width.traffic.taken_off_count, since: now };
        let how = match number % 20 {
            0 => Landing::Failed(FailureKind::ServerFault),
            _ => Landing::Arrived,
        };
        width.land(part, how, now);
    }
    assert!(width.get() >= EASY_MAX - 2, "{}", width.get());
}
