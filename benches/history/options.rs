//! What can be changed about a run.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

/// The number.
const ATTEMPTS: u64 = 10_000_000;

const QUICK: u64 = 20_000;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) attempts: u64,
    pub(crate) quick: bool,
    pub(crate) with_index: bool,
    /// Where the data directory is made and removed again.
    pub(crate) dir: PathBuf,
}

impl Options {
    pub(crate) fn read(arguments: &[String]) -> anyhow::Result<Self> {
        let dir = env!("CARGO_TARGET_TMPDIR").into();
        let mut options = Self { attempts: ATTEMPTS, quick: false, with_index: true, dir };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} takes a value"));
            match word.as_str() {
                "--quick" => (options.quick, options.attempts) = (true, QUICK),
                "--without-index" => options.with_index = false,
                "--attempts" => options.attempts = value()?.parse().context("--attempts")?,
                "--dir" => options.dir = value()?.into(),
                unknown => bail!(
                    "unknown option {unknown}; there are --attempts N, --without-index, --dir PATH, --quick"
                ),
            }
        }
        Ok(options)
    }

    /// At which the pages are asked for.
    pub(crate) fn sizes(&self) -> Vec<u64> {
        let smaller = [ATTEMPTS / 100, ATTEMPTS / 10].into_iter();
        smaller.filter(|size| *size < self.attempts).chain([self.attempts]).collect()
    }
}
