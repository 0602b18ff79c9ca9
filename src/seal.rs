//! Sealing: XChaCha20-Poly1305 under a key of 32 bytes, bound to what must stand beside the text.
//!
//! What is sealed is `nonce (24) · ciphertext · tag (16)`. The nonces are long enough to be drawn at
//! random for ever. What it is bound to is authenticated with it and not stored: moved elsewhere, it
//! does not open.

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Bytes that a sealed text has in front of its ciphertext.
pub const NONCE_LEN: usize = 24;

pub fn seal(key: &[u8; KEY_LEN], bound_to: &[u8], text: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).expect("the kernel's random source does not fail after boot");
    let ciphertext = XChaCha20Poly1305::new(key.into())
        .encrypt(&XNonce::from(nonce), Payload { msg: text, aad: bound_to })
        .expect("what is sealed is far below the cipher's 256 GiB");
    [nonce.as_slice(), &ciphertext].concat()
}

/// The text; none where it was cut or changed, was sealed with another key, or belongs elsewhere.
pub fn open(key: &[u8; KEY_LEN], bound_to: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, msg) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let payload = Payload { msg, aad: bound_to };
    XChaCha20Poly1305::new(key.into()).decrypt(&XNonce::from(*nonce), payload).ok()
}
