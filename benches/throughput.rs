//! CPU per delivery of the whole path, beside a bare hyper client loop in the same run.
//!
//! Three processes, two cores: the gateway (the real binary, one shard) alone on the first, a
//! minimal receiver and the producer on the second. In turns with it, a bare hyper loop of as many
//! connections takes the gateway's place, so that a machine that changes its speed meanwhile
//! changes it for both. It sends the same request as the gateway does, header fields included, with
//! fixed values; a second bare loop sends the fewest fields that HTTP allows, for those who prefer
//! that baseline (`ratio_to_minimal`). The figure to read is the ratio of the medians over all
//! rounds; absolute times are the machine's.
//!
//! ```text
//! cargo bench --bench throughput                 # the default cell
//! cargo bench --bench throughput -- --quick      # few deliveries: does it still run?
//! cargo bench --bench throughput -- --rounds 9 --deliveries 500000 --body 4096 --connections 256
//! ```

mod roles;

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use roles::client::Client;

/// One cell of the table.
#[derive(Clone, Debug)]
struct Cell {
    rounds: usize,
    /// In each round, and as many requests of the bare loop.
    deliveries: u64,
    body: usize,
    connections: usize,
    batch: usize,
    /// Connections that send batches, one after the other on each.
    producers: usize,
}

const OPERATOR_KEY: &str = "szk_operator_bench0bench0bench0bench0bench0bench0";
/// The producer stays this many events ahead of the receiver, so that the gateway is never idle
/// and its backlog never outgrows its memory.
const AHEAD: u64 = 20_000;
const GATEWAY_CPU: usize = 0;
const LOAD_CPU: usize = 1;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("role-receiver") => roles::receiver(),
        Some("role-bare") => roles::bare(&arguments[1..]),
        _ => run(&read_cell(&arguments)?),
    }
}

fn read_cell(arguments: &[String]) -> anyhow::Result<Cell> {
    let mut cell = Cell {
        rounds: 5,
        deliveries: 150_000,
        body: 512,
        connections: 64,
        batch: 100,
        producers: 16,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--quick" {
            (cell.rounds, cell.deliveries) = (1, 20_000);
            continue;
        }
        let value = words.next().with_context(|| format!("{word} takes a number"))?;
        let number: u64 = value.parse().with_context(|| format!("{word} {value}"))?;
        match word.as_str() {
            "--rounds" => cell.rounds = number as usize,
            "--deliveries" => cell.deliveries = number,
            "--body" => cell.body = number as usize,
            "--connections" => cell.connections = number as usize,
            "--batch" => cell.batch = number as usize,
            "--producers" => cell.producers = number as usize,
            other => bail!(
                "unknown option {other}; there are --quick, --rounds, --deliveries, --body, --connections, --batch, --producers"
            ),
        }
    }
    ensure!(cell.rounds > 0 && cell.deliveries > 0, "--rounds and --deliveries are at least 1");
    ensure!(cell.body >= 200, "--body is at least 200 bytes: the required fields need them");
    Ok(cell)
}

