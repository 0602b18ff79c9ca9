//! CPU per delivery of the whole path, beside a bare hyper client loop in the same run.
//!
//! Three processes, two cores: the gateway (the real binary, one shard) alone on the first, a
//! minimal receiver and the producers on the second. In turns with it, a bare hyper loop of as many
//! connections takes the gateway's place, so that a machine that changes its speed meanwhile
//! changes it for both. It sends the same request as the gateway does, header fields included, with
//! fixed values; a second bare loop sends the fewest fields that HTTP allows, for those who prefer
//! that baseline (`ratio_to_minimal`). The figure to read is the ratio of the medians over all
//! rounds; absolute times are the machine's. How to read the rest: `benches/README.md`.
//!
//! ```text
//! cargo bench --bench throughput                         # every cell but the longest
//! cargo bench --bench throughput -- --cell tls           # one of them
//! cargo bench --bench throughput -- --cell webhooks-100000
//! cargo bench --bench throughput -- --against OLD_BINARY # in turns with another gateway
//! cargo bench --bench throughput -- --quick              # few deliveries: does it still run?
//! cargo bench --bench throughput -- --cell http1 --rounds 9 --deliveries 500000 --connections 256
//! ```

mod cell;
mod load;
#[path = "../rig/mod.rs"]
mod rig;

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use cell::{Baseline, Cell};
use load::World;
use rig::{
    bare::{self, Fields},
    cpu_ticks, median, now,
    receiver::{Plain, Receiver},
    round2, tls,
};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.split_first() {
        Some((role, rest)) if role == "role-receiver" => rig::receiver::role(rest, Plain),
        Some((role, rest)) if role == "role-bare" => bare::role(rest),
        _ => {
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
            tls::make(dir.path())?;
            for cell in cell::chosen(&arguments)? {
                let figures = run(&cell, dir.path()).with_context(|| cell.name.clone())?;
                println!("{figures}");
            }
            Ok(())
        }
    }
}

/// One round of the gateway.
#[derive(Clone, Copy, Debug)]
struct Round {
    rate: f64,
    cpu_us: f64,
    system_us: f64,
}

fn run(cell: &Cell, certificates: &Path) -> anyhow::Result<Value> {
    let mut receiver = Receiver::start(cell.protocol, certificates)?;
    let mut plain = match cell.baseline {
        Baseline::Bare(protocol) if protocol != cell.protocol => {
            Some(Receiver::start(protocol, certificates)?)
        }
        _ => None,
    };
    let mut world = World::start(cell, &receiver, certificates)?;
    let mut other = match &cell.baseline {
        Baseline::Cell(other) => Some((World::start(other, &receiver, certificates)?, other)),
        _ => None,
    };
    // Until the caches (payloads, sled's pages) are full, every byte that is kept is a byte of
    // fresh memory, which the kernel clears. That ends after a few hundred megabytes.
    round(&mut world, cell, &mut receiver, cell.warm_up)?;
    if let Some((other, cell)) = &mut other {
        round(other, cell, &mut receiver, cell.warm_up)?;
    }
    let (mut rounds, mut bases, mut minimals) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..cell.rounds {
        match &cell.baseline {
            Baseline::Bare(protocol) => {
                let addr = plain.as_mut().map_or(receiver.addr, |plain| plain.addr);
                let to = (addr, *protocol, certificates);
                let work = (cell.deliveries, cell.connections, cell.body);
                minimals.push(bare::run(to, Fields::Minimal, work)?);
                bases.push(bare::run(to, Fields::Same, work)?);
            }
            Baseline::Cell(_) => {
                let (other, cell) = other.as_mut().expect("started above");
                bases.push(round(other, cell, &mut receiver, cell.deliveries)?.cpu_us);
            }
            Baseline::None => {}
        }
        rounds.push(round(&mut world, cell, &mut receiver, cell.deliveries)?);
    }
    world.stop()?;
    if let Some((other, _)) = other {
        other.stop()?;
    }
    Ok(figures(cell, &rounds, &bases, &minimals))
}

/// The whole path for `count` deliveries.
fn round(
    world: &mut World,
    cell: &Cell,
    receiver: &mut Receiver,
    count: u64,
) -> anyhow::Result<Round> {
    let before = cpu_ticks(world.gateway.pid())?;
    let clock = now();
    let made = world.feed(cell, receiver, count)? as f64;
    let elapsed = clock.elapsed();
    let after = cpu_ticks(world.gateway.pid())?;
    let per = |ticks: u64| ticks as f64 * 1e6 / rig::TICKS_PER_SECOND / made;
    Ok(Round {
        rate: made / elapsed.as_secs_f64(),
        cpu_us: per(after.0 + after.1 - before.0 - before.1),
        system_us: per(after.1 - before.1),
    })
}

fn figures(cell: &Cell, rounds: &[Round], bases: &[f64], minimals: &[f64]) -> Value {
    let column = |figure: fn(&Round) -> f64| rounds.iter().map(figure).collect::<Vec<_>>();
    let all = |values: &[f64]| values.iter().copied().map(round2).collect::<Vec<_>>();
    let cpu = median(&column(|r| r.cpu_us));
    let rate = median(&column(|r| r.rate));
    let system = median(&column(|r| r.system_us));
    let what = if cell.deliver { "delivery" } else { "event" };
    let mut line = json!({
        "cell": cell.name,
        "protocol": cell.protocol.name(),
        "body": cell.body, "connections": cell.connections, "webhooks": cell.webhooks,
        "fan_out": cell.fan_out(), "batch": cell.batch, "producers": cell.producers,
        "rounds": cell.rounds, "deliveries": cell.deliveries,
        "per_second": rate.round(), "of": what,
        "gateway_cpu_us": round2(cpu),
        "gateway_user_us": round2(cpu - system), "gateway_system_us": round2(system),
        "gateway_us_by_round": all(&column(|r| r.cpu_us)),
    });
    let mut reached = None;
    if !bases.is_empty() {
        let ratio = cpu / median(bases);
        let name = match &cell.baseline {
            Baseline::Cell(other) => other.name.clone(),
            _ => "bare loop".to_owned(),
        };
        line["baseline"] = json!(name);
        line["baseline_cpu_us"] = json!(round2(median(bases)));
        line["baseline_us_by_round"] = json!(all(bases));
        line["ratio"] = json!(round2(ratio));
        let by_round: Vec<f64> = rounds.iter().zip(bases).map(|(r, b)| r.cpu_us / b).collect();
        line["ratio_by_round"] = json!(all(&by_round));
        reached = cell.must.map(|must| ratio <= must);
    }
    if !minimals.is_empty() {
        line["bare_minimal_us"] = json!(round2(median(minimals)));
        line["ratio_to_minimal"] = json!(round2(cpu / median(minimals)));
    }
    if !cell.deliver {
        reached = cell.must.map(|must| rate >= must);
    }
    if let Some(reached) = reached {
        line["must"] = json!(cell.must);
        line["reached"] = json!(reached);
    }
    line
}
