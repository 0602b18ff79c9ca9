//! When events come, decided before the phase begins: nothing that the gateway does moves it.

use anyhow::Context as _;

use crate::tape::Nanos;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// As independent producers send: gaps of every length around the mean.
    Poisson,
    /// One after the other at the same distance.
    Fixed,
}

impl Schedule {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::Fixed => "fixed",
        }
    }

    /// Arrivals for so many seconds. The same seed gives the same ones.
    pub(crate) fn arrivals(self, per_second: f64, seconds: f64, seed: u64) -> Vec<Nanos> {
        let gap = 1e9 / per_second;
        let mut random = Random(seed);
        let mut at = 0.0;
        let next = || {
            at += match self {
                Self::Poisson => -random.unit().ln() * gap,
                Self::Fixed => gap,
            };
            Some(at).filter(|at| *at < seconds * 1e9)
        };
        std::iter::from_fn(next).map(|at| at as Nanos).collect()
    }
}

impl std::str::FromStr for Schedule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let found = [Self::Poisson, Self::Fixed].into_iter().find(|one| one.name() == text);
        found.with_context(|| format!("{text} is neither poisson nor fixed"))
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// More than 0, at most 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((z >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}
