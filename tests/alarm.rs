//! A thread that ends by itself ends the process, with an error and a sentence, and what was
//! acknowledged is delivered after the restart.
//!
//! The threads are those of the real binary. What breaks them is the kernel: strace makes one system
//! call of the threads of one name fail in a way that its caller takes for impossible. (Closing a thread's event
//! queue under it from outside, say with a debugger, shows something else: the standard library
//! aborts a process that closes a descriptor twice, before anything of ours can speak.)

mod support;

use std::{
    collections::HashSet,
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::Connection,
    payload,
    receiver::{Answer, Receiver},
};

/// Events in a producer's batch.
const BATCH: usize = 20;
const LIMIT: Duration = Duration::from_secs(20);

/// A gateway whose log is kept, with a tenant and a webhook.
struct Watched {
    dir: tempfile::TempDir,
    gateway: Gateway,
    receiver: Receiver,
    acknowledged: Arc<Mutex<HashSet<String>>>,
}

impl Watched {
    fn start() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let receiver = Receiver::start(|_| Answer::Status(200));
        let mut command = Gateway::command(&dir.path().join("data"), &[]);
        command.stderr(File::create(dir.path().join("log")).expect("ours"));
        let gateway = Gateway::run(command).expect("it starts");
        gateway.wait_ready();
        gateway.tenant("acme");
        gateway.webhook("acme", &receiver.url());
        Self { dir, gateway, receiver, acknowledged: Arc::default() }
    }

    /// Four producers that send one batch after another until nobody answers: enough at once that
    /// the store is busy.
    fn produce(&self) {
        for producer in 0..4 {
            let (api, acknowledged) = (self.gateway.api, Arc::clone(&self.acknowledged));
            // It ends with the gateway, whoever ends that.
            std::thread::spawn(move || {
                let key = format!("Bearer {OPERATOR_KEY}");
                let headers =
                    [("authorization", key.as_str()), ("content-type", "application/x-ndjson")];
                let mut connection = Connection::open(api).ok()?;
                for n in 0.. {
                    let line = |m| {
                        let payload = payload("message.sent", &format!("msg_{producer}_{n}_{m}"));
                        format!("{{\"tenant\":\"acme\",\"payload\":{payload}}}\n")
                    };
                    let body: String = (0..BATCH).map(line).collect();
                    let path = "/v1/events";
                    let answer =
                        connection.request("POST", path, &headers, body.as_bytes()).ok()?;
                    let answer = answer.json();
                    let ids = answer["ids"].as_array()?.iter().filter_map(|id| id.as_str());
                    acknowledged.lock().ok()?.extend(ids.map(str::to_owned));
                }
                Some(())
            });
        }
    }

    /// It ends with exit code 1, says why, and the next start delivers what was acknowledged.
    fn ends_with(mut self, sentence: &str) {
        let code = eventually("it ends by itself", LIMIT, || self.gateway.ended());
        let log = std::fs::read_to_string(self.dir.path().join("log")).expect("ours");
        assert_eq!(code, 1, "{log}");
        let last = log.lines().last().expect("it said something");
        assert!(last.contains("stopping after a failure; what was acknowledged is safe"), "{log}");
        assert!(last.contains(sentence), "{log}");

        let gateway = Gateway::start(&self.dir.path().join("data"), &[]);
        let acknowledged = self.acknowledged.lock().expect("no panic holds it").clone();
        eventually("what was acknowledged arrives", LIMIT, || {
            let arrived: HashSet<_> = self.receiver.requests().iter().map(id_of).collect();
            acknowledged.is_subset(&arrived).then_some(())
        });
        assert_eq!(gateway.stop(), 0);
    }
}

fn id_of(request: &support::receiver::Request) -> String {
    request.header("webhook-id").to_owned()
}

/// From now on these system calls fail in a process's threads of one name.
struct Broken(Child);

impl Broken {
    fn threads(pid: u32, name: &str, calls: &str, error: &str) -> Self {
        let mut strace = Command::new("strace")
            .args(["-p", &tasks(pid, name).join(","), "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:error={error}"), "-o", "/dev/null"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this test needs the command strace: install the package of that name");
        let mut lines = BufReader::new(strace.stderr.take().expect("piped")).lines();
        let said = lines.next().and_then(Result::ok).unwrap_or_default();
        assert!(
            said.contains("attached"),
            "this test needs the right to trace its own processes (root, or CAP_SYS_PTRACE): {said}"
        );
        std::thread::spawn(move || lines.for_each(drop));
        Self(strace)
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        // It ends with the process that it traces, or here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The numbers of a process's threads. Of those that share one queue of the kernel's events one alone
/// waits for it at a time, and whose turn it is nobody knows.
fn tasks(pid: u32, name: &str) -> Vec<String> {
    let tasks = Path::new("/proc").join(pid.to_string()).join("task");
    let tasks = std::fs::read_dir(tasks).expect("it runs").flatten();
    let named = tasks.map(|task| task.path()).filter(|task| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    let number = |task: std::path::PathBuf| Some(task.file_name()?.to_str()?.to_owned());
    let found: Vec<_> = named.filter_map(number).collect();
    assert!(!found.is_empty(), "there is no thread {name}");
    found
}

/// What a runtime waits with, by its names on the machines we know.
const WAIT: &str = "?epoll_wait,?epoll_pwait";

#[test]
fn a_delivery_thread_that_panics_ends_the_process_with_the_alarm() {
    let watched = Watched::start();
    watched.produce();
    let _broken = Broken::threads(watched.gateway.pid(), "shard-0", WAIT, "EINVAL");
    watched.ends_with("a delivery thread ended by itself");
}

#[test]
fn an_operations_thread_that_panics_ends_the_process_with_the_alarm() {
    let watched = Watched::start();
    let _broken = Broken::threads(watched.gateway.pid(), "ops", WAIT, "EINVAL");
    watched.ends_with("the operations thread ended by itself");
}

#[test]
fn a_thread_of_the_api_that_panics_ends_the_process_with_the_alarm() {
    let watched = Watched::start();
    watched.produce();
    let _broken = Broken::threads(watched.gateway.pid(), "api", WAIT, "EINVAL");
    watched.ends_with("a thread of the API ended by itself");
}

/// A busy writer sleeps for a moment to let a commit grow (the sleep is what is broken here).
#[test]
fn a_store_thread_that_panics_ends_the_process_with_the_alarm() {
    let watched = Watched::start();
    watched.produce();
    let sleep = "?nanosleep,?clock_nanosleep";
    let _broken = Broken::threads(watched.gateway.pid(), "store-write", sleep, "EINVAL");
    watched.ends_with("one of the store's threads panicked");
}

#[test]
fn an_event_that_could_not_be_synced_is_not_acknowledged_and_the_process_ends() {
    let watched = Watched::start();
    let _broken = Broken::threads(watched.gateway.pid(), "store-write", "fdatasync", "EIO");
    watched.produce();
    let acknowledged = Arc::clone(&watched.acknowledged);
    watched.ends_with("the log could not be synced");
    assert_eq!(acknowledged.lock().expect("no panic holds it").len(), 0);
}
