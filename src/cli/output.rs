//! Printing results: a table for people, JSON for programs.

use std::{
    fmt,
    io::{self, Write as _},
};

use serde_json::Value;

use super::client::Answer;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// What the API answered, unchanged.
    Json,
}

pub(super) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// A line for whoever still reads: for commands whose work and exit code matter without it.
pub(super) fn tell(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// A line on stderr, if anybody reads it: a full disk or a closed pipe there changes no exit code.
/// `eprintln!` would panic.
pub(super) fn note(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// For a command that goes on without a reader, because its exit code says more than its output:
/// one that is gone is no error, anything else that keeps results from being written is.
pub(super) fn or_unread(printed: io::Result<()>) -> io::Result<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// The API's answer byte for byte, ended by a line feed: a number written as `1.0` or a name that
/// stands twice would not survive being read and written again.
pub(super) fn json(body: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(body)?;
    if !body.is_empty() && !body.ends_with(b"\n") { out.write_all(b"\n") } else { Ok(()) }
}

/// A list of the API: `data` as a table of the given fields, and how to get the next page.
pub(super) fn list(output: Output, answer: &Answer, fields: &[&str]) -> io::Result<()> {
    if output == Output::Json {
        return json(&answer.body);
    }
    let rows = answer["data"].as_array().map_or(&[][..], Vec::as_slice);
    if rows.is_empty() {
        line("none")?;
    } else {
        line(&table(fields, rows))?;
    }
    match answer["next_cursor"].as_str() {
        Some(cursor) => line(&format!("more: --cursor {cursor}")),
        None => Ok(()),
    }
}

/// One object of the API, a line for each field.
pub(super) fn object(output: Output, answer: &Answer) -> io::Result<()> {
    match (output, answer.as_object()) {
        (Output::Text, Some(object)) => fields(object.iter()),
        _ => json(&answer.body),
    }
}

/// A line for each field.
pub(super) fn fields<'a>(
    mut fields: impl Iterator<Item = (&'a String, &'a Value)> + Clone,
) -> io::Result<()> {
    let width = fields.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.try_for_each(|(name, value)| line(&format!("{name:<width$}  {}", cell(value))))
}

pub(super) fn table(fields: &[&str], rows: &[Value]) -> String {
    let mut lines: Vec<Vec<String>> =
        vec![fields.iter().map(|field| field.replace('_', " ").to_uppercase()).collect()];
    lines.extend(rows.iter().map(|row| fields.iter().map(|field| cell(&row[*field])).collect()));
    let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..fields.len()).map(width).collect();
    let padded = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(padded).collect::<Vec<_>>().join("\n")
}

/// Text in a line. Control characters are shown escaped: what a tenant or a receiver wrote must not
/// move the operator's cursor.
pub(super) fn text(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text.to_owned()
    }
}

/// A value in a line of text.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => self::text(text),
        Value::Array(items) if items.iter().all(|item| !item.is_object()) => {
            items.iter().map(cell).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_head_and_aligned_columns_and_no_control_characters() {
        let rows = [
            serde_json::json!({"id": "wh_1", "events": ["*"], "x": 1}),
            serde_json::json!({"id": "wh_22", "events": ["a", "b"], "note": "\u{1b}[2J"}),
        ];
        let text = table(&["id", "events", "note"], &rows);
        assert_eq!(text, "ID     EVENTS  NOTE\nwh_1   *       -\nwh_22  a,b     \\u{1b}[2J");
    }
}
