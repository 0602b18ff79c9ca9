//! Ten million deliveries that wait behind a receiver that hangs, and that it gets when it answers.

use serde_json::json;

use crate::{
    options::Options,
    rig::{files, now, resident, round2},
    world::{DELIVERED, OPEN, World},
};

const MUST_MIB: f64 = 512.0;
const AIM_MIB: f64 = 256.0;
/// The part of them that is delivered before it is believed that the rest would be.
const PART: u64 = 20;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let clock = now();
    let mut world = World::new(options)?;
    world.receiver.ask("hang")?;
    let gateway = world.start(options)?;
    world.set_up(&gateway)?;
    let fed = world.feed(&gateway, options.deliveries)?;
    world.wait_for(&gateway, OPEN, options.deliveries)?;
    let waiting = resident::now(gateway.pid())?;
    let mut peak = resident::peak(gateway.pid())?;
    let disk = files::size(&world.data())?;

    drop(gateway);
    let start = now();
    let gateway = world.start(options)?;
    let ready = start.elapsed().as_secs_f64();
    world.wait_for(&gateway, OPEN, options.deliveries)?;
    let restarted = resident::now(gateway.pid())?;

    world.receiver.ask("ok")?;
    let part = options.deliveries / PART;
    let drained = world.wait_for(&gateway, DELIVERED, part)?;
    peak = peak.max(resident::peak(gateway.pid())?);
    let line = json!({
        "cell": "waiting", "deliveries": options.deliveries,
        "resident_mib": round2(waiting), "resident_mib_peak": round2(peak),
        "disk_mib": disk.round(), "accepted_per_second": (options.deliveries as f64 / fed).round(),
        "restart_ready_s": round2(ready), "restart_resident_mib": round2(restarted),
        "then_delivered": part, "delivered_per_second": (part as f64 / drained).round(),
        "seconds": clock.elapsed().as_secs_f64().round(),
    });
    options.print(line, peak, MUST_MIB, AIM_MIB);
    gateway.stop()
}
