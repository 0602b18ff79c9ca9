//! The real binary as a child process, on ports of its own choice.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    eventually,
    http::{Connection, Response},
};

pub const OPERATOR_KEY: &str = "szk_operator_test0test0test0test0test0test0test0";

pub struct Gateway {
    child: Child,
    pub api: SocketAddr,
    pub ops: SocketAddr,
}

impl Gateway {
    /// Starts it over a data directory with further environment; returns once it is ready.
    pub fn start(data_dir: &Path, env: &[(&str, &str)]) -> Self {
        let gateway = Self::spawn(data_dir, env).expect("the gateway starts");
        gateway.wait_ready();
        gateway
    }

    /// Starts it and returns once it has said where it listens; none if it ended before that.
    pub fn spawn(data_dir: &Path, env: &[(&str, &str)]) -> Option<Self> {
        Self::run(Self::command(data_dir, env))
    }

    /// The same, for a command of the test's own making.
    pub fn run(mut command: Command) -> Option<Self> {
        let mut child =
            command.stdout(Stdio::piped()).spawn().expect("the binary was built with the tests");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut find = |word: &str| -> Option<SocketAddr> {
            loop {
                let line = lines.next()?.ok()?;
                let mut words = line.split_whitespace();
                if words.next() == Some(word) {
                    let url = words.next()?.strip_prefix("http://")?.to_owned();
                    return url.split('/').next()?.parse().ok();
                }
            }
        };
        let found = find("api").zip(find("metrics"));
        let Some((api, ops)) = found else {
            let _ = child.wait();
            return None;
        };
        // Keep the pipe drained, or a talkative child would block on it.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, api, ops })
    }

    pub fn command(data_dir: &Path, env: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
        command
            .arg("serve")
            .env("SENDERZ_DATA_DIR", data_dir)
            .env("SENDERZ_OPERATOR_KEY", OPERATOR_KEY)
            .env("SENDERZ_SERVER__LISTEN", "127.0.0.1:0")
            .env("SENDERZ_OPS__LISTEN", "127.0.0.1:0")
            .env("SENDERZ_SECURITY__ALLOW_NETWORKS", "127.0.0.0/8")
            .env("SENDERZ_LOG__LEVEL", "warn")
            .env("SENDERZ_STORE__DISK_HEADROOM", "1MiB")
            .stdin(Stdio::null());
        command.envs(env.iter().copied());
        command
    }

    pub fn wait_ready(&self) {
        eventually("the gateway is ready", Duration::from_secs(60), || {
            let mut ops = Connection::open(self.ops).ok()?;
            (ops.request("GET", "/readyz", &[], b"").ok()?.status == 200).then_some(())
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was killed");
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(done.is_ok_and(|s| s.success()), "kill {name}");
    }

    /// SIGTERM, and the exit code that follows.
    pub fn stop(mut self) -> i32 {
        self.signal("-TERM");
        self.child.wait().expect("it ends").code().unwrap_or(-1)
    }

    pub fn wait(&mut self) -> i32 {
        self.child.wait().expect("it ends").code().unwrap_or(-1)
    }

    /// Its exit code once it has ended; -1 where a signal ended it.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.child.try_wait().expect("ours")?;
        Some(status.code().unwrap_or(-1))
    }

    pub fn ask(&self, method: &str, path: &str, tenant: Option<&str>, body: &[u8]) -> Response {
        let key = format!("Bearer {OPERATOR_KEY}");
        let mut headers = vec![("authorization", key.as_str())];
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        headers.extend(tenant.map(|tenant| ("senderz-tenant", tenant)));
        Connection::open(self.api)
            .and_then(|mut c| c.request(method, path, &headers, body))
            .expect("the gateway answers")
    }

    pub fn get(&self, path: &str, tenant: &str) -> Value {
        let response = self.ask("GET", path, Some(tenant), b"");
        assert_eq!(response.status, 200, "{path}: {}", String::from_utf8_lossy(&response.body));
        response.json()
    }

    pub fn post(&self, path: &str, tenant: Option<&str>, body: &Value) -> Value {
        let response = self.ask("POST", path, tenant, body.to_string().as_bytes());
        assert!(
            (200..300).contains(&response.status),
            "{path}: {} {}",
            response.status,
            String::from_utf8_lossy(&response.body)
        );
        response.json()
    }

    /// Makes a tenant; answers its signing secret.
    pub fn tenant(&self, id: &str) -> String {
        let made = self.post("/v1/tenants", None, &json!({"id": id, "name": id}));
        made["signing_secret"].as_str().expect("shown once").to_owned()
    }

    /// Makes a webhook for all event types; answers its id.
    pub fn webhook(&self, tenant: &str, url: &str) -> String {
        let made = self.post("/v1/webhooks", Some(tenant), &json!({"url": url, "events": ["*"]}));
        made["id"].as_str().expect("an id").to_owned()
    }

    /// Sends one event; answers its id.
    pub fn event(&self, tenant: &str, payload: &str) -> String {
        let path = format!("/v1/tenants/{tenant}/events");
        let response = self.ask("POST", &path, None, payload.as_bytes());
        assert_eq!(response.status, 202, "{}", String::from_utf8_lossy(&response.body));
        response.json()["id"].as_str().expect("an id").to_owned()
    }

    /// How many of a tenant's deliveries have not ended, as the API lists them.
    pub fn waiting(&self, tenant: &str) -> usize {
        let mut path = "/v1/deliveries?status=pending,retrying&limit=100".to_owned();
        let mut waiting = 0;
        loop {
            let page = self.get(&path, tenant);
            waiting += page["data"].as_array().expect("a list").len();
            let Some(cursor) = page["next_cursor"].as_str() else { return waiting };
            path = format!("/v1/deliveries?status=pending,retrying&limit=100&cursor={cursor}");
        }
    }

    /// The value of one line of `/metrics`, 0 where it is not there.
    pub fn metric(&self, line: &str) -> f64 {
        let text = Connection::open(self.ops)
            .and_then(|mut c| c.request("GET", "/metrics", &[], b""))
            .expect("metrics answer");
        value_of(&String::from_utf8(text.body).expect("text"), line)
    }
}

/// The value of one line of what `/metrics` answered, 0 where it is not there.
pub fn value_of(text: &str, line: &str) -> f64 {
    text.lines()
        .filter_map(|l| l.rsplit_once(' '))
        .find(|(name, _)| *name == line)
        .map_or(0.0, |(_, value)| value.parse().expect("a number"))
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Already ended where the test did it itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
