//! Entity tags (RFC 9110, section 8.8), and changes that hold only for what their asker has seen
//! (`If-Match`, section 13.1.1).
//!
//! A tag is made of the representation alone: it changes when what is shown changes, and is the
//! same after a restart.

use std::{convert::Infallible, fmt::Write as _};

use axum::extract::FromRequestParts;
use http::{HeaderValue, header, request::Parts};
use sha2::{Digest as _, Sha256};

use super::{Code, Problem};

/// Bytes of the hash that stand in a tag.
const TAG_BYTES: usize = 16;

/// The strong tag of a representation, quotes included.
pub(super) fn tag(representation: &[u8]) -> String {
    let hash = Sha256::digest(representation);
    let mut tag = String::with_capacity(2 * TAG_BYTES + 2);
    tag.push('"');
    for byte in &hash[..TAG_BYTES] {
        write!(tag, "{byte:02x}").expect("a string takes everything");
    }
    tag.push('"');
    tag
}

/// A request's `If-Match`: a list of tags, or `*`.
#[derive(Clone, Debug)]
pub(super) struct IfMatch(Vec<HeaderValue>);

impl IfMatch {
    /// Whether the request has a condition at all.
    pub(super) fn is_given(&self) -> bool {
        !self.0.is_empty()
    }

    /// Lets the change pass where there is no condition, or where `tag`, what is shown now, fulfils
    /// it. Tags are compared strongly: a weak one (`W/"…"`) fulfils nothing.
    pub(super) fn check(&self, tag: impl FnOnce() -> String) -> Result<(), Problem> {
        if !self.is_given() {
            return Ok(());
        }
        let tag = tag();
        let fulfils = |one: &str| one == "*" || one == tag;
        // Our tags have no comma in them, so that none is cut in two.
        let mut given =
            self.0.iter().filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(','));
        if given.any(|one| fulfils(one.trim_matches([' ', '\t']))) {
            Ok(())
        } else {
            Err(changed())
        }
    }
}

/// What was seen is not what is there any more.
pub(super) fn changed() -> Problem {
    Problem::new(
        Code::PreconditionFailed,
        "it is not as `If-Match` says; read it again and send its `ETag`, quotes included",
    )
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.get_all(header::IF_MATCH).iter().cloned().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(given: &[&str], tag: &str) -> bool {
        let given = given.iter().map(|value| value.parse().expect("ASCII")).collect();
        IfMatch(given).check(|| tag.to_owned()).is_ok()
    }

    #[test]
    fn a_condition_is_fulfilled_by_one_strong_tag_of_all_its_lists() {
        assert!(passes(&[], "\"a\""));
        assert!(passes(&["*"], "\"a\""));
        assert!(passes(&["\"a\""], "\"a\""));
        assert!(passes(&["\"b\" ,\t\"a\""], "\"a\""));
        assert!(passes(&["\"b\"", "\"c\", \"a\""], "\"a\""));
        for refused in ["\"b\"", "W/\"a\"", "a", "", "\"A\"", "'a'"] {
            assert!(!passes(&[refused], "\"a\""), "{refused}");
        }
    }

    #[test]
    fn a_tag_is_quoted_and_its_representation_s_own() {
        let (one, other) = (tag(b"{}"), tag(b"{ }"));
        assert_ne!(one, other);
        assert_eq!(one, tag(b"{}"));
        assert_eq!((one.len(), one.starts_with('"'), one.ends_with('"')), (34, true, true));
    }
}
