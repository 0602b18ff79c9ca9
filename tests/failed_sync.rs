//! A sync that fails, as a real one does: below the file system, after `write` has taken the data.
//!
//! The kernel says so once, and then takes the pages that it could not write for clean: who reads
//! them gets what was never written, and the next sync has nothing to complain of. So a process that
//! is told must stop; and the start after it must not read what the failed one had written from the
//! kernel's memory, append to it, acknowledge that, and lose it with the next power cut, behind a
//! hole that was there all the time.

mod support;

use std::time::Duration;

use support::{
    disk::Disk,
    eventually,
    gateway::Gateway,
    http::Connection,
    ledger::{Death, Ledger},
    namespace::is_inside,
    now,
    probe::Probe,
    receiver::{Answer, Receiver},
};

/// How long a gateway may live after it.
const ENDS: Duration = Duration::from_secs(2);
const LOAD: Duration = Duration::from_millis(300);

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_the_next_start_believes_the_disk_alone() {
    let name =
        "after_a_failed_sync_nothing_is_acknowledged_and_the_next_start_believes_the_disk_alone";
    if !is_inside(name, &["--mount"]) {
        return;
    }
    let disk = Disk::thin(96);
    let beside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let probe = Probe::start(beside.path());
    let receiver = Receiver::start(|_| Answer::Status(200));
    let ledger = Ledger::default();
    let mut gateway = Gateway::start(&disk.data(), &[]);
    ledger.prepare(&gateway, &receiver);
    ledger.load(gateway.api, || std::thread::sleep(LOAD));

    disk.starve();
    let mut failed = now();
    let api = gateway.api;
    ledger.load(api, || {
        let began = now();
        let code = eventually("it ends by itself", 5 * ENDS, || {
            let is_ready = Connection::open(gateway.ops)
                .and_then(|mut ops| ops.request("GET", "/readyz", &[], b""))
                .is_ok_and(|answer| answer.status == 200);
            if is_ready {
                failed = now();
            }
            gateway.ended()
        });
        assert_eq!(code, 1);
        println!(
            "not ready {:?} after the load began, ended {:?} later",
            failed.duration_since(began),
            failed.elapsed()
        );
        assert!(failed.elapsed() <= ENDS, "it lived on for {:?}", failed.elapsed());
    });
    let mut deaths = vec![Death::noted_at(failed, &receiver, &probe)];
    let before = ledger.accepted();

    // There is room again. The kernel still holds what it did not write.
    disk.feed();
    let gateway = Gateway::start(&disk.data(), &[]);
    assert_eq!(ledger.missing(&gateway), [""; 0], "acknowledged before it, and not in the log");
    ledger.load(gateway.api, || std::thread::sleep(LOAD));
    assert!(ledger.accepted() > before, "it accepts again");
    let at = now();
    disk.cut();
    gateway.kill();
    deaths.push(Death::noted_at(at, &receiver, &probe));
    disk.restore();

    let gateway = Gateway::start(&disk.data(), &[]);
    assert_eq!(ledger.missing(&gateway), [""; 0], "acknowledged after it, and not in the log");
    ledger.judge(&gateway, &receiver, &deaths).report(&deaths, "a failed sync and a power cut");
    assert_eq!(gateway.stop(), 0);
}
