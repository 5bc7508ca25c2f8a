//! Tables for people, JSON for programs.

use std::io::{self, Write};

use serde_json::Value;

use super::exit::CliError;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum OutputFormat {
    /// Aligned text
    #[default]
    Table,
    /// One JSON document
    Json,
    /// JSON lines: each item of a list on a line of its own
    Jsonl,
}

/// Writes the result of a command to standard output.
#[derive(Debug)]
pub(super) struct Printer {
    format: OutputFormat,
}

impl Printer {
    pub(super) fn new(format: OutputFormat) -> Self {
        Self { format }
    }

    /// Whether a list may be written in parts, one after the other.
    pub(super) fn writes_lines(&self) -> bool {
        self.format == OutputFormat::Jsonl
    }

    /// Whether it writes for people.
    pub(super) fn is_for_people(&self) -> bool {
        self.format == OutputFormat::Table
    }

    /// Writes a document, or what people want to see of it.
    pub(super) fn print(
        &self,
        document: &Value,
        for_people: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        match self.format {
            OutputFormat::Table => for_people(&mut out)?,
            OutputFormat::Json => writeln!(out, "{document:#}")?,
            OutputFormat::Jsonl => json_lines(&mut out, document)?,
        }
        Ok(())
    }
}

/// Writes a line that is not what a command is for. Where nobody reads it any more, what was done stays done.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Tells a person at the terminal what the output does not say.
pub(super) fn hint(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes the items of a list, or else the document itself, one a line.
fn json_lines(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    match document {
        Value::Array(items) => items.iter().try_for_each(|item| writeln!(out, "{item}")),
        other => writeln!(out, "{other}"),
    }
}

/// Writes rows under a header, each column as wide as its widest cell.
///
/// # Errors
/// The output cannot be written.
pub(super) fn table<const N: usize>(
    out: &mut dyn Write,
    header: [&str; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    line(out, &header.map(str::to_owned), &widths)?;
    rows.iter().try_for_each(|row| line(out, row, &widths))
}

/// Writes names and values, one pair a line.
///
/// # Errors
/// The output cannot be written.
pub(super) fn fields(out: &mut dyn Write, fields: &[(&str, String)]) -> io::Result<()> {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in fields {
        line(out, &[(*name).to_owned(), value.clone()], &[width, 0])?;
    }
    Ok(())
}

fn line(out: &mut dyn Write, cells: &[String], widths: &[usize]) -> io::Result<()> {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{:width$}", printable(cell)));
    writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())
}

/// Descriptions and tags are other people's text: nothing in them may command the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// A member's text; empty where there is none.
pub(super) fn text(object: &Value, member: &str) -> String {
    match &object[member] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The items of a list; none if it is not one.
pub(super) fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn table_aligns_columns_and_disarms_control_characters() {
        let rows = [["a".into(), "é".into()], ["longer".into(), "x\x1b[31m".into()]];
        let table = written(|out| table(out, ["NAME", "B"], &rows));
        assert_eq!(table, "NAME    B\na       é\nlonger  x\u{fffd}[31m\n");
    }

    #[test]
    fn json_lines_has_a_line_for_each_item() {
        let list = serde_json::json!([{ "a": "line\nbreak" }, { "b": 1 }]);
        assert_eq!(written(|out| json_lines(out, &list)), "{\"a\":\"line\\nbreak\"}\n{\"b\":1}\n");
        assert_eq!(written(|out| json_lines(out, &list[1])), "{\"b\":1}\n");
        assert_eq!(written(|out| json_lines(out, &Value::Array(Vec::new()))), "");
    }

    #[test]
    fn fields_align_values() {
        let pairs = [("name", "svc".to_owned()), ("scoring uri", String::new())];
        assert_eq!(written(|out| fields(out, &pairs)), "name         svc\nscoring uri\n");
    }
}
