//! The guard's corpus through all doors of the running gateway: create, update, dry run, test, connect.
//! What counts as a dial is what the kernel was asked for: strace looks.
//!
//! It all happens in a network of its own in which every address leads back to this machine, so
//! that a guard with a hole would be seen and would still harm nobody.

mod support;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::Connection,
    namespace::{is_inside, must},
    payload,
};

const LIMIT: Duration = Duration::from_secs(60);
/// `tests/guard_corpus.rs` explains the files.
const HOSTILE: &str = include_str!("guard_corpus/hostile.tsv");
const GOOD: &str = include_str!("guard_corpus/good.tsv");

/// The shipped policy, and the denied host of the corpus; limits that let the whole corpus in.
const SHIPPED: [(&str, &str); 7] = [
    ("SENDERZ_SECURITY__ALLOW_NETWORKS", ""),
    ("SENDERZ_SECURITY__DENY_HOSTS", "denied.example.net"),
    ("SENDERZ_LIMITS__WEBHOOKS_PER_TENANT", "5000"),
    ("SENDERZ_LIMITS__WEBHOOK_TESTS", "1000"),
    ("SENDERZ_LIMITS__TENANT_TESTS", "1000000"),
    ("SENDERZ_RETRY__SCHEDULE", "1h"),
    ("SENDERZ_TLS__CONNECT_TIMEOUT", "2s"),
];

fn urls(corpus: &str, column: usize) -> Vec<String> {
    let lines = corpus.lines().filter(|line| !line.starts_with("# "));
    let column = |line: &str| line.split('\t').nth(column).expect("two columns").to_owned();
    lines.map(|line| undo_escapes(&column(line))).collect()
}

fn undo_escapes(text: &str) -> String {
    let mut parts = text.split(r"\u{");
    let mut plain = parts.next().expect("split gives at least one part").to_owned();
    for part in parts {
        let (hex, rest) = part.split_once('}').expect("an escape is closed");
        let code = u32::from_str_radix(hex, 16).expect("an escape is hexadecimal");
        plain.push(char::from_u32(code).expect("an escape is a character"));
        plain.push_str(rest);
    }
    plain
}

/// One kept connection of the operator acting for `acme`.
struct Desk(Connection);

impl Desk {
    fn open(gateway: &Gateway) -> Self {
        Self(Connection::open(gateway.api).expect("it listens"))
    }

    fn ask(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let key = format!("Bearer {OPERATOR_KEY}");
        let headers = [
            ("authorization", key.as_str()),
            ("senderz-tenant", "acme"),
            ("content-type", "application/json"),
        ];
        let answer = self.0.request(method, path, &headers, body.to_string().as_bytes());
        let answer = answer.expect("it answers");
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    fn create(&mut self, url: &str) -> Result<String, u16> {
        let body = json!({"url": url, "events": ["message.read"]});
        match self.ask("POST", "/v1/webhooks", &body) {
            (201, made) => Ok(made["id"].as_str().expect("an id").to_owned()),
            (refused, _) => Err(refused),
        }
    }

    fn update(&mut self, id: &str, url: &str) -> u16 {
        self.ask("PATCH", &format!("/v1/webhooks/{id}"), &json!({"url": url})).0
    }

    /// Tried, without being saved.
    fn try_new(&mut self, url: &str) -> u16 {
        let body = json!({"url": url, "events": ["message.read"]});
        self.ask("POST", "/v1/webhooks?dry_run=true", &body).0
    }

    /// The error code of trying one that exists.
    fn try_again(&mut self, id: &str) -> String {
        let path = format!("/v1/webhooks/{id}?dry_run=true");
        let (status, tried) = self.ask("PATCH", &path, &json!({"description": "tried"}));
        assert_eq!(status, 200, "{tried}");
        tried["error"]["code"].as_str().expect("it failed").to_owned()
    }

    fn test(&mut self, id: &str) -> u16 {
        self.ask("POST", &format!("/v1/webhooks/{id}/test"), &json!({"type": "message.sent"})).0
    }
}

/// A name server to which no name exists; counts what it is asked.
fn name_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut query = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut query) {
            count.fetch_add(1, Ordering::SeqCst);
            let mut answer = query[..len].to_vec();
            // An answer, recursion available, no such name, no further records.
            answer[2..4].copy_from_slice(&[0x81, 0x83]);
            answer[6..12].fill(0);
            answer.truncate(len.min(12 + question(&query[12..len])));
            let _ = socket.send_to(&answer, from);
        }
    });
    (address, asked)
}

/// The length of the question that a query holds.
fn question(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(len @ 1..) = bytes.get(at) {
        at += 1 + usize::from(*len);
    }
    at + 5
}

fn start(data_dir: &Path, more: &[(&str, &str)]) -> Gateway {
    let env: Vec<_> = SHIPPED.iter().chain(more).copied().collect();
    Gateway::start(data_dir, &env)
}

/// The same, with every connection it asks the kernel for written to a file.
fn start_traced(data_dir: &Path, trace: &Path, more: &[(&str, &str)]) -> Gateway {
    let env: Vec<_> = SHIPPED.iter().chain(more).copied().collect();
    let template = Gateway::command(data_dir, &env);
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o"])
        .arg(trace)
        .arg(template.get_program())
        .args(template.get_args())
        .envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null());
    let gateway = Gateway::run(command)
        .expect("this test needs the command strace: install the package of that name");
    gateway.wait_ready();
    gateway
}

/// Whom the kernel was asked to connect or send to, apart from the name server.
fn dials(trace: &Path, name_server: SocketAddr) -> Vec<String> {
    let text = eventually("the trace is whole", LIMIT, || {
        let text = std::fs::read_to_string(trace).expect("ours");
        text.lines().last().is_some_and(|last| last.contains("+++ exited")).then_some(text)
    });
    let port = format!("htons({})", name_server.port());
    let names_an_address = |line: &&str| line.contains("AF_INET") && !line.contains(&port);
    text.lines().filter(names_an_address).map(str::to_owned).collect()
}

