//! What a start must have made durable, in the order in which it asks the kernel for it: strace
//! looks. A power cut is the only other witness, and that is too rare for a test.

mod support;

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use support::{eventually, gateway::Gateway, payload};

/// A gateway whose system calls are written to a file.
fn traced(data_dir: &Path, trace: &Path, more: &[&str]) -> Command {
    let template = Gateway::command(data_dir, &[]);
    let mut command = Command::new("strace");
    // The tracer is a grandchild: the child is the gateway itself.
    command
        .args(["-D", "-f", "-y", "-e", "trace=?open,openat,fsync,fdatasync,/^rename", "-o"])
        .arg(trace)
        .args(more)
        .arg(template.get_program())
        .args(template.get_args())
        .envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null());
    command
}

/// The system calls of a gateway that is expected to give up, and what it said.
fn given_up(data_dir: &Path, more: &[&str]) -> (Vec<String>, String) {
    let trace = tempfile::NamedTempFile::new().expect("a file");
    let output = traced(data_dir, trace.path(), more)
        .output()
        .expect("this test needs the command strace: install the package of that name");
    assert!(!output.status.success(), "it did not give up");
    (calls(trace.path()), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// All of them, once the tracer has written down that the gateway has ended.
fn calls(trace: &Path) -> Vec<String> {
    eventually("the trace is whole", Duration::from_secs(10), || {
        let text = std::fs::read_to_string(trace).expect("ours");
        let calls: Vec<_> = text.lines().map(str::to_owned).collect();
        let ended = calls.last().is_some_and(|last| last.contains("+++ exited"));
        ended.then_some(calls)
    })
}

/// Where a file or directory was first synced.
fn synced(calls: &[String], path: &Path) -> Option<usize> {
    let name = format!("<{}>", path.display());
    calls.iter().position(|call| call.contains("sync(") && call.contains(&name))
}

#[test]
fn the_log_of_a_killed_process_is_durable_before_anything_is_concluded_from_it() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let root = dir.path().canonicalize().expect("it is there");
    let gateway = Gateway::start(&root, &[]);
    gateway.tenant("acme");
    gateway.event("acme", &payload("message.sent", "msg_1"));
    gateway.kill();
    // sled reads this first; what it cannot read ends the start there.
    std::fs::write(root.join("store/conf"), "garbage that is long enough").expect("ours");
    let (calls, said) = given_up(&root, &[]);
    assert!(said.contains("is damaged"), "{said}");
    let opened = calls.iter().position(|call| call.contains("store/conf"));
    let synced = synced(&calls, &root.join("store/db"));
    assert!(synced.is_some_and(|at| Some(at) < opened), "{synced:?} {opened:?}: {calls:#?}");
}

#[test]
fn every_directory_that_had_to_be_made_is_durable_before_there_is_anything_in_it() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let root = dir.path().canonicalize().expect("it is there");
    // The first file that is put in its place ends the start.
    let (calls, said) = given_up(&root.join("a/b/data"), &["-e", "inject=/^rename:error=EIO"]);
    assert!(said.contains("cannot be used: Input/output error"), "{said}");
    let first = calls.iter().position(|call| call.contains("rename"));
    for above in ["", "a", "a/b"] {
        let at = synced(&calls, root.join(above).components().as_path());
        assert!(at.is_some_and(|at| Some(at) < first), "{above:?} {at:?} {first:?}: {calls:#?}");
    }
}

#[test]
fn the_files_that_sled_makes_are_durable_before_the_first_event() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let root = dir.path().canonicalize().expect("it is there").join("data");
    let trace = tempfile::NamedTempFile::new().expect("a file");
    let gateway = Gateway::run(traced(&root, trace.path(), &[])).expect("it starts");
    gateway.wait_ready();
    gateway.tenant("acme");
    assert_eq!(gateway.stop(), 0);
    let calls = calls(trace.path());
    let log = format!("<{}>", root.join("store/db").display());
    let first = calls.iter().position(|call| call.contains("fdatasync(") && call.contains(&log));
    assert!(first.is_some(), "nothing was committed: {calls:#?}");
    for name in ["store/conf", "store/blobs", "store", ""] {
        let at = synced(&calls, root.join(name).components().as_path());
        assert!(at.is_some_and(|at| Some(at) < first), "{name:?} {at:?} {first:?}: {calls:#?}");
    }
}
