//! SIGTERM under load, again and again: exit code 0, nothing lost, nothing sent twice.

mod support;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use support::{
    Random, eventually,
    gateway::Gateway,
    ledger::Ledger,
    payload,
    receiver::{Answer, Receiver},
    setting,
};

#[test]
fn a_stop_under_load_loses_nothing_and_sends_nothing_twice() {
    let stops: u32 = setting("STOPS").unwrap_or(20);
    let mut random = Random::new(u64::from(std::process::id()));
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let flaky = AtomicU64::new(0);
    // So that stops find deliveries that wait for a retry, and attempts that take a while.
    let receiver = Receiver::start(move |_| {
        let nth = flaky.fetch_add(1, Ordering::Relaxed);
        if nth % 100 == 50 {
            std::thread::sleep(Duration::from_millis(100));
        }
        Answer::Status(if nth % 10 == 9 { 500 } else { 200 })
    });
    let ledger = Ledger::default();
    let mut gateway = Gateway::start(dir.path(), &[]);
    ledger.prepare(&gateway, &receiver);
    for _ in 0..stops {
        let life = Duration::from_millis(50 + random.below(250));
        ledger.load(gateway.api, || {
            std::thread::sleep(life);
            assert_eq!(gateway.stop(), 0);
        });
        gateway = Gateway::start(dir.path(), &[]);
    }
    assert_eq!(ledger.missing(&gateway), [""; 0], "acknowledged, and not in the log");
    let verdict = ledger.judge(&gateway, &receiver, &[]);
    println!("stops under load {stops}, accepted {}, lost 0, sent twice 0", verdict.accepted());
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn a_receiver_that_hangs_holds_up_a_stop_no_longer_than_the_drain_and_is_no_fault_of_ours() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let said = dir.path().join("said");
    let receiver = Receiver::start(|_| Answer::Hang);
    let env = [("SENDERZ_RUNTIME__DRAIN_TIMEOUT", "1s"), ("SENDERZ_LOG__LEVEL", "info")];
    let data = dir.path().join("data");
    let mut command = Gateway::command(&data, &env);
    command.stderr(std::fs::File::create(&said).expect("a directory of ours"));
    let gateway = Gateway::run(command).expect("it starts");
    gateway.wait_ready();
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    gateway.event("acme", &payload("message.sent", "msg_1"));
    eventually("the attempt is under way", Duration::from_secs(30), || {
        (receiver.count() > 0).then_some(())
    });
    assert_eq!(gateway.stop(), 0);
    let said = std::fs::read_to_string(said).expect("it is there");
    assert!(said.contains("attempts_abandoned=1"), "{said}");
    assert!(!said.contains("ERROR"), "a drain that runs out is no error:\n{said}");
}
