//! JSON bodies: read within a limit, taken apart field by field, everything wrong said at once.

use std::{fmt, ops::RangeInclusive, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{FromRequest, Request},
};
use http::{HeaderMap, header};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::{Code, FieldError, Problem, params::MAX_ERRORS};
use crate::{
    config::units::{DURATION_RULE, format_duration, parse_duration},
    media_type::{self, MediaType},
    problem,
};

/// What is told of a name that nobody knows.
const LONGEST_NAME: usize = 40;

/// The largest body, bytes.
pub const MAX_BODY: usize = 256 * 1024;

/// What a body says about one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Given<T> {
    Absent,
    Null,
    /// Something, but not what it has to be; the error is noted.
    Wrong,
    Value(T),
}

impl<T> Given<T> {
    /// For a merge: nothing where the field stays as it is, `default` where null resets it.
    pub(super) fn or_reset(self, default: T) -> Option<T> {
        match self {
            Given::Absent | Given::Wrong => None,
            Given::Null => Some(default),
            Given::Value(value) => Some(value),
        }
    }

    /// As [`Given::or_reset`], for a field that may have no value.
    pub(super) fn or_none(self) -> Option<Option<T>> {
        match self {
            Given::Absent | Given::Wrong => None,
            Given::Null => Some(None),
            Given::Value(value) => Some(Some(value)),
        }
    }
}

/// A body's fields. Each is taken by name; what is left at the end was not known. The first
/// [`MAX_ERRORS`] wrong things are noted: an answer is not much larger than what was asked.
#[derive(Debug)]
pub(super) struct Fields {
    given: Map<String, Value>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, Problem> {
        let Object(given) = serde_json::from_slice(body).map_err(|error| {
            let detail = format!("the body is not a JSON object as it should be: {error}");
            Problem::fields(Code::InvalidBody, vec![FieldError::new("", detail)])
        })?;
        Ok(Self { given, known: Vec::new(), errors: Vec::new() })
    }

    /// Takes a field through `read`, which says in words what it should have been.
    pub(super) fn take<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, &'static str>,
    ) -> Given<T> {
        self.known.push(name);
        match self.given.remove(name) {
            None => Given::Absent,
            Some(Value::Null) => Given::Null,
            Some(value) => match read(value) {
                Ok(value) => Given::Value(value),
                Err(rule) => {
                    self.refuse(format!("/{name}"), rule);
                    Given::Wrong
                }
            },
        }
    }

    pub(super) fn string(&mut self, name: &'static str) -> Given<String> {
        self.take(name, |value| match value {
            Value::String(text) => Ok(text),
            _ => Err("it has to be a string"),
        })
    }

    pub(super) fn boolean(&mut self, name: &'static str) -> Given<bool> {
        self.take(name, |value| value.as_bool().ok_or("it has to be true or false"))
    }

    pub(super) fn number(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Given<u32> {
        let number = self.take(name, |value| whole(&value).ok_or("it has to be a whole number"));
        self.checked(name, number, |number| {
            u32::try_from(number).ok().filter(|number| range.contains(number)).ok_or_else(|| {
                format!("it has to be a number from {} to {}", range.start(), range.end())
            })
        })
    }

    pub(super) fn duration(
        &mut self,
        name: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Given<Duration> {
        let text = self.take(name, |value| match value {
            Value::String(text) => Ok(text),
            _ => Err(DURATION_RULE),
        });
        self.checked(name, text, |text| {
            let duration = parse_duration(&text).ok_or(DURATION_RULE)?;
            if range.contains(&duration) {
                return Ok(duration);
            }
            let (from, to) = (format_duration(*range.start()), format_duration(*range.end()));
            Err(format!("it has to be from {from} to {to}"))
        })
    }

    /// Takes a value further, noting what is wrong with it.
    pub(super) fn checked<T, U>(
        &mut self,
        name: &'static str,
        given: Given<T>,
        check: impl FnOnce(T) -> Result<U, String>,
    ) -> Given<U> {
        match given {
            Given::Absent => Given::Absent,
            Given::Null => Given::Null,
            Given::Wrong => Given::Wrong,
            Given::Value(value) => match check(value) {
                Ok(value) => Given::Value(value),
                Err(rule) => {
                    self.refuse(format!("/{name}"), rule);
                    Given::Wrong
                }
            },
        }
    }

    /// The value of a field that has to be there and not null.
    pub(super) fn required<T>(&mut self, name: &'static str, given: Given<T>) -> Option<T> {
        if given.is_absent() {
            self.refuse(format!("/{name}"), "it is required");
        }
        self.not_null(name, given)
    }

    /// The value of a field that may be left out and not be null.
    pub(super) fn not_null<T>(&mut self, name: &'static str, given: Given<T>) -> Option<T> {
        match given {
            Given::Value(value) => return Some(value),
            Given::Null => self.refuse(format!("/{name}"), "it cannot be null"),
            Given::Absent | Given::Wrong => {}
        }
        None
    }

    pub(super) fn refuse(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.note(FieldError::new(pointer, detail));
    }

    pub(super) fn refuse_as(&mut self, pointer: &str, code: &'static str, detail: String) {
        self.note(FieldError { code: Some(code), ..FieldError::new(pointer, detail) });
    }

    fn note(&mut self, error: FieldError) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }

    /// Everything that was wrong, fields that nobody took included.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        let room = MAX_ERRORS.saturating_sub(self.errors.len());
        for name in self.given.keys().take(room) {
            let detail = match self.known.as_slice() {
                [] => "there are no fields here".to_owned(),
                known => problem::unknown("field", name, known),
            };
            self.errors.push(FieldError::new(pointer_to(name), detail));
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(Problem::fields(Code::InvalidBody, self.errors))
    }
}

