//! docs/operations.md names every key and every metric, from what the code itself reads and writes.

use std::{fmt::Write as _, fs, path::Path};

use senderz_gateway::metrics::{CATALOGUE, Metric, PROCESS};

const PAGE: &str = "docs/operations.md";
const KEYS: &str = "<!-- keys: made from config.toml -->\n";
const METRICS: &str = "<!-- metrics: made from src/metrics -->\n";
const END: &str = "<!-- end -->";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A table for each of the file's: key, default, and the comment behind it.
fn keys(config: &str) -> String {
    let head = "| key | default | |\n|---|---|---|\n";
    let mut table = String::new();
    let mut out = head.to_owned();
    for line in config.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let _ = write!(out, "\n### `[{name}]`\n\n{head}");
            name.clone_into(&mut table);
        } else if !line.starts_with('#') && !line.is_empty() {
            let (key, rest) = line.split_once(" = ").expect("a key, its default and a comment");
            let (value, about) = rest.split_once(" # ").expect("every key has its comment");
            let dot = if table.is_empty() { "" } else { "." };
            let (value, about) = (in_cell(value.trim()), in_cell(about));
            let _ = writeln!(out, "| `{table}{dot}{key}` | `{value}` | {about} |");
        }
    }
    out
}

fn metrics<'a>(all: impl Iterator<Item = &'a Metric>) -> String {
    let mut out = "| metric | type | unit | labels | |\n|---|---|---|---|---|\n".to_owned();
    for metric in all {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let unit = metric.unit.map_or("", |unit| unit.as_str());
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (labels, help) = (labels.join(", "), in_cell(metric.help));
        let _ = writeln!(out, "| `{}` | {kind} | {unit} | {labels} | {help} |", metric.name);
    }
    out
}

fn in_cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The page with what stands between the marker and the next end replaced.
fn with(page: &str, marker: &str, tables: &str) -> String {
    let (before, rest) = page.split_once(marker).expect("the page has the marker");
    let (_, after) = rest.split_once(END).expect("what is made has an end");
    format!("{before}{marker}\n{tables}\n{END}{after}")
}

#[test]
fn the_page_names_every_key_and_every_metric_as_they_are() {
    let page = read(PAGE);
    let made = with(&page, KEYS, &keys(&read("config.toml")));
    let made = with(&made, METRICS, &metrics(CATALOGUE.iter().chain(&PROCESS)));
    if made != page {
        let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).join("operations.md");
        fs::write(&beside, made).expect("the target directory is writable");
        panic!("{PAGE} has to be made anew: cp {} {PAGE}", beside.display());
    }
}

#[test]
fn a_key_becomes_a_row() {
    let config = "# about\nplain = 1 # first\n\n[pool]\nmax = [\"a | b\"]   # of # all\n";
    let expected = "| key | default | |\n|---|---|---|\n| `plain` | `1` | first |\n\n### `[pool]`\n\n\
                    | key | default | |\n|---|---|---|\n| `pool.max` | `[\"a \\| b\"]` | of # all |\n";
    assert_eq!(keys(config), expected);
}
