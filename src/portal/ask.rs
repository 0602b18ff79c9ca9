//! Questions to the API, asked in this process.

use std::fmt;

use axum::{
    body::{Body, to_bytes},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tower_service::Service as _;

use super::Portal;
use crate::{request_id::RequestId, sessions::Pass};

const TENANT_HEADER: HeaderName = HeaderName::from_static("senderz-tenant");

/// Answers are in memory whole, and pages of them are bounded by the API.
const MAX_ANSWER: usize = 64 << 20;

/// Who asks: a session, and for which tenant.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) portal: Portal,
    pub(super) pass: Pass,
    pub(super) tenant: Option<String>,
    /// What the request is called that is answered; what it asks for is called the same.
    pub(super) request: Option<RequestId>,
}

/// What the API refused, in its words.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Refused {
    #[serde(deserialize_with = "status")]
    pub(super) status: StatusCode,
    pub(super) title: String,
    pub(super) detail: String,
    pub(super) code: String,
    #[serde(default)]
    pub(super) errors: Vec<FieldError>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct FieldError {
    pub(super) pointer: String,
    pub(super) detail: String,
}

fn status<'de, D: serde::Deserializer<'de>>(from: D) -> Result<StatusCode, D::Error> {
    let number = u16::deserialize(from)?;
    StatusCode::from_u16(number).map_err(serde::de::Error::custom)
}

impl Refused {
    pub(super) fn new(status: StatusCode, title: &str, detail: &str) -> Self {
        Self {
            status,
            title: title.to_owned(),
            detail: detail.to_owned(),
            code: String::new(),
            errors: Vec::new(),
        }
    }

    /// As the API answers what is missing and what is another tenant's.
    pub(super) fn nothing_here() -> Self {
        let detail = "The address is wrong, or what was here is gone, or it is not yours to see.";
        Self::new(StatusCode::NOT_FOUND, "There is nothing here", detail)
    }

    /// Where a page goes on with what was asked and says what was wrong.
    pub(super) fn is_correctable(&self) -> bool {
        matches!(self.status.as_u16(), 400 | 409 | 412 | 422 | 429 | 503)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

/// The fence makes a page of it.
impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl Asker {
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refused> {
        read(&self.text(Method::GET, path, None).await?)
    }

    /// The answer's text, for what has parts that must stay as they are written.
    pub(super) async fn get_text(&self, path: &str) -> Result<Bytes, Refused> {
        self.text(Method::GET, path, None).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Value,
    ) -> Result<T, Refused> {
        read(&self.text(Method::POST, path, Some(body)).await?)
    }

    pub(super) async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Value,
    ) -> Result<T, Refused> {
        read(&self.text(Method::PATCH, path, Some(body)).await?)
    }

    pub(super) async fn delete(&self, path: &str) -> Result<(), Refused> {
        self.text(Method::DELETE, path, None).await.map(drop)
    }

    /// The answer as it comes, where it does not end.
    pub(super) async fn open(
        &self,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Response, Refused> {
        let mut request = self.request(Method::GET, path, None)?;
        request.headers_mut().extend(headers.iter().cloned());
        let response = self.call(request).await;
        if response.status().is_success() { Ok(response) } else { Err(refused(response).await) }
    }

    async fn text(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Bytes, Refused> {
        let response = self.call(self.request(method, path, body)?).await;
        if response.status().is_success() {
            return to_bytes(response.into_body(), MAX_ANSWER).await.map_err(|_| unreadable());
        }
        Err(refused(response).await)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Request<Body>, Refused> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(tenant) = &self.tenant {
            request = request.header(TENANT_HEADER, tenant);
        }
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        // An id from an address may be none at all: what cannot be asked for is not there.
        let mut request = request.map_err(|_| Refused::nothing_here())?;
        request.extensions_mut().insert(self.pass.clone());
        if let Some(name) = &self.request {
            request.extensions_mut().insert(name.clone());
        }
        Ok(request)
    }

    async fn call(&self, request: Request<Body>) -> Response {
        match self.portal.api.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

async fn refused(response: Response) -> Refused {
    let body = to_bytes(response.into_body(), MAX_ANSWER).await.unwrap_or_default();
    serde_json::from_slice(&body).unwrap_or_else(|_| unreadable())
}

fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(text).map_err(|error| {
        tracing::error!(%error, "the portal does not understand an answer of the api");
        unreadable()
    })
}

fn unreadable() -> Refused {
    let detail = "The gateway's answer cannot be shown.";
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "Something is wrong here", detail)
}

/// A part of a path, so written that it stays one part.
pub(super) fn part(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A path with a query made of these.
pub(super) fn with_query<'a>(
    path: &str,
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}
