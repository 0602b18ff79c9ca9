//! What is kept of an answer on disk.
//!
//! ```text
//! key    'i' · hash of API key and idempotency key (16)
//! value  version (1) · began, Unix ms (8) · tenant + 1, or 0 (8) · hash of the request (16) · answer
//! ```
//!
//! Numbers are little-endian. The answer is sealed, and empty while it is not known. The store seals
//! its rows with a checksum, and the answer has its own.

use super::{kept::Kept, seal::Request};
use crate::{clock::Millis, id::TenantNo, store::Row};

const TAG: u8 = b'i';
const VERSION: u8 = 1;

/// A kept answer cannot be read, and without it a request could be done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    #[error("the row of a kept answer is damaged; put back a copy of the data directory")]
    Damaged,
    #[error(
        "the row of a kept answer was written by a newer version (format {0}); run that version, or set another data_dir"
    )]
    Newer(u8),
}

/// Whether a directory row is one of these.
pub(super) fn is_answer(row: &Row) -> bool {
    row.key.first() == Some(&TAG)
}

pub(super) fn removed(hash: [u8; 16]) -> Row {
    Row { key: key(hash), value: None }
}

pub(super) fn encode(hash: [u8; 16], kept: &Kept) -> Row {
    let owner = kept.owner.map_or(0, |no| u64::from(no.0) + 1);
    let answer = kept.answer.as_deref().unwrap_or_default();
    let mut value = Vec::with_capacity(33 + answer.len());
    value.push(VERSION);
    value.extend(kept.at.to_le_bytes());
    value.extend(owner.to_le_bytes());
    value.extend(kept.request.0);
    value.extend(answer);
    Row { key: key(hash), value: Some(value) }
}

pub(super) fn decode(row: &Row) -> Result<([u8; 16], Kept), BadAnswer> {
    let hash = row.key.get(1..).and_then(|hash| hash.try_into().ok()).ok_or(BadAnswer::Damaged)?;
    let value = row.value.as_deref().unwrap_or_default();
    let (version, rest) = value.split_first().ok_or(BadAnswer::Damaged)?;
    if *version != VERSION {
        return Err(BadAnswer::Newer(*version));
    }
    let (at, rest) = rest.split_first_chunk::<8>().ok_or(BadAnswer::Damaged)?;
    let (owner, rest) = rest.split_first_chunk::<8>().ok_or(BadAnswer::Damaged)?;
    let (request, answer) = rest.split_first_chunk::<16>().ok_or(BadAnswer::Damaged)?;
    let owner = match u64::from_le_bytes(*owner).checked_sub(1) {
        None => None,
        Some(no) => Some(TenantNo(u32::try_from(no).map_err(|_| BadAnswer::Damaged)?)),
    };
    let kept = Kept {
        at: Millis::from_le_bytes(*at),
        owner,
        request: Request(*request),
        answer: (!answer.is_empty()).then(|| answer.into()),
        is_under_way: false,
    };
    Ok((hash, kept))
}

fn key(hash: [u8; 16]) -> Vec<u8> {
    [&[TAG], hash.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_kept() {
        for (owner, answer) in [(None, None), (Some(TenantNo(0)), Some(b"sealed".as_slice()))] {
            let kept = Kept {
                at: 1_795_407_600_123,
                owner,
                request: Request([7; 16]),
                answer: answer.map(Into::into),
                is_under_way: false,
            };
            let row = encode([3; 16], &kept);
            assert!(is_answer(&row));
            assert_eq!(decode(&row), Ok(([3; 16], kept)));
        }
    }

    #[test]
    fn what_is_cut_or_newer_is_refused() {
        let kept = Kept {
            at: 1,
            owner: None,
            request: Request([7; 16]),
            answer: None,
            is_under_way: false,
        };
        let row = encode([3; 16], &kept);
        let value = row.value.clone().expect("it has one");
        for cut in 0..value.len() {
            let row = Row { value: Some(value[..cut].to_vec()), ..row.clone() };
            assert_eq!(decode(&row), Err(BadAnswer::Damaged), "{cut} bytes");
        }
        let short = Row { key: row.key[..16].to_vec(), ..row.clone() };
        assert_eq!(decode(&short), Err(BadAnswer::Damaged));
        let mut newer = value;
        newer[0] = 9;
        assert_eq!(decode(&Row { value: Some(newer), ..row }), Err(BadAnswer::Newer(9)));
    }
}
