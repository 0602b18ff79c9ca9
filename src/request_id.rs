//! Request ids: what a request is called, in its answer and in what the log says of it.
//!
//! Whoever asks may bring a name along (`X-Request-Id`, as proxies do), so that one name follows a
//! request through all systems; one that could not be written into a log line as it is counts for
//! nothing, and a new one is made. It is a name and proves nothing: nothing is looked up by it.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::id;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest name that is taken over, bytes.
pub const MAX_REQUEST_ID: usize = 128;

/// A request's name: `req_…`, or its asker's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    pub fn into_header(self) -> HeaderValue {
        self.0
    }

    /// None where no request is called so. It is a copy: what it stands in may be large, and the name
    /// is kept.
    pub fn of(name: &[u8]) -> Option<Self> {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
        let is_usable = (1..=MAX_REQUEST_ID).contains(&name.len()) && name.iter().all(is_plain);
        is_usable.then(|| Self(HeaderValue::from_bytes(name).expect("it is visible ASCII")))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().expect("it was made of visible ASCII, or found to be"))
    }
}

/// Gives requests their names.
#[derive(Debug, Default)]
pub struct RequestIds {
    /// Names are a keyed hash of a running number: none comes twice, and none tells a tenant how
    /// many requests others have made. That costs less than random bytes for each.
    hash: RandomState,
    next: AtomicU64,
}

impl RequestIds {
    /// What the request with these headers is called.
    pub fn of(&self, headers: &HeaderMap) -> RequestId {
        brought(headers).unwrap_or_else(|| self.make())
    }

    fn make(&self) -> RequestId {
        let number = self.next.fetch_add(1, Relaxed);
        let half = |which: u8| u128::from(self.hash.hash_one((which, number)));
        let text = id::request(half(0) << 64 | half(1));
        RequestId(HeaderValue::from_bytes(&text).expect("base32 is visible ASCII"))
    }
}

/// The name that the asker gave: one, not too long, of characters that mean nothing in logs.
fn brought(headers: &HeaderMap) -> Option<RequestId> {
    let mut given = headers.get_all(REQUEST_ID).iter();
    let (Some(one), None) = (given.next(), given.next()) else { return None };
    RequestId::of(one.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usable_name_is_kept_and_any_other_request_gets_one_of_its_own() {
        let ids = RequestIds::default();
        let check = |given: &[&str], is_kept: bool| {
            let mut headers = HeaderMap::new();
            for one in given {
                headers.append(REQUEST_ID, HeaderValue::from_bytes(one.as_bytes()).unwrap());
            }
            let id = ids.of(&headers).to_string();
            assert_eq!(given.contains(&id.as_str()), is_kept, "{given:?} became {id}");
            assert!(is_kept || (id.starts_with("req_") && id.len() == 30), "{id}");
        };
        let longest = "x".repeat(MAX_REQUEST_ID);
        for usable in
            ["a", "req_1", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736", "Root=1-67-a", &longest]
        {
            check(&[usable], true);
        }
        check(&[], false);
        for unusable in ["", "a b", "a\tb", "a\"b", "a{b}", "é", &format!("{longest}x")] {
            check(&[unusable], false);
        }
        check(&["a", "b"], false);
    }

    #[test]
    fn no_two_requests_get_one_name() {
        let ids = RequestIds::default();
        let made: std::collections::HashSet<_> =
            (0..10_000).map(|_| ids.of(&HeaderMap::new()).to_string()).collect();
        assert_eq!(made.len(), 10_000);
        let of_another_gateway = RequestIds::default().of(&HeaderMap::new()).to_string();
        assert!(!made.contains(&of_another_gateway));
    }
}
