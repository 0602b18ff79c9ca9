//! A start over a million deliveries that wait.
//!
//! After a crash: a start has to find out more than one after an orderly end. What the first start
//! finds out is written down for the next, so each round starts over a copy of what the crash left.

use serde_json::json;

use crate::{
    options::Options,
    rig::{files, gateway::Gateway, median, now, resident, round2},
    world::{OPEN, RETRYING, World},
};

const MUST_SECONDS: f64 = 5.0;
const AIM_SECONDS: f64 = 2.0;
/// Seconds after which those that wait for a retry come back: after the measurement.
const LATER: u64 = 300;

/// They wait for their first attempt.
pub(crate) fn pending(options: &Options) -> anyhow::Result<()> {
    measure("restart", "hang", OPEN, options)
}

/// Each has failed once: a start must read of every single one when it is due.
pub(crate) fn retrying(options: &Options) -> anyhow::Result<()> {
    measure("restart-retrying", &format!("later {LATER} 1"), RETRYING, options)
}

/// The receiver does as it is told until the gateway counts all deliveries in `series`.
fn measure(name: &str, told: &str, series: &'static str, options: &Options) -> anyhow::Result<()> {
    let mut world = World::new(options)?;
    world.receiver.ask(told)?;
    let gateway = world.start_as_installed(options, &world.data())?;
    world.set_up(&gateway)?;
    world.feed(&gateway, options.deliveries)?;
    world.wait_for(&gateway, series, options.deliveries)?;
    let before = resident::now(gateway.pid())?;
    drop(gateway);

    let (mut seconds, mut residents, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..if options.quick { 1 } else { 5 } {
        let data = world.data().with_extension(round.to_string());
        files::copy(&world.data(), &data)?;
        let clock = now();
        let gateway: Gateway = world.start_as_installed(options, &data)?;
        seconds.push(clock.elapsed().as_secs_f64());
        world.wait_for(&gateway, series, options.deliveries)?;
        residents.push(resident::now(gateway.pid())?);
        peaks.push(resident::peak(gateway.pid())?);
    }
    let all: Vec<f64> = seconds.iter().copied().map(round2).collect();
    let line = json!({
        "cell": name, "deliveries": options.deliveries,
        "ready_s": round2(median(&seconds)), "ready_s_by_round": all,
        "resident_mib_before": round2(before), "resident_mib": round2(median(&residents)),
        "resident_mib_peak": round2(median(&peaks)),
        "disk_mib": files::size(&world.data())?.round(),
    });
    options.print(line, median(&seconds), MUST_SECONDS, AIM_SECONDS);
    Ok(())
}
