//! Every refusal as an RFC 9457 problem document, with a stable code for machines.
//!
//! Ingest has the same shape and the same codes over its own server. Nothing in a problem comes
//! from the inside: no store error's text, no address, no key.

use std::{borrow::Cow, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::{command::Stopped, directory::ChangeError, store::StoreError};

/// What `Retry-After` says while the gateway cannot do something.
const UNAVAILABLE_FOR: Duration = Duration::from_secs(1);

/// The closed list of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    InvalidBody,
    InvalidParameter,
    InvalidCursor,
    KeyInUrl,
    TenantRequired,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    TenantExists,
    LimitReached,
    DeliveryNotEnded,
    DeliveryEnded,
    WebhookDeleted,
    WebhookDisabled,
    PayloadTooLarge,
    UnsupportedMediaType,
    RateLimited,
    Internal,
    Unavailable,
    StorageFull,
}

impl Code {
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
            Self::InvalidBody => ("invalid_body", S::BAD_REQUEST, "The body is not valid"),
            Self::InvalidParameter => {
                ("invalid_parameter", S::BAD_REQUEST, "A parameter is unknown or wrong")
            }
            Self::InvalidCursor => {
                ("invalid_cursor", S::BAD_REQUEST, "The cursor does not belong to this list")
            }
            Self::KeyInUrl => ("key_in_url", S::BAD_REQUEST, "A key must not be in the URL"),
            Self::TenantRequired => {
                ("tenant_required", S::BAD_REQUEST, "The request does not say for which tenant")
            }
            Self::Unauthorized => ("unauthorized", S::UNAUTHORIZED, "A valid API key is needed"),
            Self::Forbidden => ("forbidden", S::FORBIDDEN, "This key may not do that"),
            Self::NotFound => ("not_found", S::NOT_FOUND, "There is no such object"),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                S::METHOD_NOT_ALLOWED,
                "This resource does not have that method",
            ),
            Self::TenantExists => ("tenant_exists", S::CONFLICT, "The tenant's id is taken"),
            Self::LimitReached => ("limit_reached", S::CONFLICT, "A limit is reached"),
            Self::DeliveryNotEnded => {
                ("delivery_not_ended", S::CONFLICT, "The delivery has not ended")
            }
            Self::DeliveryEnded => ("delivery_ended", S::CONFLICT, "The delivery has ended"),
            Self::WebhookDeleted => ("webhook_deleted", S::CONFLICT, "The webhook was deleted"),
            Self::WebhookDisabled => ("webhook_disabled", S::CONFLICT, "The webhook is disabled"),
            Self::PayloadTooLarge => {
                ("payload_too_large", S::PAYLOAD_TOO_LARGE, "The request is too large")
            }
            Self::UnsupportedMediaType => (
                "unsupported_media_type",
                S::UNSUPPORTED_MEDIA_TYPE,
                "The request's format is not taken here",
            ),
            Self::RateLimited => {
                ("rate_limited", S::TOO_MANY_REQUESTS, "More comes than the limit allows")
            }
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "The gateway could not do it"),
            Self::Unavailable => {
                ("unavailable", S::SERVICE_UNAVAILABLE, "The gateway cannot do it now")
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
    /// A JSON pointer into the body; for a parameter of the URL, `?` and its name.
    pub pointer: String,
    pub detail: String,
    /// A finer code, where there is one (what is wrong with a URL).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub code: Code,
    pub detail: Cow<'static, str>,
    pub errors: Vec<FieldError>,
    /// After which it may go better.
    pub retry_after: Option<Duration>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let retry_after = (code == Code::Unavailable).then_some(UNAVAILABLE_FOR);
        Self { code, detail: detail.into(), errors: Vec::new(), retry_after }
    }

    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The one answer for what is missing and for what is another tenant's.
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "there is no such object")
    }

    /// All that is wrong; the detail is the first and how many more there are.
    pub(super) fn fields(code: Code, errors: Vec<FieldError>) -> Self {
        let first = errors.first().map_or("", |error| error.detail.as_str());
        let place = errors.first().map_or("", |error| error.pointer.as_str());
        let mut detail = if place.is_empty() {
            first.to_owned()
        } else {
            format!("{}: {first}", place.trim_start_matches(['/', '?']))
        };
        if errors.len() > 1 {
            detail.push_str(&format!(" (and {} more)", errors.len() - 1));
        }
        Self { errors, ..Self::new(code, detail) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
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
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.code {
            Code::Unauthorized => {
                let scheme = HeaderValue::from_static(r#"Bearer realm="senderz-gateway""#);
                headers.insert(header::WWW_AUTHENTICATE, scheme);
            }
            _ => {}
        }
        if let Some(wait) = self.retry_after {
            // Whole seconds, and never 0, which would mean at once.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds as u64));
        }
        response
    }
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

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => {
                Self::new(Code::StorageFull, "there is no room for it; nothing was changed")
            }
            StoreError::Poisoned | StoreError::Closed => {
                Self::new(Code::Unavailable, "the gateway's store has stopped; try again later")
            }
            StoreError::Damaged => {
                tracing::error!("a record that the api asked for is damaged");
                Self::new(Code::Internal, "the record is damaged and was set aside")
            }
            StoreError::Io(reason) => {
                tracing::error!(reason, "the store could not read for the api");
                Self::new(Code::Internal, "the record could not be read")
            }
        }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::TenantExists => Self::new(Code::TenantExists, error.to_string()),
            ChangeError::NoSuchTenant | ChangeError::NoSuchWebhook | ChangeError::NoSuchKey => {
                Self::not_found()
            }
            ChangeError::Limit { .. } => Self::new(Code::LimitReached, error.to_string()),
            ChangeError::Headers(error) => {
                let error = FieldError {
                    pointer: "/headers".to_owned(),
                    detail: error.to_string(),
                    code: None,
                };
                Self::fields(Code::InvalidBody, vec![error])
            }
            ChangeError::Store(error) => error.into(),
            ChangeError::Interrupted => {
                Self::new(Code::Internal, "whether it was changed is not known; read it again")
            }
        }
    }
}

impl From<Stopped> for Problem {
    fn from(_: Stopped) -> Self {
        Self::new(Code::Unavailable, "the gateway is stopping; it goes on after its restart")
    }
}
