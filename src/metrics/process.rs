//! `process_*`: what the operating system says about this process, read at each rendering.
//!
//! A figure that cannot be read (another operating system, a sandbox without `/proc`) is left out.

use std::fmt::{Display, Write as _};

use ::metrics::Unit;

use super::{Kind, Metric, gauge, write_head};
use crate::clock::{self, Millis};

/// The kernel counts CPU time in these per second (USER_HZ, 100 on every Linux we build for).
pub(super) const TICKS_PER_SECOND: f64 = 100.0;

const CPU: Metric = Metric {
    kind: Kind::Counter,
    ..gauge("process_cpu_seconds_total", Unit::Seconds, "CPU time used.")
};
const RESIDENT: Metric = gauge("process_resident_memory_bytes", Unit::Bytes, "Memory in RAM.");
const VIRTUAL: Metric = gauge("process_virtual_memory_bytes", Unit::Bytes, "Address space.");
const THREADS: Metric = gauge("process_threads", Unit::Count, "Threads of the operating system.");
const OPEN_FDS: Metric = gauge("process_open_fds", Unit::Count, "Open file descriptors.");
const MAX_FDS: Metric = gauge("process_max_fds", Unit::Count, "The most file descriptors allowed.");
const STARTED: Metric = gauge("process_start_time_seconds", Unit::Seconds, "Start, Unix time.");

/// What every process of a Prometheus client shows.
pub const PROCESS: [Metric; 7] = [CPU, RESIDENT, VIRTUAL, THREADS, OPEN_FDS, MAX_FDS, STARTED];

#[derive(Debug)]
pub(super) struct Process {
    started_at: Millis,
}

impl Process {
    pub(super) fn started_now() -> Self {
        Self { started_at: clock::wall_ms() }
    }

    pub(super) fn render(&self, out: &mut String) {
        let started = Some(self.started_at as f64 / 1e3);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |field| status_field(&status, field).map(|kib| kib * 1024);
        write(out, &CPU, cpu_seconds());
        write(out, &RESIDENT, kib("VmRSS:"));
        write(out, &VIRTUAL, kib("VmSize:"));
        write(out, &THREADS, status_field(&status, "Threads:"));
        write(out, &OPEN_FDS, open_fds());
        write(out, &MAX_FDS, rustix::process::getrlimit(rustix::process::Resource::Nofile).current);
        write(out, &STARTED, started);
    }
}

fn write(out: &mut String, metric: &Metric, value: Option<impl Display>) {
    if let Some(value) = value {
        write_head(out, metric);
        let _ = writeln!(out, "{} {value}", metric.name);
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    Some(cpu_ticks(&stat)? as f64 / TICKS_PER_SECOND)
}

/// What a `stat` of a process or a thread says that it used, of its own and of the kernel's code.
pub(super) fn cpu_ticks(stat: &str) -> Option<u64> {
    // The second field is the name in parentheses, which may hold spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = |index: usize| fields.split_whitespace().nth(index)?.parse::<u64>().ok();
    Some(ticks(11)? + ticks(12)?)
}

fn status_field(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn open_fds() -> Option<usize> {
    // The directory handle that counts is one of those counted.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}
