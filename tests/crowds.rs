//! Thousands of connections that want nothing, and hundreds that send their requests a byte at a
//! time: others are served as before.

mod support;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{
    eventually,
    gateway::Gateway,
    http::Connection,
    now, payload,
    process::resident_mib,
    receiver::{Answer, Receiver},
};

const IDLE: usize = 5_000;
const SLOW: usize = 500;
const EVENTS: usize = 200;
/// `server.header_timeout`.
const PATIENCE: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(60);

/// The gateway's children have it too.
fn allow_descriptors(wanted: u64) {
    let limits = getrlimit(Resource::Nofile);
    let most = limits.maximum.unwrap_or(u64::MAX);
    assert!(most >= wanted, "this test needs {wanted} file descriptors, {most} are allowed");
    let limits = Rlimit { current: Some(wanted), ..limits };
    setrlimit(Resource::Nofile, limits).expect("it is within the limit");
}

/// How long events take to be accepted, one after the other: the median and the 99th percentile.
fn latencies(gateway: &Gateway, name: &str) -> (Duration, Duration) {
    let mut took: Vec<_> = (0..EVENTS)
        .map(|n| {
            let began = now();
            gateway.event("acme", &payload("message.sent", &format!("msg_{name}_{n}")));
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    (took[EVENTS / 2], took[EVENTS * 99 / 100])
}

/// One connection that is open, and never asks for anything.
fn idle(to: SocketAddr) -> TcpStream {
    TcpStream::connect(to).expect("the kernel takes it")
}

fn is_closed(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    loop {
        match stream.read(&mut [0; 1024]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn thousands_of_idle_and_hundreds_of_slow_connections_hold_up_nobody() {
    allow_descriptors(15_000);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let receiver = Receiver::start(|_| Answer::Status(200));
    let patience = format!("{}s", PATIENCE.as_secs());
    // Connections that have asked for something once may be quiet for longer.
    let gateway = Gateway::start(dir.path(), &[("SENDERZ_SERVER__HEADER_TIMEOUT", &patience)]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    latencies(&gateway, "warm");
    let (median, worst) = latencies(&gateway, "alone");
    let memory = resident_mib(gateway.pid());

    let mut kept: Vec<_> = (0..IDLE)
        .map(|_| {
            let mut connection = Connection::open(gateway.api).expect("the kernel takes it");
            connection.request("GET", "/", &[], b"").expect("it answers");
            connection
        })
        .collect();
    let slow: Vec<_> = (0..SLOW).map(|_| idle(gateway.api)).collect();
    let mut head = b"POST /v1/events HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat(&b'x'));
    let mut drip = || {
        let byte = *head.next().expect("it never ends");
        slow.iter().for_each(|mut stream| drop(stream.write_all(&[byte])));
    };
    for _ in 0..3 {
        drip();
    }
    let (crowded_median, crowded_worst) = latencies(&gateway, "crowded");
    let crowded = resident_mib(gateway.pid());
    drip();
    println!(
        "crowd: accepting an event takes {median:?} (99 %: {worst:?}) alone, {crowded_median:?} \
         ({crowded_worst:?}) beside {IDLE} idle and {SLOW} slow connections, for {:.0} MiB more",
        crowded - memory
    );
    assert!(crowded_median <= 2 * median + Duration::from_millis(5), "they hold up others");
    let each = (crowded - memory) * 1024.0 / (IDLE + SLOW) as f64;
    assert!(each <= 64.0, "{each} KiB for each connection");

    eventually("those that never finish a head are closed", 10 * PATIENCE, || {
        drip();
        slow.iter().all(is_closed).then_some(())
    });
    for connection in kept.iter_mut().step_by(50) {
        let answer = connection.request("GET", "/", &[], b"");
        assert_eq!(answer.expect("a quiet one is kept").status, 404);
    }
    eventually("all is delivered", LIMIT, || (gateway.waiting("acme") == 0).then_some(()));
    assert_eq!(receiver.count() as usize, 3 * EVENTS);
    assert_eq!(gateway.stop(), 0);
}
