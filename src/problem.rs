//! Problem documents (RFC 9457): the shape of every refusal, whoever refuses.
//!
//! The API and ingest have a closed list of refusals each; here is what their answers have in
//! common, and the kinds that both know, so that one `type` has one status and one title. Nothing
//! of a payload, no key and nothing of our inside is ever in a problem.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

/// What a 401 says of how to authenticate.
pub const CHALLENGE: &str = r#"Bearer realm="senderz-gateway""#;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What a refusal is, whatever the request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The stable name in `code` and in `type`.
    pub code: &'static str,
    pub status: StatusCode,
    pub title: &'static str,
}

pub const INVALID_PARAMETER: Kind =
    kind("invalid_parameter", StatusCode::BAD_REQUEST, "A parameter is unknown or wrong");
pub const BAD_REQUEST: Kind =
    kind("bad_request", StatusCode::BAD_REQUEST, "The request cannot be understood");
pub const INVALID_IDEMPOTENCY_KEY: Kind =
    kind("invalid_idempotency_key", StatusCode::BAD_REQUEST, "The idempotency key is not usable");
pub const IDEMPOTENCY_KEY_REUSED: Kind = kind(
    "idempotency_key_reused",
    StatusCode::UNPROCESSABLE_ENTITY,
    "The idempotency key came with another request before",
);
pub const UNAUTHORIZED: Kind =
    kind("unauthorized", StatusCode::UNAUTHORIZED, "A valid API key is needed");
pub const NOT_FOUND: Kind = kind("not_found", StatusCode::NOT_FOUND, "There is no such object");
pub const METHOD_NOT_ALLOWED: Kind = kind(
    "method_not_allowed",
    StatusCode::METHOD_NOT_ALLOWED,
    "This resource does not have that method",
);
pub const TIMEOUT: Kind =
    kind("timeout", StatusCode::REQUEST_TIMEOUT, "The request did not arrive in time");
pub const PAYLOAD_TOO_LARGE: Kind =
    kind("payload_too_large", StatusCode::PAYLOAD_TOO_LARGE, "The request is too large");
pub const UNSUPPORTED_MEDIA_TYPE: Kind = kind(
    "unsupported_media_type",
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "The request's format is not taken here",
);
pub const RATE_LIMITED: Kind =
    kind("rate_limited", StatusCode::TOO_MANY_REQUESTS, "More comes than the limit allows");
pub const INTERNAL: Kind =
    kind("internal", StatusCode::INTERNAL_SERVER_ERROR, "The gateway could not do it");
pub const OVERLOADED: Kind =
    kind("overloaded", StatusCode::SERVICE_UNAVAILABLE, "The gateway has too much to do now");
pub const UNAVAILABLE: Kind =
    kind("unavailable", StatusCode::SERVICE_UNAVAILABLE, "The gateway cannot do it now");
pub const STORAGE_FULL: Kind =
    kind("storage_full", StatusCode::INSUFFICIENT_STORAGE, "The gateway's disk is full");

pub const fn kind(code: &'static str, status: StatusCode, title: &'static str) -> Kind {
    Kind { code, status, title }
}

/// One wrong thing in the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// A JSON pointer into the body; for a parameter of the URL, `?` and its name. A batch counts
    /// as `{"lines":{"1":…,"2":…}}`: lines are numbered from 1, as editors and `sed -n` do.
    pub pointer: String,
    pub detail: String,
    /// A finer code, where there is one (what is wrong with a URL).
    #[schema(value_type = String, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// The batch's line, where there is one.
    #[schema(value_type = usize, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl FieldError {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into(), ..Self::default() }
    }
}

/// How much of something there may be: what a refusal says in the fields `RateLimit-Policy` and
/// `RateLimit` (draft-ietf-httpapi-ratelimit-headers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Its key in the configuration.
    pub name: &'static str,
    pub of: u64,
    /// In which time, in whole seconds; none where it is how many requests may be under way at once.
    pub period: Option<Duration>,
}

impl Quota {
    fn policy(&self) -> String {
        let Self { name, of, period } = self;
        match period {
            Some(period) => format!("\"{name}\";q={of};w={}", period.as_secs()),
            None => format!("\"{name}\";q={of};qu=\"concurrent-requests\""),
        }
    }
}

/// When a refused request may go better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    pub after: Duration,
    /// What was used up, where it was a quota.
    pub quota: Option<Box<Quota>>,
}

