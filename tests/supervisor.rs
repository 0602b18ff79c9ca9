//! What a service manager with `Type=notify-reload` hears from the real binary.

mod support;

use std::{os::unix::net::UnixDatagram, time::Duration};

use support::gateway::Gateway;

/// The next datagram, as its lines.
fn heard(socket: &UnixDatagram) -> Vec<String> {
    let mut datagram = [0; 4096];
    let length = socket.recv(&mut datagram).expect("the gateway says something");
    let text = std::str::from_utf8(&datagram[..length]).expect("the protocol is text");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_service_manager_hears_of_the_start_a_reload_and_the_stop() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a free path");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("it is open");
    let notify = path.to_str().expect("a path of ours");
    let gateway = Gateway::spawn(&dir.path().join("data"), &[("NOTIFY_SOCKET", notify)]);
    let gateway = gateway.expect("the gateway starts");

    // Ready is ready: whoever waits for it may send at once.
    assert_eq!(heard(&socket), ["READY=1", "STATUS=serving"]);
    assert_eq!(gateway.ask("GET", "/v1/tenants", None, b"").status, 200);

    gateway.signal("-HUP");
    let reloading = heard(&socket);
    assert_eq!(reloading[0], "RELOADING=1");
    let when = reloading[1].strip_prefix("MONOTONIC_USEC=").expect("since systemd 253 it must");
    assert!(when.parse::<u64>().is_ok_and(|micros| micros > 0), "{when}");
    assert_eq!(heard(&socket)[0], "READY=1");

    gateway.signal("-TERM");
    assert_eq!(heard(&socket), ["STOPPING=1", "STATUS=draining"]);
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn a_socket_that_nobody_reads_or_that_is_gone_stops_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let missing = dir.path().join("nobody");
    let notify = missing.to_str().expect("a path of ours");
    let gateway = Gateway::start(&dir.path().join("data"), &[("NOTIFY_SOCKET", notify)]);
    assert_eq!(gateway.stop(), 0);
}
