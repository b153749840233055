//! Draws the view: a title, the most important matters, the list, a line of keys.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::screens::{Line, Screen};
use super::view::WatchView;
use crate::cli::layout::{Tone, shortened, width};
use crate::cli::render;
use crate::model::{Monotonic, Shown};
use crate::telemetry::scrub_secrets;

/// The keys, in as many words as there is room for.
const KEYS: [&str; 3] = [
    "arrows or j k move   Enter open   Esc back   / search   r runs   d destinations   m messages   ? keys   q quit",
    "↑↓  Enter open  Esc back  / search  r runs  d dest.  m messages  ? keys  q quit",
    "? keys  q quit",
];
/// Minimum of the list's rows, if it has as many.
const LIST_MIN: usize = 6;

pub(super) fn draw(frame: &mut Frame<'_>, view: &mut WatchView, now: Monotonic) {
    let area = frame.area();
    view.fit(usize::from(area.width));
    let mut canvas = Canvas { buffer: frame.buffer_mut(), area, has_colour: view.has_colour };
    let rows = usize::from(area.height);
    title(&mut canvas, view);
    if rows < 3 {
        return;
    }
    let mut row = 1;
    if let Some((why, seconds)) = view.failure(now) {
        let age = render::duration(seconds);
        let text = format!("nothing is read: {}; what follows is {age} old", Shown(why));
        canvas.put(row, &(Tone::Bad, text));
        row += 1;
    }
    let room = rows - 1 - row;
    let Some(content) = view.content() else {
        canvas.put(row, &(Tone::Faint, "reading …".into()));
        return keys(&mut canvas, view);
    };
    let least = if content.items.is_empty() { 0 } else { LIST_MIN };
    let head_room = room.saturating_sub(least).max(1);
    let is_cut = content.head.len() > head_room;
    let shown = if is_cut { head_room - 1 } else { content.head.len() };
    for line in &content.head[..shown] {
        canvas.put(row, line);
        row += 1;
    }
    if is_cut {
        let more = if *view.screen() == Screen::Runs { "  … all of it: m" } else { "  …" };
        canvas.put(row, &(Tone::Faint, more.into()));
        row += 1;
    }
    if row > 1 && !content.items.is_empty() && row + LIST_MIN < rows {
        row += 1;
    }
    list(&mut canvas, view, row);
    keys(&mut canvas, view);
}

/// Draws the title: the screen, the machine, and the marked position of the list.
fn title(canvas: &mut Canvas<'_>, view: &mut WatchView) {
    let count = view.items().count();
    let what = view.content().map_or("status", |content| &content.title);
    let columns = usize::from(canvas.area.width);
    let text = format!(" {}: {}", render::host(), Shown(what));
    let place = match count {
        0 => String::new(),
        count => format!("{} of {count} ", view.position().marked + 1),
    };
    let room = columns.saturating_sub(width(&place) + 1);
    let text = shortened(&text, room);
    let gap = columns.saturating_sub(width(&text) + width(&place));
    let style = Style::default().add_modifier(Modifier::REVERSED | Modifier::BOLD);
    canvas.put_styled(0, &format!("{text}{:gap$}{place}", ""), style);
}

/// Draws the list from a row on, with the marked item visible.
fn list(canvas: &mut Canvas<'_>, view: &mut WatchView, first_row: usize) {
    let last_row = usize::from(canvas.area.height) - 1;
    let room = last_row.saturating_sub(first_row);
    let heights: Vec<_> = view.items().map(|item| item.lines.len()).collect();
    let position = view.position();
    let marked = position.marked;
    position.top = position.top.min(marked);
    while position.top < marked && heights[position.top..=marked].iter().sum::<usize>() > room {
        position.top += 1;
    }
    let (top, mut row) = (position.top, first_row);
    for (number, item) in view.items().enumerate().skip(top) {
        for (index, line) in item.lines.iter().enumerate() {
            if row >= last_row {
                return;
            }
            canvas.put(row, line);
            if number == marked {
                canvas.mark(row, index == 0);
            }
            row += 1;
        }
    }
}

/// Draws the keys, or the typed text.
fn keys(canvas: &mut Canvas<'_>, view: &mut WatchView) {
    let (row, columns) = (usize::from(canvas.area.height) - 1, usize::from(canvas.area.width));
    let (is_typing, search) = (view.is_typing, Shown(&view.position().search).to_string());
    let fitting = KEYS.into_iter().find(|keys| width(keys) <= columns);
    let text = match (is_typing, search.is_empty()) {
        (true, _) => format!("search: {search}_   Enter keep  Esc end"),
        (false, false) => format!("only what contains: {search}   Esc all"),
        (false, true) => fitting.unwrap_or_default().to_owned(),
    };
    canvas.put(row, &(Tone::Title, text));
}

struct Canvas<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    has_colour: bool,
}

impl Canvas<'_> {
    /// Draws a line, which is escaped, in a row.
    fn put(&mut self, row: usize, line: &Line) {
        let (tone, text) = line;
        let style = self.style(*tone);
        self.put_styled(row, text, style);
    }

    fn put_styled(&mut self, row: usize, text: &str, style: Style) {
        let Ok(row) = u16::try_from(row) else { return };
        if row < self.area.height {
            let text = scrub_secrets(text);
            self.buffer.set_stringn(0, row, text, usize::from(self.area.width), style);
        }
    }

    /// Marks a row: by a sign at the first one of an item, and in bold.
    fn mark(&mut self, row: usize, is_first: bool) {
        let Ok(row) = u16::try_from(row) else { return };
        let of_row = Rect { y: row, height: 1, ..self.area };
        self.buffer.set_style(of_row, Style::default().add_modifier(Modifier::BOLD));
        if is_first {
            let style = Style::default().add_modifier(Modifier::REVERSED);
            self.buffer.set_stringn(0, row, ">", 1, style);
        }
    }

    fn style(&self, tone: Tone) -> Style {
        let bold = Style::default().add_modifier(Modifier::BOLD);
        let coloured = |colour: Color| if self.has_colour { bold.fg(colour) } else { bold };
        match tone {
            Tone::Plain => Style::default(),
            Tone::Title => bold,
            Tone::Good => coloured(Color::Green),
            Tone::Waits => coloured(Color::Yellow),
            Tone::Bad => coloured(Color::Red),
            Tone::Faint => Style::default().add_modifier(Modifier::DIM),
        }
    }
}
