//! What watches and loads a running gateway: the stream over a socket, `tail` and `bench`, with the
//! real binary at both ends.

mod support;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver as Lines, channel},
    time::Duration,
};

use serde_json::Value;
use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    payload,
    receiver::{Answer, Receiver},
};

const LIMIT: Duration = Duration::from_secs(60);

struct World {
    dir: tempfile::TempDir,
    gateway: Gateway,
    receiver: Receiver,
}

fn world() -> World {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::start(dir.path(), &[]);
    let receiver = Receiver::start_counting(|_| Answer::Status(200));
    gateway.tenant("acme");
    gateway.webhook("acme", &format!("http://{}/hook", receiver.addr));
    World { dir, gateway, receiver }
}

fn command(api: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
    command.args(arguments).args(["--url", &format!("http://{api}")]);
    command.env("SENDERZ_API_KEY", OPERATOR_KEY).stdin(Stdio::null());
    command
}

/// A `tail`, and its lines as they come.
struct Tail {
    child: Child,
    lines: Lines<String>,
}

impl Tail {
    fn start(api: SocketAddr, arguments: &[&str]) -> Self {
        let mut all = vec!["tail"];
        all.extend(arguments);
        let mut child = command(api, &all)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary was built with the tests");
        let (tell, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The events told so far, by the ids of the gateway's events.
    fn told(&self) -> Vec<Value> {
        self.lines.try_iter().map(|line| serde_json::from_str(&line).expect("JSON")).collect()
    }

    fn end(mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().is_ok_and(|s| s.success()));
        self.child.wait().expect("it ends").code()
    }
}

fn event_of(told: &Value) -> &str {
    told["data"]["event_id"].as_str().expect("an event")
}

impl Drop for Tail {
    fn drop(&mut self) {
        // Already ended where the test did it itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_tail_goes_on_behind_what_it_saw_when_the_gateway_comes_back() {
    let World { dir, gateway, receiver } = world();
    let tail = Tail::start(gateway.api, &["--tenant", "acme", "--output", "json"]);
    let mut sent = Vec::new();
    let mut told = Vec::new();
    // It has begun with the first event that it tells; those before it are its past.
    eventually("the first is told", LIMIT, || {
        sent.push(gateway.event("acme", &payload("message.sent", "first")));
        told = tail.told();
        (!told.is_empty()).then_some(())
    });
    let first = sent.iter().position(|id| id == event_of(&told[0])).expect("ours");
    for n in 0..20 {
        sent.push(gateway.event("acme", &payload("message.sent", &format!("msg_{n}"))));
    }
    let expected = &sent[first..];
    eventually("all are told", LIMIT, || {
        told.extend(tail.told());
        (told.len() >= expected.len()).then_some(())
    });
    let api = gateway.api;
    assert_eq!(gateway.stop(), 0, "a stream does not hold up the end");
    // What is recorded before the tail is back is told all the same.
    let listen = api.to_string();
    let gateway = Gateway::start(dir.path(), &[("SENDERZ_SERVER__LISTEN", listen.as_str())]);
    for n in 0..20 {
        sent.push(gateway.event("acme", &payload("message.read", &format!("later_{n}"))));
    }
    let expected = &sent[first..];
    eventually("all are told", LIMIT, || {
        told.extend(tail.told());
        (told.len() >= expected.len()).then_some(())
    });
    let mut ids: Vec<_> = told.iter().map(event_of).collect();
    let mut wanted: Vec<_> = expected.iter().map(String::as_str).collect();
    ids.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(ids, wanted, "each once");
    assert!(told.iter().all(|one| one["event"] == "attempt"));
    assert_eq!(tail.end("-INT"), Some(0));
    drop(receiver);
}

#[test]
fn a_tail_ends_when_nobody_reads_on_and_fails_where_it_is_refused() {
    let World { dir: _dir, gateway, receiver: _receiver } = world();
    let mut child = command(gateway.api, &["tail"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary was built with the tests");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let (tell, line) = channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = out.read_line(&mut line);
        // Its end of the pipe closes.
        drop(out);
        let _ = tell.send(line);
    });
    let line = eventually("a line comes", LIMIT, || {
        gateway.event("acme", &payload("message.sent", "msg"));
        line.try_recv().ok()
    });
    assert!(line.contains("  delivered  message.sent ") && line.contains("  acme  wh_"), "{line}");
    assert!(!line.contains('\u{1b}'), "a pipe is no terminal");
    let code = eventually("it ends", LIMIT, || {
        gateway.event("acme", &payload("message.sent", "msg"));
        child.try_wait().expect("ours")
    });
    assert_eq!(code.code(), Some(0));

    let ran = |arguments: &[&str]| -> Output {
        command(gateway.api, arguments).output().expect("the binary runs")
    };
    for (arguments, says) in [
        (&["tail", "--status", "lost"][..], "pending, retrying"),
        (&["tail", "--tenant", "nobody"], "names no tenant"),
        (&["tail", "--after", "pos_1"], "Last-Event-ID"),
    ] {
        let refused = ran(arguments);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(told.contains(says), "{arguments:?}: {told}");
    }
}

#[test]
fn a_reader_that_takes_nothing_holds_up_no_delivery_and_not_the_end() {
    const EVENTS: u64 = 3000;
    let World { dir: _dir, gateway, receiver } = world();
    let mut silent = TcpStream::connect(gateway.api).expect("it listens");
    write!(
        silent,
        "GET /v1/stream HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {OPERATOR_KEY}\r\n\r\n"
    )
    .expect("it takes a request");
    let mut head = [0; 12];
    silent.read_exact(&mut head).expect("it answers");
    assert_eq!(&head, b"HTTP/1.1 200");
    let line = |n: u64| {
        let payload = payload("message.sent", &format!("msg_{n}"));
        format!("{{\"tenant\":\"acme\",\"payload\":{payload}}}\n")
    };
    for batch in 0..EVENTS / 500 {
        let lines: String = (0..500).map(|n| line(batch * 500 + n)).collect();
        let key = format!("Bearer {OPERATOR_KEY}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/x-ndjson")];
        let answer = support::http::Connection::open(gateway.api)
            .and_then(|mut c| c.request("POST", "/v1/events?ids=false", &headers, lines.as_bytes()))
            .expect("the gateway answers");
        assert_eq!(answer.status, 202);
    }
    eventually("all are delivered", LIMIT, || (receiver.count() >= EVENTS).then_some(()));
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn a_bench_measures_what_a_gateway_accepts() {
    let World { dir: _dir, gateway, receiver: _receiver } = world();
    let measured = |arguments: &[&str]| -> Value {
        let all: Vec<&str> = ["bench", "--tenant", "acme", "--duration", "1s", "--output", "json"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        let ran = command(gateway.api, &all).output().expect("the binary runs");
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(0), "{arguments:?}: {told}");
        serde_json::from_slice(&ran.stdout).expect("JSON")
    };
    let closed = measured(&["--concurrency", "2"]);
    assert_eq!((&closed["loop"], &closed["errors"]), (&"closed".into(), &serde_json::json!({})));
    let accepted = |report: &Value| report["events_accepted"].as_u64().expect("a number");
    assert!(accepted(&closed) > 10, "{closed}");
    let latency = |report: &Value, name: &str| report["latency_ms"][name].as_f64().expect(name);
    for (low, high) in [("p50", "p90"), ("p90", "p99"), ("p99", "p99.9"), ("p99.9", "max")] {
        assert!(latency(&closed, low) <= latency(&closed, high), "{closed}");
    }
    // 20 requests of 10 events, whatever the gateway does.
    let open = measured(&["--rate", "200", "--batch", "10"]);
    assert_eq!((&open["loop"], &open["requests"]), (&"open".into(), &20.into()), "{open}");
    assert_eq!(accepted(&open), 200);
    assert_eq!(open["asked_events_per_second"], 200.0);
    assert_eq!(open["never_sent"], 0);

    let ran = |api: SocketAddr, arguments: &[&str]| {
        let ran = command(api, arguments).output().expect("the binary runs");
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let (code, told) = ran(nobody, &["bench", "--tenant", "acme"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("cannot reach the gateway") && told.contains("is it running?"), "{told}");
    let (code, told) = ran(gateway.api, &["bench", "--tenant", "nobody"]);
    assert_eq!(code, Some(1), "{told}");
    assert_eq!(ran(gateway.api, &["bench"]).0, Some(2), "an event has a tenant");
}
