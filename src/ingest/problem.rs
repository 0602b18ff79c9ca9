//! Refusals as RFC 9457 problem documents, with a stable code for machines.
//!
//! The API has the same shape over its own framework. Nothing of a payload, and no key, is ever
//! in one.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

/// The closed list of refusals; also the `reason` label of `senderz_events_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    InvalidPayload,
    InvalidBatch,
    InvalidParameter,
    InvalidIdempotencyKey,
    BadRequest,
    LoopDetected,
    Unauthorized,
    NotFound,
    MethodNotAllowed,
    Timeout,
    PayloadTooLarge,
    TooManyDeliveries,
    UnsupportedMediaType,
    IdempotencyKeyReused,
    RateLimited,
    Internal,
    Overloaded,
    Unavailable,
    StorageFull,
}

impl Code {
    pub const ALL: [Code; 19] = [
        Self::InvalidPayload,
        Self::InvalidBatch,
        Self::InvalidParameter,
        Self::InvalidIdempotencyKey,
        Self::BadRequest,
        Self::LoopDetected,
        Self::Unauthorized,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Timeout,
        Self::PayloadTooLarge,
        Self::TooManyDeliveries,
        Self::UnsupportedMediaType,
        Self::IdempotencyKeyReused,
        Self::RateLimited,
        Self::Internal,
        Self::Overloaded,
        Self::Unavailable,
        Self::StorageFull,
    ];

    /// The name in `code` and in `type`.
    pub const fn as_str(self) -> &'static str {
        self.facts().0
    }

    pub const fn status(self) -> StatusCode {
        self.facts().1
    }

    const fn facts(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::InvalidPayload => {
                ("invalid_payload", S::BAD_REQUEST, "The payload is not a valid event")
            }
            Self::InvalidBatch => {
                ("invalid_batch", S::BAD_REQUEST, "The batch has bad lines; nothing was accepted")
            }
            Self::InvalidParameter => {
                ("invalid_parameter", S::BAD_REQUEST, "A parameter is unknown or wrong")
            }
            Self::InvalidIdempotencyKey => {
                ("invalid_idempotency_key", S::BAD_REQUEST, "The idempotency key is not usable")
            }
            Self::BadRequest => ("bad_request", S::BAD_REQUEST, "The request cannot be understood"),
            Self::LoopDetected => {
                ("loop_detected", S::BAD_REQUEST, "A gateway's delivery is not taken as an event")
            }
            Self::Unauthorized => ("unauthorized", S::UNAUTHORIZED, "A valid API key is needed"),
            Self::NotFound => ("not_found", S::NOT_FOUND, "There is no such object"),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                S::METHOD_NOT_ALLOWED,
                "This resource does not have that method",
            ),
            Self::Timeout => ("timeout", S::REQUEST_TIMEOUT, "The request did not arrive in time"),
            Self::PayloadTooLarge => {
                ("payload_too_large", S::PAYLOAD_TOO_LARGE, "The request is too large")
            }
            Self::TooManyDeliveries => (
                "too_many_deliveries",
                S::PAYLOAD_TOO_LARGE,
                "The batch would lead to too many deliveries",
            ),
            Self::UnsupportedMediaType => (
                "unsupported_media_type",
                S::UNSUPPORTED_MEDIA_TYPE,
                "The request's format is not taken here",
            ),
            Self::IdempotencyKeyReused => (
                "idempotency_key_reused",
                S::UNPROCESSABLE_ENTITY,
                "The idempotency key came with another payload before",
            ),
            Self::RateLimited => {
                ("rate_limited", S::TOO_MANY_REQUESTS, "More comes than the limit allows")
            }
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "The gateway made a mistake"),
            Self::Overloaded => {
                ("overloaded", S::SERVICE_UNAVAILABLE, "The gateway has too much to do now")
            }
            Self::Unavailable => {
                ("unavailable", S::SERVICE_UNAVAILABLE, "The gateway takes no events now")
            }
            Self::StorageFull => {
                ("storage_full", S::INSUFFICIENT_STORAGE, "The gateway's disk is full")
            }
        }
    }
}

/// One wrong thing in the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON pointer into the body. A batch counts as `{"lines":{"1":…,"2":…}}`: lines are numbered
    /// from 1, as editors and `sed -n` do.
    pub pointer: String,
    pub detail: String,
    /// The batch's line, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub code: Code,
    pub detail: Cow<'static, str>,
    pub errors: Vec<FieldError>,
    pub retry_after: Option<Duration>,
    /// The methods that the resource does have.
    pub allow: Option<&'static str>,
    /// Whether the connection is of no more use: the rest of the body is not wanted.
    pub close: bool,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        Self { code, detail, errors: Vec::new(), retry_after: None, allow: None, close: false }
    }

    #[must_use]
    pub fn with_errors(self, errors: Vec<FieldError>) -> Self {
        Self { errors, ..self }
    }

    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    #[must_use]
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// The response. `Connection: close` is added for HTTP/1 only, where `close` asks for it:
    /// HTTP/2 has no such header.
    pub fn into_response(self, version: http::Version) -> Response<Full<Bytes>> {
        let (code, status, title) = self.code.facts();
        let document = Document {
            r#type: format!("/problems/{code}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            code,
            errors: &self.errors,
        };
        let body = serde_json::to_vec(&document).expect("strings and numbers always serialize");
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.code == Code::Unauthorized {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="senderz-gateway""#),
            );
        }
        if self.close && version < http::Version::HTTP_2 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// `Retry-After` counts whole seconds; never 0, which would mean at once.
fn whole_seconds(wait: Duration) -> u64 {
    let up = u64::from(wait.subsec_nanos() > 0);
    (wait.as_secs() + up).max(1)
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_problem_is_a_problem_document_with_its_headers() {
        let problem = Problem::new(Code::RateLimited, "slower")
            .retry_after(Duration::from_millis(1_001))
            .with_errors(vec![FieldError {
                pointer: "/lines/3".into(),
                detail: "bad".into(),
                line: Some(3),
            }])
            .closing();
        let response = problem.clone().into_response(http::Version::HTTP_11);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["connection"], "close");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = response.into_body().collect().await.expect("a full body").to_bytes();
        let document: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            document,
            serde_json::json!({
                "type": "/problems/rate_limited",
                "title": "More comes than the limit allows",
                "status": 429,
                "detail": "slower",
                "code": "rate_limited",
                "errors": [{"pointer": "/lines/3", "detail": "bad", "line": 3}],
            })
        );
        let on_http2 = problem.into_response(http::Version::HTTP_2);
        assert!(!on_http2.headers().contains_key("connection"));
    }

    #[test]
    fn codes_are_unique_and_waits_are_never_zero() {
        let names: std::collections::BTreeSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for (wait, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (60_000, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(wait)), seconds);
        }
    }
}
