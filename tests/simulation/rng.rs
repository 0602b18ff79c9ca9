//! Chance, repeatable: SplitMix64. A dependency would change what a seed means with its version.

use std::ops::RangeInclusive;

#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Neighbouring seeds give unrelated runs.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Self(seed);
        Self(rng.next() ^ seed.rotate_left(32))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    /// As `between`, for small numbers.
    pub(crate) fn count(&mut self, range: RangeInclusive<u32>) -> u32 {
        self.between(u64::from(*range.start())..=u64::from(*range.end())) as u32
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize].clone()
    }
}