/// Attempts by what became of them.
fn attempts(gateway: &Gateway) -> BTreeMap<String, f64> {
    let answer =
        Connection::open(gateway.ops).and_then(|mut c| c.request("GET", "/metrics", &[], b""));
    let text = String::from_utf8(answer.expect("metrics answer").body).expect("text");
    let lines = text.lines().filter_map(|line| line.strip_prefix("senderz_attempts_total{"));
    let mut attempts = BTreeMap::new();
    for line in lines {
        let (labels, value) = line.rsplit_once(' ').expect("a value");
        let error = labels.split("error=\"").nth(1).and_then(|rest| rest.split('"').next());
        let value: f64 = value.parse().expect("a number");
        *attempts.entry(error.unwrap_or_default().to_owned()).or_default() += value;
    }
    attempts.retain(|_, count| *count > 0.0);
    attempts
}

#[test]
fn no_hostile_url_gets_through_a_door_and_every_good_one_does() {
    let name = "no_hostile_url_gets_through_a_door_and_every_good_one_does";
    if !is_inside(name, &["--net"]) {
        return;
    }
    must("ip", &["link", "set", "lo", "up"]);
    must("ip", &["route", "add", "local", "0.0.0.0/0", "dev", "lo"]);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (server, asked) = name_server();
    let server_text = server.to_string();
    let dns = [("SENDERZ_DNS__SERVERS", server_text.as_str())];
    let (hostile, good) = (urls(HOSTILE, 1), urls(GOOD, 0));

    // Create and update, for all.
    let public = dir.path().join("public");
    let gateway = start(&public, &dns);
    gateway.tenant("acme");
    let mut desk = Desk::open(&gateway);
    let standing = desk.create("https://hooks.example.com/in").expect("a good one");
    for url in &hostile {
        assert_eq!(desk.create(url), Err(400), "created: {url:?}");
        assert_eq!(desk.update(&standing, url), 400, "updated: {url:?}");
        assert_eq!(desk.try_new(url), 400, "tried: {url:?}");
    }
    let mut through = vec![standing.clone()];
    for url in &good {
        through.push(desk.create(url).unwrap_or_else(|status| panic!("{status} for {url:?}")));
        assert_eq!(desk.update(&standing, url), 200, "refused: {url:?}");
    }
    assert_eq!(gateway.stop(), 0);

    // What could be registered while the operator allowed everything …
    let private = dir.path().join("private");
    let lax = [
        ("SENDERZ_SECURITY__ALLOW_NETWORKS", "0.0.0.0/0,::/0"),
        ("SENDERZ_SECURITY__I_UNDERSTAND_WIDE_NETWORKS", "true"),
        ("SENDERZ_SECURITY__REQUIRE_HTTPS", "false"),
        ("SENDERZ_SECURITY__DENY_HOSTS", ""),
        ("SENDERZ_SECURITY__DENY_PORTS", ""),
    ];
    let gateway = start(&private, &lax);
    gateway.tenant("acme");
    let mut desk = Desk::open(&gateway);
    let reasons = urls(HOSTILE, 0);
    let judged = reasons.iter().zip(&hostile).filter(|(reason, _)| *reason != "https_required");
    let registered: Vec<String> = judged.filter_map(|(_, url)| desk.create(url).ok()).collect();
    assert!(registered.len() > 200, "{} could be registered", registered.len());
    assert_eq!(gateway.stop(), 0);

    // … is reached through neither dry run, test nor connect once he does not any more. (That a URL is plain
    // http is judged where it is written: a tenant's deliveries do not end over it later.)
    let trace = dir.path().join("private.trace");
    let gateway = start_traced(&private, &trace, &dns);
    let mut desk = Desk::open(&gateway);
    for id in &registered {
        assert_eq!(desk.try_again(id), "blocked_target");
        assert_eq!(desk.test(id), 202);
    }
    gateway.event("acme", &payload("message.read", "m"));
    let all = 2.0 * registered.len() as f64;
    let ended = eventually("every attempt is refused", LIMIT, || {
        let attempts = attempts(&gateway);
        (attempts.values().sum::<f64>() >= all).then_some(attempts)
    });
    assert_eq!(ended, BTreeMap::from([("blocked_target".to_owned(), all)]));
    assert_eq!(gateway.stop(), 0);
    let forbidden = dials(&trace, server);
    assert!(forbidden.is_empty(), "{forbidden:#?}");
    assert_eq!(asked.load(Ordering::SeqCst), 0, "no name was even looked up");

    // The good ones are looked up, and dialled where they are addresses: the trace sees it.
    let trace = dir.path().join("public.trace");
    let gateway = start_traced(&public, &trace, &dns);
    let mut desk = Desk::open(&gateway);
    for id in &through {
        assert_eq!(desk.test(id), 202);
    }
    gateway.event("acme", &payload("message.read", "m"));
    let all = 2.0 * through.len() as f64;
    let ended = eventually("every attempt is made", LIMIT, || {
        let attempts = attempts(&gateway);
        (attempts.values().sum::<f64>() >= all).then_some(attempts)
    });
    assert!(!ended.contains_key("blocked_target"), "{ended:?}");
    assert_eq!(gateway.stop(), 0);
    assert!(!dials(&trace, server).is_empty() && asked.load(Ordering::SeqCst) > 0);
    println!(
        "{} hostile URLs through create, update and dry run, {} of them through dry run, test and \
         connect: 0 dials; {} good URLs through all: 0 refused",
        hostile.len(),
        registered.len(),
        good.len()
    );
}
