//! `bench`: how much a running gateway takes in, and how soon it says that it is on disk.
//!
//! Closed loop (`--concurrency`): so many requests are always under way, each connection asks again
//! as soon as it was answered. That finds what the gateway can do, and hides what a stall costs,
//! because nobody asks while it lasts. Open loop (`--rate`): requests are due at instants that were
//! decided before, whatever the gateway does, and latency counts from the instant at which one was
//! due; so what waits behind a stall is counted as having waited.
//!
//! What it measures is acceptance: from the request to the 202, which means on disk. Deliveries go
//! on meanwhile, to whatever webhooks the tenant has.

mod body;
mod load;
mod report;

use std::{
    io::IsTerminal as _,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::task::{JoinSet, LocalSet};

use self::{
    body::Bodies,
    load::{Load, Pace},
    report::Report,
};
use super::{
    Exit, Global, Output,
    client::{Client, ClientError},
    interrupted, output,
    progress::Progress,
};
use crate::{config::units, event::EventType, tenant::TenantId};

/// How long answers may take after the last request was due.
const GRACE: Duration = Duration::from_secs(30);
const TELL_EVERY: Duration = Duration::from_millis(250);
/// Requests at once where nothing is said; in an open loop most of them wait for their instant.
const CONCURRENCY: usize = 32;
const OPEN_CONCURRENCY: usize = 256;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tenant whose events they are; they go to its webhooks like any others
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Open loop: so many events a second, due at fixed instants whatever the gateway does
    #[arg(long, value_name = "EVENTS/S", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Requests under way at the most; without --rate always so many [default: 32, with --rate 256]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: Option<u16>,
    /// How long to send
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Events in one request; more than one go to POST /v1/events
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch: u16,
    /// Bytes of a payload that is made up
    #[arg(long, default_value = "512", value_parser = size, conflicts_with = "payload")]
    size: usize,
    /// Type of a payload that is made up
    #[arg(long, default_value = "message.sent", conflicts_with = "payload")]
    event_type: EventType,
    /// A payload of your own, - reads stdin; {{n}} in it becomes the number of the event, {{now}}
    /// the time
    #[arg(long, value_name = "FILE")]
    payload: Option<String>,
}

pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let tenant = args.tenant.clone().ok_or(ClientError::NoTenant)?;
    let bodies = match &args.payload {
        Some(source) => Bodies::read(source)?,
        None => Bodies::made_up(args.event_type, args.size)?,
    };
    let client = Client::new(global, Some(tenant.clone()))?;
    // One event before any clock runs: that there is a gateway, and that it takes these.
    let path = body::event_path(&tenant);
    let first = client.request(http::Method::POST, &path, Some(bodies.one(0)), None).await?;
    let deliveries = first["deliveries"].as_u64().unwrap_or_default();
    if deliveries == 0 {
        output::note(format_args!(
            "no enabled webhook of {tenant} takes these events: this measures acceptance alone"
        ));
    }
    let pace = match args.rate {
        Some(rate) => Pace::Open { gap: gap(rate, args.batch) },
        None => Pace::Closed,
    };
    let default = if args.rate.is_some() { OPEN_CONCURRENCY } else { CONCURRENCY };
    let concurrency = args.concurrency.map_or(default, usize::from);
    let load = Load::new(client, tenant, bodies, args.batch, pace, args.duration);
    let report = LocalSet::new().run_until(measure(&load, concurrency, &args)).await;
    match global.output {
        Output::Json => output::line(&report.json().to_string())?,
        Output::Text => output::line(&report.text())?,
    }
    Ok(if report.accepted > 0 { Exit::Ok } else { Exit::Failure })
}

/// Between two requests. Not rounded to anything that a rate of millions would feel.
fn gap(rate: u32, batch: u16) -> Duration {
    Duration::from_secs_f64(f64::from(batch) / f64::from(rate))
}

/// Sends until the time is over or the user has seen enough, and waits for the last answers.
async fn measure(load: &Rc<Load>, concurrency: usize, args: &Args) -> Report {
    let began = load.begin();
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let load = Rc::clone(load);
        workers.spawn_local(async move { load.work().await });
    }
    let progress = Progress::of_time(args.duration, std::io::stderr().is_terminal());
    let mut tick = tokio::time::interval(TELL_EVERY);
    let finished = async {
        loop {
            tokio::select! {
                joined = workers.join_next() => if joined.is_none() { break },
                _ = tick.tick() => tell(&progress, load, began),
            }
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(args.duration + GRACE, finished) => {}
        () = interrupted() => output::note(format_args!("interrupted: what was measured so far")),
    }
    progress.end();
    // Those that were not answered in time are counted as such.
    workers.abort_all();
    load.report()
}

fn tell(progress: &Progress, load: &Load, began: Instant) {
    let elapsed = began.elapsed();
    let so_far = load.so_far();
    let rate = so_far.accepted as f64 / elapsed.as_secs_f64().max(1e-3);
    progress.tell(
        elapsed,
        &format!(
            "{} events, {rate:.0}/s, p99 {:.1} ms, {} errors",
            so_far.accepted, so_far.p99_ms, so_far.errors
        ),
    );
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    let parsed = units::parse_duration(text).ok_or(units::DURATION_RULE)?;
    if parsed.is_zero() { Err("must be longer than nothing") } else { Ok(parsed) }
}

fn size(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok().or_else(|| units::parse_size(text));
    let bytes = bytes.context("must be bytes, or a size such as 4KiB");
    bytes.map(|bytes| bytes as usize).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_far_apart_as_their_events_need() {
        assert_eq!(gap(1000, 1), Duration::from_millis(1));
        assert_eq!(gap(1000, 100), Duration::from_millis(100));
    }
}
