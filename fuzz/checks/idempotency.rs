//! Any bytes as an idempotency key, in a header and in a row of remembered keys.

use http::{HeaderMap, HeaderValue};
use senderz_gateway::{
    id::TenantNo,
    idempotency::is_usable,
    ingest::request::{idempotency_header, idempotency_key},
    store::codec::{decode_keys, encode_keys, open},
};

const MAX: usize = 64;

pub(crate) fn check(data: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(data) {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", value.clone());
        match idempotency_header(&headers, MAX) {
            Ok(Some(key)) => {
                assert!(is_usable(data, MAX) && key.as_bytes() == data);
                let of = |tenant| idempotency_key(TenantNo(tenant), key);
                assert!(of(1) == of(1) && of(1) != of(2), "a tenant's own");
                assert_ne!(of(1), idempotency_key(TenantNo(1), &format!("{key}x")));
            }
            Ok(None) => panic!("the header is there"),
            Err(_) => assert!(!is_usable(data, MAX)),
        }
        headers.append("idempotency-key", value);
        assert!(idempotency_header(&headers, MAX).is_err(), "once");
    } else {
        assert!(!is_usable(data, MAX), "a key fits into a header");
    }
    if let Ok((at, rows)) = decode_keys(data) {
        assert!(rows.len() <= data.len());
        let mut again = Vec::new();
        encode_keys(1, at, &rows, |key, record| {
            let (_, body) = open(key, record).expect("just sealed");
            let (_, rows) = decode_keys(body).expect("just written");
            again.extend(rows);
        });
        assert_eq!(again, rows);
    }
}
