//! Whoever started a command may have closed its outputs, or pointed them at a full disk. That
//! changes nothing about the exit code, and nothing panics.

mod support;

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Command, Stdio},
};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// Where nothing can be written: a pipe that nobody reads, and a disk without room.
fn nowhere() -> [Stdio; 2] {
    let (_, writer) = std::io::pipe().expect("a pipe");
    let full = File::options().write(true).open("/dev/full").expect("the kernel's full disk");
    [writer.into(), full.into()]
}

/// The binary over a configuration of the test's own making.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
    command.args(arguments).env("SECRET", SECRET).stdin(Stdio::null());
    command.env("SENDERZ_API_KEY", "szk_operator_x").stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn code(command: &mut Command) -> Option<i32> {
    command.status().expect("the binary runs").code()
}

#[track_caller]
fn check_unread_stderr(expected: i32, mut arguments: impl FnMut() -> Vec<String>) {
    for nowhere in nowhere() {
        let arguments = arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(code(command(&arguments).stderr(nowhere)), Some(expected), "{arguments:?}");
    }
}

/// What is expected where the reader is gone, and on the full disk.
#[track_caller]
fn check_unread_stdout(expected: [i32; 2], mut arguments: impl FnMut() -> Vec<String>) {
    for (nowhere, expected) in nowhere().into_iter().zip(expected) {
        let arguments = arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(code(command(&arguments).stdout(nowhere)), Some(expected), "{arguments:?}");
    }
}

fn words(arguments: &str) -> Vec<String> {
    arguments.split(' ').map(str::to_owned).collect()
}

/// Answers one request after the other, as long as the test lasts; gives the URL.
fn answering(answers: &'static [(u16, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for (status, body) in answers.iter().cycle() {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let _ = stream.read(&mut [0; 4096]);
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n");
            let head = format!("{head}content-length: {length}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn a_mistake_that_nobody_reads_of_has_its_exit_code() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("a temporary file");
    let file = file.to_str().expect("temporary paths are UTF-8");
    check_unread_stderr(78, || words("check --set retry.jitter=7"));
    check_unread_stderr(78, || words(&format!("check --data-dir {file}")));
    check_unread_stderr(78, || words(&format!("serve --data-dir {file}")));
    check_unread_stderr(2, || words("no-such-command"));
    check_unread_stderr(1, || words("verify --secret-env NO_SUCH_VARIABLE x"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    check_unread_stderr(69, || words(&format!("sink --port {port}")));
    let data = dir.path().join("data");
    let data = data.to_str().expect("temporary paths are UTF-8");
    let dev =
        format!("dev --data-dir {data} --listen 127.0.0.1:{port} --set ops.listen=127.0.0.1:0");
    check_unread_stderr(69, || words(&dev));
}

#[test]
fn what_was_done_is_done_whoever_reads_of_it() {
    let url = answering(&[(204, "")]);
    check_unread_stderr(0, || words(&format!("tenants delete acme --url {url}")));
    check_unread_stderr(0, || words(&format!("webhooks delete wh_x --url {url}")));
    let url = answering(&[(201, r#"{"id":"acme","api_key":"szk_tenant_x"}"#)]);
    check_unread_stderr(0, || words(&format!("tenants create acme --url {url}")));
    // A result that was not written although somebody wants it is a failure.
    check_unread_stdout([0, 1], || words(&format!("tenants create acme --url {url}")));
    let url = answering(&[(202, r#"{"id":"dlv_x","status":"pending"}"#)]);
    check_unread_stderr(0, || words(&format!("deliveries cancel dlv_x --url {url}")));
}

#[test]
fn an_answer_that_is_the_exit_code_needs_no_reader() {
    check_unread_stdout([1, 1], || words("verify --secret-env SECRET 00"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let data = data.to_str().expect("temporary paths are UTF-8");
    check_unread_stdout([0, 0], || words(&format!("check --data-dir {data}")));
    let ops = answering(&[(503, r#"{"reasons":["recovery"]}"#)]).replace("http://", "");
    check_unread_stdout([1, 1], || words(&format!("health --ops {ops}")));
    let url = answering(&[
        (202, r#"{"id":"evt_x","deliveries":1}"#),
        (200, r#"{"deliveries":[{"id":"dlv_x","status":"failed"}]}"#),
    ]);
    let send = format!("send message.sent --tenant acme --wait --url {url}");
    for nowhere in nowhere().into_iter().take(1) {
        let send = words(&send);
        let send: Vec<&str> = send.iter().map(String::as_str).collect();
        assert_eq!(code(command(&send).stdout(nowhere)), Some(1), "its delivery failed");
    }
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error_and_a_full_disk_is() {
    check_unread_stdout([0, 1], || words("config"));
    check_unread_stdout([0, 1], || words("completions bash"));
    let url = answering(&[(200, r#"{"data":[]}"#)]);
    check_unread_stdout([0, 1], || words(&format!("tenants list --url {url}")));
}
