//! Cursors: where a list goes on.
//!
//! `base64url(version · position · tag)`. The tag is a hash over the list's name, the tenant, the
//! filters and the position, so a cursor works only for the list that gave it. It is no secret and
//! needs none: whatever position somebody forges, the query behind it is bound to their own tenant.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::{Code, Problem, params::Params};
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

impl List<'_> {
    pub(super) fn cursor<const N: usize>(&self, position: [u8; N]) -> String {
        let mut bytes = Vec::with_capacity(1 + N + TAG);
        bytes.push(VERSION);
        bytes.extend_from_slice(&position);
        bytes.extend_from_slice(&self.tag(&position));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Where the request's cursor says to go on; none where it has no cursor.
    pub(super) fn position<const N: usize>(&self) -> Result<Option<[u8; N]>, Problem> {
        let Some(text) = self.params.cursor() else { return Ok(None) };
        let refuse = || {
            Problem::new(
                Code::InvalidCursor,
                "pass `next_cursor` unchanged, with the same filters, or start without a cursor",
            )
        };
        // Longer than any cursor: not worth decoding.
        if text.len() > 2 * (1 + N + TAG) {
            return Err(refuse());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refuse())?;
        let (version, rest) = bytes.split_first().ok_or_else(refuse)?;
        let (position, tag) = rest.split_at_checked(N).ok_or_else(refuse)?;
        if *version != VERSION || tag != self.tag(position) {
            return Err(refuse());
        }
        Ok(Some(position.try_into().expect("split at N")))
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
