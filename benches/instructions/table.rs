//! The committed table, and what counts as a move.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    process::Command,
};

use anyhow::Context as _;
use serde::Deserialize;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");

/// How far a count may be from the table's, percent. Counts are the same in every run, to a tenth of
/// a percent; this is for what a change elsewhere does to the compiler's choices here.
const TOLERANCE: f64 = 1.0;
/// How far it may rise where the table is of other ground: only a large step is taken for ours then.
const FOREIGN_TOLERANCE: f64 = 25.0;

/// What counts depend on beside the code: the compiler, and the processor that valgrind shows.
#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct Ground {
    rustc: String,
    valgrind: String,
    processor: String,
}

impl Ground {
    pub(crate) fn here() -> anyhow::Result<Self> {
        Ok(Self {
            rustc: first_line("rustc")?,
            valgrind: first_line("valgrind")?,
            processor: processor().to_owned(),
        })
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.rustc, self.valgrind, self.processor)
    }
}

/// Libraries choose their code by this; valgrind hides whatever is newer.
#[cfg(target_arch = "x86_64")]
fn processor() -> &'static str {
    if is_x86_feature_detected!("avx2") { "x86_64 with AVX2" } else { "x86_64 without AVX2" }
}

#[cfg(not(target_arch = "x86_64"))]
fn processor() -> &'static str {
    std::env::consts::ARCH
}

fn first_line(program: &str) -> anyhow::Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("{program} cannot be started"))?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().next().with_context(|| format!("{program} tells no version"))?.to_owned())
}

/// Instructions by function, and where they were counted.
#[derive(Debug, Deserialize)]
pub(crate) struct Table {
    ground: Ground,
    instructions: BTreeMap<String, f64>,
}

impl Table {
    pub(crate) fn new(ground: Ground, instructions: BTreeMap<String, f64>) -> Self {
        Self { ground, instructions }
    }

    pub(crate) fn read() -> anyhow::Result<Self> {
        let text = fs::read_to_string(FILE).with_context(|| format!("{FILE} cannot be read"))?;
        toml::from_str(&text).with_context(|| format!("{FILE} is not a table of counts"))
    }

    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let Ground { rustc, valgrind, processor } = &self.ground;
        let mut text = format!(
            "# Instructions per call; `cargo bench --bench instructions -- --accept` writes this file.\n\n\
             [ground]\nrustc = {rustc:?}\nvalgrind = {valgrind:?}\nprocessor = {processor:?}\n\n\
             [instructions]\n"
        );
        for (name, count) in &self.instructions {
            text += &format!("{name} = {count:.1}\n");
        }
        fs::write(FILE, text).with_context(|| format!("{FILE} cannot be written"))
    }

    /// What is said about counts beside the accepted ones, and how many have moved.
    pub(crate) fn compare(&self, now: &Self) -> (String, usize) {
        let mut report = String::new();
        let mut allowed = (TOLERANCE, TOLERANCE);
        if self.ground != now.ground {
            allowed = (FOREIGN_TOLERANCE, f64::INFINITY);
            report = format!(
                "The table was counted with {},\nwhich is not what is here: {}.\nSo only what rose by more than {FOREIGN_TOLERANCE} % is a failure; accept new counts soon.\n\n",
                self.ground, now.ground
            );
        }
        let mut moved = 0;
        let names: BTreeSet<_> = self.instructions.keys().chain(now.instructions.keys()).collect();
        for name in names {
            let (accepted, counted) = (self.instructions.get(name), now.instructions.get(name));
            let (line, has_moved) = judge(accepted.copied(), counted.copied(), allowed);
            report += &format!("{name:<24} {line}\n");
            moved += usize::from(has_moved);
        }
        (report, moved)
    }
}

/// What is said about one count, and whether it is wrong: it rose or fell by more percent than
/// allowed. One that fell is wrong, too: left in the table, it would hide the next rise.
fn judge(accepted: Option<f64>, counted: Option<f64>, (rise, fall): (f64, f64)) -> (String, bool) {
    let (accepted, counted) = match (accepted, counted) {
        (Some(accepted), Some(counted)) => (accepted, counted),
        (None, Some(counted)) => return (format!("{counted:>23.1}  NOT IN THE TABLE"), true),
        (_, None) => return ("NO LONGER COUNTED".to_owned(), true),
    };
    let change = (counted / accepted - 1.0) * 100.0;
    let verdict = if change > rise {
        "  SLOWER"
    } else if change < -fall {
        "  FASTER: accept it, so that it stays"
    } else {
        ""
    };
    let line = format!("{accepted:>11.1} {counted:>11.1} {change:>+8.1} %{verdict}");
    (line, !verdict.is_empty())
}
