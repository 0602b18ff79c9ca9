//! A million deliveries that wait for a retry: what they hold of memory, and when they are made.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::{
    options::Options,
    rig::{files::MIB, gateway::Gateway, resident, round2},
    world::{DELIVERED, RETRYING, World},
};

/// The part of the gateway's capacity (what it has just delivered in a second) at which the first
/// attempts are made: one that has to wait for its answer to be read would count as late.
const FAIL_PART: f64 = 0.5;
/// The part of it at which retries fall due, and so many in a second at the most: what is measured
/// is when they come, not how many can.
const DUE_PART: f64 = 0.25;
const DUE_RATE: f64 = 15_000.0;
/// Nothing may fall due before all have failed.
const PATIENCE: f64 = 1.3;

const MUST_MIB: f64 = 100.0;
const AIM_MIB: f64 = 48.0;
const MUST_MS: f64 = 20.0;
/// The schedule's own grain.
const AIM_MS: f64 = 1.0;

/// How long an idle gateway takes to give back what it no longer needs.
const REST: Duration = Duration::from_secs(3);

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut world = World::new(options)?;
    let gateway = world.start(options)?;
    world.set_up(&gateway)?;
    let count = options.deliveries;
    let started = resident::now(gateway.pid())?;
    // As many that do not fail: afterwards the caches (payloads, the store's pages) are full, the
    // connections open, and what comes on top is the retries.
    let warm = world.feed(&gateway, count)? + world.wait_until_received(count)?;
    std::thread::sleep(if options.quick { REST / 10 } else { REST });
    let idle = resident::now(gateway.pid())?;

    let capacity = count as f64 / warm;
    let from = 3 + (warm / FAIL_PART * PATIENCE) as u64;
    let span = 1 + (count as f64 / (capacity * DUE_PART).min(DUE_RATE)) as u64;
    world.receiver.ask(&format!("later {from} {span}"))?;
    let fed = world.feed_at(&gateway, count, capacity * FAIL_PART)?;
    let failed = fed + world.wait_for(&gateway, RETRYING, count)?;
    let waiting = resident::now(gateway.pid())?;
    ensure!(failed < from as f64, "the first attempts took {failed} s: retries fell due meanwhile");
    let retries = waiting - idle;
    let line = json!({
        "cell": "retries", "retries": count,
        "resident_mib_started": round2(started), "resident_mib_idle": round2(idle),
        "resident_mib": round2(waiting), "retries_mib": round2(retries),
        "bytes_each": round2(retries * MIB / count as f64),
        "seconds_to_fail": round2(failed),
    });
    options.print(line, retries, MUST_MIB, AIM_MIB);

    world.wait_for(&gateway, DELIVERED, 2 * count)?;
    let mut line: Value = serde_json::from_str(&world.receiver.ask("errors")?)?;
    ensure!(line["retries"] == json!(count), "not every retry came: {line}");
    line["cell"] = json!("retries-due");
    line["slow_commits"] = json!(slow_commits(&gateway)?);
    line["due_per_second"] = json!(count / span);
    line["resident_mib_peak"] = json!(round2(resident::peak(gateway.pid())?));
    let p99 = line["p99_ms"].as_f64().unwrap_or(f64::INFINITY);
    options.print(line, p99, MUST_MS, AIM_MS);
    gateway.stop()
}

/// Commits of the store that took more than half a second. While one does, entries gather until no
/// further attempt is made: a run with any tells more of the disk than of the gateway.
fn slow_commits(gateway: &Gateway) -> anyhow::Result<f64> {
    let all = gateway.metric("senderz_store_commit_seconds_count")?;
    Ok(all - gateway.metric("senderz_store_commit_seconds_bucket{le=\"0.5\"}")?)
}
