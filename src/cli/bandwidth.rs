//! `bandwidth`: shows the rate, or sets another one until it is withdrawn.

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::{Common, Exit, ask, render};
use crate::config::{parse_rate, unit_hint};
use crate::control::{ControlRequest, RateOrder, Reply};

#[derive(Debug, Args)]
pub(super) struct BandwidthArguments {
    /// "10 MB/s", "unlimited", "0" (stop), or "configured"; stays in force until "configured" [default: show it]
    rate: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(common: &Common, arguments: &BandwidthArguments) -> anyhow::Result<Exit> {
    let set = match arguments.rate.as_deref().map(|rate| (rate, parse_rate(rate))) {
        None => None,
        Some(("configured", _)) => Some(RateOrder::Configured),
        Some((_, Ok(None))) => Some(RateOrder::Unlimited),
        Some((_, Ok(Some(rate)))) => Some(RateOrder::BytesPerSecond(rate)),
        Some((rate, Err(unit))) => {
            let hint = unit_hint(rate, &unit, |near| parse_rate(near).is_ok());
            bail!("{rate:?} is no rate; \"configured\" takes an order back\nhint: {hint}")
        }
    };
    let reply = ask::ask(common, &ControlRequest::Bandwidth { set })?;
    let Reply::Bandwidth { bytes_per_second, is_ordered } = reply else {
        return ask::odd(&reply);
    };
    if arguments.json {
        render::json(&json!({
            "schema": 1, "bytes_per_second": bytes_per_second, "is_ordered": is_ordered,
        }))?;
        return Ok(Exit::Fine);
    }
    let rate = match bytes_per_second {
        None => "unlimited".to_owned(),
        Some(0) => "0: nothing is sent".to_owned(),
        Some(rate) => render::rate(rate),
    };
    let source = if is_ordered { "ordered" } else { "configured" };
    render::data(&format!("bandwidth is {rate} ({source})"))?;
    Ok(Exit::Fine)
}
