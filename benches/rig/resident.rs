//! How much memory a process holds, as the system counts it.

use anyhow::Context as _;

/// MiB that are resident now.
pub(crate) fn now(pid: u32) -> anyhow::Result<f64> {
    field(pid, "VmRSS:")
}

/// MiB that were resident when it was most.
pub(crate) fn peak(pid: u32) -> anyhow::Result<f64> {
    field(pid, "VmHWM:")
}

fn field(pid: u32, name: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = value.and_then(|value| value.split_whitespace().next()).context("Linux has it")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}
