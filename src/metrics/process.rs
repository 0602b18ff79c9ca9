//! `process_*`: what the operating system says about this process, read at each rendering.
//!
//! A figure that cannot be read (another operating system, a sandbox without `/proc`) is left out.

use std::fmt::{Display, Write as _};

use crate::clock::{self, Millis};

/// `/proc/self/stat` counts CPU time in these per second (USER_HZ, 100 on every Linux we build
/// for).
const TICKS_PER_SECOND: f64 = 100.0;

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
        write(out, "process_cpu_seconds_total", "counter", "CPU time used.", cpu_seconds());
        write(out, "process_resident_memory_bytes", "gauge", "Memory in RAM.", kib("VmRSS:"));
        write(out, "process_virtual_memory_bytes", "gauge", "Address space.", kib("VmSize:"));
        let threads = status_field(&status, "Threads:");
        write(out, "process_threads", "gauge", "Threads of the operating system.", threads);
        write(out, "process_open_fds", "gauge", "Open file descriptors.", open_fds());
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        write(out, "process_max_fds", "gauge", "The most file descriptors allowed.", limit);
        write(out, "process_start_time_seconds", "gauge", "Start, Unix time.", started);
    }
}

fn write(out: &mut String, name: &str, kind: &str, help: &str, value: Option<impl Display>) {
    if let Some(value) = value {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, which may hold spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = |index: usize| fields.split_whitespace().nth(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn status_field(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn open_fds() -> Option<usize> {
    // The directory handle that counts is one of those counted.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}
