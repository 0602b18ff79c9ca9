//! The effective configuration, for people: every key, its value, and where the value comes from.

use std::fmt::Write as _;

use super::{errors::Origin, layers::Layers, value::Value};

/// Every key in the order of `config.toml`, with its effective value and its origin.
#[derive(Clone, Debug)]
pub struct Effective(Vec<Line>);

#[derive(Clone, Debug)]
struct Line {
    key: String,
    value: Value,
    origin: Origin,
}

impl Effective {
    pub(super) fn of(layers: &Layers) -> Self {
        let line = |key: &String| {
            let entry = layers.entry(key);
            let value = entry.value.in_the_kind_of(layers.default_of(key));
            Line { key: key.clone(), value, origin: entry.origin.clone() }
        };
        Self(layers.keys.iter().map(line).collect())
    }

    /// As a file that means the same when it is read back.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut table = "";
        for Line { key, value, origin } in &self.0 {
            let (inside, name) = key.split_once('.').unwrap_or(("", key));
            if inside != table {
                table = inside;
                let _ = write!(out, "\n[{table}]\n");
            }
            let _ = writeln!(out, "{:<40} # {origin}", format!("{name} = {value}"));
        }
        out
    }

    /// The same for a page of the portal: what follows the `?` of a URL may be a credential.
    pub fn to_page(&self) -> String {
        let lines = self.0.iter();
        let lines = lines.map(|line| Line { value: line.value.without_query(), ..line.clone() });
        Self(lines.collect()).to_toml()
    }

    /// `{"server.listen": {"value": …, "from": …}, …}`.
    pub fn to_json(&self) -> serde_json::Value {
        let entry = |line: &Line| {
            let value = serde_json::Value::from(&line.value);
            let from = line.origin.to_string();
            (line.key.clone(), serde_json::json!({"value": value, "from": from}))
        };
        serde_json::Value::Object(self.0.iter().map(entry).collect())
    }
}
