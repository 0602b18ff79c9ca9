//! A browser that stops reading the live page is slow alone.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use serde_json::json;

use crate::{
    support::{
        eventually,
        gateway::OPERATOR_KEY,
        http::Connection,
        now, payload,
        receiver::{Answer, Receiver},
    },
    visitor::{HOST, House},
};

/// Together they are some ten megabytes on a stream, where a socket keeps at most four.
const EVENTS: usize = 2_500;
const PER_BATCH: usize = 500;
const TEXT: usize = 3_500;
/// How far behind a browser may be before it is told what it misses.
const MAX_LAG: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(120);
/// What the browsers' side takes before nobody reads it.
const WINDOW: usize = 64 * 1024;

/// A connection on which hardly anything waits to be read.
fn narrow(to: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_recv_buffer_size(&socket, WINDOW).expect("before it is connected");
    connect(&socket, &to).expect("the gateway listens");
    TcpStream::from(socket)
}

/// The live page's stream, opened and not read beyond its first bytes.
fn open_stream(to: SocketAddr, cookie: &str) -> TcpStream {
    let mut stream = narrow(to);
    let request = format!(
        "GET /portal/t/acme/stream HTTP/1.1\r\nhost: {HOST}\r\ncookie: {cookie}\r\n\
         accept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("it is taken");
    let mut first = [0; 15];
    stream.read_exact(&mut first).expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    stream
}

#[test]
fn a_browser_that_stops_reading_the_live_page_holds_up_no_delivery() {
    let house = House::open(&[
        ("SENDERZ_STREAM__MAX_LAG", "1s"),
        // Long enough not to be given up meanwhile.
        ("SENDERZ_STREAM__KEEP_ALIVE", "1m"),
        ("SENDERZ_DELIVERY__KEEP_RESPONSE", "4KiB"),
    ]);
    let key = house.tenant("acme");
    let receiver = Receiver::start_counting(|_| Answer::Echo(200));
    house.gateway.webhook("acme", &format!("http://{}/hook", receiver.addr));
    let cookie = house.logged_in(&key).cookie.expect("a session");
    let mut slow: Vec<_> = (0..3).map(|_| open_stream(house.gateway.api, &cookie)).collect();

    for from in (0..EVENTS).step_by(PER_BATCH) {
        let line = |nth: usize| {
            let event = payload("message.sent", &format!("msg_{nth}"));
            let mut event: serde_json::Value = serde_json::from_str(&event).expect("JSON");
            event["data"]["text"] = json!("x".repeat(TEXT));
            json!({"tenant": "acme", "payload": event}).to_string() + "\n"
        };
        let body: String = (from..from + PER_BATCH).map(line).collect();
        let bearer = format!("Bearer {OPERATOR_KEY}");
        let headers =
            [("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
        let sent = Connection::open(house.gateway.api)
            .and_then(|mut c| c.request("POST", "/v1/events?ids=false", &headers, body.as_bytes()))
            .expect("the gateway answers");
        assert_eq!(sent.status, 202);
    }
    eventually("every event is delivered while nobody reads", SOON, || {
        (receiver.count() >= EVENTS as u64).then_some(())
    });
    // It goes on so for longer than they may be behind.
    let (stuck, mut sent) = (now(), EVENTS as u64);
    while stuck.elapsed() < 3 * MAX_LAG {
        house.gateway.event("acme", &payload("message.read", "one more"));
        sent += 1;
        eventually("one more is delivered", SOON, || (receiver.count() >= sent).then_some(()));
    }
    // And people with other browsers are served meanwhile.
    house.logged_in(&key).page("/portal/t/acme/deliveries");

    // They were indeed behind: none of them gets all of it, and each is told how much it missed.
    for stream in &mut slow {
        stream.set_read_timeout(Some(SOON)).expect("a socket takes a timeout");
        let mut told = 0;
        let mut lines = BufReader::new(stream).lines().map(|line| line.expect("it goes on"));
        let has_more = lines.any(|line| {
            told += usize::from(line == "event: attempt");
            line == "event: lagged" || told >= EVENTS
        });
        assert!(has_more, "it ended before it said what was left out");
        assert!(told < EVENTS, "{told} attempts were kept for somebody who does not read");
    }
}
