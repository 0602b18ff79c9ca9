//! The commands as a user runs them: the real binary, its output and its exit codes.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
    thread::JoinHandle,
};

/// The binary with nothing of ours in its environment.
fn gateway(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SENDERZ_") {
            command.env_remove(name);
        }
    }
    command
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn run(command: &mut Command) -> Ran {
    ran(command.output().expect("the binary runs"))
}

fn run_with_stdin(command: &mut Command, input: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A command that fails before it reads closes the pipe.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    ran(child.wait_with_output().expect("the binary ends"))
}

fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).expect("a temporary file");
    path.to_str().expect("temporary paths are UTF-8").to_owned()
}

/// An API that gives the scripted answers in order and keeps what it was asked.
struct Scripted {
    address: SocketAddr,
    thread: JoinHandle<Vec<String>>,
}

fn scripted(answers: &[(u16, &str)]) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let answers: Vec<_> =
        answers.iter().map(|(status, body)| (*status, body.to_string())).collect();
    let thread = std::thread::spawn(move || {
        let exchange = |(status, body): (u16, String)| {
            let (mut stream, _) = listener.accept().expect("a request comes");
            let request = read_request(&mut stream);
            write!(
                stream,
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            )
            .expect("the client reads");
            request
        };
        answers.into_iter().map(exchange).collect()
    });
    Scripted { address, thread }
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    loop {
        let read = stream.read(&mut part).expect("a request");
        request.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&request);
        let length: usize = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.trim().parse().expect("a number"));
        if text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length) || read == 0 {
            return text.into_owned();
        }
    }
}

impl Scripted {
    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(self) -> Vec<String> {
        self.thread.join().expect("every scripted answer was asked for")
    }
}

#[test]
fn check_accepts_the_defaults_and_reports_every_mistake_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data dir with ünïcode");
    let good = run(&mut gateway(&["check", "--data-dir", data.to_str().unwrap()]));
    assert_eq!(good.code, Some(0), "{}", good.stderr);
    assert!(good.stdout.starts_with("ok: "), "{}", good.stdout);
    assert!(!data.exists(), "check makes nothing");

    let file =
        write(&dir.path().join("bad.toml"), "[server]\nlisten = 8080\n[log]\nlevl = \"x\"\n");
    let mut command = gateway(&["check", "--config", &file, "--set", "retry.jitter=2"]);
    let bad = run(&mut command);
    assert_eq!(bad.code, Some(78));
    for part in ["3 problems", "bad.toml:2", "bad.toml:4", "log.level", "retry.jitter", "--set"] {
        assert!(bad.stderr.contains(part), "{part:?} is missing in:\n{}", bad.stderr);
    }
    assert_eq!(run(command.arg("serve")).code, Some(2), "two commands are wrong usage");
    let serve = run(&mut gateway(&["--config", &file]));
    assert_eq!(serve.code, Some(78), "serve refuses the same: {}", serve.stderr);
}

#[test]
fn check_says_which_files_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(&dir.path().join("a file"), "");
    let bad = run(&mut gateway(&[
        "check",
        "--data-dir",
        &format!("{file}/data"),
        "--listen",
        "unix:/nowhere/at/all.sock",
        "--set",
        "tls.ca_file=/nowhere/ca.pem",
    ]));
    assert_eq!(bad.code, Some(78));
    for part in ["cannot be used: Not a directory", "/nowhere/ca.pem", "/nowhere/at/all.sock"] {
        assert!(bad.stderr.contains(part), "{part:?} is missing in:\n{}", bad.stderr);
    }
    assert_eq!(bad.stderr.lines().count(), 3, "{}", bad.stderr);
}

