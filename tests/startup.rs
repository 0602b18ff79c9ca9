//! How the real binary starts, refuses to start, reloads and stops.

mod support;

use std::{
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::Connection,
    now, payload,
    receiver::{Answer, Receiver},
};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// Starts a gateway that is expected to give up at once.
fn refused(data_dir: &Path, env: &[(&str, &str)]) -> (i32, String) {
    said(Gateway::command(data_dir, env).output().expect("the binary was built with the tests"))
}

fn said(output: Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

#[test]
fn a_data_directory_in_use_is_refused_with_a_sentence() {
    let dir = directory();
    let gateway = Gateway::start(dir.path(), &[]);
    let (code, text) = refused(dir.path(), &[]);
    assert_eq!(code, 69, "{text}");
    assert!(text.contains("in use by another process"), "{text}");
    assert!(text.contains("set another data_dir"), "{text}");
    // Killed, it holds the lock no longer.
    gateway.kill();
    assert_eq!(Gateway::start(dir.path(), &[]).stop(), 0);
}

/// Runs `serve` and `check` as a user who has no rights by himself, on what `prepare` has made.
fn told_without_rights(prepare: impl Fn(&Path)) -> [(i32, String); 2] {
    // Where nobody may look, too: root may write anywhere, so the gateway runs as another user.
    let scratch = tempfile::tempdir().expect("a directory");
    allow(scratch.path(), 0o755);
    let binary = scratch.path().join("gateway");
    std::fs::copy(env!("CARGO_BIN_EXE_senderz-gateway"), &binary).expect("room for a copy");
    let data_dir = scratch.path().join("data");
    prepare(&data_dir);
    let template = Gateway::command(&data_dir, &[]);
    ["serve", "check"].map(|word| {
        let mut command = std::process::Command::new(&binary);
        command.arg(word).stdin(Stdio::null());
        for (name, value) in template.get_envs() {
            command.env(name, value.expect("only set, never removed"));
        }
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        said(command.output().expect("the copy runs"))
    })
}

const NOBODY: u32 = 65534;

#[track_caller]
fn allow(path: &Path, mode: u32) {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).expect("ours");
}

#[test]
fn a_read_only_data_directory_is_refused_with_a_sentence() {
    let sentence = "cannot be used: Permission denied (os error 13); check that";
    let read_only = told_without_rights(|data_dir| {
        std::fs::create_dir(data_dir).expect("ours");
        allow(data_dir, 0o555);
    });
    agree(&read_only, 78, sentence);
    // It would have to be made where nothing may be made.
    let missing = told_without_rights(|data_dir| {
        allow(data_dir.parent().expect("it has one"), 0o555);
    });
    agree(&missing, 78, sentence);
}

/// A backup that was put back by another user: no loss, and nothing to accept.
#[test]
fn a_file_of_the_store_that_may_not_be_opened_is_refused_with_a_sentence() {
    for (name, sentence) in [
        ("store/db", "cannot be used: Permission denied (os error 13); check that"),
        ("mark", "cannot be used: its file `mark` cannot be opened: Permission denied"),
        ("loss", "cannot be used: its file `loss` cannot be opened: Permission denied"),
    ] {
        let told = told_without_rights(|data_dir| {
            assert_eq!(Gateway::start(data_dir, &[]).stop(), 0);
            for path in ["", "lock", "format", "mark", "store", "store/db", "store/conf"] {
                allow(&data_dir.join(path), 0o777);
            }
            if name == "loss" {
                std::fs::write(data_dir.join(name), "something").expect("ours");
            }
            allow(&data_dir.join(name), 0);
        });
        agree(&told, 78, sentence);
    }
}

#[test]
fn check_says_of_a_data_directory_what_serve_says() {
    let dir = directory();
    let data_dir = dir.path().join("data");
    let gateway = Gateway::start(&data_dir, &[]);
    agree(&told(&data_dir), 69, "is in use by another process");
    assert_eq!(gateway.stop(), 0);

    assert_eq!(say("check", &data_dir), (0, String::new()), "a used one that is free again");
    assert_eq!(Gateway::start(&data_dir, &[]).stop(), 0, "check held nothing");

    std::fs::write(data_dir.join("format"), "999\n").expect("ours");
    agree(&told(&data_dir), 78, "written by a newer version (format 999, this one writes 4)");
    std::fs::write(data_dir.join("format"), "one\n").expect("ours");
    agree(&told(&data_dir), 1, "its file `format` holds no version");
    std::fs::remove_file(data_dir.join("format")).expect("ours");
    agree(&told(&data_dir), 1, "its file `format` cannot be read");

    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("ours");
    agree(&told(&file), 78, "cannot be used: Not a directory (os error 20)");
    agree(&told(&file.join("data")), 78, "cannot be used: Not a directory (os error 20)");
}

