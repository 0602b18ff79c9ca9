//! Any signature header: only the signature of that body by that secret is accepted.

use std::time::Duration;

use senderz_gateway::{
    sender::sign::{Signer, StandardHeaders, verify_hex, verify_standard},
    tenant::{SigningSecret, SigningSecrets},
};

const SECRET: &str = "whsec_MTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3BxcnN0dXY=";
const BODY: &[u8] = b"{\"type\":\"message.sent\"}";
const ID: &str = "evt_1";
const SECONDS: &str = "1795407600";
const NOW: u64 = 1_795_407_600_000;

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let secret: SigningSecret = SECRET.parse().expect("a secret");
    let signer = Signer::new(&SigningSecrets { current: secret.clone(), previous: Vec::new() });
    let (mut hex, mut standard) = (Vec::new(), Vec::new());
    signer.write_hex(NOW, BODY, &mut hex);
    signer.write_standard(NOW, ID.as_bytes(), SECONDS.as_bytes(), BODY, &mut standard);
    let (hex, standard) = (ascii(&hex), ascii(&standard));

    let mut parts = text.splitn(3, '\0');
    let header = parts.next().unwrap_or_default();
    if verify_hex(&secret, header, BODY).is_ok() {
        assert!(header.split(',').any(|part| part == hex), "{header:?}");
    }
    let headers = |id, timestamp, signature| StandardHeaders { id, timestamp, signature };
    let verify = |headers| verify_standard(&secret, headers, BODY, NOW, Duration::from_secs(300));
    if verify(headers(ID, SECONDS, header)).is_ok() {
        assert!(header.split(' ').any(|part| part == standard), "{header:?}");
    }
    // The right signature, with other headers beside it.
    let (id, timestamp) = (parts.next().unwrap_or(ID), parts.next().unwrap_or(SECONDS));
    if verify(headers(id, timestamp, &standard)).is_ok() {
        assert_eq!((id, timestamp), (ID, SECONDS));
    }
    // Beside the right one it does no harm, or the whole is refused.
    assert!(verify_hex(&secret, &hex, BODY).is_ok());
    assert!(verify_hex(&secret, &hex, data).is_err() || data == BODY);

    if let Ok(read) = text.parse::<SigningSecret>() {
        assert_eq!(read.expose(), text);
        assert!((24..=64).contains(&read.key_bytes().len()));
    }
}

fn ascii(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).expect("signatures are ASCII").to_owned()
}
