//! `notify --test`: sends a test message, and prints its receiver's answer.

use anyhow::bail;
use clap::Args;

use super::{Common, Exit, render};
use crate::clock::Clock;
use crate::config::nearest_words;
use crate::daemon;

#[derive(Debug, Args)]
pub(super) struct NotifyArguments {
    /// Send a test message
    #[arg(long, required = true)]
    test: bool,
    /// Only through this channel, such as mail or webhook.night [default: all]
    channel: Option<String>,
}

pub(super) fn execute(common: &Common, asked: &NotifyArguments) -> anyhow::Result<Exit> {
    let config = common.load()?;
    let is_asked = |name: &str| asked.channel.as_ref().is_none_or(|channel| channel == name);
    let channels: Vec<_> = config
        .notify
        .channels
        .iter()
        .filter(|one| is_asked(one.settings.channel.as_str()))
        .collect();
    if channels.is_empty() {
        let names: Vec<_> =
            config.notify.channels.iter().map(|one| one.settings.channel.as_str()).collect();
        let Some(channel) = asked.channel.as_ref().filter(|_| !names.is_empty()) else {
            bail!("no channel is configured: [notify] has command, webhook and mail");
        };
        let near = nearest_words(channel, &names, 1);
        let near = near.first().map_or(String::new(), |near| format!("; did you mean {near:?}?"));
        bail!("there is no channel {channel} (there is {}){near}", names.join(", "));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut failed = false;
    for channel in channels {
        let name = &channel.settings.channel;
        match runtime.block_on(daemon::send_test(&config, channel, &Clock::real())) {
            Ok(answer) => render::data(&format!("{name}: accepted ({answer})"))?,
            Err(failure) => {
                failed = true;
                render::data(&format!("{name}: not accepted: {failure}"))?;
            }
        }
    }
    runtime.shutdown_background();
    Ok(if failed { Exit::Failed } else { Exit::Fine })
}