#[test]
fn check_says_of_a_data_directory_that_cannot_be_made_what_serve_says() {
    let dir = directory();
    let check = |data_dir: &Path, sentence: &str| {
        let first = say("check", data_dir);
        agree(&[say("serve", data_dir), first], 78, &format!("cannot be used: {sentence}"));
    };
    // Where the kernel shows its state there is no room for anybody, root included.
    for missing in ["/proc/x/y", "/proc"] {
        check(Path::new(missing), "No such file or directory (os error 2)");
    }
    for show_only in ["/sys/x/y", "/sys", "/dev/pts/x"] {
        check(Path::new(show_only), "");
    }
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).expect("ours");
    check(&link, "Not a directory (os error 20)");
    check(&link.join("data"), "File exists (os error 17)");
    let long = "x".repeat(300);
    check(&dir.path().join(&long), "File name too long (os error 36)");
    check(&dir.path().join("a").join(&long), "File name too long (os error 36)");

    let made = dir.path().join("b/c/d");
    assert_eq!(say("check", &made), (0, String::new()));
    assert!(!dir.path().join("b").exists(), "check makes nothing");
}

#[test]
fn check_says_of_the_operators_key_what_serve_says() {
    let dir = directory();
    let data_dir = dir.path().join("data");
    let short = [("SENDERZ_OPERATOR_KEY", "szk_operator_short")];
    let sentence = "SENDERZ_OPERATOR_KEY must start with `szk_operator_` and have 32 to 256";
    agree(&told_with(&data_dir, &short), 78, sentence);
    assert!(!data_dir.exists(), "it is judged before anything is made");

    // Without one in the environment it is the file's.
    let none = [("SENDERZ_OPERATOR_KEY", "")];
    let gateway = Gateway::start(&data_dir, &[]);
    assert_eq!(gateway.stop(), 0);
    let file = data_dir.join("operator.key");
    let write = |content: &str, mode| {
        std::fs::write(&file, content).expect("ours");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("ours");
    };
    write("nonsense\n", 0o600);
    agree(&told_with(&data_dir, &none), 78, "does not hold an operator key; restore it");
    write("szk_operator_0123456789abcdefghijkl\n", 0o644);
    agree(&told_with(&data_dir, &none), 78, "can be read by other users; run `chmod 600` on it");
    write("szk_operator_0123456789abcdefghijkl\n", 0o600);
    assert_eq!(say_with("check", &data_dir, &none), (0, String::new()));
}

#[test]
fn check_says_of_certificates_what_serve_says() {
    let dir = directory();
    let file = dir.path().join("not.pem");
    std::fs::write(&file, "garbage\n").expect("ours");
    let file = file.to_str().expect("UTF-8");
    let data_dir = dir.path().join("data");
    let own = [("SENDERZ_SERVER__TLS_CERTIFICATE", file), ("SENDERZ_SERVER__TLS_KEY", file)];
    let (code, text) = say_with("serve", &data_dir, &own);
    assert_eq!(code, 78, "{text}");
    let (code, checked) = say_with("check", &data_dir, &own);
    assert_eq!(code, 78, "{checked}");
    let sentence = format!("cannot read the certificate chain in {file}: no certificate in it");
    assert!(text.contains(&sentence) && checked.contains(&sentence), "{text}{checked}");
    assert!(checked.contains(&format!("cannot read the private key in {file}")), "{checked}");

    let trusted = [("SENDERZ_TLS__CA_FILE", file)];
    let sentence = format!("cannot use the certificates in {file}: it has no certificate");
    agree(&told_with(&data_dir, &trusted), 78, &sentence);
}

#[test]
fn check_says_of_a_sockets_place_what_serve_says() {
    let dir = directory();
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("ours");
    let place = |path: &Path| format!("unix:{}", path.display());
    let check = |listen: String, sentence: &str| {
        let listen = [("SENDERZ_SERVER__LISTEN", listen.as_str())];
        agree(&told_with(&dir.path().join("data"), &listen), 69, sentence);
    };
    check(place(&file), "exists and is not a socket; remove it or set another server.listen");
    check(place(&dir.path().join("a/b")), "No such file or directory (os error 2)");
    check(place(&file.join("b")), "Not a directory (os error 20)");
}

