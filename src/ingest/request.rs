//! What the head of a request says: who asks, in which format, with which key and parameters.
//!
//! Pure: every answer depends on the head alone.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header};
use sha2::{Digest as _, Sha256};

use crate::{
    id::TenantNo,
    idempotency,
    ingest::problem::{Code, FieldError, Problem},
    media_type::{self, MediaType},
    problem::unknown,
    store::IdempotencyKey,
};

/// What every delivery of a gateway carries, and nothing else does.
const DELIVERY: HeaderName = HeaderName::from_static("x-senderz-delivery");

/// Keeps these hashes apart from any other use of SHA-256 over a tenant and a text.
const KEY_DOMAIN: &[u8] = b"senderz idempotency key v1\0";

/// How all API keys start; one in a URL is as good as published.
const API_KEY_PREFIX: &str = "szk_";

/// The most wrong parameters that one answer names.
const MAX_ERRORS: usize = 20;

/// The names of newline-delimited JSON.
pub const LINES: &[&str] = &["application/x-ndjson", "application/ndjson"];

/// The format of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One payload: `application/json`.
    Json,
    /// Many lines: `application/x-ndjson` or `application/ndjson`.
    Lines,
}

/// The bearer key of the `Authorization` header.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let refused = |detail: &'static str| Problem::new(Code::Unauthorized, detail);
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(refused("send one header `Authorization: Bearer szk_…`"));
    };
    let key = value.to_str().ok().and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim_matches(' '))
    });
    key.filter(|key| !key.is_empty())
        .ok_or_else(|| refused("send the API key as `Authorization: Bearer szk_…`"))
}

/// Refuses a request whose URL holds an API key, whatever else it says.
pub fn no_key_in_query(query: Option<&str>) -> Result<(), Problem> {
    if query.is_some_and(|query| query.contains(API_KEY_PREFIX)) {
        return Err(Problem::new(
            Code::Unauthorized,
            "an API key is never taken from a URL, where logs keep it; revoke this one and send \
             `Authorization: Bearer szk_…`",
        ));
    }
    Ok(())
}

/// Refuses a gateway's delivery. A webhook that points at an ingest URL, perhaps over another
/// gateway, would otherwise make an event of each of its deliveries, without end.
pub fn no_delivery(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(DELIVERY) {
        return Err(Problem::new(
            Code::LoopDetected,
            "the request carries `X-Senderz-Delivery`: a webhook points at a gateway's ingest URL",
        ));
    }
    Ok(())
}

/// Whether the answer to a batch lists the ids: `?ids=false` leaves them out.
pub fn wants_ids(query: Option<&str>) -> Result<bool, Problem> {
    match query.unwrap_or("") {
        "" | "ids=true" => Ok(true),
        "ids=false" => Ok(false),
        query => Err(Problem::new(
            Code::InvalidParameter,
            "the one query parameter taken here is `ids`, true or false, once",
        )
        .with_errors(wrong_parameters(query, |name, value| match (name, value) {
            ("ids", "true" | "false") => None,
            ("ids", _) => Some("it is true or false".to_owned()),
            _ => Some(unknown("parameter", name, &["ids"])),
        }))),
    }
}

/// What `judge` finds wrong with the first parameters of a query.
fn wrong_parameters(query: &str, judge: impl Fn(&str, &str) -> Option<String>) -> Vec<FieldError> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let wrong = pairs.filter_map(|(name, value)| {
        let detail = judge(&name, &value)?;
        Some(FieldError::new(format!("?{name}"), detail))
    });
    wrong.take(MAX_ERRORS).collect()
}

/// Refuses any query parameter.
pub fn no_parameters(query: Option<&str>) -> Result<(), Problem> {
    match query.unwrap_or("") {
        "" => Ok(()),
        query => Err(Problem::new(Code::InvalidParameter, "no query parameter is taken here")
            .with_errors(wrong_parameters(query, |_, _| {
                Some("this route takes no parameters".to_owned())
            }))),
    }
}

/// Checks that the body is in `format`, not encoded, and said to be so.
pub fn check_format(headers: &HeaderMap, format: Format) -> Result<(), Problem> {
    let refused = |detail: Cow<'static, str>| Problem::new(Code::UnsupportedMediaType, detail);
    let encodings = headers.get_all(header::CONTENT_ENCODING);
    if !encodings.iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(refused("send the body without a content encoding".into()));
    }
    let (types, name): (&[&str], _) = match format {
        Format::Json => (&["application/json"], "one event as `Content-Type: application/json`"),
        Format::Lines => (LINES, "one event a line as `Content-Type: application/x-ndjson`"),
    };
    match MediaType::of(headers).filter(|found| found.is_one_of(types)) {
        Some(found) if found.is_utf8() => Ok(()),
        Some(_) => Err(refused(media_type::SEND_UTF8.into())),
        None => Err(refused(format!("send {name}").into())),
    }
}

/// The `Idempotency-Key` header, if there is one.
pub fn idempotency_header(headers: &HeaderMap, max: usize) -> Result<Option<&str>, Problem> {
    idempotency::key_of(headers, max).map_err(|idempotency::Unusable| {
        Problem::new(Code::InvalidIdempotencyKey, idempotency::rule(max))
    })
}