impl<T> Given<T> {
    fn is_absent(&self) -> bool {
        matches!(self, Given::Absent)
    }
}

/// A number without a fraction, however it is written: `5.0` is the integer 5, to JSON Schema and to
/// whoever writes numbers as doubles.
fn whole(value: &Value) -> Option<u64> {
    let is_whole =
        |number: &f64| number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number);
    value.as_u64().or_else(|| value.as_f64().filter(is_whole).map(|number| number as u64))
}

/// RFC 6901: `~` and `/` in a name are written `~0` and `~1`.
pub(super) fn pointer_to(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_content_type(request.headers())?;
        let (parts, body) = request.into_parts();
        Self::parse(&read(&parts.headers, body).await?)
    }
}

/// As [`Fields`], where a body may be left out.
#[derive(Debug)]
pub(super) struct OptionalFields(pub(super) Fields);

impl<S: Send + Sync> FromRequest<S> for OptionalFields {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let headers = parts.headers;
        let body = read(&headers, body).await?;
        if body.is_empty() {
            return Fields::parse(b"{}").map(Self);
        }
        check_content_type(&headers)?;
        Fields::parse(&body).map(Self)
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |detail| Err(Problem::new(Code::UnsupportedMediaType, detail));
    if headers.contains_key(header::CONTENT_ENCODING) {
        return unsupported("send the body without Content-Encoding");
    }
    let json = ["application/json", "application/merge-patch+json"];
    match MediaType::of(headers).filter(|found| found.is_one_of(&json)) {
        Some(found) if found.is_utf8() => Ok(()),
        Some(_) => unsupported(media_type::SEND_UTF8),
        None => unsupported("send JSON, with `Content-Type: application/json`"),
    }
}

pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("a body may have {MAX_BODY} bytes");
        Problem::new(Code::PayloadTooLarge, detail)
    };
    // What says that it is too large is refused before it is read.
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > MAX_BODY as u64) {
        return Err(too_large());
    }
    to_bytes(body, MAX_BODY).await.map_err(|error| {
        let source = std::error::Error::source(&error);
        if source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>()) {
            too_large()
        } else {
            Problem::new(Code::InvalidBody, "the body did not arrive whole")
        }
    })
}

/// A JSON object in which no name appears twice: of two values it would be anybody's guess which
/// one was meant.
struct Object(Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Object, A::Error> {
        let mut map = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if map.contains_key(&name) {
                // As much of it as tells which one.
                let name: String = name.chars().take(LONGEST_NAME).collect();
                let rule = format!("the name {name:?} appears twice");
                return Err(serde::de::Error::custom(rule));
            }
            map.insert(name, access.next_value()?);
        }
        Ok(Object(map))
    }
}