#[test]
fn a_damaged_database_is_refused_instead_of_opened_as_an_empty_one() {
    let dir = directory();
    let (data_dir, db) = (dir.path().join("data"), dir.path().join("data/store/db"));
    let receiver = Receiver::start(|_| Answer::Status(500));
    let gateway = Gateway::start(&data_dir, &[]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    for n in 0..5 {
        gateway.event("acme", &payload("message.sent", &format!("msg_{n}")));
    }
    assert_eq!(gateway.stop(), 0);
    let whole = std::fs::read(&db).expect("ours");

    let mut damaged = whole.clone();
    damaged[..4096].fill(0x5a);
    std::fs::write(&db, damaged).expect("ours");
    // The first start finds it, sled has then cut its file off, and the second one says the same.
    let (code, first) = say("serve", &data_dir);
    assert_eq!(code, 1, "{first}");
    assert!(first.contains("its log of events ends at block 0 but had reached"), "{first}");
    agree(&told(&data_dir), 1, "make an empty file `accept-loss` in it");

    // The same without a database, and with one that was emptied.
    std::fs::remove_file(data_dir.join("loss")).expect("ours");
    std::fs::write(&db, "").expect("ours");
    agree(&told(&data_dir), 1, "its file `store/db` is missing or empty");
    std::fs::remove_dir_all(data_dir.join("store")).expect("ours");
    agree(&told(&data_dir), 1, "its file `store/db` is missing or empty");

    std::fs::write(data_dir.join("accept-loss"), "").expect("ours");
    assert_eq!(say("check", &data_dir), (0, String::new()), "the operator's word");
    let gateway = Gateway::start(&data_dir, &[]);
    gateway.tenant("acme");
    assert_eq!(gateway.stop(), 0);
    assert_eq!(Gateway::start(&data_dir, &[]).stop(), 0, "the decision lasts");
}

fn say(word: &str, data_dir: &Path) -> (i32, String) {
    say_with(word, data_dir, &[])
}

/// Runs a subcommand that is expected to end by itself.
fn say_with(word: &str, data_dir: &Path, env: &[(&str, &str)]) -> (i32, String) {
    let template = Gateway::command(data_dir, env);
    let mut command = std::process::Command::new(template.get_program());
    command.arg(word).stdin(Stdio::null());
    command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    said(command.output().expect("the binary was built with the tests"))
}

fn told(data_dir: &Path) -> [(i32, String); 2] {
    told_with(data_dir, &[])
}

fn told_with(data_dir: &Path, env: &[(&str, &str)]) -> [(i32, String); 2] {
    ["serve", "check"].map(|word| say_with(word, data_dir, env))
}

/// Both refused, with the same code and the same sentence.
#[track_caller]
fn agree(told: &[(i32, String); 2], code: i32, sentence: &str) {
    for (exit, text) in told {
        assert!(text.contains(sentence), "{sentence:?} in: {text}");
        assert_eq!(*exit, code, "{text}");
    }
    let whole = |text: &str| {
        let start = |at: &str| Some(text.rfind(at)? + at.len());
        let at = start("the gateway did not start error=").or_else(|| start("error: "));
        text[at.expect("the sentence")..].trim_end().to_owned()
    };
    assert_eq!(whole(&told[0].1), whole(&told[1].1));
}

#[test]
fn a_taken_port_is_refused_with_a_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    for variable in ["SENDERZ_SERVER__LISTEN", "SENDERZ_OPS__LISTEN"] {
        let dir = directory();
        let (code, text) = refused(dir.path(), &[(variable, &address)]);
        assert_eq!(code, 69, "{text}");
        assert!(text.contains(&address), "{text}");
    }
}

