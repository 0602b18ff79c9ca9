//! How long events take, from the instant at which they were due to be sent until the receiver has
//! them, at loads that the gateway can bear; and how much of that one tenant can spoil for others.
//!
//! The load is open: when events come is decided before (as a Poisson process with a seed, or with
//! `--schedule fixed` at one distance), and nothing that the gateway does moves it. What waits for a
//! slow answer counts from its instant on, so slowness cannot hide itself (no coordinated
//! omission). The gateway is the real binary, on a processor of its own; producers and receivers
//! share one thread on the other, which never sleeps. How to read the figures: `benches/README.md`.
//!
//! ```text
//! cargo bench --bench latency                        # everything, under two minutes
//! cargo bench --bench latency -- --cell load-10      # one cell
//! cargo bench --bench latency -- --capacity 20000    # instead of measuring it first
//! cargo bench --bench latency -- --cell hanging --bad-rate 5 --seconds 30
//! cargo bench --bench latency -- --quick             # a moment of each: does it still run?
//! ```

mod arrivals;
mod crew;
mod options;
#[path = "../rig/mod.rs"]
mod rig;
mod sink;
mod tape;
mod world;

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};

use options::{Cell, Must, Options, What};
use rig::{client::Feeder, round2, tls};
use sink::{Count, Manner};
use tape::{Course, Quantiles};
use world::{BAD, Phase, World};

/// What the others may lose to a bad tenant: how much longer their p99 may be, and how much of
/// their throughput must stay.
const MUST_P99: f64 = 1.5;
const MUST_THROUGHPUT: f64 = 0.9;

/// How long the bad tenant sends before it is measured.
const RUN_IN: f64 = 3.0;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let options = options::chosen(&arguments)?;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    tls::make(dir.path())?;
    let mut capacity = options.capacity;
    let mut world = None;
    for cell in &options.cells {
        let manner = match cell.what {
            What::Load { .. } => None,
            What::Isolation(manner) => Some(manner),
        };
        // The loads share a gateway; a bad tenant leaves things behind and has its own.
        world = world.filter(|_| manner.is_none());
        let world = match &mut world {
            Some(world) => world,
            none => none.insert(World::start(&options, dir.path(), manner, capacity)?),
        };
        if capacity.is_none() {
            println!("{}", json!({"cell": "capacity", "per_second": world.capacity.round()}));
        }
        capacity = Some(world.capacity);
        let line = match cell.what {
            What::Load { share, must } => load(cell, &options, world, share, must),
            What::Isolation(manner) => isolation(cell, &options, world, manner),
        };
        println!("{}", line.context(cell.name)?);
    }
    Ok(())
}

fn load(
    cell: &Cell,
    options: &Options,
    world: &World,
    share: f64,
    must: Option<Must>,
) -> anyhow::Result<Value> {
    let rate = world.capacity * share;
    let arrivals = options.schedule.arrivals(rate, cell.seconds, options.seed);
    let phase = world.run(world.measure(&arrivals))?;
    let mut line = json!({"cell": cell.name, "capacity": world.capacity.round(), "share": share});
    add_phase(&mut line, options, &phase);
    if let Some(Must { p50, p99 }) = must {
        let is_within = |got: Quantiles| got.p50 <= p50 && got.p99 <= p99;
        line["must"] = json!({"p50": p50, "p99": p99});
        line["reached"] = json!(is_within(accepted_to_received(&phase.courses)));
        line["reached_from_schedule"] = json!(is_within(scheduled_to_received(&phase.courses)));
    }
    Ok(line)
}

fn add_phase(line: &mut Value, options: &Options, phase: &Phase) {
    let courses = &phase.courses;
    let scheduled = |course: &Course| Some(course.scheduled);
    line["schedule"] = json!(options.schedule.name());
    line["seed"] = json!(options.seed);
    line["events"] = json!(courses.len());
    line["not_received"] = json!(courses.iter().filter(|c| c.received.is_none()).count());
    line["per_second"] = json!(throughput(phase).round());
    line["gateway_cpu"] = json!(round2(phase.gateway_cpu));
    line["unit"] = json!("ms");
    line["accepted_to_received"] = accepted_to_received(courses).json();
    line["scheduled_to_received"] = scheduled_to_received(courses).json();
    line["scheduled_to_accepted"] = Quantiles::of(courses, scheduled, |c| c.accepted).json();
    line["waited_for_connection"] = Quantiles::of(courses, |c| c.noticed, |c| c.sent).json();
    line["generator_late"] = Quantiles::of(courses, scheduled, |c| c.noticed).json();
}

fn accepted_to_received(courses: &[Course]) -> Quantiles {
    Quantiles::of(courses, |course| course.accepted, |course| course.received)
}

fn scheduled_to_received(courses: &[Course]) -> Quantiles {
    Quantiles::of(courses, |course| Some(course.scheduled), |course| course.received)
}

fn throughput(phase: &Phase) -> f64 {
    phase.courses.iter().filter(|course| course.received.is_some()).count() as f64 / phase.seconds
}

fn isolation(
    cell: &Cell,
    options: &Options,
    world: &World,
    manner: Manner,
) -> anyhow::Result<Value> {
    let rate = world.capacity * 0.5;
    let arrivals = options.schedule.arrivals(rate, cell.seconds, options.seed);
    let run_in = options.schedule.arrivals(rate, RUN_IN.min(cell.seconds), options.seed + 1);
    let (without, with, accepted, bad_rate) = world.run(async {
        let without = world.measure(&arrivals).await?;
        let accepted = Count::default();
        let (period, api) = (Duration::from_secs_f64(1.0 / options.bad_rate), world.gateway.api);
        let bad = tokio::task::spawn_local(pester(api, period, accepted.clone()));
        world.measure(&run_in).await?;
        let before = world.bad_requests.get();
        let with = world.measure(&arrivals).await?;
        let bad_rate = (world.bad_requests.get() - before) as f64 / with.seconds;
        bad.abort();
        anyhow::Ok((without, with, accepted.get(), bad_rate))
    })?;
    let p99 = |phase: &Phase| scheduled_to_received(&phase.courses).p99;
    let (slower, kept) = (p99(&with) / p99(&without), throughput(&with) / throughput(&without));
    let side = |phase| {
        let mut side = json!({});
        add_phase(&mut side, options, phase);
        side
    };
    Ok(json!({
        "cell": cell.name, "manner": format!("{manner:?}").to_lowercase(),
        "capacity": world.capacity.round(), "share": 0.5,
        "bad_webhooks": options.bad_webhooks, "bad_events": accepted,
        "bad_events_per_second": options.bad_rate,
        "bad_requests_per_second": bad_rate.round(),
        "without": side(&without), "with": side(&with),
        "p99_ratio": round2(slower), "throughput_ratio": round2(kept),
        "must": {"p99_ratio": MUST_P99, "throughput_ratio": MUST_THROUGHPUT},
        "reached": slower <= MUST_P99 && kept >= MUST_THROUGHPUT,
    }))
}

/// Sends the bad tenant's events, each to all of its webhooks.
async fn pester(api: SocketAddr, period: Duration, accepted: Count) -> anyhow::Result<()> {
    let mut feeder = Feeder::open(api).await?;
    let event = crew::event_of(BAD);
    let mut due = tokio::time::interval(period);
    loop {
        due.tick().await;
        if feeder.send(&event).await?.0 == 202 {
            accepted.one();
        }
    }
}
