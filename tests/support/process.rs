//! What the kernel says of a process.

use std::process::Command;

/// Resident memory.
pub fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|l| l.starts_with("VmRSS")).expect("Linux has it");
    let kib: f64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib / 1024.0
}

/// The numbers of its open file descriptors.
pub fn descriptors(pid: u32) -> Vec<usize> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    open.map(|fd| fd.file_name().to_str().and_then(|n| n.parse().ok()).expect("a number")).collect()
}

/// From now on no descriptor has this number or a higher one.
pub fn limit_descriptors(pid: u32, limit: usize) {
    let arguments = ["--pid", &pid.to_string(), &format!("--nofile={limit}:")];
    let set = Command::new("prlimit").args(arguments).status();
    let set = set.expect("this test needs the command prlimit: install util-linux");
    assert!(set.success(), "prlimit {arguments:?}");
}

/// Time on a processor so far. Ticks are hundredths on every Linux.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("its name is in parentheses");
    let ticks = |at: usize| fields.split_whitespace().nth(at).and_then(|n| n.parse::<f64>().ok());
    ticks(11).zip(ticks(12)).map(|(user, system)| (user + system) / 100.0).expect("numbers")
}
