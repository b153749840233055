//! The content of each screen, as lines: from the same data and in the same words as `status` and `show`.

use std::ffi::OsString;
use std::path::Path;

use crate::cli::layout::{self, Sheet, Tone};
use crate::cli::render;
use crate::cli::show::{self, run::NamedRun};
use crate::cli::status::{StatusReader, attention, progress, runs, text};
use crate::model::{DirectoryName, Live, Scope, SourcePath, UploadId};
use crate::store::snapshot::{Detail, DisposalShown, Status, UploadShown};

/// Maximum columns of a part map.
const MAP_COLUMNS: usize = 100;
const MAP_ROWS: usize = 6;
const KEYS: [(&str, &str); 10] = [
    ("arrows, j k", "move; PageUp, PageDown, Home, End as well"),
    ("Enter", "open what is marked: a run, a file, what a message is about"),
    ("Esc", "go back; ends a search first"),
    ("/", "show only what contains a text: of what is listed on this screen"),
    ("r", "runs"),
    ("d", "destinations and drop directories"),
    ("m", "messages: what needs someone, what waits, and what to do"),
    ("?", "these keys"),
    ("q, Ctrl-C", "quit"),
    ("> at the left", "what is marked"),
];
/// Characters of a part map, with their meaning.
const SIGNS: &str =
    "# there  = reported  > on its way  . waits  * there, sent again  ! failed, sent again";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Screen {
    Runs,
    /// A run; or the files of a drop directory that are their own runs.
    Run(DirectoryName, Option<SourcePath>),
    Upload(UploadId),
    Destinations,
    Messages,
    Keys,
}

/// The data of a screen.
pub(super) struct ScreenData {
    pub(super) status: Status,
    /// For the screen of one upload, while the upload exists.
    detail: Option<Detail>,
    disposal: Option<DisposalShown>,
}

/// A line, escaped, with its tone.
pub(super) type Line = (Tone, String);

/// An item that can be marked.
pub(super) struct ListEntry {
    /// Identifies it in the next data.
    pub(super) name: String,
    pub(super) lines: Vec<Line>,
    pub(super) opens: Option<Screen>,
}

/// The content of a screen.
#[derive(Default)]
pub(super) struct Content {
    pub(super) title: String,
    pub(super) head: Vec<Line>,
    pub(super) items: Vec<ListEntry>,
}

impl ListEntry {
    fn new(
        name: String,
        opens: Option<Screen>,
        width: usize,
        say: impl FnOnce(&mut Sheet),
    ) -> Self {
        let mut sheet = Sheet::new(Some(width));
        say(&mut sheet);
        Self { name, lines: sheet.into_lines(), opens }
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        self.lines.iter().any(|(_, line)| line.to_lowercase().contains(text))
    }
}

/// Reads the data of a screen.
pub(super) fn read(
    reader: &StatusReader<'_>,
    words: &[OsString],
    screen: &Screen,
) -> anyhow::Result<ScreenData> {
    let scope = match screen {
        Screen::Runs | Screen::Destinations | Screen::Messages | Screen::Keys => {
            let status = reader.read_named(words, false)?;
            let status = status.unwrap_or_else(|| reader.nothing());
            return Ok(ScreenData { status, detail: None, disposal: None });
        }
        Screen::Run(drop, Some(run)) => Scope::Run(drop.clone(), run.clone()),
        Screen::Run(drop, None) => Scope::Drop(drop.clone()),
        Screen::Upload(id) => Scope::Upload(*id),
    };
    let (snapshot, status) = reader.read(&[scope], false)?;
    let (mut detail, mut disposal) = (None, None);
    if let Screen::Upload(id) = screen {
        detail = snapshot.detail_of(*id, &status)?;
        if let Some(detail) = &detail {
            let admission = &detail.upload.admission.file;
            disposal = snapshot.disposal(&admission.drop, &admission.run)?;
        }
    }
    Ok(ScreenData { status, detail, disposal })
}

