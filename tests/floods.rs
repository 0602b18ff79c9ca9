//! Producers that abuse HTTP/2: streams that are opened and reset at once, heads without an end,
//! frames that cost their sender nothing. The gateway ends such a connection or slows it down, its
//! memory stays flat, and other producers are served meanwhile.

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use support::{
    gateway::Gateway,
    now, payload,
    process::resident_mib,
    receiver::{Answer, Receiver},
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `POST /` over http, in HPACK's static table.
const REQUEST: &[u8] = &[0x83, 0x86, 0x84];
/// How long a flood goes on that the gateway does not end.
const FLOOD: Duration = Duration::from_secs(2);
/// More memory than before, at the most, MiB.
const FLAT: f64 = 32.0;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection that says `turn(n)` for n from 0 on, as fast as it is taken. Whether the gateway ended
/// it.
fn flood(gateway: &Gateway, turn: impl Fn(u32) -> Vec<u8>) -> bool {
    let mut stream = TcpStream::connect(gateway.api).expect("it listens");
    stream.set_write_timeout(Some(FLOOD)).expect("a socket");
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &[])];
    stream.write_all(&hello.concat()).expect("it listens");
    let began = now();
    for n in (0..).step_by(64) {
        let some: Vec<u8> = (n..n + 64).flat_map(&turn).collect();
        match stream.write_all(&some) {
            Ok(()) if began.elapsed() < FLOOD => {}
            // It takes no more, which is as good.
            Ok(()) => break,
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
    // What it said meanwhile, and then the end where there is one.
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
    let mut answer = [0; 64 * 1024];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return true,
            Ok(_) if began.elapsed() < 2 * FLOOD => {}
            Ok(_) => return false,
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Stream numbers of a client are odd.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

#[test]
fn a_producer_that_floods_its_connection_is_cut_off_or_slowed_down_and_hurts_nobody() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let receiver = Receiver::start_counting(|_| Answer::Status(200));
    let gateway = Gateway::start(dir.path(), &[]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    gateway.event("acme", &payload("message.sent", "msg_before"));

    let ended = |what: &str, must_end: bool, turn: &dyn Fn(u32) -> Vec<u8>| {
        let memory = resident_mib(gateway.pid());
        let over = AtomicBool::new(false);
        let (ended, slowest) = std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                let mut slowest = Duration::ZERO;
                loop {
                    let began = now();
                    gateway.event("acme", &payload("message.sent", "msg_beside"));
                    slowest = slowest.max(began.elapsed());
                    if over.load(Ordering::SeqCst) {
                        return slowest;
                    }
                }
            });
            let ended = flood(&gateway, turn);
            over.store(true, Ordering::SeqCst);
            (ended, others.join().expect("others are served"))
        });
        let more = resident_mib(gateway.pid()) - memory;
        println!("{what}: ended {ended}, {more:+.0} MiB, others served within {slowest:?}");
        assert!(ended || !must_end, "{what}: the connection lives");
        assert!(more <= FLAT, "{what}: {more} MiB more");
        assert!(slowest < Duration::from_secs(3), "{what}: others waited for {slowest:?}");
    };
    let open = |n, flags| frame(HEADERS, END_HEADERS | flags, stream(n), REQUEST);

    ended("requests that are reset at once", true, &|n| {
        [open(n, 0), frame(RST_STREAM, 0, stream(n), &8_u32.to_be_bytes())].concat()
    });
    ended("requests that make us reset them", true, &|n| {
        [open(n, 0), frame(WINDOW_UPDATE, 0, stream(n), &[0; 4])].concat()
    });
    ended("a head that never ends", true, &|n| match n {
        0 => frame(HEADERS, 0, 1, REQUEST),
        _ => frame(CONTINUATION, 0, 1, &[&[0, 6], &b"x-more"[..], &[100], &[b'x'; 100]].concat()),
    });
    ended("a head that grows large when it is unpacked", true, &|n| match n {
        0 => {
            let large = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e], &[b'y'; 4000][..]].concat();
            frame(HEADERS, END_HEADERS, 1, &[REQUEST, &large, &[0xbe; 4000]].concat())
        }
        _ => frame(HEADERS, END_HEADERS, stream(n), &[REQUEST, &[0xbe; 4000]].concat()),
    });
    ended("requests that are never finished", false, &|n| open(n, 0));
    ended("requests whose answers nobody reads", false, &|n| open(n, END_STREAM));
    ended("settings", false, &|_| frame(SETTINGS, 0, 0, &[]));
    ended("pings", false, &|_| frame(PING, 0, 0, &[0; 8]));
    ended("data of no length", false, &|n| match n {
        0 => open(0, 0),
        _ => frame(DATA, 0, 1, &[]),
    });
    assert_eq!(gateway.stop(), 0);
}
