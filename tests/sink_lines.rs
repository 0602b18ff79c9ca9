//! What `sink` prints, as whoever runs it sees it: the real binary.

mod support;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use support::now;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// For an answer that comes at once.
const PATIENCE: Duration = Duration::from_secs(20);

struct Sink {
    child: Child,
    address: String,
}

impl Sink {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
        command.args(["sink", "--port", "0"]).args(arguments).env("HOOK_SECRET", SECRET);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built with the tests");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let first = lines.next().expect("a line").expect("text");
        let address = first.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.expect("where it listens").to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Sends an unsigned request; answers the status.
    fn send(&self, id: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let request = format!(
            "POST /hook HTTP/1.1\r\nhost: x\r\nwebhook-id: {id}\r\nx-senderz-attempt: 1\r\n\
             x-senderz-event: message.sent\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer[9..12].to_owned()
    }

    /// Interrupts it; answers its exit code.
    fn stop(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-INT", &pid]).status();
        assert!(told.is_ok_and(|status| status.success()));
        self.child.wait().expect("it ends").code()
    }

    /// All it printed, and its exit code after the interrupt.
    fn printed(mut self) -> (Vec<String>, Option<i32>) {
        let out = BufReader::new(self.child.stdout.take().expect("piped"));
        let code = self.stop();
        (out.lines().map(|line| line.expect("text")).collect(), code)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Already ended where the test did it itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends like the line; what comes before is the time.
#[track_caller]
fn is_line(line: &str, end: &str) {
    let (time, rest) = line.split_once("  ").expect("a time first");
    assert!(time.ends_with('Z') && time.contains('T'), "{line}");
    assert_eq!(rest, end);
}

#[test]
fn a_line_for_each_request_and_the_counts_at_the_end() {
    let sink = Sink::start(&[]);
    assert_eq!(sink.send("evt_1"), "200");
    let (lines, code) = sink.printed();
    assert_eq!((lines.len(), code), (2, Some(0)), "{lines:?}");
    is_line(&lines[0], "evt_1  message.sent       attempt 1  200  not verified");
    assert!(lines[1].starts_with("requests 1  ok 1  failed 0"), "{lines:?}");

    let sink = Sink::start(&["--secret-env", "HOOK_SECRET", "--output", "json"]);
    assert_eq!(sink.send("evt_1"), "401");
    let (lines, code) = sink.printed();
    assert_eq!((lines.len(), code), (2, Some(1)), "{lines:?}");
    let seen: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
    assert_eq!((&seen["status"], &seen["signature"]), (&401.into(), &"wrong".into()));
    assert_eq!(
        (&seen["webhook_id"], &seen["event_type"]),
        (&"evt_1".into(), &"message.sent".into())
    );
    let counts: serde_json::Value = serde_json::from_str(&lines[1]).expect("JSON");
    assert_eq!(counts["bad_signatures"], 1);
}

#[test]
fn quiet_it_prints_counts_only() {
    let sink = Sink::start(&["--quiet"]);
    for id in ["evt_1", "evt_2"] {
        assert_eq!(sink.send(id), "200");
    }
    let (lines, code) = sink.printed();
    assert_eq!(code, Some(0));
    assert!(lines.iter().all(|line| line.starts_with("requests ")), "{lines:?}");
    assert!(lines.last().expect("a line").starts_with("requests 2  ok 2"), "{lines:?}");
}

#[test]
fn without_a_reader_it_receives_all_the_same() {
    for arguments in [&[][..], &["--quiet"]] {
        let mut sink = Sink::start(arguments);
        drop(sink.child.stdout.take());
        // Longer than it takes to print the counts, too.
        let since = now();
        let mut number = 0;
        while since.elapsed() < Duration::from_millis(1500) {
            assert_eq!(sink.send(&format!("evt_{number}")), "200");
            number += 1;
        }
        assert_eq!(sink.child.try_wait().expect("ours"), None, "it goes on");
        assert_eq!(sink.stop(), Some(0));
    }
}

#[test]
fn a_reader_that_takes_nothing_holds_up_neither_requests_nor_the_end() {
    let mut sink = Sink::start(&[]);
    // More than a pipe holds: some 80 bytes a line.
    for n in 0..1500 {
        assert_eq!(sink.send(&format!("evt_{n}")), "200");
    }
    assert_eq!(sink.stop(), Some(0));
}
