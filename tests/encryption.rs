//! The encryption key of the real binary: made, missing, wrong, replaced, and a start that is
//! killed while it replaces it.

mod support;

use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Stdio, time::Duration};

use serde_json::{Value, json};
use support::gateway::Gateway;

const OLD: &str = "MTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3BxcnN0dXY=";
const NEW: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn given(keys: &str) -> [(&str, &str); 1] {
    [("SENDERZ_ENCRYPTION_KEY", keys)]
}

/// `serve` and `check` both refuse with 78 and this sentence.
#[track_caller]
fn refused(data_dir: &Path, env: &[(&str, &str)], sentence: &str) {
    for word in ["serve", "check"] {
        let template = Gateway::command(data_dir, env);
        let mut command = std::process::Command::new(template.get_program());
        command.arg(word).stdin(Stdio::null());
        command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.output().expect("the binary was built with the tests");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(sentence), "{word}: {sentence:?} in: {text}");
        assert_eq!(output.status.code(), Some(78), "{word}: {text}");
    }
}

/// All that a tenant is shown of its secrets and webhooks.
fn shown(gateway: &Gateway) -> [Value; 2] {
    ["/v1/signing-secret", "/v1/webhooks?limit=100"].map(|path| gateway.get(path, "acme"))
}

#[test]
fn a_key_is_made_once_and_never_again_where_it_is_missing() {
    let dir = directory();
    let data_dir = dir.path().join("data");
    let gateway = Gateway::start(&data_dir, &[]);
    gateway.tenant("acme");
    let before = shown(&gateway);
    assert_eq!(gateway.stop(), 0);
    let file = data_dir.join("encryption.key");
    let mode = std::fs::metadata(&file).expect("it was made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let aside = dir.path().join("aside");
    std::fs::rename(&file, &aside).expect("ours");
    let id = std::fs::read_to_string(data_dir.join("encryption.ids")).expect("it was written");
    refused(&data_dir, &[], &format!("sealed with the encryption key {}", id.trim()));
    assert!(!file.exists(), "no new one is made");
    refused(&data_dir, &given(NEW), "which SENDERZ_ENCRYPTION_KEY does not hold");
    refused(&data_dir, &given("short"), "SENDERZ_ENCRYPTION_KEY must hold 1 to 16");

    // Even where nobody remembers which keys are needed, the rows do.
    std::fs::remove_file(data_dir.join("encryption.ids")).expect("ours");
    let output = Gateway::command(&data_dir, &given(NEW)).output().expect("it runs");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(!data_dir.join("encryption.ids").exists(), "a mistaken key is not asked for later");

    // Kept elsewhere from now on.
    let path = [("SENDERZ_SECURITY__ENCRYPTION_KEY_FILE", aside.to_str().expect("UTF-8"))];
    let gateway = Gateway::start(&data_dir, &path);
    assert_eq!(shown(&gateway), before);
    assert_eq!(gateway.stop(), 0);
    let both = [path[0], given(NEW)[0]];
    refused(&data_dir, &both, "are both set; set one");
}

#[test]
fn a_key_is_replaced_by_starts_that_are_killed_meanwhile() {
    let dir = directory();
    let gateway = Gateway::start(dir.path(), &given(OLD));
    gateway.tenant("acme");
    for number in 0..60 {
        let url = format!("https://hooks.example.com/{number}");
        let headers = json!({"x-token": format!("token {number}")});
        let body = json!({"url": url, "events": ["*"], "headers": headers});
        gateway.post("/v1/webhooks", Some("acme"), &body);
    }
    let before = shown(&gateway);
    assert_eq!(gateway.stop(), 0);

    let both = format!("{NEW},{OLD}");
    for after in (0..200).step_by(20) {
        let mut child = Gateway::command(dir.path(), &given(&both))
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary was built with the tests");
        std::thread::sleep(Duration::from_millis(after));
        child.kill().expect("it runs, or has not been waited for");
        child.wait().expect("it was killed");
    }
    let gateway = Gateway::start(dir.path(), &given(&both));
    assert_eq!(shown(&gateway), before);
    assert_eq!(gateway.stop(), 0);
    let gateway = Gateway::start(dir.path(), &given(NEW));
    assert_eq!(shown(&gateway), before, "the old key is needed no longer");
    assert_eq!(gateway.stop(), 0);
    refused(dir.path(), &given(OLD), "sealed with the encryption key");
}
