//! Pages of lists, and JSON answers.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// One page. `next_cursor` is null on the last one; a page may be short, even empty, and still have
/// a next one, because one request reads a bounded stretch of the log.
#[derive(Debug, Serialize)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    pub(super) next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Of `limit + 1` rows asked for, the first `limit`, and a cursor behind the last of them where
    /// one more came.
    pub(super) fn cut<R>(
        mut rows: Vec<R>,
        limit: usize,
        cursor: impl FnOnce(&R) -> String,
        view: impl FnMut(&R) -> T,
    ) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = if more { rows.last().map(cursor) } else { None };
        Self { data: rows.iter().map(view).collect(), next_cursor }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self)
    }
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    json_text(status, to_json(body))
}

pub(super) fn to_json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("views have string keys and finite numbers")
}

/// An answer whose body is written already.
pub(super) fn json_text(status: StatusCode, text: Vec<u8>) -> Response {
    let mut response = (status, text).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// 201 with the new object and where it can be read.
pub(super) fn created(location: &str, body: &impl Serialize) -> Response {
    located(location, json(StatusCode::CREATED, body))
}

/// The answer, and where its object can be read.
pub(super) fn located(location: &str, mut response: Response) -> Response {
    let location = HeaderValue::from_str(location).expect("ids and paths are visible ASCII");
    response.headers_mut().insert(header::LOCATION, location);
    response
}
