//! `/metrics` as Prometheus itself reads it: promtool parses and lints what we render.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use senderz_gateway::{
    delivery::{Attempt, Verdict},
    metrics::{self, ShardMetrics},
};

#[test]
fn promtool_accepts_what_is_rendered() {
    let handle = metrics::install();
    let mut shard = ShardMetrics::new();
    let attempt = Attempt {
        number: 1,
        at: 0,
        status: Some(200),
        error: None,
        latency: 1500,
        phases: Default::default(),
        response: Default::default(),
        peer: None,
        protocol: Default::default(),
        reused_connection: false,
    };
    shard.attempt(Verdict::Delivered, &attempt);
    shard.ended(Verdict::Delivered, 2);
    shard.flush();
    ::metrics::histogram!(metrics::STORE_COMMIT).record(0.003);
    ::metrics::gauge!(metrics::STORE_BYTES).set(1e9);

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is part of the Debian package `prometheus`; scripts/test fetches it");
    let mut stdin = promtool.stdin.take().expect("stdin is piped");
    stdin.write_all(handle.render().as_bytes()).expect("promtool reads all of it");
    drop(stdin);
    let result = promtool.wait_with_output().expect("promtool ends");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&result.stdout),
        String::from_utf8_lossy(&result.stderr)
    );
    assert!(result.status.success(), "{said}");
    assert_eq!(said.trim(), "", "promtool has nothing to remark");
}
