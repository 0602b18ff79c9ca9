//! CPU time by what a thread is for, read from `/proc` at each rendering.
//!
//! A shard is a thread, so the time that its thread was given says how busy it is, and no clock is
//! read anywhere in the delivery path for it. Threads come and go while a counter may only grow: so
//! what each used since the last look is added up here. What a thread uses between the last look
//! and its end is not counted.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::{
    THREAD_CPU, metric,
    process::{TICKS_PER_SECOND, cpu_ticks},
    write_head,
};

const TASKS: &str = "/proc/self/task";

/// What threads are for, and how their names begin; the last one is for all others. The store's are
/// ours and sled's.
const ROLES: [(&str, &[&str]); 5] = [
    ("shard", &["shard-"]),
    ("store", &["store-", "sled-", "log flusher"]),
    ("api", &["api"]),
    ("ops", &["ops"]),
    ("other", &[""]),
];

#[derive(Debug, Default)]
pub(super) struct Threads(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// The ticks of each living thread at the last look, by its number.
    living: HashMap<u32, u64>,
    /// All that was ever seen, by role.
    used: [u64; ROLES.len()],
}

impl Threads {
    pub(super) fn render(&self, out: &mut String) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.look(read_threads());
        write_head(out, metric(THREAD_CPU));
        for ((role, _), ticks) in ROLES.iter().zip(seen.used) {
            let seconds = ticks as f64 / TICKS_PER_SECOND;
            let _ = writeln!(out, "{THREAD_CPU}{{thread=\"{role}\"}} {seconds}");
        }
    }
}

impl Seen {
    /// Takes each living thread's number, name and ticks.
    fn look(&mut self, threads: impl Iterator<Item = (u32, String, u64)>) {
        let before = std::mem::take(&mut self.living);
        for (number, name, ticks) in threads {
            // Fewer than before: the number was given to another thread meanwhile.
            let earlier = before.get(&number).copied().filter(|earlier| *earlier <= ticks);
            self.used[role_of(&name)] += ticks - earlier.unwrap_or(0);
            self.living.insert(number, ticks);
        }
    }
}

fn role_of(name: &str) -> usize {
    let is_of = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    ROLES.iter().position(|(_, prefixes)| is_of(prefixes)).unwrap_or(ROLES.len() - 1)
}

fn read_threads() -> impl Iterator<Item = (u32, String, u64)> {
    fs::read_dir(TASKS).into_iter().flatten().filter_map(|task| read_thread(&task.ok()?.path()))
}

fn read_thread(task: &Path) -> Option<(u32, String, u64)> {
    let number = task.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(task.join("stat")).ok()?;
    let (_, name) = stat.split_once('(')?;
    let (name, _) = name.rsplit_once(')')?;
    Some((number, name.to_owned(), cpu_ticks(&stat)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(number: u32, name: &str, ticks: u64) -> (u32, String, u64) {
        (number, name.to_owned(), ticks)
    }

    #[test]
    fn counts_only_grow_whichever_threads_end_and_begin() {
        let mut seen = Seen::default();
        let looks = [
            vec![thread(1, "shard-0", 10), thread(2, "shard-1", 5), thread(3, "api", 7)],
            vec![thread(1, "shard-0", 12), thread(2, "store-write", 3), thread(4, "main", 1)],
            vec![thread(1, "shard-0", 12), thread(4, "main", 4)],
        ];
        let mut shown = Vec::new();
        for look in looks {
            seen.look(look.into_iter());
            shown.push(seen.used);
        }
        assert_eq!(shown, [[15, 0, 7, 0, 0], [17, 3, 7, 0, 1], [17, 3, 7, 0, 4]]);
    }

    #[test]
    fn a_thread_is_found_by_its_name() {
        let check = |name, role| assert_eq!(ROLES[role_of(name)].0, role, "{name}");
        check("shard-11", "shard");
        check("store-write", "store");
        check("sled-io-3", "store");
        check("log flusher", "store");
        check("api", "api");
        check("ops", "ops");
        check("log", "other");
        check("senderz-gateway", "other");
    }

    #[test]
    fn the_time_that_this_very_thread_used_is_in_it() {
        let threads = Threads::default();
        let used = || {
            let mut out = String::new();
            threads.render(&mut out);
            out.lines()
                .filter_map(|line| line.rsplit_once("} ")?.1.parse::<f64>().ok())
                .sum::<f64>()
        };
        let (before, end) = (used(), crate::clock::instant() + std::time::Duration::from_secs(60));
        while used() < before + 0.05 {
            assert!(crate::clock::instant() < end, "no time was counted");
        }
    }
}