/// What the store remembers of a key: a hash bound to the tenant, so that tenants' keys are
/// independent and their length is nobody's problem.
pub fn idempotency_key(tenant: TenantNo, key: &str) -> IdempotencyKey {
    let mut hash = Sha256::new();
    hash.update(KEY_DOMAIN);
    hash.update(tenant.0.to_le_bytes());
    hash.update(key);
    let digest: [u8; 32] = hash.finalize().into();
    let (half, _) = digest.split_first_chunk().expect("16 of 32 bytes");
    IdempotencyKey(*half)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
                (HeaderName::from_static(name), value)
            })
            .collect()
    }

    #[test]
    fn one_bearer_key_is_taken_and_nothing_else() {
        let key = |values: &[&str]| {
            let pairs: Vec<_> = values.iter().map(|v| ("authorization", *v)).collect();
            bearer(&headers(&pairs)).map(str::to_owned).map_err(|e| e.code)
        };
        for good in ["Bearer szk_x", "bearer szk_x", "BEARER  szk_x "] {
            assert_eq!(key(&[good]), Ok("szk_x".to_owned()), "{good}");
        }
        for bad in [
            &[][..],
            &["szk_x"],
            &["Basic szk_x"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer\u{e9} szk_x"],
            &["Bearer szk_x", "Bearer szk_x"],
        ] {
            assert_eq!(key(bad), Err(Code::Unauthorized), "{bad:?}");
        }
    }

    #[test]
    fn formats_are_taken_as_the_table_says() {
        let check = |format, pairs: &[(&'static str, &str)], good: bool| {
            assert_eq!(check_format(&headers(pairs), format).is_ok(), good, "{format:?} {pairs:?}");
        };
        for (value, json, lines) in [
            ("application/json", true, false),
            ("Application/JSON", true, false),
            ("application/json; charset=utf-8", true, false),
            ("application/json ;x", true, false),
            ("application/x-ndjson", false, true),
            ("application/ndjson;charset=utf-8", false, true),
            ("application/x-ndjson; charset=utf-16", false, false),
            ("application/jsonx", false, false),
            ("text/plain", false, false),
            ("application/x-www-form-urlencoded", false, false),
            ("", false, false),
        ] {
            check(Format::Json, &[("content-type", value)], json);
            check(Format::Lines, &[("content-type", value)], lines);
        }
        check(Format::Json, &[], false);
        let twice = [("content-type", "application/json"), ("content-type", "application/json")];
        check(Format::Json, &twice, false);
        for (encoding, good) in [("identity", true), ("gzip", false), ("identity, br", false)] {
            let pairs = [("content-type", "application/json"), ("content-encoding", encoding)];
            check(Format::Json, &pairs, good);
        }
    }

    #[test]
    fn keys_are_visible_ascii_of_limited_length() {
        let check = |values: &[&str], expected: Result<Option<&str>, Code>| {
            let pairs: Vec<_> = values.iter().map(|v| ("idempotency-key", *v)).collect();
            let headers = headers(&pairs);
            assert_eq!(idempotency_header(&headers, 255).map_err(|e| e.code), expected);
        };
        let invalid = Err(Code::InvalidIdempotencyKey);
        check(&[], Ok(None));
        check(&["k"], Ok(Some("k")));
        check(&[r#""quoted~""#], Ok(Some(r#""quoted~""#)));
        check(&[&"k".repeat(255)], Ok(Some(&"k".repeat(255))));
        check(&[&"k".repeat(256)], invalid);
        check(&[&"k".repeat(10_000)], invalid);
        check(&[""], invalid);
        check(&["two words"], invalid);
        check(&["schlüssel"], invalid);
        check(&["tab\tkey"], invalid);
        check(&["one", "two"], invalid);
    }

    #[test]
    fn tenants_keys_are_independent() {
        let hash = |tenant, key| idempotency_key(TenantNo(tenant), key);
        assert_eq!(hash(1, "a"), hash(1, "a"));
        assert_ne!(hash(1, "a"), hash(2, "a"));
        assert_ne!(hash(1, "a"), hash(1, "b"));
        // The tenant's number has a fixed width: nothing of it can be moved into the key.
        assert_ne!(hash(0x6101, "a"), hash(0x01, "aa"));
    }

    #[test]
    fn queries_are_taken_as_the_table_says() {
        for (query, expected) in [
            (None, Ok(true)),
            (Some(""), Ok(true)),
            (Some("ids=true"), Ok(true)),
            (Some("ids=false"), Ok(false)),
            (Some("ids="), Err(Code::InvalidParameter)),
            (Some("ids=0"), Err(Code::InvalidParameter)),
            (Some("ids=false&ids=true"), Err(Code::InvalidParameter)),
            (Some("id=false"), Err(Code::InvalidParameter)),
        ] {
            assert_eq!(wants_ids(query).map_err(|e| e.code), expected, "{query:?}");
            let bare = query.unwrap_or("").is_empty();
            assert_eq!(no_parameters(query).is_ok(), bare, "{query:?}");
        }
        let told = |refused: Problem| {
            let errors = refused.errors.into_iter();
            errors.map(|error| (error.pointer, error.detail)).collect::<Vec<_>>()
        };
        let refused = wants_ids(Some("idz=false&ids=no&ids=true")).unwrap_err();
        let [idz, ids] = told(refused).try_into().expect("two are wrong");
        assert_eq!(idz.0, "?idz");
        assert!(idz.1.ends_with("did you mean `ids`?"), "{}", idz.1);
        assert_eq!(ids, ("?ids".to_owned(), "it is true or false".to_owned()));
        let refused = no_parameters(Some("ids=false")).unwrap_err();
        assert_eq!(told(refused)[0].0, "?ids");
        assert!(no_key_in_query(Some("key=szk_operator_x")).is_err());
        assert!(no_key_in_query(Some("ids=false")).is_ok());
    }
}
