//! `verify` as a user runs it: what is valid, and which mistake it was where something is not.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// HMACs made with OpenSSL, not with our code: the key is the whole string for the first and the
/// 32 bytes it encodes for the second.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const BODY: &str = "{\"a\":1}";
const HEX: &str = "a384952440ca02b838b1388d423fed038cb78accc643a8f466d6747389de995a";
const STANDARD: &str = "v1,HbbhAeKza9VWRhnGUN10FC2XT3JPeeAS01O/bo/Xdig=";
const STANDARD_TIMESTAMP: &str = "1795407600";

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Over a body on stdin.
fn run_with_stdin(command: &mut Command, body: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A command that fails before it reads closes the pipe.
    let _ = stdin.write_all(body.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the binary ends");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn gateway(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
    command.args(arguments);
    command
}

#[test]
fn verify_agrees_with_openssl() {
    let check = |arguments: &[&str], body: &str, code: i32, says: &str| {
        let mut command = gateway(&["verify", "--secret-env", "HOOK_SECRET"]);
        let result = run_with_stdin(command.args(arguments).env("HOOK_SECRET", SECRET), body);
        assert_eq!(result.code, Some(code), "{arguments:?}: {}{}", result.stdout, result.stderr);
        assert!(result.stdout.starts_with(says), "{}", result.stdout);
        assert!(!format!("{}{}", result.stdout, result.stderr).contains(SECRET));
    };
    check(&[HEX], BODY, 0, "valid");
    check(&[HEX], "{\"a\":2}", 1, "not valid");
    check(&[&HEX.replacen('a', "b", 1)], BODY, 1, "not valid");
    check(&[&format!("{},{HEX}", "0".repeat(64))], BODY, 0, "valid");
    let standard = ["--id", "evt_1", "--timestamp", STANDARD_TIMESTAMP, STANDARD];
    check(&standard, BODY, 0, "valid");
    check(&["--id", "evt_2", "--timestamp", STANDARD_TIMESTAMP, STANDARD], BODY, 1, "not valid");

    let unset = run_with_stdin(&mut gateway(&["verify", "--secret-env", "NOT_SET", HEX]), BODY);
    assert_eq!(unset.code, Some(1));
    assert!(unset.stderr.contains("NOT_SET is not set"), "{}", unset.stderr);
}

#[test]
fn verify_says_which_mistake_it_was() {
    let check_why = |secret: &str, arguments: &[&str], body: &str, why: &str| {
        let mut command = gateway(&["verify", "--secret-env", "HOOK_SECRET"]);
        let result = run_with_stdin(command.args(arguments).env("HOOK_SECRET", secret), body);
        assert_eq!(result.code, Some(1), "{why}: {}", result.stderr);
        assert!(result.stdout.contains(why), "{why} is missing in: {}", result.stdout);
        assert!(!format!("{}{}", result.stdout, result.stderr).contains(SECRET));
    };
    check_why(SECRET, &[HEX], "{\"a\": 1}", "why: the body was parsed and written again");
    check_why(SECRET, &[HEX], "{\"a\":1}\n", "why: the body was read with a line end");
    check_why(&format!("\"{SECRET}\""), &[HEX], BODY, "quotation marks around the secret");
    check_why(SECRET, &[STANDARD], BODY, "why: this is base64");
    check_why(SECRET, &[HEX], "{\"b\":1}", "why: no usual mistake explains it");
    let old = ["--tolerance", "5m", "--id", "evt_1", "--timestamp", STANDARD_TIMESTAMP, STANDARD];
    check_why(SECRET, &old, BODY, "5m are tolerated");
    let mut command = gateway(&["verify", "--secret-env", "NEW", "--secret-env", "OLD", HEX]);
    let other = "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY=";
    let older = run_with_stdin(command.env("NEW", other).env("OLD", SECRET), BODY);
    assert_eq!((older.code, older.stdout.as_str()), (Some(0), "valid with OLD\n"));
}
