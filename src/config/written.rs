//! What a configuration file says: its keys in the order written, and what is wrong with its syntax.
//!
//! A syntax error inside a key's value is that key's one problem. What the parser makes of such a
//! value is a guess, and judging it would tell the same mistake a second time.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{
    errors::{Origin, Problem},
    layers::Entry,
    value::Value,
};

#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) entries: Vec<(String, Entry)>,
    /// Tables in which nothing is set: `[server]` with all of it commented out.
    pub(super) empty_tables: Vec<(String, Origin)>,
    pub(super) problems: Vec<Problem>,
}

impl Written {
    pub(super) fn read(text: &str, origin: impl Fn(usize) -> Origin) -> Self {
        let (document, errors) = DeTable::parse_recoverable(text);
        let origin =
            |offset: usize| origin(1 + text[..offset.min(text.len())].matches('\n').count());
        let (found, empty_tables) = keys(document.get_ref(), text);
        let mut broken = vec![false; found.len()];
        let mut problems = Vec::new();
        for error in errors {
            let start = error.span().map_or(0, |span| span.start);
            let at = found.iter().position(|key| key.lines.contains(&start));
            if at.is_some_and(|at| std::mem::replace(&mut broken[at], true)) {
                continue;
            }
            problems.push(Problem {
                key: at.map_or_else(String::new, |at| found[at].name.clone()),
                value: None,
                rule: error.message().to_owned(),
                origin: origin(start),
            });
        }
        let whole = found.into_iter().zip(broken).filter(|(_, broken)| !broken);
        let entry = |key: Key<'_>| {
            let origin = origin(key.lines.start);
            (key.name, Entry { value: Value::from_toml(key.value), origin })
        };
        // A broken line may have been taken for a table, or have hidden one's keys.
        let legible = problems.iter().all(|problem| !problem.key.is_empty());
        let empty_tables = empty_tables.into_iter().filter(|_| legible);
        Self {
            entries: whole.map(|(key, _)| entry(key)).collect(),
            empty_tables: empty_tables.map(|(name, offset)| (name, origin(offset))).collect(),
            problems,
        }
    }
}

struct Key<'a> {
    name: String,
    value: &'a DeValue<'a>,
    /// From the key to the end of the line in which its value ends, in bytes of the text.
    lines: Range<usize>,
}

/// The keys in the order written, and the tables without one with where they begin.
fn keys<'a>(document: &'a DeTable<'a>, text: &str) -> (Vec<Key<'a>>, Vec<(String, usize)>) {
    let (mut found, mut empty) = (Vec::new(), Vec::new());
    for (key, value) in document {
        match value.get_ref() {
            DeValue::Table(table) if table.is_empty() => {
                empty.push((key.get_ref().to_string(), key.span().start));
            }
            DeValue::Table(table) => found.extend(table.iter().map(|(inner, value)| {
                (format!("{}.{}", key.get_ref(), inner.get_ref()), inner.span(), value)
            })),
            _ => found.push((key.get_ref().to_string(), key.span(), value)),
        }
    }
    let key = |(name, at, value): (_, Range<usize>, &'a toml::Spanned<DeValue<'a>>)| {
        let end = at.end.max(value.span().end).min(text.len());
        let rest = &text.as_bytes()[end..];
        let end = end + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        // The end is inside: an error at the end of the file is this key's.
        Key { name, value: value.get_ref(), lines: at.start..end + 1 }
    };
    let mut keys: Vec<Key<'a>> = found.into_iter().map(key).collect();
    keys.sort_by_key(|key| key.lines.start);
    empty.sort_by_key(|(_, offset)| *offset);
    (keys, empty)
}
