//! The daemon's part in notices: passes them to their channels, and makes surveys.

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use super::context::World;
use super::workers::{ActReply, failed, off_the_loop};
use crate::clock::Clock;
use crate::config::{ChannelConfig, Config};
use crate::engine::event::{Outcome, ReportWanted, Survey};
use crate::model::{
    DestinationName, Failure, FailureKind, Notice, NoticeFacts, NoticeGroup, NoticeId, NoticeKind,
    ReportPeriod, WallTime,
};
use crate::notify::{Carried, Carrier, ChannelAnswer, Means, Parcel};
use crate::platform::Destination;
use crate::platform::http::Http;
use crate::source;
use crate::store::snapshot::Snapshot;
use crate::telemetry;

/// Limit of an answer's bytes that are read: enough to recognise one.
const ANSWER_MAX: usize = 1024;
/// A receiver that takes longer counts as stuck, however slowly it sends.
const TIME_LIMIT: Duration = Duration::from_mins(2);
/// Local hour at which a day of a report ends: before people come to work.
const REPORT_HOUR: i8 = 7;

/// Sends the requests of channels with the platforms' network settings.
#[derive(Debug, Clone)]
pub(crate) struct ChannelClient(pub(crate) Http);

impl Carrier for ChannelClient {
    fn carry<'a>(&'a self, parcel: Parcel<'a>) -> Carried<'a> {
        Box::pin(async move {
            let Parcel { address, headers, body } = parcel;
            let call = self.0.call_private(address, &headers, body);
            let late = |_| {
                let message =
                    format!("the receiver does not answer within {} s", TIME_LIMIT.as_secs());
                Failure::new(FailureKind::TimedOut, message)
            };
            let answer = tokio::time::timeout(TIME_LIMIT, call).await.map_err(late)??;
            let pause = answer.header("retry-after").and_then(|text| text.trim().parse().ok());
            let start = answer.body.get(..ANSWER_MAX).unwrap_or(&answer.body);
            Ok(ChannelAnswer {
                status: answer.status,
                retry_after: pause.map(Duration::from_secs),
                text: String::from_utf8_lossy(start).into_owned(),
            })
        })
    }
}

impl ChannelClient {
    fn of(config: &Config) -> Result<Self, Failure> {
        let client = Http::new(&config.network).map(Self);
        client.map_err(|why| Failure::new(FailureKind::LocalFault, why))
    }

    fn means(&self, clock: &Clock) -> Means<'_> {
        Means { carrier: self, at: clock.now().wall, keep: telemetry::register_secret }
    }
}

/// Sends a test message by a channel, and returns what its receiver answered.
pub(crate) async fn send_test(
    config: &Config,
    channel: &ChannelConfig,
    clock: &Clock,
) -> Result<String, Failure> {
    let client = ChannelClient::of(config)?;
    let means = client.means(clock);
    let (at, kind) = (means.at, NoticeKind::Test);
    let notice = Notice {
        id: NoticeId(0),
        channel: channel.settings.channel.clone(),
        kind,
        group: NoticeGroup::of(kind, &[]),
        is_over: false,
        facts: NoticeFacts::default(),
        at,
        due: at,
    };
    channel.sender.send(&notice, means).await
}

/// Checks that a channel is there, without sending a notice.
pub(crate) async fn probe_channel(
    config: &Config,
    channel: &ChannelConfig,
    clock: &Clock,
) -> Result<String, Failure> {
    let client = ChannelClient::of(config)?;
    channel.sender.probe(client.means(clock)).await
}

impl World {
    /// Returns what a channel needs.
    pub(super) fn means(&self) -> Means<'_> {
        let at = self.clock.now().wall;
        Means { carrier: &self.channels.client, at, keep: telemetry::register_secret }
    }
}

pub(super) async fn send(world: &World, notice: &Notice) -> Result<Outcome, Failure> {
    let channel = &notice.channel;
    let missing = || Failure::new(FailureKind::Unreachable, format!("{channel} is not configured"));
    let sent =
        world.channels.senders.get(channel).ok_or_else(missing)?.send(notice, world.means()).await;
    sent.map(drop).map_err(|failure| {
        let message = format!("{channel}: {}", failure.message);
        Failure { message, ..failure }
    })?;
    Ok(Outcome::Notified)
}

/// Reads the free space for the state, the expiry of the credentials, and the rows of a period.
pub(super) async fn survey(world: Arc<World>, wanted: Option<ReportWanted>) -> ActReply {
    let look = move || {
        let expiry = |(name, destination): (&DestinationName, &Destination)| {
            (name.clone(), destination.credential_expires_at())
        };
        Ok(Outcome::Surveyed(Survey {
            directory: world.state.display().to_string(),
            space: source::space(&world.state),
            expiries: world.destinations.iter().map(expiry).collect(),
            report: wanted.and_then(|wanted| report(&world, wanted)),
        }))
    };
    off_the_loop(look).await.or_else(|setback| failed(setback.failure))
}

/// Summarises the last complete period, unless it was reported. If the rows cannot be read, the
/// next survey does so.
fn report(world: &World, wanted: ReportWanted) -> Option<NoticeFacts> {
    let now = Timestamp::from_nanosecond(i128::from(world.clock.now().wall.0)).ok()?;
    let (from, until) = last_period(now.to_zoned_datetime(TimeZone::system()), wanted.period)?;
    // A clock that was set back repeats no period.
    if wanted.reported_until.is_some_and(|reported| reported >= until) {
        return None;
    }
    Snapshot::open(&world.state).and_then(|snapshot| snapshot.report(from, until)).ok()
}

/// Returns the start and the end of the last complete day or week before a time.
fn last_period(now: ZonedDateTime, period: ReportPeriod) -> Option<(WallTime, WallTime)> {
    let end_of =
        |date: Date| date.at(REPORT_HOUR, 0, 0, 0).to_zoned_datetime(now.time_zone().clone());
    let mut day = now.date();
    let (is_end, day_count): (fn(Date) -> bool, _) = match period {
        ReportPeriod::Day => (|_| true, 1),
        ReportPeriod::Week => (|date| date.weekday() == Weekday::Monday, 7),
    };
    while !is_end(day) || end_of(day).ok()? > now {
        day = day.yesterday().ok()?;
    }
    let from = day.checked_sub(jiff::Span::new().days(day_count)).ok()?;
    let wall =
        |end: ZonedDateTime| i64::try_from(end.timestamp().as_nanosecond()).ok().map(WallTime);
    Some((wall(end_of(from).ok()?)?, wall(end_of(day).ok()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_ends_at_seven_local_time_also_across_a_change_of_the_clocks() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
        let ends = |now: &str, period| {
            let now: jiff::civil::DateTime = now.parse().expect("a time");
            let now = now.to_zoned_datetime(zone.clone()).expect("it exists");
            let (from, until) = last_period(now, period).expect("representable");
            [from, until].map(|at| {
                Timestamp::from_nanosecond(at.0.into()).expect("representable").to_string()
            })
        };
        let day = ["2027-01-14T06:00:00Z", "2027-01-15T06:00:00Z"];
        assert_eq!(ends("2027-01-15T07:00:00", ReportPeriod::Day), day);
        assert_eq!(ends("2027-01-16T06:59:59", ReportPeriod::Day), day);
        let week = ["2027-03-22T06:00:00Z", "2027-03-29T05:00:00Z"];
        assert_eq!(ends("2027-03-29T07:00:00", ReportPeriod::Week), week, "one hour less");
        assert_eq!(ends("2027-04-05T06:59:59", ReportPeriod::Week), week);
    }
}
