//! The options that choose and change cells.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::{CELLS, Cell, WAITING, world::BATCH};

const QUICK: u64 = 5_000;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// A multiple of [`BATCH`].
    pub(crate) deliveries: u64,
    /// Whether that is the number, so that its figures are to be reached.
    is_whole: bool,
    pub(crate) quick: bool,
    /// Another binary than the one that was built with the benchmark.
    pub(crate) gateway: Option<PathBuf>,
    /// Where the data directories are made and removed again.
    pub(crate) dir: PathBuf,
}

impl Options {
    /// A figure's line: with what `must` be reached at most, and whether it was.
    pub(crate) fn print(&self, mut line: Value, figure: f64, must: f64, aim: f64) {
        if self.is_whole {
            line["must"] = json!(must);
            line["aim"] = json!(aim);
            line["reached"] = json!(figure <= must);
        }
        println!("{line}");
    }
}

pub(crate) fn chosen(arguments: &[String]) -> anyhow::Result<Vec<(Cell, Options)>> {
    let (mut named, mut deliveries, mut gateway) = (None, None, None);
    let mut dir = env!("CARGO_TARGET_TMPDIR");
    let mut quick = false;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--quick" {
            quick = true;
            continue;
        }
        let value = words.next().with_context(|| format!("{word} takes a value"))?;
        match word.as_str() {
            "--cell" => named = Some(value.as_str()),
            "--dir" => dir = value,
            "--gateway" => gateway = Some(PathBuf::from(value)),
            "--deliveries" => {
                let number: u64 = value.parse().with_context(|| format!("{word} {value}"))?;
                ensure!(number > 0, "{word} is at least 1");
                deliveries = Some(number);
            }
            unknown => bail!(
                "unknown option {unknown}; there are --cell NAME, --deliveries N, --gateway PATH, --dir PATH, --quick"
            ),
        }
    }
    let names = CELLS.map(|cell| cell.name).join(", ");
    let known = named.is_none_or(|name| CELLS.iter().any(|cell| cell.name == name));
    ensure!(known, "no cell {}; there are {names}", named.unwrap_or_default());
    let wanted = |cell: &Cell| named.map_or(quick || cell.name != WAITING, |n| n == cell.name);
    let options = |cell: Cell| {
        let number = deliveries.unwrap_or(if quick { QUICK } else { cell.deliveries });
        let deliveries = number.next_multiple_of(BATCH as u64);
        let is_whole = deliveries == cell.deliveries;
        (cell, Options { deliveries, is_whole, quick, gateway: gateway.clone(), dir: dir.into() })
    };
    Ok(CELLS.into_iter().filter(wanted).map(options).collect())
}