fn run(cell: &Cell) -> anyhow::Result<()> {
    let mut receiver = Receiver::start()?;
    let mut path = Path::start(cell, &receiver)?;
    // Until the caches (payloads, sled's pages) are full, every byte that is kept is a byte of
    // fresh memory, which the kernel clears. That ends after a few hundred megabytes.
    path.round(cell, &mut receiver, 2 * cell.deliveries)?;
    let (mut minimals, mut bares, mut rounds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..cell.rounds {
        minimals.push(bare(cell, receiver.addr, "minimal")?);
        bares.push(bare(cell, receiver.addr, "same")?);
        rounds.push(path.round(cell, &mut receiver, cell.deliveries)?);
    }
    let column = |figure: fn(&Figures) -> f64| rounds.iter().map(figure).collect::<Vec<_>>();
    let (gateway_us, bare_us) = (median(&column(|r| r.cpu_us)), median(&bares));
    let minimal_us = median(&minimals);
    let ratios: Vec<f64> = rounds.iter().zip(&bares).map(|(r, bare)| r.cpu_us / bare).collect();
    println!(
        "{}",
        json!({
            "cell": {"protocol": "http1", "body": cell.body, "connections": cell.connections,
                     "batch": cell.batch, "producers": cell.producers, "rounds": cell.rounds,
                     "deliveries": cell.deliveries},
            "deliveries_per_second": median(&column(|r| r.rate)).round(),
            "gateway_cpu_us_per_delivery": round2(gateway_us),
            "gateway_user_us": round2(median(&column(|r| r.user_us))),
            "gateway_system_us": round2(median(&column(|r| r.cpu_us - r.user_us))),
            "gateway_us_by_round": column(|r| round2(r.cpu_us)),
            "bare_cpu_us_per_request": round2(bare_us),
            "bare_us_by_round": bares.iter().copied().map(round2).collect::<Vec<_>>(),
            "bare_minimal_us": round2(minimal_us),
            "bare_minimal_us_by_round": minimals.iter().copied().map(round2).collect::<Vec<_>>(),
            "ratio_to_minimal": round2(gateway_us / minimal_us),
            "ratio": round2(gateway_us / bare_us),
            "ratio_by_round": ratios.into_iter().map(round2).collect::<Vec<_>>(),
        })
    );
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

fn round2(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The bare loop's CPU per request, microseconds.
fn bare(cell: &Cell, receiver: SocketAddr, headers: &str) -> anyhow::Result<f64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["role-bare", &receiver.to_string()]);
    let numbers = [cell.deliveries, cell.connections as u64, cell.body as u64];
    command.args(numbers.map(|n| n.to_string())).arg(headers);
    let output = pinned(GATEWAY_CPU, || command.stderr(Stdio::inherit()).output())?;
    ensure!(output.status.success(), "the bare loop failed");
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

struct Figures {
    rate: f64,
    cpu_us: f64,
    user_us: f64,
}

/// The gateway with one webhook, ready for events.
struct Path {
    gateway: Gateway,
    batch: Vec<u8>,
    _dir: tempfile::TempDir,
}

impl Path {
    fn start(cell: &Cell, receiver: &Receiver) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let gateway = Gateway::start(dir.path(), cell.connections)?;
        pin(LOAD_CPU)?;
        let mut client = Client::open(gateway.api)?;
        client.post_json("/v1/tenants", None, &json!({"id": "bench", "name": "bench"}))?;
        let url = format!("http://{}/hook", receiver.addr);
        let webhook = json!({"url": url, "events": ["*"], "max_in_flight": cell.connections});
        client.post_json("/v1/webhooks", Some("bench"), &webhook)?;
        Ok(Self { gateway, batch: batch(cell), _dir: dir })
    }

    /// The whole path for `count` events.
    fn round(
        &mut self,
        cell: &Cell,
        receiver: &mut Receiver,
        count: u64,
    ) -> anyhow::Result<Figures> {
        let from = receiver.count()?;
        let before = cpu_ticks(self.gateway.child.id())?;
        let clock = now();
        feed(self.gateway.api, &self.batch, cell, receiver, from, count)?;
        let elapsed = clock.elapsed();
        let after = cpu_ticks(self.gateway.child.id())?;
        let made = (receiver.count()? - from) as f64;
        let per = |ticks: u64| ticks as f64 * 1e6 / roles::TICKS_PER_SECOND / made;
        Ok(Figures {
            rate: made / elapsed.as_secs_f64(),
            cpu_us: per(after.0 + after.1 - before.0 - before.1),
            user_us: per(after.0 - before.0),
        })
    }
}

/// Offers `count` events in batches from several producers, together at most [`AHEAD`] before the
/// receiver, and waits for all of them.
fn feed(
    api: SocketAddr,
    batch: &[u8],
    cell: &Cell,
    receiver: &mut Receiver,
    from: u64,
    count: u64,
) -> anyhow::Result<()> {
    let size = cell.batch as u64;
    let rounds = count.div_ceil(size);
    let (offered, seen) = (AtomicU64::new(0), AtomicU64::new(from));
    let deadline = now() + Duration::from_secs(20 + count / 2000);
    let produce = || -> anyhow::Result<()> {
        let mut client = Client::open(api)?;
        while offered.fetch_add(1, Ordering::Relaxed) < rounds {
            while offered.load(Ordering::Relaxed) * size
                > seen.load(Ordering::Relaxed) - from + AHEAD
            {
                std::thread::sleep(Duration::from_millis(1));
                ensure!(now() < deadline, "the deliveries did not arrive");
            }
            let path = "/v1/events?ids=false";
            let status = client.post(path, None, "application/x-ndjson", batch)?.0;
            ensure!(status == 202, "ingest answered {status}");
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..cell.producers).map(|_| scope.spawn(produce)).collect();
        loop {
            seen.store(receiver.count()?, Ordering::Relaxed);
            let failed = producers.iter().all(|p| p.is_finished())
                && offered.load(Ordering::Relaxed) < rounds;
            if failed || seen.load(Ordering::Relaxed) >= from + rounds * size {
                break;
            }
            ensure!(now() < deadline, "the deliveries did not arrive");
            std::thread::sleep(Duration::from_millis(2));
        }
        for producer in producers {
            producer.join().expect("producers do not panic")?;
        }
        Ok(())
    })
}

