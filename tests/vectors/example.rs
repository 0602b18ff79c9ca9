use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

pub fn verify(secret: &str, body: &[u8], header: &str) -> bool {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length is a key");
    let mac = mac.chain_update(body).finalize().into_bytes();
    let expected: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    let fits = |one: &str| bool::from(expected.as_bytes().ct_eq(one.as_bytes()));
    header.split(',').fold(false, |valid, one| fits(one) | valid)
}
