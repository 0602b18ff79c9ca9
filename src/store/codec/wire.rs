//! Integers of varying length, and a reader that cannot run over its end.

use super::Damage;

/// LEB128: seven bits a byte, least significant first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Small magnitudes of either sign become small numbers.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads from the front of a slice; every read past the end is [`Damage::Truncated`].
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How far it has read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Damage> {
        if len > self.left() {
            return Err(Damage::Truncated);
        }
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        Ok(self.take(N)?.try_into().expect("take gives the length asked for"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, Damage> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn varint(&mut self) -> Result<u64, Damage> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damage::Value("integer"))
    }

    /// A varint that must fit the type asked for; `what` names it in the damage.
    pub(super) fn number<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, Damage> {
        T::try_from(self.varint()?).map_err(|_| Damage::Value(what))
    }

    pub(super) fn signed(&mut self) -> Result<i64, Damage> {
        Ok(unzigzag(self.varint()?))
    }

    /// A count of things that take at least `least` bytes each: more of them than the rest could
    /// hold is damage, so a count may be used to reserve memory.
    pub(super) fn count(&mut self, least: usize) -> Result<usize, Damage> {
        let count: usize = self.number("count")?;
        if count > self.left() / least { Err(Damage::Truncated) } else { Ok(count) }
    }

    pub(super) fn end(&self) -> Result<(), Damage> {
        if self.left() == 0 { Ok(()) } else { Err(Damage::Trailing) }
    }
}
