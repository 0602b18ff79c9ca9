//! Names and values, as forms and addresses have them.

use axum::{
    body::to_bytes,
    extract::{FromRequest, Request},
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, header};

use super::ask::Refused;

/// The listener takes no larger body for the API either.
const MAX_FORM: usize = 256 * 1024;

#[derive(Clone, Debug, Default)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(super) fn of(text: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(text).into_owned().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The value; empty where there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The value without white space around it; none where nothing was filled in.
    pub(super) fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).map(str::trim).filter(|text| !text.is_empty())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// A posted form.
#[derive(Clone, Debug)]
pub(super) struct Form(pub(super) Pairs);

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("application/x-www-form-urlencoded") {
            let detail = "Only the portal's own forms are taken here.";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Refused::new(status, "Not a form", detail).into_response());
        }
        let body = to_bytes(request.into_body(), MAX_FORM).await.map_err(|_| {
            let detail = format!("A form may have {MAX_FORM} bytes.");
            Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "Too much at once", &detail).into_response()
        })?;
        Ok(Self(Pairs::of(&body)))
    }
}
