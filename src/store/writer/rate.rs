//! How many bytes a second were accepted lately, as `status` shows it.

use rusqlite::Connection;

/// Over how long the shown rate is smoothed.
const RATE_WINDOW_NS: i64 = 10_000_000_000;

/// Bytes accepted lately.
#[derive(Debug, Default)]
pub(super) struct AcceptedRate {
    window_started_ns: i64,
    window_bytes: u64,
}

/// What a transaction added to the bytes accepted.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Accepted {
    pub(super) bytes: u64,
    pub(super) at_ns: i64,
}

impl AcceptedRate {
    /// Counts what a transaction added, if anything, and writes the rate.
    pub(super) fn write(
        &mut self,
        connection: &Connection,
        accepted: &Accepted,
    ) -> Result<(), rusqlite::Error> {
        if accepted.bytes == 0 {
            return Ok(());
        }
        let age = accepted.at_ns.saturating_sub(self.window_started_ns);
        if !(0..2 * RATE_WINDOW_NS).contains(&age) {
            (self.window_started_ns, self.window_bytes) = (accepted.at_ns, 0);
        } else if age >= RATE_WINDOW_NS {
            self.window_started_ns += RATE_WINDOW_NS / 2;
            self.window_bytes /= 2;
        }
        self.window_bytes = self.window_bytes.saturating_add(accepted.bytes);
        let age = accepted.at_ns.saturating_sub(self.window_started_ns).max(1_000_000_000);
        let rate = u128::from(self.window_bytes) * 1_000_000_000 / u128::from(age.unsigned_abs());
        let rate = i64::try_from(rate).unwrap_or(i64::MAX);
        let sql = "UPDATE daemon SET rate_bytes_per_second = ?1, rate_at_ns = ?2";
        connection.prepare_cached(sql)?.execute((rate, accepted.at_ns))?;
        Ok(())
    }
}
