//! A piece of the kernel for one test: file systems and a network that nobody else sees.
//!
//! The test runs itself again as a process inside new namespaces. What it mounts, fills and sets
//! there is gone with that process, however it ends.

use std::process::Command;

/// Says to the second run that it is the one inside. No name of the gateway's own.
const INSIDE: &str = "TEST_RUNS_INSIDE";

/// Whether this run is the one inside. Where it is not, the test named `test` has run inside and
/// passed when this returns, and there is nothing left to do. `kinds` are options of `unshare`.
#[expect(clippy::disallowed_methods, reason = "a test's own settings")]
pub fn is_inside(test: &str, kinds: &[&str]) -> bool {
    if std::env::var(INSIDE).is_ok() {
        return true;
    }
    let this = std::env::current_exe().expect("a test has a file");
    let output = Command::new("unshare")
        .args(kinds)
        .arg("--")
        .arg(this)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("this test needs the command unshare: install util-linux");
    let (said, erred) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        !erred.starts_with("unshare:"),
        "this test needs a namespace of its own, which only root may make (or CAP_SYS_ADMIN): {erred}"
    );
    assert!(output.status.success(), "inside the namespace:\n{said}\n{erred}");
    assert!(said.contains("1 passed"), "{test} names no test:\n{said}");
    print!("{said}");
    false
}

/// Runs a command that the test cannot do without.
pub fn must(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("this test needs the command {program}: {error}"));
    let erred = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {erred}", arguments.join(" "));
}