/// Lays out the data.
pub(super) fn content(screen: &Screen, found: &ScreenData, width: usize, state: &Path) -> Content {
    let status = &found.status;
    match screen {
        Screen::Runs => runs(status, width),
        Screen::Run(drop, run) => {
            let name = run.as_ref().map(|run| NamedRun { drop, run, state });
            of_run(name.as_ref(), drop, status, width)
        }
        Screen::Upload(id) => upload(*id, found, width, state),
        Screen::Destinations => destinations(status, width),
        Screen::Messages => messages(status, width),
        Screen::Keys => keys(width),
    }
}

fn head(width: usize, say: impl FnOnce(&mut Sheet)) -> Vec<Line> {
    let mut sheet = Sheet::new(Some(width));
    say(&mut sheet);
    sheet.into_lines()
}

fn runs(status: &Status, width: usize) -> Content {
    let item = |line: &runs::RunLine| {
        let opens = Screen::Run(line.drop.clone(), line.run.clone());
        let name = format!("{} {}", line.name, line.to);
        ListEntry::new(name, Some(opens), width, |sheet| runs::say(sheet, line))
    };
    Content {
        title: "runs".into(),
        head: head(width, |sheet| {
            text::verdict(sheet, status);
            text::totals(sheet, status);
        }),
        items: runs::lines(status).iter().map(item).collect(),
    }
}

fn of_run(
    named: Option<&NamedRun<'_>>,
    drop: &DirectoryName,
    status: &Status,
    width: usize,
) -> Content {
    let is_meant = |upload: &&UploadShown| match named {
        Some(_) => true,
        None => upload.admission.file.run == upload.admission.file.path,
    };
    let mut files: Vec<_> = status.uploads.iter().filter(is_meant).collect();
    let order = ["parked", "waiting", "sending", "queued", "completed", "abandoned"];
    files.sort_by_key(|upload| {
        (order.iter().position(|word| *word == upload.word()), upload.admission.id)
    });
    let item = |upload: &&UploadShown| {
        let id = upload.admission.id;
        let say = |sheet: &mut Sheet| text::say_files(sheet, status, &[*upload], 1);
        ListEntry::new(id.to_string(), Some(Screen::Upload(id)), width, say)
    };
    let run = named.and_then(|named| {
        status.runs.iter().find(|run| run.row.drop == *named.drop && run.row.name == *named.run)
    });
    let title = match named {
        Some(named) => format!("run {drop}/{}", named.run),
        None => format!("files at the top of {drop}"),
    };
    let say = |sheet: &mut Sheet| match (named, run) {
        (Some(named), Some(run)) => named.say(sheet, status, run),
        (Some(_), None) => sheet.say(Tone::Plain, 0, "it is not known any more"),
        (None, _) => text::verdict(sheet, status),
    };
    Content { title, head: head(width, say), items: files.iter().map(item).collect() }
}

fn upload(id: UploadId, found: &ScreenData, width: usize, state: &Path) -> Content {
    let title = format!("upload {id}");
    let Some(detail) = &found.detail else {
        let gone = head(width, |sheet| sheet.say(Tone::Plain, 0, "it is not known any more"));
        return Content { title, head: gone, items: Vec::new() };
    };
    let say = |sheet: &mut Sheet| {
        text::say_files(sheet, &found.status, &[&detail.upload], 1);
        if let Some(cure) = detail.upload.reason().and_then(|reason| reason.cure()) {
            sheet.say(Tone::Plain, 6, &format!("cure: {cure}"));
        }
        let nothing = Live::default();
        let live = found.status.process.live.as_ref().unwrap_or(&nothing);
        part_map(sheet, &detail.part_map(live), width);
    };
    let rows = show::rows(detail, found.disposal.as_ref(), state);
    let rows = rows.into_iter().map(|row| {
        let [name, value] = row.as_slice() else { return (String::new(), row.concat()) };
        (name.clone(), format!("{} {value}", layout::padded(name, 14)))
    });
    let attempts = detail.attempts.iter().map(show::attempt_text);
    let attempts = attempts.enumerate().map(|(number, text)| (format!("failed {number}"), text));
    let item = |(name, text): (String, String)| {
        ListEntry::new(name, None, width, |sheet| sheet.say(Tone::Plain, 2, &text))
    };
    Content { title, head: head(width, say), items: rows.chain(attempts).map(item).collect() }
}

