//! The cells of the table, and the options that choose and change them.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use crate::rig::{Protocol, events::LEAST};

/// What is measured, and against what.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    /// Bytes of a payload.
    pub(crate) body: usize,
    /// Attempts under way at once, and connections of the bare loop.
    pub(crate) connections: usize,
    /// Over all tenants. More than [`SHARED`] are spread over tenants of six, one for each type
    /// of event, so that an event goes to one of them.
    pub(crate) webhooks: usize,
    /// Addresses that they are spread over.
    pub(crate) hosts: usize,
    /// Events in a request; one is sent as a single event, not as a batch of one.
    pub(crate) batch: usize,
    /// Connections that send events, one request after the other on each.
    pub(crate) producers: usize,
    /// Whether there is a webhook to deliver to.
    pub(crate) deliver: bool,
    pub(crate) rounds: usize,
    /// In each round, and as many requests of the bare loop.
    pub(crate) deliveries: u64,
    pub(crate) warm_up: u64,
    pub(crate) baseline: Baseline,
    /// Another binary than the one that was built with the benchmark.
    pub(crate) gateway: Option<PathBuf>,
    /// The figure: the largest ratio, or for ingest alone the smallest rate.
    pub(crate) must: Option<f64>,
}

#[derive(Clone, Debug)]
pub(crate) enum Baseline {
    /// A bare hyper loop in this protocol.
    Bare(Protocol),
    /// Another cell's gateway.
    Cell(Box<Cell>),
    None,
}

/// So many webhooks get every event: more would be a fan-out beyond what anyone measures.
const SHARED: usize = 100;

impl Cell {
    /// The cell that the others differ from.
    fn http1() -> Self {
        Self {
            name: "http1".to_owned(),
            protocol: Protocol::Http1,
            body: 512,
            connections: 64,
            webhooks: 1,
            hosts: 1,
            batch: 100,
            producers: 16,
            deliver: true,
            rounds: 5,
            deliveries: 120_000,
            warm_up: 300_000,
            baseline: Baseline::Bare(Protocol::Http1),
            gateway: None,
            must: Some(1.4),
        }
    }

    /// One that differs from it, in shorter rounds.
    fn other(name: &str, must: Option<f64>) -> Self {
        let (rounds, deliveries, warm_up) = (3, 50_000, 150_000);
        Self { name: name.to_owned(), must, rounds, deliveries, warm_up, ..Self::http1() }
    }

    pub(crate) fn is_spread(&self) -> bool {
        self.webhooks > SHARED
    }

    pub(crate) fn fan_out(&self) -> u64 {
        match (self.deliver, self.is_spread()) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => self.webhooks as u64,
        }
    }
}

fn all() -> Vec<Cell> {
    let (one, other) = (Cell::http1(), Cell::other);
    let tls = Baseline::Bare(Protocol::Tls);
    let single = Box::new(Cell::other("one webhook", None));
    let many = |name: &str, webhooks, hosts, must| {
        let cell = other(name, must);
        Cell { webhooks, hosts, baseline: Baseline::Cell(single.clone()), ..cell }
    };
    vec![
        one,
        Cell { protocol: Protocol::Tls, baseline: tls, ..other("tls", Some(1.5)) },
        Cell { protocol: Protocol::Http2, ..other("http2", Some(1.1)) },
        Cell {
            webhooks: 20,
            deliveries: 100_000,
            warm_up: 600_000,
            ..other("fan-out-20", Some(1.2))
        },
        Cell { batch: 1, producers: 64, ..other("single-events", Some(2.6)) },
        Cell {
            deliver: false,
            baseline: Baseline::None,
            deliveries: 200_000,
            ..other("ingest-alone", Some(80_000.0))
        },
        Cell { body: 4 << 10, deliveries: 30_000, warm_up: 40_000, ..other("body-4k", None) },
        Cell {
            body: 64 << 10,
            batch: 10,
            deliveries: 4_000,
            warm_up: 2_000,
            ..other("body-64k", None)
        },
        Cell {
            connections: 1,
            deliveries: 20_000,
            warm_up: 10_000,
            ..other("connections-1", None)
        },
        Cell { connections: 1024, ..other("connections-1024", None) },
        many("webhooks-1000", 1_000, 100, None),
        Cell { warm_up: 200_000, ..many("webhooks-100000", 100_000, 1_000, Some(1.5)) },
    ]
}

/// This one takes a minute; it must be asked for.
const LONG: &str = "webhooks-100000";

pub(crate) fn chosen(arguments: &[String]) -> anyhow::Result<Vec<Cell>> {
    let mut cells = all();
    let names: Vec<String> = cells.iter().map(|cell| cell.name.clone()).collect();
    let mut words = arguments.iter();
    let mut named = None;
    let mut quick = false;
    let (mut gateway, mut against) = (None, None);
    let mut changes: Vec<(&str, u64)> = Vec::new();
    while let Some(word) = words.next() {
        if word == "--quick" {
            quick = true;
            continue;
        }
        let value = words.next().with_context(|| format!("{word} takes a value"))?;
        match word.as_str() {
            "--cell" => named = Some(value.clone()),
            "--gateway" => gateway = Some(PathBuf::from(value)),
            "--against" => against = Some(PathBuf::from(value)),
            "--rounds" | "--deliveries" | "--body" | "--connections" | "--batch"
            | "--producers" | "--webhooks" => {
                let number = value.parse().with_context(|| format!("{word} {value}"))?;
                ensure!(number > 0, "{word} is at least 1");
                changes.push((word.trim_start_matches('-'), number));
            }
            unknown => bail!(
                "unknown option {unknown}; there are --cell NAME, --quick, --gateway PATH, --against PATH, --rounds, --deliveries, --body, --connections, --batch, --producers, --webhooks"
            ),
        }
    }
    match &named {
        Some(name) => {
            cells.retain(|cell| &cell.name == name);
            ensure!(!cells.is_empty(), "no cell {name}; there are {}", names.join(", "));
        }
        None => cells.retain(|cell| cell.name != LONG),
    }
    for cell in &mut cells {
        if quick {
            cell.rounds = 1;
            cell.deliveries = cell.deliveries.min(5_000);
            cell.warm_up = 1_000;
        }
        for (name, number) in &changes {
            // Another cell than the has no figure to reach.
            match *name {
                "rounds" => cell.rounds = *number as usize,
                "deliveries" => cell.deliveries = *number,
                _ => cell.must = None,
            }
            match *name {
                "body" => cell.body = *number as usize,
                "connections" => cell.connections = *number as usize,
                "batch" => cell.batch = *number as usize,
                "producers" => cell.producers = *number as usize,
                "webhooks" => cell.webhooks = *number as usize,
                _ => {}
            }
        }
        cell.gateway.clone_from(&gateway);
        if let Baseline::Cell(other) = &mut cell.baseline {
            other.gateway.clone_from(&gateway);
        }
        if let Some(against) = &against {
            let other = Cell { gateway: Some(against.clone()), ..cell.clone() };
            let other = Cell { name: against.display().to_string(), ..other };
            cell.baseline = Baseline::Cell(Box::new(other));
            cell.must = None;
        }
        ensure!(
            cell.body >= LEAST,
            "--body is at least {LEAST} bytes: the required fields need them"
        );
    }
    Ok(cells)
}
