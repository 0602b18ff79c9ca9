//! What it takes to keep history: processor, memory, disk.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde_json::json;

const MIB: f64 = 1_048_576.0;

/// Since the start, for each attempt.
pub(crate) fn print(dir: &Path, attempts: u64) -> anyhow::Result<()> {
    let each = |nanos: u64| (nanos as f64 / attempts as f64).round();
    let data = dir.join("data");
    let line = json!({
        "attempts": attempts,
        "writer_ns": each(thread_nanos("store-write")?),
        "index_ns": each(thread_nanos("store-index")?),
        "resident_mib": resident_mib()?,
        "store_mib": size(&data.join("store"))?.round(),
        "index_mib": size(&data.join("index"))?.round(),
    });
    println!("{line}");
    Ok(())
}

/// Processor time so far of the two threads that answer: the one that speaks to the router and the
/// store's.
pub(crate) fn answering_nanos() -> anyhow::Result<u64> {
    let own = fs::read_to_string("/proc/thread-self/schedstat")?;
    let own: u64 = own.split_whitespace().next().context("a time")?.parse()?;
    Ok(own + thread_nanos("store-page")?)
}

/// Processor time of a thread of this process.
fn thread_nanos(name: &str) -> anyhow::Result<u64> {
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == name {
            let times = fs::read_to_string(task.join("schedstat"))?;
            let first = times.split_whitespace().next().context("a time")?;
            return Ok(first.parse()?);
        }
    }
    Ok(0)
}

fn resident_mib() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("VmRSS")?;
    Ok((kib.parse::<f64>()? / 1024.0).round())
}

fn size(dir: &Path) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for file in fs::read_dir(dir)? {
        let file = file?;
        let is_dir = file.file_type()?.is_dir();
        sum += if is_dir { size(&file.path())? } else { file.metadata()?.len() as f64 / MIB };
    }
    Ok(sum)
}
