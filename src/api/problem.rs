//! The API's refusals, each with a stable code for machines; [`crate::problem`] is their shape.
//!
//! Nothing in a problem comes from the inside: no store error's text, no address, no key.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::StatusCode;

use super::etag;
pub use crate::problem::FieldError;
use crate::{
    command::Stopped,
    directory::ChangeError,
    problem::{self, Again, Kind, kind},
    store::StoreError,
};

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
    ReplayEnded,
    WebhookDeleted,
    WebhookDisabled,
    EventsGone,
    EventErased,
    BackupRunning,
    BackupExists,
    PreconditionFailed,
    InvalidIdempotencyKey,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    PayloadTooLarge,
    UnsupportedMediaType,
    RateLimited,
    Internal,
    Unavailable,
    StorageFull,
}

impl Code {
    pub const ALL: [Code; 30] = [
        Self::InvalidBody,
        Self::InvalidParameter,
        Self::InvalidCursor,
        Self::KeyInUrl,
        Self::TenantRequired,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TenantExists,
        Self::LimitReached,
        Self::DeliveryNotEnded,
        Self::DeliveryEnded,
        Self::ReplayEnded,
        Self::WebhookDeleted,
        Self::WebhookDisabled,
        Self::EventsGone,
        Self::EventErased,
        Self::BackupRunning,
        Self::BackupExists,
        Self::PreconditionFailed,
        Self::InvalidIdempotencyKey,
        Self::IdempotencyKeyInUse,
        Self::IdempotencyKeyReused,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::RateLimited,
        Self::Internal,
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
            Self::InvalidBody => kind("invalid_body", S::BAD_REQUEST, "The body is not valid"),
            Self::InvalidParameter => problem::INVALID_PARAMETER,
            Self::InvalidCursor => {
                kind("invalid_cursor", S::BAD_REQUEST, "The cursor does not belong to this list")
            }
            Self::KeyInUrl => kind("key_in_url", S::BAD_REQUEST, "A key must not be in the URL"),
            Self::TenantRequired => {
                kind("tenant_required", S::BAD_REQUEST, "The request does not say for which tenant")
            }
            Self::Unauthorized => problem::UNAUTHORIZED,
            Self::Forbidden => kind("forbidden", S::FORBIDDEN, "This key may not do that"),
            Self::NotFound => problem::NOT_FOUND,
            Self::MethodNotAllowed => problem::METHOD_NOT_ALLOWED,
            Self::TenantExists => kind("tenant_exists", S::CONFLICT, "The tenant's id is taken"),
            Self::LimitReached => kind("limit_reached", S::CONFLICT, "A limit is reached"),
            Self::DeliveryNotEnded => {
                kind("delivery_not_ended", S::CONFLICT, "The delivery has not ended")
            }
            Self::DeliveryEnded => kind("delivery_ended", S::CONFLICT, "The delivery has ended"),
            Self::ReplayEnded => kind("replay_ended", S::CONFLICT, "The replay has ended"),
            Self::WebhookDeleted => kind("webhook_deleted", S::CONFLICT, "The webhook was deleted"),
            Self::WebhookDisabled => {
                kind("webhook_disabled", S::CONFLICT, "The webhook is disabled")
            }
            Self::BackupRunning => {
                kind("backup_running", S::CONFLICT, "Another backup is being made")
            }
            Self::BackupExists => kind("backup_exists", S::CONFLICT, "The backup's name is taken"),
            Self::EventErased => kind("event_erased", S::CONFLICT, "The event was erased"),
            Self::EventsGone => {
                kind("events_gone", S::GONE, "Events after this place were removed by retention")
            }
            Self::PreconditionFailed => {
                kind("precondition_failed", S::PRECONDITION_FAILED, "It is not as the request says")
            }
            Self::InvalidIdempotencyKey => problem::INVALID_IDEMPOTENCY_KEY,
            Self::IdempotencyKeyInUse => kind(
                "idempotency_key_in_use",
                S::CONFLICT,
                "The first request with this idempotency key has no answer",
            ),
            Self::IdempotencyKeyReused => problem::IDEMPOTENCY_KEY_REUSED,
            Self::PayloadTooLarge => problem::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => problem::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited => problem::RATE_LIMITED,
            Self::Internal => problem::INTERNAL,
            Self::Unavailable => problem::UNAVAILABLE,
            Self::StorageFull => problem::STORAGE_FULL,
        }
    }
}

/// What an id in a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    Tenant,
    Webhook,
    Event,
    Delivery,
    Replay,
    Erasure,
    Backup,
    Key,
}

impl Object {
    /// Says which id is wanted and where it stands: the id of another object is an easy mistake.
    const fn missing(self) -> &'static str {
        match self {
            Self::Tenant => "there is no such tenant; GET /v1/tenants shows their ids",
            Self::Webhook => {
                "there is no such webhook; its id is the `wh_…` that GET /v1/webhooks shows"
            }
            Self::Event => {
                "there is no such event; its id is the `evt_…` that GET /v1/events shows"
            }
            Self::Delivery => {
                "there is no such delivery; its id is the `dlv_…` that GET /v1/deliveries shows"
            }
            Self::Replay => {
                "there is no such replay; its id is the `rpl_…` that GET /v1/replays shows"
            }
            Self::Erasure => {
                "there is no such erasure; its id is the `ers_…` that GET /v1/erasures shows"
            }
            Self::Backup => {
                "there is no such backup; its name is the one that GET /v1/backups shows"
            }
            Self::Key => "there is no such key; its id is the `key_…` that GET /v1/keys shows",
        }
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub code: Code,
    pub detail: Cow<'static, str>,
    pub errors: Vec<FieldError>,
    /// After which it may go better.
    pub again: Option<Again>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let again = (code == Code::Unavailable).then(|| UNAVAILABLE_FOR.into());
        Self { code, detail: detail.into(), errors: Vec::new(), again }
    }

    #[must_use]
    pub fn retry_after(self, again: impl Into<Again>) -> Self {
        Self { again: Some(again.into()), ..self }
    }

    /// The one answer for what is missing, for what is another tenant's and for what is no id at
    /// all.
    pub fn no_such(object: Object) -> Self {
        Self::new(Code::NotFound, object.missing())
    }

    /// For the id of another kind of object, as its prefix tells everybody.
    pub(super) fn is_of(kind: &str, object: Object) -> Self {
        let missing = object.missing();
        Self::new(Code::NotFound, format!("this is the id of {kind}; {missing}"))
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
        problem::response(self.code.kind(), &self.detail, &self.errors, self.again).map(Body::from)
    }
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
            ChangeError::Changed => etag::changed(),
            ChangeError::NoSuchTenant => Self::no_such(Object::Tenant),
            ChangeError::NoSuchWebhook => Self::no_such(Object::Webhook),
            ChangeError::NoSuchKey => Self::no_such(Object::Key),
            ChangeError::Limit { .. } | ChangeError::TooManySecrets(_) => {
                Self::new(Code::LimitReached, error.to_string())
            }
            ChangeError::Headers(error) => {
                let error = FieldError::new("/headers", error.to_string());
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