impl From<Duration> for Again {
    fn from(after: Duration) -> Self {
        Self { after, quota: None }
    }
}

/// The answer to a refused request.
pub fn response(
    kind: Kind,
    detail: &str,
    errors: &[FieldError],
    again: Option<Again>,
) -> Response<Bytes> {
    let document = Document {
        r#type: format!("/problems/{}", kind.code),
        title: kind.title,
        status: kind.status.as_u16(),
        detail,
        code: kind.code,
        errors,
    };
    let body = serde_json::to_vec(&document).expect("strings and numbers always serialize");
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = kind.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(Again { after, quota }) = again {
        let seconds = whole_seconds(after);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        if let Some(quota) = quota.as_deref() {
            headers.insert(RATE_LIMIT_POLICY, visible(&quota.policy()));
            let left = format!("\"{}\";r=0;t={seconds}", quota.name);
            headers.insert(RATE_LIMIT, visible(&left));
        }
    }
    if kind.status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    }
    response
}

fn visible(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("names of keys and numbers are visible ASCII")
}

/// `Retry-After` counts whole seconds; never 0, which would mean at once.
fn whole_seconds(wait: Duration) -> u64 {
    let up = u64::from(wait.subsec_nanos() > 0);
    (wait.as_secs() + up).max(1)
}

/// What is wrong with a name that is none of those known in its place (at least one): what it was
/// probably meant to be, or which there are.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match (nearest(name, known), known) {
        (Some(near), _) => format!("there is no such {what}; did you mean `{near}`?"),
        (None, [one]) => format!("there is no such {what}; there is only `{one}`"),
        (None, all) => format!("there is no such {what}; there are {}", all.join(", ")),
    }
}

/// The known name that is most like what was written; none where nothing is.
pub fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    // A name is short: longer input is no typing mistake, and comparing costs its length.
    const LONGEST: usize = 40;
    if written.len() > LONGEST {
        return None;
    }
    let likeness = |name: &&str| strsim::jaro_winkler(written, name);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) >= 0.8).then_some(best)
}

/// Why a request was refused (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Document<'a> {
    /// `/problems/` and the code.
    r#type: String,
    title: &'static str,
    /// The response's status.
    status: u16,
    /// For people: what is wrong with this request.
    detail: &'a str,
    /// Stable, for machines.
    code: &'static str,
    /// What is wrong, piece by piece, where that can be said.
    #[schema(value_type = Vec<FieldError>, required = false)]
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_a_problem_document_with_its_headers() {
        let line = FieldError { line: Some(3), ..FieldError::new("/lines/3", "bad") };
        let url = FieldError { code: Some("blocked_target"), ..FieldError::new("/url", "no") };
        let quota = Quota { name: "limits.some", of: 60, period: Some(Duration::from_secs(3)) };
        let again = Again { after: Duration::from_millis(1_001), quota: Some(Box::new(quota)) };
        let response = response(RATE_LIMITED, "slower", &[line, url], Some(again));
        assert_eq!(response.headers()["ratelimit-policy"], r#""limits.some";q=60;w=3"#);
        assert_eq!(response.headers()["ratelimit"], r#""limits.some";r=0;t=2"#);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let document: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
        assert_eq!(
            document,
            serde_json::json!({
                "type": "/problems/rate_limited",
                "title": "More comes than the limit allows",
                "status": 429,
                "detail": "slower",
                "code": "rate_limited",
                "errors": [
                    {"pointer": "/lines/3", "detail": "bad", "line": 3},
                    {"pointer": "/url", "detail": "no", "code": "blocked_target"},
                ],
            })
        );
    }

    #[test]
    fn what_may_be_under_way_at_once_is_a_quota_without_a_period() {
        let quota = Quota { name: "stream.some", of: 10, period: None };
        assert_eq!(quota.policy(), r#""stream.some";q=10;qu="concurrent-requests""#);
    }

    #[test]
    fn what_does_not_apply_is_left_out() {
        let response = response(UNAUTHORIZED, "who?", &[], None);
        assert_eq!(response.headers()["www-authenticate"], r#"Bearer realm="senderz-gateway""#);
        assert!(!response.headers().contains_key("retry-after"));
        let document: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
        assert!(document.get("errors").is_none(), "{document}");
    }

    #[test]
    fn waits_are_whole_seconds_and_never_zero() {
        for (wait, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (60_000, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(wait)), seconds);
        }
    }
}
