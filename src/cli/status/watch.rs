//! `status --watch` on a terminal: a full-screen view that is updated each second.
//!
//! One thread reads, as `status` and `show` do; this one draws and handles keys, so that no key waits for a
//! daemon that does not answer. The terminal is restored however the view ends: by a key, a signal, an error
//! or a panic. A daemon that ends, and unreadable rows, are shown; they do not end the view.

mod paint;
mod screens;
mod view;

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use anyhow::{Context, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::{SIGINT, SIGTERM};

use self::screens::{Screen, ScreenData};
use self::view::{KeyEffect, WatchView};
use super::{Exit, INTERVAL, StatusReader};
use crate::cli::layout;

/// Time to wait for a key before checking for new data.
const TICK: Duration = Duration::from_millis(100);

/// The data of a screen, or why it could not be read.
struct Look {
    screen: Screen,
    found: Result<ScreenData, String>,
}

/// The reading thread.
struct ReadingThread {
    ask: SyncSender<Screen>,
    answers: Receiver<Look>,
}

pub(super) fn execute(reader: &StatusReader<'_>, words: &[OsString]) -> anyhow::Result<Exit> {
    // An unknown word is refused before the screen is used.
    reader.read_named(words, false)?;
    let is_stopped = Arc::new(AtomicBool::new(false));
    // A hang-up ends the process at once: there is no terminal to restore then.
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&is_stopped))?;
    }
    let view = WatchView::new(&reader.directory, layout::has_colour());
    // It also restores the terminal after a panic.
    let mut terminal = ratatui::try_init().context("the terminal cannot be taken over")?;
    std::thread::scope(|scope| {
        let (ask, asked) = sync_channel::<Screen>(1);
        let (answer, answers) = sync_channel(1);
        scope.spawn(move || {
            for screen in asked {
                let found = screens::read(reader, words, &screen);
                let found = found.map_err(|error| format!("{error:#}"));
                if answer.send(Look { screen, found }).is_err() {
                    return;
                }
            }
        });
        let thread = ReadingThread { ask, answers };
        let ended = follow(&mut terminal, view, reader, &thread, &is_stopped);
        ratatui::try_restore().context("the terminal cannot be restored")?;
        ended.map(|()| Exit::Fine)
    })
}

/// Draws, reads and handles keys until one of them ends the view.
fn follow(
    terminal: &mut DefaultTerminal,
    mut view: WatchView,
    reader: &StatusReader<'_>,
    thread: &ReadingThread,
    is_stopped: &AtomicBool,
) -> anyhow::Result<()> {
    let (mut is_asked, mut read_at) = (false, None);
    while !is_stopped.load(Ordering::Relaxed) {
        let now = reader.clock.now().monotonic;
        match thread.answers.try_recv() {
            Ok(look) => {
                (is_asked, read_at) = (false, Some(now));
                view.take(look, now);
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => bail!("nothing is read any more"),
        }
        let is_due = read_at.is_none_or(|at| now.since(at) >= INTERVAL) || view.is_behind();
        if is_due && !is_asked {
            is_asked = thread.ask.try_send(view.screen().clone()).is_ok();
        }
        terminal.draw(|frame| paint::draw(frame, &mut view, now))?;
        if !event::poll(TICK)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                if view.press(key) == KeyEffect::Quit {
                    return Ok(());
                }
            }
            Event::Key(_)
            | Event::Resize(..)
            | Event::FocusGained
            | Event::FocusLost
            | Event::Mouse(_)
            | Event::Paste(_) => {}
        }
    }
    Ok(())
}
