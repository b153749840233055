//! Escapes the fields of text lines: a name or an answer controls no terminal and begins no line.

use std::fmt;

use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use crate::model::Shown;

/// Formats fields as another formatter does, and escapes the result.
#[derive(Debug)]
pub(super) struct ShownFields<N>(pub(super) N);

impl<'a, N: for<'b> FormatFields<'b>> FormatFields<'a> for ShownFields<N> {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'a>, fields: R) -> fmt::Result {
        let mut text = String::new();
        self.0.format_fields(Writer::new(&mut text), fields)?;
        write!(writer, "{}", Shown(&text))
    }
}