#[test]
fn three_mistakes_in_the_configuration_are_reported_together() {
    let dir = directory();
    let file = dir.path().join("config.toml");
    let text =
        "[delivery]\ntimeout = \"soon\"\n[retry]\nshedule = [\"1s\"]\n[pool]\nmax_age = \"0s\"\n";
    std::fs::write(&file, text).expect("ours");
    let file = file.to_str().expect("UTF-8");
    let (code, text) = refused(dir.path(), &[("SENDERZ_CONFIG", file)]);
    assert_eq!(code, 78, "{text}");
    for expected in ["delivery.timeout", "retry.shedule", "schedule", "pool.max_age"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn a_reload_takes_effect_or_changes_nothing() {
    let dir = directory();
    let file = dir.path().join("config.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("ours");
    write("[retry]\nschedule = [\"60s\"]\n");
    let receiver = Receiver::start(|_| Answer::Status(500));
    let config = file.to_str().expect("UTF-8");
    let gateway = Gateway::start(&dir.path().join("data"), &[("SENDERZ_CONFIG", config)]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    let attempts =
        |id: &str| receiver.requests().iter().filter(|r| r.header("webhook-id") == id).count();

    // A file with a mistake, and one with a key that needs a restart, change nothing.
    for bad in
        ["[retry]\nschedule = \"often\"\n", "[retry]\nschedule = [\"1s\"]\n[limits]\npage = 7\n"]
    {
        write(bad);
        gateway.signal("-HUP");
        let probe = gateway.event("acme", &payload("message.sent", "msg_bad"));
        eventually("its first attempt", Duration::from_secs(5), || {
            (attempts(&probe) == 1).then_some(())
        });
        // The old schedule holds: no second attempt in twice the time of the refused one.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(attempts(&probe), 1, "after {bad}");
    }

    write("[retry]\nschedule = [\"300ms\"]\n");
    gateway.signal("-HUP");
    eventually("the new schedule holds", Duration::from_secs(10), || {
        let probe = gateway.event("acme", &payload("message.sent", "msg_good"));
        let first = now();
        while first.elapsed() < Duration::from_millis(900) {
            if attempts(&probe) == 2 {
                return Some(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    });
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn a_second_signal_forces_the_stop_and_nothing_is_lost() {
    let dir = directory();
    let receiver = Receiver::start(|_| Answer::Hang);
    let mut gateway = Gateway::start(dir.path(), &[]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    let event = gateway.event("acme", &payload("message.sent", "msg_1"));
    eventually("the attempt is under way", Duration::from_secs(5), || {
        (receiver.count() == 1).then_some(())
    });
    gateway.signal("-TERM");
    // Longer than signals that count as one, shorter than the attempt.
    std::thread::sleep(Duration::from_millis(500));
    gateway.signal("-TERM");
    let forced = now();
    assert_eq!(gateway.wait(), 3);
    assert!(forced.elapsed() < Duration::from_secs(3), "it waited for the attempt");

    let gateway = Gateway::start(dir.path(), &[]);
    let again = eventually("the attempt is made again", Duration::from_secs(5), || {
        receiver.requests().into_iter().nth(1)
    });
    assert_eq!(again.header("webhook-id"), event);
    gateway.kill();
}

#[test]
fn a_damaged_data_directory_is_refused_with_what_to_do_and_no_backtrace() {
    let dir = directory();
    assert_eq!(Gateway::start(dir.path(), &[]).stop(), 0);
    std::fs::write(dir.path().join("store/conf"), "garbage that is long enough").expect("ours");
    let (code, text) = refused(dir.path(), &[("RUST_BACKTRACE", "1")]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("is damaged: its files are not as they were written; restore it"),
        "{text}"
    );
    for noise in ["backtrace", "panicked"] {
        assert!(!text.contains(noise), "{noise} in {text}");
    }
}

#[test]
fn a_log_that_cannot_be_read_ends_the_start_with_an_error() {
    let dir = directory();
    let receiver = Receiver::start(|_| Answer::Status(500));
    let gateway = Gateway::start(dir.path(), &[]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    for n in 0..600 {
        gateway.event("acme", &payload("message.sent", &format!("msg_{n}_{:0>200}", n)));
    }
    gateway.kill();
    // Zeroes in the middle of sled's file: whatever it makes of them, it must not hang.
    let file = dir.path().join("store/db");
    let mut bytes = std::fs::read(&file).expect("sled keeps its file here");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0);
    std::fs::write(&file, bytes).expect("ours");
    let mut child = Gateway::command(dir.path(), &[])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let started = now();
    let ended = loop {
        if let Some(status) = child.try_wait().expect("ours") {
            break Some(status);
        }
        if started.elapsed() > Duration::from_secs(3) {
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    match ended {
        Some(status) => assert!(!status.success(), "it must not say that all is well"),
        // It could read around the damage: then it stops when asked to.
        None => {
            let pid = child.id().to_string();
            let told = std::process::Command::new("kill").args(["-TERM", &pid]).status();
            assert!(told.is_ok_and(|s| s.success()));
            let stopped =
                eventually("it stops", Duration::from_secs(20), || child.try_wait().expect("ours"));
            assert!(stopped.success());
        }
    }
}

#[test]
fn a_post_that_is_repeated_after_a_kill_gets_its_first_answer_secrets_included() {
    let dir = directory();
    let body = br#"{"id":"acme","name":"Acme"}"#;
    let ask = |gateway: &Gateway| {
        let key = format!("Bearer {OPERATOR_KEY}");
        let headers = [
            ("authorization", key.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", "first-tenant"),
        ];
        let mut connection = Connection::open(gateway.api).expect("it listens");
        connection.request("POST", "/v1/tenants", &headers, body).expect("it answers")
    };
    let gateway = Gateway::start(dir.path(), &[]);
    let first = ask(&gateway);
    assert_eq!(first.status, 201);
    gateway.kill();
    let gateway = Gateway::start(dir.path(), &[]);
    let again = ask(&gateway);
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!(again.json(), first.json());
    assert_eq!(gateway.stop(), 0);
    // The key is shown again, and yet nobody can read it in the store.
    let api_key = first.json()["api_key"].as_str().expect("shown").to_owned();
    for file in std::fs::read_dir(dir.path().join("store")).expect("it is there") {
        let path = file.expect("it can be listed").path();
        if path.is_file() {
            let bytes = std::fs::read(&path).expect("it can be read");
            let is_in = bytes.windows(api_key.len()).any(|part| part == api_key.as_bytes());
            assert!(!is_in, "{}", path.display());
        }
    }
}
