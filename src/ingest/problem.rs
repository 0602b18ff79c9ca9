//! Ingest's refusals, each with a stable code for machines; [`crate::problem`] is their shape.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

pub use crate::problem::FieldError;
use crate::problem::{self, Again, Kind, kind};

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
        self.kind().code
    }

    pub const fn status(self) -> StatusCode {
        self.kind().status
    }

    pub const fn kind(self) -> Kind {
        use StatusCode as S;
        match self {
            Self::InvalidPayload => {
                kind("invalid_payload", S::BAD_REQUEST, "The payload is not a valid event")
            }
            Self::InvalidBatch => kind(
                "invalid_batch",
                S::BAD_REQUEST,
                "The batch has bad lines; nothing was accepted",
            ),
            Self::InvalidParameter => problem::INVALID_PARAMETER,
            Self::InvalidIdempotencyKey => problem::INVALID_IDEMPOTENCY_KEY,
            Self::BadRequest => problem::BAD_REQUEST,
            Self::LoopDetected => kind(
                "loop_detected",
                S::BAD_REQUEST,
                "A gateway's delivery is not taken as an event",
            ),
            Self::Unauthorized => problem::UNAUTHORIZED,
            Self::NotFound => problem::NOT_FOUND,
            Self::MethodNotAllowed => problem::METHOD_NOT_ALLOWED,
            Self::Timeout => problem::TIMEOUT,
            Self::PayloadTooLarge => problem::PAYLOAD_TOO_LARGE,
            Self::TooManyDeliveries => kind(
                "too_many_deliveries",
                S::PAYLOAD_TOO_LARGE,
                "The batch would lead to too many deliveries",
            ),
            Self::UnsupportedMediaType => problem::UNSUPPORTED_MEDIA_TYPE,
            Self::IdempotencyKeyReused => problem::IDEMPOTENCY_KEY_REUSED,
            Self::RateLimited => problem::RATE_LIMITED,
            Self::Internal => problem::INTERNAL,
            Self::Overloaded => problem::OVERLOADED,
            Self::Unavailable => problem::UNAVAILABLE,
            Self::StorageFull => problem::STORAGE_FULL,
        }
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub code: Code,
    pub detail: Cow<'static, str>,
    pub errors: Vec<FieldError>,
    pub again: Option<Again>,
    /// The methods that the resource does have.
    pub allow: Option<&'static str>,
    /// Whether the connection is of no more use: the rest of the body is not wanted.
    pub close: bool,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        Self { code, detail, errors: Vec::new(), again: None, allow: None, close: false }
    }

    #[must_use]
    pub fn with_errors(self, errors: Vec<FieldError>) -> Self {
        Self { errors, ..self }
    }

    #[must_use]
    pub fn retry_after(self, again: impl Into<Again>) -> Self {
        Self { again: Some(again.into()), ..self }
    }

    #[must_use]
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// The response. `Connection: close` is added for HTTP/1 only, where `close` asks for it:
    /// HTTP/2 has no such header.
    pub fn into_response(self, version: http::Version) -> Response<Full<Bytes>> {
        let mut response =
            problem::response(self.code.kind(), &self.detail, &self.errors, self.again)
                .map(Full::new);
        let headers = response.headers_mut();
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.close && version < http::Version::HTTP_2 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_closed_where_the_protocol_has_a_word_for_it() {
        let problem = Problem::new(Code::RateLimited, "slower").closing();
        let on_http1 = problem.clone().into_response(http::Version::HTTP_11);
        assert_eq!(
            (on_http1.status().as_u16(), &on_http1.headers()["connection"]),
            (429, &"close".parse().expect("ASCII"))
        );
        let on_http2 = problem.into_response(http::Version::HTTP_2);
        assert!(!on_http2.headers().contains_key("connection"));
    }

    #[test]
    fn codes_are_unique() {
        let names: std::collections::BTreeSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
