//! The power goes at random moments under load: ext4 on a loop device, cut off by the kernel
//! (`support::disk`), with the ledger outside of it (`support::ledger`).
//!
//! Of two cuts, one ends the process at once, as a real one does. The other lets it live, which is a
//! disk that fails from one moment to the next: the gateway must notice, acknowledge nothing more,
//! be ready no longer and end with an error.
//!
//! The control shows that the rig would see a loss: the same with a gateway whose syncs of the
//! database are left out (strace answers them in the kernel's place) must lose what was acknowledged.
//!
//! `POWER_CYCLES` sets the number of cuts, `POWER_SEED` the moments.

mod support;

use std::{
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use support::{
    Random,
    disk::Disk,
    eventually,
    gateway::Gateway,
    http::Connection,
    ledger::{Death, Ledger},
    namespace::is_inside,
    now,
    probe::Probe,
    receiver::{Answer, Receiver},
    setting,
};

/// The image is sparse: it takes what is written.
const DISK_MIB: u32 = 2048;
/// How long a gateway may live whose disk is gone.
const NOTICES: Duration = Duration::from_secs(2);
/// Tries to see a loss where the syncs are left out: the kernel may have written everything by
/// itself before a cut.
const CONTROLS: u32 = 10;

fn receiver() -> Receiver {
    let flaky = AtomicU64::new(0);
    Receiver::start(move |_| {
        let nth = flaky.fetch_add(1, Ordering::Relaxed);
        Answer::Status(if nth % 10 == 9 { 500 } else { 200 })
    })
}

#[test]
fn nothing_accepted_is_lost_when_the_power_goes_at_random_moments() {
    let name = "nothing_accepted_is_lost_when_the_power_goes_at_random_moments";
    if !is_inside(name, &["--mount"]) {
        return;
    }
    let cycles: u32 = setting("POWER_CYCLES").unwrap_or(6);
    let seed = setting("POWER_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("cycles {cycles}, seed {seed}");
    let mut random = Random::new(seed);
    let disk = Disk::new(DISK_MIB);
    let probe = Probe::start(&disk.below());
    let receiver = receiver();
    let ledger = Ledger::default();
    let mut deaths = Vec::new();
    let mut slowest = Duration::ZERO;

    let first = Gateway::start(&disk.data(), &[]);
    ledger.prepare(&first, &receiver);
    assert_eq!(first.stop(), 0);
    for cycle in 0..cycles {
        let gateway = Gateway::start(&disk.data(), &[]);
        let api = gateway.api;
        let life = Duration::from_millis(50 + random.below(450));
        let mut at = now();
        ledger.load(api, || {
            std::thread::sleep(life);
            at = now();
            disk.cut();
            if cycle % 2 == 0 {
                gateway.kill();
            } else {
                slowest = slowest.max(ends_by_itself(gateway));
            }
        });
        deaths.push(Death::noted_at(at, &receiver, &probe));
        disk.restore();
    }

    let gateway = Gateway::start(&disk.data(), &[]);
    assert_eq!(ledger.missing(&gateway), [""; 0], "acknowledged, and not in the log");
    let verdict = ledger.judge(&gateway, &receiver, &deaths);
    let what =
        format!("power cuts {cycles}, noticed by the gateways left alive within {slowest:?}");
    verdict.report(&deaths, &what);
    assert_eq!(gateway.stop(), 0);
}

/// How long a gateway took whose disk is gone. Nobody must think it ready meanwhile.
fn ends_by_itself(mut gateway: Gateway) -> Duration {
    let began = now();
    let code = eventually("it ends without its disk", 2 * NOTICES, || gateway.ended());
    let took = began.elapsed();
    assert_eq!(code, 1);
    assert!(took <= NOTICES, "it lived on without a disk for {took:?}");
    took
}

#[test]
fn a_gateway_that_leaves_its_syncs_out_is_seen_to_lose_what_it_acknowledged() {
    let name = "a_gateway_that_leaves_its_syncs_out_is_seen_to_lose_what_it_acknowledged";
    if !is_inside(name, &["--mount"]) {
        return;
    }
    let disk = Disk::new(DISK_MIB);
    for control in 1..=CONTROLS {
        // It refuses, so that what was accepted is not delivered before the cut.
        let receiver = Receiver::start(|_| Answer::Status(503));
        let ledger = Ledger::default();
        let first = Gateway::start(&disk.data(), &[]);
        ledger.prepare(&first, &receiver);
        assert_eq!(first.stop(), 0);

        let gateway = Gateway::run(without_syncs(&disk.data())).expect("it starts");
        gateway.wait_ready();
        ledger.load(gateway.api, || {
            std::thread::sleep(Duration::from_millis(400));
            disk.cut();
            gateway.kill();
        });
        assert!(ledger.accepted() > 0, "it acknowledged nothing");
        disk.restore();
        let lost = match started(&disk.data()) {
            None => "all of it: the start says that history is missing".to_owned(),
            Some(gateway) => ledger.missing(&gateway).len().to_string(),
        };
        println!("control {control}: accepted {}, lost {lost}", ledger.accepted());
        if lost != "0" {
            return;
        }
        disk.replace(DISK_MIB);
    }
    panic!("no loss was seen in {CONTROLS} cuts without syncs: this rig sees none");
}

/// A gateway whose syncs of the database are answered and not made.
fn without_syncs(data_dir: &Path) -> Command {
    let template = Gateway::command(data_dir, &[]);
    let mut command = Command::new("strace");
    // The tracer is a grandchild: the child is the gateway itself.
    command
        .args(["-D", "-f", "--seccomp-bpf", "-o", "/dev/null", "-P"])
        .arg(data_dir.join("store/db"))
        .args(["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:retval=0"])
        .arg(template.get_program())
        .args(template.get_args())
        .envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// A gateway that is ready; none where it refused to start.
fn started(data_dir: &Path) -> Option<Gateway> {
    let mut gateway = Gateway::spawn(data_dir, &[])?;
    let ready = eventually("it is ready or has ended", Duration::from_secs(30), || {
        if gateway.ended().is_some() {
            return Some(false);
        }
        let mut ops = Connection::open(gateway.ops).ok()?;
        (ops.request("GET", "/readyz", &[], b"").ok()?.status == 200).then_some(true)
    });
    ready.then_some(gateway)
}
