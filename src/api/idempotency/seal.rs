//! What stands for a key and for a request, and answers that only the asker's API key opens.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Method, Uri};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::seal;

/// Keep these hashes apart from each other and from any other use of the same texts.
const NAME_DOMAIN: &[u8] = b"senderz api idempotency key v1\0";
const SEAL_DOMAIN: &[u8] = b"senderz api answer seal v1\0";
const REQUEST_DOMAIN: &[u8] = b"senderz api request v1\0";

/// An idempotency key together with the API key that it came with.
#[derive(Clone)]
pub(super) struct KeyName {
    pub(super) hash: [u8; 16],
    seal: Zeroizing<[u8; 32]>,
    request: Zeroizing<[u8; 32]>,
}

/// Not what it seals with.
impl std::fmt::Debug for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyName").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl KeyName {
    pub(super) fn new(api_key: &str, key: &str) -> Self {
        let keyed = |domain: &[u8]| -> [u8; 32] {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(api_key.as_bytes()).expect("HMAC takes any key");
            mac.update(domain);
            mac.update(key.as_bytes());
            mac.finalize().into_bytes().into()
        };
        Self {
            hash: half(keyed(NAME_DOMAIN)),
            seal: Zeroizing::new(keyed(SEAL_DOMAIN)),
            request: Zeroizing::new(keyed(REQUEST_DOMAIN)),
        }
    }
}

/// What was asked, as far as a repetition must not differ. Nobody can find out from it by guessing,
/// for example for whose erasure: it is keyed as the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request(pub(super) [u8; 16]);

impl Request {
    pub(super) fn new(
        name: &KeyName,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Self {
        let mut hash = Hmac::<Sha256>::new_from_slice(&*name.request).expect("HMAC takes any key");
        // Each part is led by its length, so that no two requests read the same.
        let mut take = |part: &[u8]| {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        take(method.as_str().as_bytes());
        take(uri.path().as_bytes());
        take(uri.query().unwrap_or_default().as_bytes());
        take(headers.get("senderz-tenant").map_or(&[], |name| name.as_bytes()));
        take(body);
        Self(half(hash.finalize().into_bytes().into()))
    }
}

fn half(whole: [u8; 32]) -> [u8; 16] {
    *whole.first_chunk().expect("16 of 32 bytes")
}

/// The answer of the request that began `at`, readable with the same API key and key only.
pub(super) fn seal(name: &KeyName, at: u64, answer: &[u8]) -> Vec<u8> {
    seal::seal(&name.seal, &bound_to(name, at), answer)
}

/// None where it is not what [`seal`] made for this name and time.
pub(super) fn open(name: &KeyName, at: u64, sealed: &[u8]) -> Option<Vec<u8>> {
    seal::open(&name.seal, &bound_to(name, at), sealed)
}

fn bound_to(name: &KeyName, at: u64) -> [u8; 24] {
    let mut bound = [0; 24];
    bound[..16].copy_from_slice(&name.hash);
    bound[16..].copy_from_slice(&at.to_le_bytes());
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_opens_for_its_own_name_and_time_only() {
        let name = KeyName::new("szk_tenant_a", "order-1");
        let sealed = seal(&name, 7, b"shown once");
        assert_eq!(open(&name, 7, &sealed).as_deref(), Some(b"shown once".as_slice()));
        assert!(!sealed.windows(5).any(|part| part == b"shown"), "it is not to be read");
        assert_eq!(open(&name, 8, &sealed), None);
        assert_eq!(open(&KeyName::new("szk_tenant_b", "order-1"), 7, &sealed), None);
        assert_eq!(open(&KeyName::new("szk_tenant_a", "order-2"), 7, &sealed), None);
        for cut in 0..sealed.len() {
            assert_eq!(open(&name, 7, &sealed[..cut]), None, "{cut} bytes of it");
            let mut flipped = sealed.clone();
            flipped[cut] ^= 1;
            assert_eq!(open(&name, 7, &flipped), None, "byte {cut} changed");
        }
    }

    #[test]
    fn requests_that_differ_anywhere_are_others() {
        let name = KeyName::new("szk_tenant_a", "order-1");
        let request = |method: Method, uri: &'static str, tenant: &str, body: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("senderz-tenant", tenant.parse().expect("ASCII"));
            Request::new(&name, &method, &Uri::from_static(uri), &headers, body)
        };
        let one = request(Method::POST, "/v1/webhooks", "acme", b"{}");
        assert_eq!(one, request(Method::POST, "/v1/webhooks", "acme", b"{}"));
        for other in [
            request(Method::PUT, "/v1/webhooks", "acme", b"{}"),
            request(Method::POST, "/v1/webhook", "sacme", b"{}"),
            request(Method::POST, "/v1/webhooks?dry_run=true", "acme", b"{}"),
            request(Method::POST, "/v1/webhooks", "acme{", b"}"),
            request(Method::POST, "/v1/webhooks", "acme", b"{ }"),
        ] {
            assert_ne!(one, other);
        }
        // Whoever does not have the API key cannot tell what was asked.
        let other = KeyName::new("szk_tenant_b", "order-1");
        let uri = Uri::from_static("/v1/webhooks");
        let mut headers = HeaderMap::new();
        headers.insert("senderz-tenant", "acme".parse().expect("ASCII"));
        assert_ne!(one, Request::new(&other, &Method::POST, &uri, &headers, b"{}"));
    }
}
