//! Extracts one value from an XML document, if the document is complete.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::source::profile::XmlPath;

/// Deeper than any run's document.
const DEPTH_MAX: usize = 64;

/// Returns the text or attribute of the first element at `path` that has it.
///
/// A document that is truncated or invalid gives nothing: it may be partially written, and its
/// value may be half a word.
pub(super) fn find(text: &str, path: &XmlPath) -> Option<String> {
    let mut reader = Reader::from_str(text.trim());
    let mut search = Search { path, open: Vec::new(), inside: None, found: None };
    let mut has_root = false;
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                has_root = true;
                search.enter(&start)?;
            }
            Event::Empty(start) => {
                has_root = true;
                search.enter(&start)?;
                search.leave();
            }
            Event::Text(text) => search.add(&text),
            Event::CData(data) => search.add(&data),
            Event::GeneralRef(reference) => match reference.resolve_char_ref().ok()? {
                Some(character) => search.add(character.encode_utf8(&mut [0; 4])),
                None => search.add(quick_xml::escape::resolve_predefined_entity(&reference)?),
            },
            Event::End(_) => search.leave(),
            Event::Eof => break,
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    (has_root && search.open.is_empty()).then_some(search.found).flatten()
}

struct Search<'a> {
    path: &'a XmlPath,
    /// For each open element, whether it matches the path at its depth.
    open: Vec<bool>,
    /// The text of the wanted element, while it is open.
    inside: Option<String>,
    found: Option<String>,
}

impl Search<'_> {
    fn enter(&mut self, start: &BytesStart<'_>) -> Option<()> {
        let depth = self.open.len();
        if depth >= DEPTH_MAX {
            return None;
        }
        let is_on_path = self.open.last().copied().unwrap_or(true);
        let name = self.path.elements.get(depth);
        let local = start.local_name();
        let is_named = name.is_some_and(|name| name == "*" || name == local.as_ref());
        self.open.push(is_on_path && is_named);
        if self.is_here() && self.found.is_none() {
            match &self.path.attribute {
                Some(wanted) => self.found = attribute(start, wanted),
                None => self.inside = Some(String::new()),
            }
        }
        Some(())
    }

    /// Returns whether the innermost open element is the wanted one.
    fn is_here(&self) -> bool {
        self.open.len() == self.path.elements.len() && self.open.last() == Some(&true)
    }

    fn add(&mut self, text: &str) {
        if let Some(inside) = self.inside.as_mut() {
            inside.push_str(text);
        }
    }

    fn leave(&mut self) {
        if self.is_here()
            && let Some(text) = self.inside.take()
        {
            let text = text.trim();
            self.found = (!text.is_empty()).then(|| text.to_owned());
        }
        self.open.pop();
    }
}

fn attribute(start: &BytesStart<'_>, wanted: &str) -> Option<String> {
    let all = start.attributes().filter_map(Result::ok);
    let mut named = all.filter(|one| one.key.local_name().as_ref() == wanted);
    let value = named.next()?.normalized_value(quick_xml::XmlVersion::Implicit1_0).ok()?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN_INFO: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<RunInfo Version=\"6\">\r\n\
        <Run Id=\"20260301_LH00123_0045_A22ABCDLT3\" Number=\"45\">\r\n\
        <Flowcell>22ABCDLT3</Flowcell>\r\n<Instrument>LH00123</Instrument>\r\n\
        <Date>2026-03-01T17:26:34Z</Date>\r\n<Reads><Read Number=\"1\" NumCycles=\"151\"/></Reads>\r\n\
        </Run>\r\n</RunInfo>\r\n";

    fn value(text: &str, path: &str) -> Option<String> {
        let (elements, attribute) = match path.split_once('@') {
            Some((elements, attribute)) => (elements, Some(attribute.to_owned())),
            None => (path, None),
        };
        let elements = elements.split('/').map(str::to_owned).collect();
        find(text, &XmlPath { elements, attribute })
    }

    #[test]
    fn texts_and_attributes_are_found() {
        let table = [
            ("RunInfo/Run@Id", Some("20260301_LH00123_0045_A22ABCDLT3")),
            ("RunInfo@Version", Some("6")),
            ("RunInfo/Run/Flowcell", Some("22ABCDLT3")),
            ("*/*/Instrument", Some("LH00123")),
            ("RunInfo/Run/Reads/Read@NumCycles", Some("151")),
            ("RunInfo/Run@Other", None),
            ("RunInfo/Flowcell", None),
            ("Flowcell", None),
            ("RunInfo/Run/Reads/Read", None),
        ];
        for (path, expected) in table {
            assert_eq!(value(RUN_INFO, path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn entities_sections_and_prefixes_are_read() {
        let text =
            "<a:R xmlns:a=\"x\"><a:N>A &amp; B&#33; <![CDATA[<c>]]></a:N><b Id='&lt;1'/></a:R>";
        assert_eq!(value(text, "R/N").as_deref(), Some("A & B! <c>"));
        assert_eq!(value(text, "R/b@Id").as_deref(), Some("<1"));
    }

    #[test]
    fn half_a_document_says_nothing_wherever_it_breaks_off() {
        let whole = RUN_INFO.trim_end();
        for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            assert_eq!(value(&whole[..end], "RunInfo/Run@Id"), None, "{end}");
        }
    }

    #[test]
    fn other_documents_say_nothing() {
        let deep = "<a>".repeat(1_000) + &"</a>".repeat(1_000);
        for text in [
            "<!DOCTYPE html><html><body>Sign in<br></body></html>",
            "<html><body>Sign in</body></html>",
            "{\"Run\": 1}",
            "\u{fffd}\u{fffd}",
            "<RunInfo><Run Id=\"x\"></RunInfo></Run>",
            &deep,
        ] {
            assert_eq!(value(text, "RunInfo/Run@Id"), None, "{text}");
        }
    }
}
