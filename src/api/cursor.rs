//! Cursors: where a list goes on.
//!
//! `base64url(version · position · tag)`. The tag is a hash over the list's name, the tenant, the
//! filters and the position, so a cursor works only for the list that gave it. It is no secret and
//! needs none: whatever position somebody forges, the query behind it is bound to their own tenant.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::params::Params;
use crate::id::TenantNo;

const VERSION: u8 = 1;
const TAG: usize = 8;

/// A list as one tenant sees it through one set of filters.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<'a> {
    pub(super) name: &'static str,
    /// None where the list spans tenants.
    pub(super) tenant: Option<TenantNo>,
    pub(super) params: &'a Params,
}

/// Why a cursor is none of this list's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It was never a cursor.
    Malformed,
    /// It comes from another list or other filters, or was tampered with.
    Foreign,
}

impl List<'_> {
    pub(super) fn cursor<const N: usize>(&self, position: [u8; N]) -> String {
        let mut bytes = Vec::with_capacity(1 + N + TAG);
        bytes.push(VERSION);
        bytes.extend_from_slice(&position);
        bytes.extend_from_slice(&self.tag(&position));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Where a cursor says to go on.
    pub(super) fn position<const N: usize>(&self, text: &str) -> Result<[u8; N], Refused> {
        // Longer than any cursor: not worth decoding.
        if text.len() > 2 * (1 + N + TAG) {
            return Err(Refused::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Refused::Malformed)?;
        let (version, rest) = bytes.split_first().ok_or(Refused::Malformed)?;
        let (position, tag) = rest.split_at_checked(N).ok_or(Refused::Malformed)?;
        if *version != VERSION || tag != self.tag(position) {
            return Err(Refused::Foreign);
        }
        Ok(position.try_into().expect("split at N"))
    }

    fn tag(&self, position: &[u8]) -> [u8; TAG] {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(&[VERSION]);
        add(self.name.as_bytes());
        add(&self.tenant.map_or([0; 4], |no| no.0.to_le_bytes()));
        for (name, value) in self.params.filters() {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        add(position);
        let hash = hash.finalize();
        std::array::from_fn(|at| hash[at])
    }
}
