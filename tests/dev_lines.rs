//! What `dev` prints, as a newcomer sees it: the real binary.

mod support;

use std::{
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use support::http::Connection;

/// Among so many lines must be what a test looks for.
const LINES: usize = 30;

struct Dev {
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Dev {
    fn start(data_dir: &std::path::Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
        command.args(["dev", "--listen", "127.0.0.1:0", "--set", "ops.listen=127.0.0.1:0"]);
        command.env("SENDERZ_DATA_DIR", data_dir).env("SENDERZ_LOG__LEVEL", "error");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built with the tests");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines: Some(lines) }
    }

    /// The next line that holds this, soon: it goes on printing for ever.
    fn find(&mut self, part: &str) -> String {
        let lines = self.lines.as_mut().expect("not closed yet");
        let mut soon = lines.take(LINES);
        let found = soon.find_map(|line| line.ok().filter(|line| line.contains(part)));
        found.unwrap_or_else(|| panic!("no line with {part:?}"))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Already ended where the test did it itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_command_it_names_works_as_it_stands_and_deliveries_are_lines() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut dev = Dev::start(dir.path());
    let closer = dev.find("Look closer: ");
    dev.find("message.sent ");
    let (_, typed) = closer.split_once(": ").expect("it was looked for");
    let mut words = typed.split_whitespace();
    let program = words.next().expect("the line goes on");
    let listed = Command::new(program).args(words).output().expect("the binary runs");
    assert!(listed.status.success(), "{closer}: {}", String::from_utf8_lossy(&listed.stderr));
    assert!(String::from_utf8_lossy(&listed.stdout).contains("message.sent"));
}

#[test]
fn the_operators_pages_show_the_configuration_in_force() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut dev = Dev::start(dir.path());
    let portal = dev.find("  portal ");
    let url = portal.split_whitespace().nth(1).expect("an address");
    let address = url.trim_start_matches("http://").split('/').next().expect("host and port");
    dev.find("message.sent ");
    let key = std::fs::read_to_string(dir.path().join("dev/operator.key")).expect("it was made");
    let origin = format!("http://{address}");
    let ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let headers: Vec<_> =
            [("host", address), ("origin", &origin)].iter().chain(headers).copied().collect();
        let to = address.parse().expect("an address");
        let asked = Connection::open(to)
            .and_then(|mut to| to.request(method, path, &headers, body.as_bytes()));
        asked.expect("the gateway answers")
    };
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let entered = ask("POST", "/portal/login", &form, &format!("key={}", key.trim()));
    let cookie = entered.header("set-cookie").expect("a session").to_owned();
    let cookie = cookie.split(';').next().expect("a pair");
    let page = ask("GET", "/portal/system", &[("cookie", cookie)], "");
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(page.contains("Configuration in force"), "{page}");
    let used = dir.path().join("dev").display().to_string();
    for shown in [used.as_str(), "127.0.0.0/8", "[retry]", "# default", "# dev"] {
        assert!(page.contains(shown), "{shown} is missing in {page}");
    }
    assert!(!page.contains(key.trim()));
}

#[test]
fn without_a_reader_it_ends_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut dev = Dev::start(dir.path());
    dev.find("message.sent ");
    dev.lines = None;
    let status = dev.child.wait().expect("it ends by itself, with its next line");
    assert_eq!(status.code(), Some(0));
}
