//! The state of the view: the screen, the marked item, the search.

use std::path::{Path, PathBuf};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Look;
use super::screens::{self, Content, ListEntry, Screen, ScreenData};
use crate::model::Monotonic;

/// Items of a page, whatever its height.
const PAGE: usize = 10;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyEffect {
    Stay,
    Quit,
}

/// A screen with its marked item.
pub(super) struct Position {
    screen: Screen,
    /// The last data, with its time.
    found: Option<(ScreenData, Monotonic)>,
    pub(super) marked: usize,
    /// The item that a key marked: the mark follows it.
    followed: Option<String>,
    /// The first drawn item.
    pub(super) top: usize,
    pub(super) search: String,
}

pub(super) struct WatchView {
    state: PathBuf,
    pub(super) has_colour: bool,
    /// The path of screens; the last one is shown.
    positions: Vec<Position>,
    /// The screen of the last data.
    read_for: Option<Screen>,
    /// Why nothing could be read.
    failure: Option<String>,
    /// The last screen, laid out.
    content: Content,
    width: usize,
    pub(super) is_typing: bool,
}

impl Position {
    fn at(screen: Screen) -> Self {
        Self { screen, found: None, marked: 0, followed: None, top: 0, search: String::new() }
    }
}

impl WatchView {
    pub(super) fn new(state: &Path, has_colour: bool) -> Self {
        Self {
            state: state.to_owned(),
            has_colour,
            positions: vec![Position::at(Screen::Runs)],
            read_for: None,
            failure: None,
            content: Content::default(),
            width: 0,
            is_typing: false,
        }
    }

    pub(super) fn position(&mut self) -> &mut Position {
        let last = self.positions.len() - 1;
        &mut self.positions[last]
    }

    pub(super) fn screen(&self) -> &Screen {
        &self.positions[self.positions.len() - 1].screen
    }

    fn found(&self) -> Option<&(ScreenData, Monotonic)> {
        self.positions[self.positions.len() - 1].found.as_ref()
    }

    /// Returns whether the last data was for another screen.
    pub(super) fn is_behind(&self) -> bool {
        self.read_for.as_ref() != Some(self.screen())
    }

    pub(super) fn take(&mut self, look: Look, now: Monotonic) {
        let is_current = look.screen == *self.screen();
        match look.found {
            Ok(found) if is_current => {
                self.position().found = Some((found, now));
                self.failure = None;
                self.lay_out();
            }
            Ok(_) => {}
            Err(why) => self.failure = Some(why),
        }
        self.read_for = Some(look.screen);
    }

    /// Lays the screen out for this many columns.
    pub(super) fn fit(&mut self, width: usize) {
        if width != self.width {
            self.width = width;
            self.lay_out();
        }
    }

    fn lay_out(&mut self) {
        self.content = match self.found() {
            Some((found, _)) => screens::content(self.screen(), found, self.width, &self.state),
            None => Content::default(),
        };
        let names: Vec<_> = self.items().map(|item| item.name.clone()).collect();
        let position = self.position();
        let followed = position.followed.as_ref();
        let found = followed.and_then(|name| names.iter().position(|shown| shown == name));
        position.marked = found.unwrap_or(position.marked).min(names.len().saturating_sub(1));
    }

    /// Returns the content, unless nothing was read for this screen yet.
    pub(super) fn content(&self) -> Option<&Content> {
        self.found().map(|_| &self.content)
    }

    /// Returns why nothing can be read, and for how many seconds.
    pub(super) fn failure(&self, now: Monotonic) -> Option<(&str, u64)> {
        let read_at = self.found().map_or(now, |(_, at)| *at);
        Some((self.failure.as_ref()?, now.since(read_at).as_secs()))
    }

    /// Returns the listed items that match the search.
    pub(super) fn items(&self) -> impl Iterator<Item = &ListEntry> {
        let search = self.positions[self.positions.len() - 1].search.to_lowercase();
        self.content.items.iter().filter(move |item| search.is_empty() || item.contains(&search))
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> KeyEffect {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && key.code == KeyCode::Char('c') {
            return KeyEffect::Quit;
        }
        if self.is_typing {
            self.type_key(key.code);
            return KeyEffect::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return KeyEffect::Quit,
            KeyCode::Char('j') | KeyCode::Down => self.mark(1, false),
            KeyCode::Char('k') | KeyCode::Up => self.mark(1, true),
            KeyCode::Char(' ') | KeyCode::PageDown => self.mark(PAGE, false),
            KeyCode::PageUp => self.mark(PAGE, true),
            KeyCode::Char('g') | KeyCode::Home => self.mark(usize::MAX, true),
            KeyCode::Char('G') | KeyCode::End => self.mark(usize::MAX, false),
            KeyCode::Char('l') | KeyCode::Right | KeyCode::Enter => self.open(),
            KeyCode::Char('h') | KeyCode::Left | KeyCode::Esc | KeyCode::Backspace => {
                self.go_back()
            }
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('r') => self.go_home(),
            KeyCode::Char('d') => self.go_to(Screen::Destinations),
            KeyCode::Char('m') => self.go_to(Screen::Messages),
            KeyCode::Char('?') => self.go_to(Screen::Keys),
            #[cfg(feature = "testing")]
            KeyCode::F(12) => panic!("F12"),
            _ => {}
        }
        KeyEffect::Stay
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "keys of another crate")]
    fn type_key(&mut self, code: KeyCode) {
        let search = &mut self.position().search;
        match code {
            KeyCode::Char(c) => search.push(c),
            KeyCode::Backspace => drop(search.pop()),
            KeyCode::Esc => {
                search.clear();
                self.is_typing = false;
            }
            KeyCode::Enter => self.is_typing = false,
            _ => {}
        }
        self.mark(usize::MAX, true);
        self.position().followed = None;
    }

    fn mark(&mut self, count: usize, is_up: bool) {
        let names: Vec<_> = self.items().map(|item| item.name.clone()).collect();
        let position = self.position();
        let last = names.len().saturating_sub(1);
        position.marked = match is_up {
            true => position.marked.saturating_sub(count),
            false => position.marked.saturating_add(count).min(last),
        };
        position.followed = names.into_iter().nth(position.marked);
    }

    fn open(&mut self) {
        let marked = self.position().marked;
        let opens = self.items().nth(marked).and_then(|item| item.opens.clone());
        opens.into_iter().for_each(|screen| self.go_to(screen));
    }

    fn go_back(&mut self) {
        let position = self.position();
        if !position.search.is_empty() {
            position.search.clear();
        } else if self.positions.len() > 1 {
            self.positions.pop();
        }
        self.lay_out();
    }

    fn go_to(&mut self, screen: Screen) {
        if *self.screen() != screen {
            self.positions.push(Position::at(screen));
        }
        self.lay_out();
    }

    fn go_home(&mut self) {
        self.positions.truncate(1);
        self.lay_out();
    }
}