/// Shows a character for each part, or for several if there are too many.
fn part_map(sheet: &mut Sheet, map: &str, width: usize) {
    if map.is_empty() {
        return;
    }
    let columns = width.saturating_sub(4).clamp(1, MAP_COLUMNS);
    let of_one = map.len().div_ceil(columns * MAP_ROWS).max(1);
    let signs: Vec<char> = map.as_bytes().chunks(of_one).map(sign).collect();
    let title = match of_one {
        1 => format!("parts: {}", map.len()),
        several => format!("parts: {}, {several} in each sign", map.len()),
    };
    sheet.say(Tone::Title, 2, &title);
    for row in signs.chunks(columns) {
        sheet.line(Tone::Plain, format!("    {}", row.iter().collect::<String>()));
    }
    sheet.say(Tone::Faint, 2, SIGNS);
}

/// Returns the character of several parts: that of the part with the most left to do.
fn sign(parts: &[u8]) -> char {
    let signs = [(b'f', '>'), (b'F', '>'), (b'W', '!'), (b'w', '.'), (b'A', '*'), (b'R', '*')];
    let found = signs.iter().find(|(letter, _)| parts.contains(letter));
    let all_reported = parts.iter().all(|letter| *letter == b'r');
    found.map_or(if all_reported { '=' } else { '#' }, |(_, sign)| *sign)
}

fn destinations(status: &Status, width: usize) -> Content {
    let now = status.read_at;
    let destination = status.places.destinations.iter().map(|to| {
        ListEntry::new(format!("to {}", to.name), None, width, |sheet| {
            text::say_destination(sheet, to, now);
            let rate = progress::rate_to(status, &to.name).filter(|rate| *rate > 0);
            let flows = status.process.live.iter().flat_map(|live| live.flows_to(&to.name));
            let parts: u32 = flows.map(|flow| flow.parts_in_flight).sum();
            let rate =
                rate.map(|rate| format!("{}/s, {parts} parts in flight", render::bytes(rate)));
            for said in rate.into_iter().chain(to.notable().map(str::to_owned)) {
                sheet.say(Tone::Faint, 4, &said);
            }
        })
    });
    let drops = status.places.drops.iter().map(|drop| {
        ListEntry::new(format!("from {}", drop.name), None, width, |sheet| {
            text::say_drop(sheet, drop, now);
            sheet.say(Tone::Faint, 4, &drop.directory);
        })
    });
    Content {
        title: "destinations".into(),
        head: Vec::new(),
        items: destination.chain(drops).collect(),
    }
}

fn messages(status: &Status, width: usize) -> Content {
    let matters = attention::list(status);
    let matters = matters.iter().map(|matter| {
        let opens = matter.first().map(Screen::Upload);
        ListEntry::new(matter.line(), opens, width, |sheet| text::say_matter(sheet, matter))
    });
    let waits = text::waits(status).into_iter().map(|(said, cure)| {
        ListEntry::new(said.clone(), None, width, |sheet| {
            sheet.say(Tone::Waits, 2, &said);
            cure.iter().for_each(|cure| sheet.say(Tone::Plain, 4, cure));
        })
    });
    let notices = text::notices_line(status).map(|said| {
        ListEntry::new("notices".into(), None, width, |sheet| sheet.say(Tone::Faint, 2, &said))
    });
    let items: Vec<_> = matters.chain(waits).chain(notices).collect();
    let nothing = |sheet: &mut Sheet| {
        if items.is_empty() {
            text::verdict(sheet, status);
        }
    };
    Content { title: "messages".into(), head: head(width, nothing), items }
}

fn keys(width: usize) -> Content {
    let say = |sheet: &mut Sheet| {
        for (key, does) in KEYS {
            sheet.say(Tone::Plain, 2, &format!("{} {does}", layout::padded(key, 14)));
        }
        sheet.line(Tone::Plain, String::new());
        sheet.say(Tone::Plain, 2, &format!("parts of an upload: {SIGNS}"));
    };
    Content { title: "keys".into(), head: head(width, say), items: Vec::new() }
}
