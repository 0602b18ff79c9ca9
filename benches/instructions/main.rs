//! Instructions per call of what is done for every delivery, against a committed table: a commit
//! that makes one of them slower is seen even on a machine whose times cannot be trusted.
//!
//! ```text
//! cargo bench --bench instructions               # compares; exits 1 where a count has moved
//! cargo bench --bench instructions -- --accept   # writes the table anew
//! ```
//!
//! The program runs itself under valgrind, twice for each function: once with so many calls, once
//! with twice as many. The difference is what those calls took, whatever starting and preparing
//! took. benches/README.md says what a count means and when the table is written anew.

mod table;
#[path = "../work/mod.rs"]
mod work;

use std::{
    collections::BTreeMap,
    hint::black_box,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, bail, ensure};

use table::{Ground, Table};
use work::{
    Hash, Head, Parse, Sign,
    blocks::{ENTRIES, EVENTS, EntryBlock, EventsBlock},
    directory::Tenants,
    rebuild_routes,
    timers::{Load, Ours, PER_MILLI},
    turns::{Fate, PER_STEP, Turns},
};

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Something that is counted.
struct Function {
    name: &'static str,
    /// One run makes so many calls, another one twice as many.
    calls: usize,
    /// What one call does it does for so many deliveries, entries, …
    times: usize,
    /// Another function that does a part of it. In the table stands what comes on top: beside the
    /// part, its own work would be too little to be seen.
    beyond: Option<&'static str>,
    prepare: fn() -> Box<dyn FnMut()>,
}

const fn function(
    name: &'static str,
    calls: usize,
    times: usize,
    prepare: fn() -> Box<dyn FnMut()>,
) -> Function {
    Function { name, calls, times, beyond: None, prepare }
}

impl Function {
    const fn beyond(self, part: &'static str) -> Self {
        Self { beyond: Some(part), ..self }
    }
}

const FUNCTIONS: &[Function] = &[
    function("parse-512", 1000, 1, || {
        let parse = Parse::new(512);
        call(move || parse.run())
    }),
    function("hash-512", 200, 1, || {
        let hash = Hash::new(512);
        call(move || hash.run())
    }),
    function("sign-512", 200, 1, || {
        let mut sign = Sign::new(512);
        call(move || sign.run())
    })
    .beyond("hash-512"),
    function("head-512", 200, 1, || {
        let head = Head::new(512);
        call(move || head.run())
    })
    .beyond("sign-512"),
    function("router-look-up", 20_000, 1, || {
        let mut tenants = Tenants::new(400);
        call(move || tenants.look_up())
    }),
    function("router-rebuild", 2000, 1, || call(rebuild_routes)),
    function("events-encode", 1000, EVENTS, || {
        let block = EventsBlock::new();
        call(move || block.encode())
    }),
    function("events-decode", 2000, EVENTS, || {
        let block = EventsBlock::new();
        call(move || block.decode())
    }),
    function("entries-encode", 400, ENTRIES, || {
        let block = EntryBlock::new();
        call(move || block.encode())
    }),
    function("entries-decode", 400, ENTRIES, || {
        let block = EntryBlock::new();
        call(move || block.decode())
    }),
    function("engine-delivered", 500, PER_STEP as usize, || {
        let mut turns = Turns::new(1000, Fate::Delivered);
        call(move || turns.step())
    }),
    function("engine-retried-once", 500, PER_STEP as usize, || {
        let mut turns = Turns::new(1000, Fate::RetriedOnce);
        call(move || turns.step())
    }),
    function("wheel-insert-and-tick", 500, PER_MILLI, || {
        let mut load = Load::new(Ours::new(), 10_000);
        call(move || {
            load.pass();
            load.take_due();
            load.put_back();
        })
    }),
    function("wheel-insert-and-cancel", 500, 100, || {
        let mut load = Load::new(Ours::new(), 10_000);
        let picked = load.pick(100);
        call(move || {
            load.cancel(&picked);
            load.insert(&picked);
        })
    }),
];

fn call<T>(mut work: impl FnMut() -> T + 'static) -> Box<dyn FnMut()> {
    Box::new(move || drop(black_box(work())))
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["--accept"] => Table::new(Ground::here()?, count_all()?).write(),
        ["run", name, calls] => run(name, calls.parse()?),
        _ => bail!("no arguments, or --accept"),
    }
}

fn compare() -> anyhow::Result<()> {
    let accepted = Table::read()?;
    let counted = Table::new(Ground::here()?, count_all()?);
    let (report, moved) = accepted.compare(&counted);
    print!("{report}");
    ensure!(
        moved == 0,
        "{moved} of the counts moved; where that is meant, `cargo bench --bench instructions -- --accept` and commit the table"
    );
    Ok(())
}

/// What valgrind runs.
fn run(name: &str, calls: usize) -> anyhow::Result<()> {
    let function = FUNCTIONS.iter().find(|function| function.name == name);
    let mut call = (function.context("no such function")?.prepare)();
    for _ in 0..calls {
        call();
    }
    Ok(())
}

/// As many at once as there are processors.
fn count_all() -> anyhow::Result<BTreeMap<String, f64>> {
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(BTreeMap::new());
    let work = || -> anyhow::Result<()> {
        while let Some(function) = FUNCTIONS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let once = instructions(function, function.calls)?;
            let twice = instructions(function, 2 * function.calls)?;
            let each = (twice - once) as f64 / (function.calls * function.times) as f64;
            counts.lock().expect("nobody panics").insert(function.name, each);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("workers do not panic"))
    })?;
    let whole = counts.into_inner().expect("nobody panics");
    let own = |function: &Function| {
        let part = function.beyond.map_or(0.0, |part| whole[part]);
        (function.name.to_owned(), whole[function.name] - part)
    };
    Ok(FUNCTIONS.iter().map(own).collect())
}

/// What a run with so many calls takes from start to end. The environment is left out: its size
/// moves the stack, and with it what is aligned.
fn instructions(function: &Function, calls: usize) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["run", function.name, &calls.to_string()])
        .env_clear()
        .output()
        .context("valgrind cannot be started; install Debian's package valgrind")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} under valgrind: {told}", function.name);
    let refs = told.lines().find_map(|line| line.split_once("refs:")).context("no count")?.1;
    Ok(refs.trim().replace(',', "").parse()?)
}
