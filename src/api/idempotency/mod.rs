//! `Idempotency-Key` on every POST of the API: a request that is repeated with its key does nothing
//! again and gets the first answer, with `Idempotent-Replayed: true`, within
//! `ingest.idempotency_window`, restarts included.
//!
//! What holds:
//! - A key belongs to the API key that it came with. The same key with another request is refused
//!   (422); while the first is under way, its repetition is refused too (409).
//! - That a request begins is durable before it begins, so a crash in the middle of it cannot make
//!   it happen twice: its repetition is told that nobody knows whether it happened (409).
//! - Only what was done is kept: a refusal frees its key, since nothing was changed.
//! - An answer may hold secrets that are shown once. It is kept sealed under a key that is made of
//!   the API key itself, which the gateway does not keep: without it nobody can read the answer.
//! - What is kept is bounded in bytes, for each tenant and in all.

mod kept;
mod row;
mod seal;

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use tracing::Instrument as _;

pub use self::{
    kept::{Answers, Bounds},
    row::BadAnswer,
};
use self::{
    kept::{Begun, Under},
    seal::{KeyName, Request as Asked},
};
use super::{
    ApiState, Code, Problem,
    access::{Caller, bearer},
    body,
    page::json_text,
};
use crate::idempotency::{self, IDEMPOTENT_REPLAYED, key_of};

/// How soon a repetition of what is under way may come again.
const UNDER_WAY: std::time::Duration = std::time::Duration::from_secs(1);

/// An answer as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Given {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// Lets a request without a key pass, and one with a key once.
pub(super) async fn once(
    State(api): State<ApiState>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let longest = api.settings().longest_idempotency_key;
    let Some(key) = key_of(request.headers(), longest).map_err(|_| unusable(longest))? else {
        return Ok(next.run(request).await);
    };
    let api_key = bearer(request.headers())?;
    let name = KeyName::new(api_key, key);
    let (parts, content) = request.into_parts();
    let content = body::read(&parts.headers, content).await?;
    let asked = Asked::new(&name, &parts.method, &parts.uri, &parts.headers, &content);
    let caller = parts.extensions.get::<Caller>().expect("the gate is in front");
    let owner = caller.principal.tenant();
    let request = Request::from_parts(parts, Body::from(content));
    // A task of its own: what has begun ends, whether its asker still waits or not.
    let work = async move { pass(&api, &name, &asked, owner, request, next).await };
    let done = tokio::spawn(work.in_current_span()).await;
    done.unwrap_or_else(|_| Err(Problem::new(Code::Internal, "the request failed half-way")))
}

async fn pass(
    api: &ApiState,
    name: &KeyName,
    asked: &Asked,
    owner: Option<crate::id::TenantNo>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let under = match api.answers.begin(name, asked, owner).await? {
        Begun::First(under) => under,
        Begun::Done { sealed, at } => return again(name, &sealed, at),
        Begun::UnderWay => {
            let detail = "the first request with this idempotency key is still under way";
            return Err(Problem::new(Code::IdempotencyKeyInUse, detail).retry_after(UNDER_WAY));
        }
        Begun::Unknown => {
            let detail = "the gateway stopped in the middle of the first request with this \
                          idempotency key: look whether it was done, and use another key";
            return Err(Problem::new(Code::IdempotencyKeyInUse, detail));
        }
        Begun::OtherRequest => {
            let detail = "this idempotency key came with another request before; use a new one";
            return Err(Problem::new(Code::IdempotencyKeyReused, detail));
        }
    };
    let response = next.run(request).await;
    keep(name, under, response).await
}

/// Keeps what was done, and frees the key of what was refused.
async fn keep(name: &KeyName, under: Under, response: Response) -> Result<Response, Problem> {
    if response.status().is_success() {
        let (head, content) = response.into_parts();
        // Answers are in memory whole.
        let content = to_bytes(content, usize::MAX).await.unwrap_or_default();
        under.done(|at| seal::seal(name, at, &written(&head, &content))).await;
        return Ok(Response::from_parts(head, Body::from(content)));
    }
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
        // Whether it was done is not known: the key stays taken.
        under.unknown();
    } else {
        under.refused().await;
    }
    Ok(response)
}

fn written(head: &http::response::Parts, content: &Bytes) -> Vec<u8> {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let headers = head.headers.iter();
    let given = Given {
        status: head.status.as_u16(),
        headers: headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        body: String::from_utf8_lossy(content).into_owned(),
    };
    serde_json::to_vec(&given).expect("strings and numbers always serialize")
}

/// The answer that was given before.
fn again(name: &KeyName, sealed: &[u8], at: u64) -> Result<Response, Problem> {
    let unreadable = || {
        tracing::error!("a kept answer cannot be read");
        Problem::new(Code::Internal, "the request was done before, and its answer cannot be read")
    };
    let opened = seal::open(name, at, sealed).ok_or_else(unreadable)?;
    let given: Given = serde_json::from_slice(&opened).map_err(|_| unreadable())?;
    let status = StatusCode::from_u16(given.status).map_err(|_| unreadable())?;
    let mut response = json_text(status, given.body.into_bytes()).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    for (name, value) in given.headers {
        let name = HeaderName::try_from(name).map_err(|_| unreadable())?;
        headers.insert(name, HeaderValue::try_from(value).map_err(|_| unreadable())?);
    }
    headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

fn unusable(longest: usize) -> Problem {
    Problem::new(Code::InvalidIdempotencyKey, idempotency::rule(longest))
}