/// Lines whose payloads have exactly the cell's body size.
fn batch(cell: &Cell) -> Vec<u8> {
    let mut lines = Vec::new();
    for n in 0..cell.batch {
        let head = format!(
            r#"{{"type":"message.delivered","timestamp":"2026-11-23T04:20:00.123Z","data":{{"id":"msg_{n:020}","channel":"whatsapp","recipient":"+15555550100","status_reason":null,"note":""#
        );
        let filler = "x".repeat(cell.body - head.len() - 3);
        let payload = format!("{head}{filler}\"}}}}");
        lines.extend(format!("{{\"tenant\":\"bench\",\"payload\":{payload}}}\n").into_bytes());
    }
    lines
}

struct Gateway {
    child: Child,
    api: SocketAddr,
}

impl Gateway {
    fn start(data_dir: &std::path::Path, connections: usize) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
        command
            .arg("serve")
            .env("SENDERZ_DATA_DIR", data_dir)
            .env("SENDERZ_OPERATOR_KEY", OPERATOR_KEY)
            .env("SENDERZ_SERVER__LISTEN", "127.0.0.1:0")
            .env("SENDERZ_OPS__LISTEN", "127.0.0.1:0")
            .env("SENDERZ_RUNTIME__SHARDS", "1")
            .env("SENDERZ_DELIVERY__TENANT_SHARE", "1.0")
            .env("SENDERZ_POOL__MAX_IDLE_PER_ORIGIN", connections.to_string())
            .env("SENDERZ_SECURITY__ALLOW_NETWORKS", "127.0.0.0/8")
            .env("SENDERZ_STORE__DISK_HEADROOM", "1MiB")
            .env("SENDERZ_LOG__LEVEL", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = pinned(GATEWAY_CPU, || command.spawn())?;
        let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        let api = loop {
            let line = lines.next().context("the gateway ended before it listened")??;
            if let Some(url) = line.trim().strip_prefix("api") {
                break url.trim().trim_start_matches("http://").parse()?;
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, api })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Receiver {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    addr: SocketAddr,
}

impl Receiver {
    fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("role-receiver").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pinned(LOAD_CPU, || command.spawn())?;
        let mut answers = BufReader::new(child.stdout.take().context("piped")?);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let ask = child.stdin.take().context("piped")?;
        Ok(Self { child, ask, answers, addr: line.trim().parse()? })
    }

    /// Requests answered so far.
    fn count(&mut self) -> anyhow::Result<u64> {
        self.ask.write_all(b"\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().parse()?)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `start` with this thread on one processor, which a child inherits.
fn pinned<T>(cpu: usize, start: impl FnOnce() -> std::io::Result<T>) -> anyhow::Result<T> {
    pin(cpu)?;
    let started = start()?;
    pin(LOAD_CPU)?;
    Ok(started)
}

/// On a machine with one processor everything shares it, and the ratio still holds.
fn pin(cpu: usize) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get().max(2);
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu % cores);
    rustix::thread::sched_setaffinity(None, &set).context("pinning to a processor")
}

/// User and system time of a process so far, in clock ticks.
fn cpu_ticks(pid: u32) -> anyhow::Result<(u64, u64)> {
    roles::cpu_ticks(&format!("/proc/{pid}/stat"))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures from outside")]
fn now() -> Instant {
    Instant::now()
}
