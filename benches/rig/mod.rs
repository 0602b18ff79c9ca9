//! What the benchmarks of the whole path share: the gateway as a process, the receivers, the bare
//! loop that it is compared with, and the clients that set it up and feed it.

#![expect(dead_code, reason = "each benchmark uses a part of it")]

pub(crate) mod bare;
pub(crate) mod client;
pub(crate) mod events;
pub(crate) mod feed;
pub(crate) mod files;
pub(crate) mod gateway;
pub(crate) mod receiver;
pub(crate) mod resident;
pub(crate) mod set_up;
pub(crate) mod tls;

use std::{sync::OnceLock, thread::available_parallelism, time::Instant};

use anyhow::Context as _;

pub(crate) const GATEWAY_CPU: usize = 0;
pub(crate) const LOAD_CPU: usize = 1;

/// Linux counts process times in hundredths of a second on every machine that matters here.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

/// How receivers are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    /// HTTP/1.1 over TLS.
    Tls,
    /// Over TLS, by ALPN: the gateway speaks HTTP/2 to no one who has not offered it.
    Http2,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Tls => "tls",
            Self::Http2 => "http2",
        }
    }

    pub(crate) fn scheme(self) -> &'static str {
        if self == Self::Http1 { "http" } else { "https" }
    }
}

impl std::str::FromStr for Protocol {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let all = [Self::Http1, Self::Tls, Self::Http2];
        let found = all.into_iter().find(|protocol| protocol.name() == text);
        found.with_context(|| format!("{text} is none of http1, tls, http2"))
    }
}

/// Runs `start` with this thread on one processor, which a child inherits.
pub(crate) fn pinned<T>(
    cpu: usize,
    start: impl FnOnce() -> std::io::Result<T>,
) -> anyhow::Result<T> {
    pin(cpu)?;
    let started = start()?;
    pin(LOAD_CPU)?;
    Ok(started)
}

/// Runs `start` with this thread on every processor.
pub(crate) fn unpinned<T>(start: impl FnOnce() -> std::io::Result<T>) -> anyhow::Result<T> {
    let mut all = rustix::thread::CpuSet::new();
    (0..cores()).for_each(|cpu| all.set(cpu));
    rustix::thread::sched_setaffinity(None, &all).context("leaving a processor")?;
    let started = start()?;
    pin(LOAD_CPU)?;
    Ok(started)
}

/// On a machine with one processor everything shares it, and the ratio still holds.
pub(crate) fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu % cores());
    rustix::thread::sched_setaffinity(None, &set).context("pinning to a processor")
}

fn cores() -> usize {
    // Asked once: afterwards this thread is allowed one only.
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from))
}

/// User and system time of a process so far, in clock ticks.
pub(crate) fn cpu_ticks(pid: u32) -> anyhow::Result<(u64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("a stat line")?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut next = || anyhow::Ok(fields.next().context("a field")?.parse::<u64>()?);
    Ok((next()?, next()?))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures from outside")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

pub(crate) fn round2(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
