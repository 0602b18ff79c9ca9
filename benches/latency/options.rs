//! The cells, and the options that choose and change them.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use crate::{arrivals::Schedule, sink::Manner};

#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// Open-loop load at this share of capacity.
    Load { share: f64, must: Option<Must> },
    /// Others' load at half of capacity, without and with a tenant of this manner.
    Isolation(Manner),
}

/// The figures, milliseconds from acceptance to arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Must {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    pub(crate) what: What,
    /// How long its load is measured.
    pub(crate) seconds: f64,
}

const fn load(name: &'static str, share: f64, seconds: f64, must: Option<Must>) -> Cell {
    Cell { name, what: What::Load { share, must }, seconds }
}

const fn isolation(name: &'static str, manner: Manner) -> Cell {
    Cell { name, what: What::Isolation(manner), seconds: 7.0 }
}

const ALL: [Cell; 6] = [
    load("load-10", 0.1, 12.0, Some(Must { p50: 1.5, p99: 6.0 })),
    load("load-50", 0.5, 8.0, None),
    load("load-80", 0.8, 8.0, None),
    isolation("hanging", Manner::Hanging),
    isolation("flooding", Manner::Flooding),
    isolation("failing", Manner::Failing),
];

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) cells: Vec<Cell>,
    /// Seconds of a closed loop before anything counts, and as long again to find the capacity.
    pub(crate) warm_up: f64,
    /// Events per second, if it is not to be measured.
    pub(crate) capacity: Option<f64>,
    pub(crate) schedule: Schedule,
    pub(crate) seed: u64,
    /// The bad tenant: its webhooks, all of which get each of its events, and its events a second.
    pub(crate) bad_webhooks: usize,
    pub(crate) bad_rate: f64,
    /// Where the gateway's data is kept while it runs.
    pub(crate) dir: PathBuf,
    /// Another binary than the one that was built with the benchmark.
    pub(crate) gateway: Option<PathBuf>,
}

pub(crate) fn chosen(arguments: &[String]) -> anyhow::Result<Options> {
    let mut options = Options {
        cells: ALL.to_vec(),
        warm_up: 4.0,
        capacity: None,
        schedule: Schedule::Poisson,
        seed: 1,
        bad_webhooks: 1_000,
        bad_rate: 1.0,
        dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        gateway: None,
    };
    let mut seconds = None;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--quick" {
            (options.warm_up, options.bad_webhooks, seconds) = (0.3, 20, Some(0.5));
            continue;
        }
        let value = words.next().with_context(|| format!("{word} takes a value"))?;
        let number = || -> anyhow::Result<f64> {
            let number = value.parse().ok().filter(|number: &f64| *number > 0.0);
            number.with_context(|| format!("{word} is a number above 0, not {value}"))
        };
        match word.as_str() {
            "--cell" => {
                options.cells.retain(|cell| cell.name == value);
                let names = ALL.map(|cell| cell.name).join(", ");
                ensure!(!options.cells.is_empty(), "no cell {value}; there are {names}");
            }
            "--dir" => options.dir = PathBuf::from(value),
            "--gateway" => options.gateway = Some(PathBuf::from(value)),
            "--capacity" => options.capacity = Some(number()?),
            "--schedule" => options.schedule = value.parse()?,
            "--seed" => options.seed = value.parse().context("--seed")?,
            "--seconds" => seconds = Some(number()?),
            "--bad-webhooks" => options.bad_webhooks = number()? as usize,
            "--bad-rate" => options.bad_rate = number()?,
            unknown => bail!(
                "unknown option {unknown}; there are --cell NAME, --quick, --dir PATH, --gateway PATH, --capacity N, --schedule poisson|fixed, --seed N, --seconds N, --bad-webhooks N, --bad-rate N"
            ),
        }
    }
    if let Some(seconds) = seconds {
        options.cells.iter_mut().for_each(|cell| cell.seconds = seconds);
    }
    Ok(options)
}
