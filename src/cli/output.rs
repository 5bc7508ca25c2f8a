//! Tables for people, JSON for programs.

use std::io::{self, Write};

use serde_json::Value;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Aligned text.
    #[default]
    Table,
    /// JSON, one document.
    Json,
}

/// Writes a JSON document.
///
/// # Errors
/// The output cannot be written.
pub(super) fn json(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    writeln!(out, "{document:#}")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn table_aligns_columns() {
        let rows = [["a".into(), "é".into()], ["longer".into(), "x\x1b[31m".into()]];
        insta::assert_snapshot!(written(|out| table(out, ["NAME", "B"], &rows)), @r"
        NAME    B
        a       é
        longer  x�[31m
        ");
    }

    #[test]
    fn fields_align_values() {
        let pairs = [("name", "svc".to_owned()), ("scoring uri", String::new())];
        insta::assert_snapshot!(written(|out| fields(out, &pairs)), @r"
        name         svc
        scoring uri
        ");
    }
}
