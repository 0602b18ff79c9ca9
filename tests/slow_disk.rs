//! A disk that takes half a second for each sync: commits grow, producers wait, and that is all.
//! Deliveries go on, nothing times out, nothing is lost.

mod support;

use std::{process::Command, time::Duration};

use support::{
    eventually,
    gateway::Gateway,
    ledger::Ledger,
    now,
    receiver::{Answer, Receiver},
};

const SYNC: Duration = Duration::from_millis(500);
const LOAD: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(60);
/// Sizes of what producers send at once; so many wait for each commit.
const PRODUCERS: [usize; 12] = [1, 1, 1, 1, 20, 20, 20, 20, 100, 100, 100, 100];

#[test]
fn on_a_slow_disk_commits_grow_and_nothing_is_lost_or_given_up() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let receiver = Receiver::start(|_| Answer::Status(200));
    let ledger = Ledger::default();
    let data = dir.path().join("data");
    let first = Gateway::start(&data, &[]);
    ledger.prepare(&first, &receiver);
    assert_eq!(first.stop(), 0);

    let template = Gateway::command(&data, &[]);
    let mut command = Command::new("strace");
    // The tracer is a grandchild: the child is the gateway itself.
    command
        .args(["-D", "-f", "--seccomp-bpf", "-o", "/dev/null", "-P"])
        .arg(data.join("store/db"))
        .args(["-e", "trace=fsync,fdatasync", "-e"])
        .arg(format!("inject=fsync,fdatasync:delay_enter={}", SYNC.as_micros()))
        .arg(template.get_program())
        .args(template.get_args())
        .envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut gateway = Gateway::run(command).expect("it starts");
    gateway.wait_ready();
    let began = now();
    let api = gateway.api;
    ledger.load_of(api, &PRODUCERS, || {
        eventually("time passes", 2 * LOAD, || {
            assert_eq!(gateway.ended(), None, "it gave up");
            (began.elapsed() >= LOAD).then_some(())
        });
    });
    let commits = gateway.metric("senderz_store_commit_seconds_count");
    let seconds = gateway.metric("senderz_store_commit_seconds_sum");
    let events = gateway.metric("senderz_store_commit_events_sum");
    println!(
        "slow disk: {} events accepted, {:.0} in each of {commits} commits of {:.2} s",
        ledger.accepted(),
        events / commits,
        seconds / commits,
    );
    assert!(seconds / commits >= SYNC.as_secs_f64() / 2.0, "the disk was not slow");
    assert!(events / commits > 150.0, "producers did not share their commits");
    let settled = |state| gateway.metric(&format!("senderz_deliveries{{state=\"{state}\"}}"));
    eventually("all is delivered", LIMIT, || {
        (["pending", "retrying", "in_flight"].map(settled).iter().sum::<f64>() == 0.0).then_some(())
    });
    assert_eq!(ledger.missing(&gateway), [""; 0], "acknowledged, and not in the log");
    ledger.judge(&gateway, &receiver, &[]);
    assert_eq!(gateway.stop(), 0);
}