#[test]
fn config_shows_values_with_their_origin_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = gateway(&["config", "--set", "security.allow_networks=127.0.0.0/8"]);
    let shown = run(command.env("SENDERZ_LIMITS__PAGE", "7"));
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let line = |start: &str| shown.stdout.lines().find(|l| l.starts_with(start)).expect("shown");
    assert!(line("page = 7").ends_with("# SENDERZ_LIMITS__PAGE"));
    assert!(line("allow_networks = [\"127.0.0.0/8\"]").ends_with("# --set"));
    let file = write(&dir.path().join("shown.toml"), &shown.stdout);
    assert_eq!(run(&mut gateway(&["check", "--config", &file])).code, Some(0));
    let json = run(&mut gateway(&["config", "--output", "json"]));
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["limits.page"], serde_json::json!({"value": 100, "from": "default"}));
}

#[test]
fn openapi_prints_the_document_with_the_limits_of_the_configuration() {
    let ran = run(&mut gateway(&["openapi", "--set", "limits.page=7"]));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    let parameters = &document["paths"]["/v1/tenants"]["get"]["parameters"];
    assert_eq!(parameters[0]["schema"]["maximum"], 7);
    let ran = run(&mut gateway(&["openapi", "--set", "limits.pag=7"]));
    assert_eq!(ran.code, Some(78), "{}", ran.stderr);
}

#[test]
fn send_waits_until_every_delivery_has_ended() {
    let api = scripted(&[
        (202, r#"{"id":"evt_1","deliveries":2}"#),
        (
            200,
            r#"{"deliveries":[{"id":"dlv_1","webhook_id":"wh_1","status":"delivered","attempts_made":1},
                {"id":"dlv_2","webhook_id":"wh_2","status":"retrying","attempts_made":1}]}"#,
        ),
        (
            200,
            r#"{"deliveries":[{"id":"dlv_1","webhook_id":"wh_1","status":"delivered","attempts_made":1},
                {"id":"dlv_2","webhook_id":"wh_2","status":"failed","attempts_made":6}]}"#,
        ),
    ]);
    let mut command = gateway(&["send", "message.failed", "--tenant", "acme", "--wait"]);
    command.args(["--data", "recipient=+49", "--idempotency-key", "k1", "--url", &api.url()]);
    let sent = run(command.env("SENDERZ_API_KEY", "szk_operator_x"));
    assert_eq!(sent.code, Some(1), "one of them failed: {}", sent.stderr);
    let lines: Vec<_> = sent.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "accepted evt_1, 2 deliveries",
            "delivered dlv_1 to wh_1, attempts: 1",
            "failed dlv_2 to wh_2, attempts: 6",
        ]
    );
    let requests = api.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    for part in [
        "POST /v1/tenants/acme/events HTTP/1.1",
        "authorization: Bearer szk_operator_x",
        "idempotency-key: k1",
        "content-type: application/json",
    ] {
        assert!(head.contains(part), "{part:?} is missing in:\n{head}");
    }
    let payload: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(payload["data"]["recipient"], "+49");
    assert!(requests[1].starts_with("GET /v1/events/evt_1 "), "{}", requests[1]);
    assert!(requests[1].contains("senderz-tenant: acme"), "{}", requests[1]);
}

