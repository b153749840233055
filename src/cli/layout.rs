//! Text for a terminal: fitted to its width, with colour where that helps and never colour alone.

use std::io::IsTerminal;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::model::Shown;

/// The meaning of a line to its reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    /// The title of the following lines.
    Title,
    Good,
    Waits,
    /// A person has to act.
    Bad,
    Faint,
}

impl Tone {
    /// Returns the terminal's escape code.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Title => "1",
            Self::Good => "1;32",
            Self::Waits => "1;33",
            Self::Bad => "1;31",
            Self::Faint => "2",
        }
    }
}

/// A text made of lines.
#[derive(Debug)]
pub(super) struct Sheet {
    width: Option<usize>,
    lines: Vec<(Tone, String)>,
}

impl Sheet {
    /// Begins a text with a maximum width, if given.
    pub(super) fn new(width: Option<usize>) -> Self {
        Self { width, lines: Vec::new() }
    }

    pub(super) fn width(&self) -> Option<usize> {
        self.width
    }

    /// Adds a text, wrapped between words to the width; its further lines are indented.
    pub(super) fn say(&mut self, tone: Tone, indent: usize, text: &str) {
        let text = Shown(text).to_string();
        let room = self.width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(20));
        for (number, line) in wrapped(&text, room).into_iter().enumerate() {
            let indent = if number == 0 { indent } else { indent + 2 };
            self.lines.push((tone, format!("{:indent$}{line}", "")));
        }
    }

    /// Adds a line that fits already, and is escaped.
    pub(super) fn line(&mut self, tone: Tone, text: String) {
        self.lines.push((tone, text.trim_end().to_owned()));
    }

    /// Returns its lines, each with its tone.
    pub(super) fn into_lines(self) -> Vec<(Tone, String)> {
        self.lines
    }

    /// Returns it without colour.
    pub(super) fn plain(&self) -> String {
        self.lines.iter().map(|(_, line)| format!("{line}\n")).collect()
    }

    /// Returns it with colour.
    pub(super) fn coloured(&self) -> String {
        let line = |(tone, line): &(Tone, String)| match tone.code() {
            "" => format!("{line}\n"),
            code => format!("\x1b[{code}m{line}\x1b[0m\n"),
        };
        self.lines.iter().map(line).collect()
    }
}

/// Returns the width of standard output, if it is a terminal.
pub(super) fn terminal_width() -> Option<usize> {
    let out = std::io::stdout();
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    if !out.is_terminal() {
        return columns;
    }
    let size = rustix::termios::tcgetwinsize(&out).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0).or(columns).or(Some(80))
}

/// Returns whether standard output accepts colours.
pub(super) fn has_colour() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// Returns the columns of a text.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// Returns a text padded with blanks to a width.
pub(super) fn padded(text: &str, to: usize) -> String {
    format!("{text}{:1$}", "", to.saturating_sub(width(text)))
}

/// Removes columns from the middle of a text that is too wide: names differ at both ends.
pub(super) fn shortened(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let (head_room, tail_room) = (room.saturating_sub(1) / 2, room.saturating_sub(1).div_ceil(2));
    let head = fitting(text.chars(), head_room);
    let tail: String = fitting(text.chars().rev(), tail_room).chars().rev().collect();
    format!("{head}…{tail}")
}

fn fitting(chars: impl Iterator<Item = char>, room: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= room
        })
        .collect()
}

/// Wraps a text between words; a word that is too wide is broken itself.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut line = String::new();
    let mut lines = Vec::new();
    for word in text.split(' ') {
        let fits = |line: &str, count: usize, more: usize| {
            width(line) + more <= if count == 0 { room } else { room.saturating_sub(2) }
        };
        if !line.is_empty() && !fits(&line, lines.len(), 1 + width(word)) {
            lines.push(std::mem::take(&mut line));
        } else if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            if !fits(&line, lines.len(), c.width().unwrap_or(0)) {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    lines.push(line);
    lines
}

/// A bar of characters that every terminal has.
pub(super) fn bar(part: u64, whole: u64, columns: usize) -> String {
    let columns_wide = columns as u128;
    let full = match whole {
        0 => columns_wide,
        _ => u128::from(part.min(whole)) * columns_wide / u128::from(whole),
    };
    let full = usize::try_from(full).unwrap_or(columns);
    format!("[{}{}]", "#".repeat(full), ".".repeat(columns - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_wide_loses_its_middle_and_wide_signs_count_twice() {
        assert_eq!(shortened("run1/a.bam", 10), "run1/a.bam");
        assert_eq!(shortened("run1/L001_R1.fastq.gz", 11), "run1/…tq.gz");
        assert_eq!(width("試料"), 4);
        assert!(width(&shortened("試料試料試料試料", 9)) <= 9);
        assert_eq!(padded("試料", 6), "試料  ");
    }

    #[test]
    fn words_are_kept_whole_where_they_fit() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghij", 4), ["abcd", "ef", "gh", "ij"]);
        assert_eq!(wrapped("", 4), [""]);
    }

    #[test]
    fn bars_show_shares() {
        assert_eq!(bar(0, 10, 4), "[....]");
        assert_eq!(bar(5, 10, 4), "[##..]");
        assert_eq!(bar(11, 10, 4), "[####]");
        assert_eq!(bar(0, 0, 4), "[####]");
    }

    #[test]
    fn colour_comes_beside_the_words_and_never_from_a_name() {
        let mut sheet = Sheet::new(Some(80));
        sheet.say(Tone::Bad, 0, "lab/\u{1b}[32mrun1 is parked");
        assert_eq!(sheet.plain(), "lab/\\u{1b}[32mrun1 is parked\n");
        assert_eq!(sheet.coloured(), "\u{1b}[1;31mlab/\\u{1b}[32mrun1 is parked\u{1b}[0m\n");
    }
}
