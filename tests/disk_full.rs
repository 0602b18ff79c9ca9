//! A disk that really is full, under the real binary: new events are refused, old ones go on.

mod support;

use std::{
    collections::HashSet,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use support::{
    disk, eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::{Connection, Response},
    namespace::{is_inside, must},
    payload,
    receiver::{Answer, Receiver},
};

/// A file system of a size, in a mount namespace that ends with the test.
struct Disk {
    // Removed once the drop has unmounted what is on it.
    directory: tempfile::TempDir,
}

impl Disk {
    fn new(size: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_str().expect("UTF-8");
        must("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "none", path]);
        Self { directory }
    }

    fn resize(&self, size: &str) {
        let path = self.directory.path().to_str().expect("UTF-8");
        must("mount", &["-o", &format!("remount,size={size}"), path]);
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.directory.path()).expect("mounted");
        stat.f_bavail * stat.f_frsize
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Writes a file until there is not a byte left.
    fn fill(&self) -> PathBuf {
        let path = self.directory.path().join("filler");
        let mut file = File::create(&path).expect("room for a name");
        while file.write_all(&[1; 4096]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let path = self.directory.path().to_str().expect("UTF-8");
        must("umount", &["--lazy", path]);
    }
}

/// A receiver that answers what it is told to, and knows which messages it took with a 200.
struct Customer {
    receiver: Receiver,
    answer: Arc<AtomicU16>,
}

impl Customer {
    fn refusing() -> Self {
        let answer = Arc::new(AtomicU16::new(503));
        let says = Arc::clone(&answer);
        let receiver = Receiver::start(move |_| Answer::Status(says.load(Ordering::SeqCst)));
        Self { receiver, answer }
    }

    fn accept(&self) {
        self.answer.store(200, Ordering::SeqCst);
    }

    /// The events that were sent to it, by id.
    fn events(&self) -> HashSet<String> {
        self.receiver.requests().iter().map(|r| r.header("webhook-id").to_owned()).collect()
    }
}

/// About 40 KiB, so that a small disk takes hundreds of them.
fn large(n: usize) -> String {
    let filler = "x".repeat(40 * 1024);
    payload("message.inbound", &format!("msg_{n}"))
        .replace("\"channel\"", &format!("\"text\":\"{filler}\",\"channel\""))
}

fn send(api: std::net::SocketAddr, body: &str) -> std::io::Result<Response> {
    let key = format!("Bearer {OPERATOR_KEY}");
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    Connection::open(api)?.request("POST", "/v1/tenants/acme/events", &headers, body.as_bytes())
}

fn id(accepted: &Response) -> String {
    accepted.json()["id"].as_str().expect("an id").to_owned()
}

fn readiness(gateway: &Gateway) -> String {
    let answer =
        Connection::open(gateway.ops).and_then(|mut c| c.request("GET", "/readyz", &[], b""));
    String::from_utf8(answer.expect("it answers").body).expect("text")
}

/// Attempts go on for longer than the test.
const PATIENT: (&str, &str) =
    ("SENDERZ_RETRY__SCHEDULE", "2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s");
/// `store.disk_headroom` of the first test.
const HEADROOM: u64 = 16 << 20;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn on_a_full_disk_new_events_are_refused_and_old_ones_delivered_until_there_is_room() {
    let name = "on_a_full_disk_new_events_are_refused_and_old_ones_delivered_until_there_is_room";
    if !is_inside(name, &["--mount"]) {
        return;
    }
    let disk = Disk::new("48m");
    let settings = [PATIENT, ("SENDERZ_STORE__DISK_HEADROOM", "16MiB")];
    let customer = Customer::refusing();
    let gateway = Gateway::start(&disk.data(), &settings);
    gateway.tenant("acme");
    gateway.webhook("acme", &customer.receiver.url());

    let mut accepted = HashSet::new();
    let refused = loop {
        let answer = send(gateway.api, &large(accepted.len())).expect("it answers");
        if answer.status != 202 {
            break answer;
        }
        accepted.insert(id(&answer));
        assert!(accepted.len() < 48 * 1024 / 40, "more was accepted than the disk holds");
    };
    assert_eq!((refused.status, refused.json()["code"].as_str()), (507, Some("storage_full")));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(accepted.len() > 100, "only {} events filled the disk", accepted.len());
    assert!(disk.free() > HEADROOM / 2, "the headroom was eaten up: {} are left", disk.free());
    eventually("readiness says so", LIMIT, || {
        (readiness(&gateway) == r#"{"ready":false,"reasons":["store_full"]}"#).then_some(())
    });

    // A start finds the disk as full as it was, with all of its backlog open.
    gateway.kill();
    let gateway = Gateway::spawn(&disk.data(), &settings).expect("it starts on a full disk");
    assert_eq!(send(gateway.api, &large(0)).expect("it answers").status, 507);
    customer.accept();
    eventually("what was accepted is delivered and acknowledged", LIMIT, || {
        (gateway.waiting("acme") == 0).then_some(())
    });
    assert_eq!(customer.events(), accepted);
    eventually("each is counted once", LIMIT, || {
        let ended = gateway.metric("senderz_deliveries_ended_total{outcome=\"delivered\"}");
        (ended as usize == accepted.len()).then_some(())
    });
    assert_eq!(send(gateway.api, &large(0)).expect("it answers").status, 507, "nothing was freed");

    disk.resize("96m");
    let after = eventually("there is room again", LIMIT, || {
        send(gateway.api, &large(0)).ok().filter(|answer| answer.status == 202)
    });
    accepted.insert(id(&after));
    gateway.wait_ready();
    eventually("it arrives", LIMIT, || (customer.events() == accepted).then_some(()));
    eventually("it is recorded", LIMIT, || (gateway.waiting("acme") == 0).then_some(()));
    assert_eq!(gateway.stop(), 0);

    let sent = customer.receiver.count();
    let gateway = Gateway::start(&disk.data(), &settings);
    accepted.insert(gateway.event("acme", &large(1)));
    eventually("it arrives", LIMIT, || (customer.events() == accepted).then_some(()));
    assert_eq!(customer.receiver.count(), sent + 1, "what was recorded is not sent again");
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn a_full_disk_heals_without_a_restart_and_deliveries_go_on_meanwhile() {
    let name = "a_full_disk_heals_without_a_restart_and_deliveries_go_on_meanwhile";
    if !is_inside(name, &["--mount"]) {
        return;
    }
    let disk = disk::Disk::new(64);
    let others = disk.top().join("others");
    std::fs::write(&others, vec![1; 16 << 20]).expect("there is room");
    let customer = Customer::refusing();
    let settings = [PATIENT, ("SENDERZ_STORE__DISK_HEADROOM", "8MiB")];
    let gateway = Gateway::start(&disk.data(), &settings);
    gateway.tenant("acme");
    gateway.webhook("acme", &customer.receiver.url());
    let mut accepted = HashSet::new();
    let refused = loop {
        let answer = send(gateway.api, &large(accepted.len())).expect("it answers");
        if answer.status != 202 {
            break answer.status;
        }
        accepted.insert(id(&answer));
    };
    assert_eq!(refused, 507);
    customer.accept();
    eventually("all of it is delivered", LIMIT, || (gateway.waiting("acme") == 0).then_some(()));
    assert_eq!(customer.events(), accepted);
    assert_eq!(send(gateway.api, &large(0)).expect("it answers").status, 507, "nothing was freed");

    free(&others);
    let after = eventually("there is room again", LIMIT, || {
        send(gateway.api, &large(0)).ok().filter(|answer| answer.status == 202)
    });
    println!("accepted {} of 40 KiB on 64 MiB, refused, healed", accepted.len());
    accepted.insert(id(&after));
    gateway.wait_ready();
    eventually("it arrives", LIMIT, || (customer.events() == accepted).then_some(()));
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn a_disk_that_others_fill_to_the_last_byte_costs_no_accepted_event() {
    let name = "a_disk_that_others_fill_to_the_last_byte_costs_no_accepted_event";
    if !is_inside(name, &["--mount"]) {
        return;
    }
    let disk = Disk::new("64m");
    let customer = Customer::refusing();
    let busy = ["500ms"; 50].join(",");
    let settings = [("SENDERZ_RETRY__SCHEDULE", busy.as_str())];
    let mut gateway = Gateway::start(&disk.data(), &settings);
    gateway.tenant("acme");
    let webhook = gateway.webhook("acme", &customer.receiver.url());
    let mut accepted = HashSet::new();
    let mut filler = None;
    // Refused or cut off: it may see that the disk is full before it has to write, or not.
    loop {
        match send(gateway.api, &large(accepted.len())) {
            Ok(answer) if answer.status == 202 => accepted.insert(id(&answer)),
            Ok(answer) => {
                assert!(matches!(answer.status, 503 | 507), "{}", answer.status);
                break;
            }
            Err(_) => break,
        };
        if accepted.len() == 50 {
            filler = Some(disk.fill());
        }
    }
    println!("accepted {} with {} on a full disk", accepted.len(), accepted.len() - 50);
    // Attempts go on and their entries find no room either, nor does what the operator changes
    // (sled may still hold room that it has collected): it ends, and says so.
    let note = "n".repeat(1000);
    let code = eventually("it ends", LIMIT, || {
        for _ in 0..100 {
            let change = json!({"description": note}).to_string();
            let key = format!("Bearer {OPERATOR_KEY}");
            let headers = [
                ("authorization", key.as_str()),
                ("senderz-tenant", "acme"),
                ("content-type", "application/merge-patch+json"),
            ];
            // Refused or cut off once it has ended.
            let changed = Connection::open(gateway.api).and_then(|mut c| {
                c.request("PATCH", &format!("/v1/webhooks/{webhook}"), &headers, change.as_bytes())
            });
            if changed.is_err() {
                break;
            }
        }
        gateway.ended()
    });
    assert_eq!(code, 1);
    free(&filler.expect("the disk was filled"));

    customer.accept();
    let gateway = Gateway::start(&disk.data(), &settings);
    eventually("what was accepted is delivered", LIMIT, || {
        (gateway.waiting("acme") == 0).then_some(())
    });
    assert!(customer.events().is_superset(&accepted));
    accepted.insert(gateway.event("acme", &large(0)));
    eventually("and what comes now", LIMIT, || {
        customer.events().is_superset(&accepted).then_some(())
    });
    assert_eq!(gateway.stop(), 0);
}

fn free(filler: &Path) {
    std::fs::remove_file(filler).expect("ours");
}