/// In a container the operator's key is a variable of the gateway's own and no file: what is run
/// beside it (`kubectl exec`, `systemctl`) has that variable and should need nothing else.
#[test]
fn the_operators_key_of_the_gateways_own_environment_will_do() {
    for (variables, used) in [
        (vec![("SENDERZ_OPERATOR_KEY", "szk_operator_o")], "szk_operator_o"),
        (vec![("SENDERZ_OPERATOR_KEY", "szk_operator_o"), ("SENDERZ_API_KEY", "k")], "k"),
    ] {
        let api = scripted(&[(200, r#"{"data":[]}"#)]);
        let mut command = gateway(&["tenants", "list", "--url", &api.url()]);
        let listed = run(command.envs(variables));
        assert_eq!(listed.code, Some(0), "{}", listed.stderr);
        let head = &api.requests()[0];
        assert!(head.contains(&format!("authorization: Bearer {used}\r\n")), "{head}");
    }
}

#[test]
fn a_test_of_a_webhook_is_sent_and_its_delivery_awaited() {
    let sent = r#"{"event_id":"evt_1","delivery_id":"dlv_1"}"#;
    let delivery = |status: &str| {
        format!(
            r#"{{"deliveries":[{{"id":"dlv_1","webhook_id":"wh_1","status":"{status}","attempts_made":1}}]}}"#
        )
    };
    for (status, exit) in [("delivered", 0), ("failed", 1)] {
        let (waits, ended) = (delivery("pending"), delivery(status));
        let api = scripted(&[(202, sent), (200, &waits), (200, &ended)]);
        let mut command =
            gateway(&["webhooks", "test", "--tenant", "acme", "--wait", "wh_1", "message.read"]);
        let tested = run(command.args(["--url", &api.url()]).env("SENDERZ_API_KEY", "k"));
        assert_eq!(tested.code, Some(exit), "{}", tested.stderr);
        assert!(tested.stdout.contains("evt_1") && tested.stdout.contains("dlv_1"));
        assert!(tested.stdout.contains(&format!("{status} dlv_1 to wh_1")), "{}", tested.stdout);
        let requests = api.requests();
        assert!(requests[0].starts_with("POST /v1/webhooks/wh_1/test "), "{}", requests[0]);
        assert!(requests[0].ends_with(r#"{"type":"message.read"}"#), "{}", requests[0]);
        assert!(requests[1].starts_with("GET /v1/events/evt_1 "), "{}", requests[1]);
    }
}

#[test]
fn a_payload_goes_out_byte_for_byte() {
    let api = scripted(&[(202, r#"{"id":"evt_1","deliveries":0}"#)]);
    let mut command = gateway(&["send", "--tenant", "acme", "--payload", "-", "--url", &api.url()]);
    let payload = "{ \"type\" : \"message.sent\" , \"ü\":1.0 }\n";
    let sent = run_with_stdin(command.env("SENDERZ_API_KEY", "k"), payload);
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    assert!(api.requests()[0].ends_with(&format!("\r\n\r\n{payload}")));
}

#[test]
fn a_problem_of_the_api_is_told_in_full_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let key = write(&dir.path().join("key"), "szk_tenant_wrong\n");
    let problem = r#"{"title":"Unauthorized","detail":"the key is unknown","code":"unauthorized",
        "errors":[{"pointer":"/url","detail":"must be https"}]}"#;
    let api = scripted(&[(401, problem)]);
    let url = api.url();
    let result = run(&mut gateway(&["tenants", "list", "--url", &url, "--key-file", &key]));
    assert_eq!(result.code, Some(1));
    for part in ["the key is unknown (401, unauthorized)", "/url: must be https", "SENDERZ_API_KEY"]
    {
        assert!(result.stderr.contains(part), "{part:?} is missing in:\n{}", result.stderr);
    }
    assert!(!result.stderr.contains("szk_tenant_wrong"));
    assert!(api.requests()[0].contains("authorization: Bearer szk_tenant_wrong\r\n"));
}

#[test]
fn a_list_is_a_table_and_json_is_what_the_api_said() {
    // What reading and writing again would change: the order, a space, 1.0, an escape, 30 digits.
    let answer = r#"{"data":[{"url":"https://x/","id":"wh_1", "events":["*"],"enabled":true,
        "x":1.0,"y":"\u00fc","z":123456789012345678901234567890}],"next_cursor":"c2"}"#;
    for output in ["text", "json"] {
        let api = scripted(&[(200, answer)]);
        let mut command = gateway(&["webhooks", "list", "--tenant", "acme", "--limit", "1"]);
        command.args(["--url", &api.url(), "--output", output]).env("SENDERZ_API_KEY", "k");
        let result = run(&mut command);
        assert_eq!(result.code, Some(0), "{}", result.stderr);
        if output == "json" {
            assert_eq!(result.stdout, format!("{answer}\n"));
        } else {
            assert!(result.stdout.contains("wh_1  https://x/  *"), "{}", result.stdout);
            assert!(result.stdout.ends_with("more: --cursor c2\n"), "{}", result.stdout);
        }
        assert!(api.requests()[0].starts_with("GET /v1/webhooks?limit=1 "));
    }
}

#[test]
fn a_command_finds_the_gateway_by_its_configuration_and_a_url_wins() {
    let check = |variables: &[(&str, &str)], arguments: &[&str], api: Scripted| {
        let mut command = gateway(&["deliveries", "list", "--tenant", "acme"]);
        command.args(arguments).env("SENDERZ_API_KEY", "k").envs(variables.iter().copied());
        let result = run(&mut command);
        assert_eq!(result.code, Some(0), "{variables:?} {arguments:?}: {}", result.stderr);
        assert!(api.requests()[0].starts_with("GET /v1/deliveries "));
    };
    let api = || scripted(&[(200, r#"{"data":[],"next_cursor":null}"#)]);
    let by_variable = api();
    let listen = by_variable.address.to_string();
    check(&[("SENDERZ_SERVER__LISTEN", &listen)], &[], by_variable);
    let by_flag = api();
    let listen = format!("0.0.0.0:{}", by_flag.address.port());
    check(&[], &["--listen", &listen], by_flag);
    let by_url = api();
    let url = by_url.url();
    check(&[("SENDERZ_URL", &url)], &["--listen", "127.0.0.1:1"], by_url);

    let mut command = gateway(&["deliveries", "list", "--listen", "127.0.0.1:0"]);
    let unknown = run(command.env("SENDERZ_API_KEY", "k"));
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("--url"), "{}", unknown.stderr);
}

#[test]
fn an_unreachable_gateway_is_a_failure_that_says_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let mut command = gateway(&["tenants", "list", "--url", &url]);
    let result = run(command.env("SENDERZ_API_KEY", "k"));
    assert_eq!(result.code, Some(1));
    assert!(result.stderr.contains("is it running?"), "{}", result.stderr);

    let health = run(&mut gateway(&["health", "--ops", &free.to_string()]));
    assert_eq!(health.code, Some(1), "{}", health.stdout);
}

#[test]
fn health_tells_readiness_and_its_reasons() {
    let check = |answer: (u16, &str), code: i32, says: &str| {
        let ops = scripted(&[answer]);
        let set = format!("ops.listen={}", ops.address);
        let result = run(&mut gateway(&["health", "--set", &set]));
        let says = format!("{says} ({})", ops.address);
        assert_eq!((result.code, result.stdout.trim()), (Some(code), &*says), "{}", result.stderr);
        assert!(ops.requests()[0].starts_with("GET /readyz "));
    };
    check((200, r#"{"ready":true}"#), 0, "ready");
    let not_ready = r#"{"ready":false,"reasons":["recovering","store_full"]}"#;
    check((503, not_ready), 1, "not ready: recovering, store_full");
}

#[test]
fn a_delivery_is_shown_with_a_line_for_each_attempt() {
    let api = scripted(&[(
        200,
        r#"{"id":"dlv_1","status":"retrying","last_attempt":{"number":2},"attempts":[
            {"number":1,"at":"2026-01-01T00:00:00.000Z","status":503,"latency_ms":1.5,
             "error":null,"next_attempt_at":"2026-01-01T00:00:05.000Z","phases":{"dns":1}},
            {"number":2,"at":"2026-01-01T00:00:05.000Z","status":null,"latency_ms":10.0,
             "error":{"code":"timeout","detail":"no \u001banswer","cause":"too \u001bslow","hint":"be fast"},
             "next_attempt_at":null},
            {"number":3,"at":"2026-01-01T00:00:09.000Z","status":410,"latency_ms":1.0,
             "error":{"code":"status","detail":"","cause":"gone","hint":"let go"},"next_attempt_at":null},
            {"number":4,"at":"2026-01-01T00:00:10.000Z","status":null,"latency_ms":1.0,
             "error":{"code":"timeout","detail":"","cause":"too \u001bslow","hint":"be fast"},
             "next_attempt_at":null}]}"#,
    )]);
    let mut command = gateway(&["deliveries", "show", "--tenant", "acme", "dlv_1"]);
    let shown = run(command.args(["--url", &api.url()]).env("SENDERZ_API_KEY", "k"));
    let lines: Vec<String> = shown
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "id dlv_1",
            "status retrying",
            "",
            "ATTEMPT AT LATENCY MS NEXT ATTEMPT AT RESULT",
            "1 2026-01-01T00:00:00.000Z 1.5 2026-01-01T00:00:05.000Z 503",
            "2 2026-01-01T00:00:05.000Z 10.0 - timeout no \\u{1b}answer",
            "3 2026-01-01T00:00:09.000Z 1.0 - 410 status",
            "4 2026-01-01T00:00:10.000Z 1.0 - timeout",
            "",
            "attempts 2, 4: too \\u{1b}slow",
            "hint: be fast",
            "",
            "attempt 3: gone",
            "hint: let go",
        ]
    );
    assert!(api.requests()[0].starts_with("GET /v1/deliveries/dlv_1 "));
}

#[test]
fn a_replay_says_with_which_attempt_the_delivery_goes_on() {
    let body = r#"{"id":"dlv_1","status":"pending","attempts_made":6,"last_attempt":{"number":6}}"#;
    let api = scripted(&[(202, body)]);
    let mut command = gateway(&["replay", "dlv_1", "--tenant", "acme", "--url", &api.url()]);
    let shown = run(command.env("SENDERZ_API_KEY", "k"));
    assert_eq!(shown.stdout, "dlv_1 is sent again, with attempt 7\n");
    assert!(api.requests()[0].starts_with("POST /v1/deliveries/dlv_1/replay "));
}

#[test]
fn a_missing_tenant_is_told_in_one_sentence_everywhere() {
    let problem = r#"{"title":"Bad","detail":"say for which tenant","code":"tenant_required"}"#;
    for words in [
        &["webhooks", "list"][..],
        &["webhooks", "create", "https://example.com/"],
        &["deliveries", "show", "dlv_1"],
        &["replay", "dlv_1"],
        &["send", "message.sent"],
    ] {
        let mut command = gateway(words);
        command.env("SENDERZ_API_KEY", "k");
        let result = if words[0] == "send" {
            // The API is not asked: the tenant is part of the path.
            run(command.args(["--url", "http://127.0.0.1:1"]))
        } else {
            let api = scripted(&[(400, problem)]);
            let result = run(command.args(["--url", &api.url()]));
            assert!(!api.requests()[0].contains("senderz-tenant"));
            result
        };
        let sentence = "error: say for which tenant with --tenant; \
                        `senderz-gateway tenants list` shows the tenants' ids\n";
        assert_eq!((result.code, &*result.stderr), (Some(2), sentence), "{words:?}");
    }
}

#[test]
fn a_cancel_is_told_as_the_api_answered_it() {
    for (status, says_more) in [("pending", true), ("canceled", false)] {
        let answer = format!(r#"{{"id":"dlv_1","status":"{status}"}}"#);
        let api = scripted(&[(202, &answer)]);
        let mut command = gateway(&["deliveries", "cancel", "dlv_1", "--url", &api.url()]);
        let result = run(command.env("SENDERZ_API_KEY", "k"));
        assert_eq!(result.stdout, format!("{status} dlv_1\n"));
        assert_eq!(result.stderr.contains("shortly"), says_more, "{}", result.stderr);
        assert!(api.requests()[0].starts_with("POST /v1/deliveries/dlv_1/cancel "));
    }
}

#[test]
fn a_sink_whose_port_is_in_use_exits_69() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let result = run(&mut gateway(&["sink", "--port", &port]));
    assert_eq!(result.code, Some(69), "{}", result.stderr);
    assert!(result.stderr.contains(&format!("cannot listen on 127.0.0.1:{port}")));
}

#[test]
fn wrong_usage_is_2_and_a_reader_that_stops_reading_is_no_error() {
    assert_eq!(run(&mut gateway(&["serv"])).code, Some(2));
    assert_eq!(run(&mut gateway(&["--help"])).code, Some(0));
    for arguments in [&["config"][..], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let result = run(gateway(arguments).stdout(writer));
        assert_eq!(result.code, Some(0), "{arguments:?}: {}", result.stderr);
        assert_eq!(result.stderr, "", "{arguments:?}");
    }
}
