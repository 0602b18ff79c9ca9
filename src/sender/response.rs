//! Reading a response: its head as far as the log keeps it, its body up to a limit.
//!
//! Bytes are kept as they came; whoever shows them escapes them. Nothing is decompressed.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::clock::Millis;

/// The most of a response's header lines that is kept, bytes.
const KEPT_HEADERS: usize = 2048;

/// A `Retry-After` longer than this is no date and no sensible number.
const RETRY_AFTER_LIMIT: usize = 64;

/// What is needed of a response's head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    /// `name: value\r\n` lines, whole ones only.
    pub(super) lines: Bytes,
    /// Of a redirect.
    pub(super) location: Option<Bytes>,
    /// Of a 429 or 503, as far as it can be read.
    pub(super) retry_after: Option<RetryAfter>,
    /// Why two parsers may disagree on where an HTTP/1.1 response ends, if they may: then neither
    /// it nor its connection is trusted.
    doubtful_end: Option<&'static str>,
}

/// What an HTTP/1.1 head says of its body's end.
#[derive(Default)]
struct Framing {
    lengths: usize,
    codings: usize,
    /// A length that is no plain number, or a coding that is not `chunked` alone.
    is_odd: bool,
}

impl Framing {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        let value = value.as_bytes();
        if *name == header::CONTENT_LENGTH {
            self.lengths += 1;
            self.is_odd |= !value.iter().all(u8::is_ascii_digit);
        } else if *name == header::TRANSFER_ENCODING {
            self.codings += 1;
            self.is_odd |= !value.eq_ignore_ascii_case(b"chunked");
        }
    }

    fn doubt(&self) -> Option<&'static str> {
        if self.lengths > 0 && self.codings > 0 {
            Some("the response has both Transfer-Encoding and Content-Length")
        } else if self.lengths + self.codings > 1 || self.is_odd {
            Some("the response does not say in one plain way where it ends")
        } else {
            None
        }
    }
}

/// A receiver's wish, unclamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryAfter {
    Seconds(u64),
    /// Wall time.
    At(Millis),
}

impl Head {
    pub(super) fn read(status: StatusCode, version: Version, headers: &HeaderMap) -> Self {
        let status = status.as_u16();
        let (mut size, mut whole_lines, mut full) = (0, 0, false);
        let mut framing = Framing::default();
        for (name, value) in headers {
            framing.note(name, value);
            let next = size + name.as_str().len() + value.len() + 4;
            full |= next > KEPT_HEADERS;
            if !full {
                size = next;
                whole_lines += 1;
            }
        }
        Self {
            status,
            lines: kept_lines(headers, whole_lines, size),
            location: (300..400)
                .contains(&status)
                .then(|| headers.get(header::LOCATION))
                .flatten()
                .map(|value| Bytes::copy_from_slice(value.as_bytes())),
            retry_after: (status == 429 || status == 503)
                .then(|| headers.get(header::RETRY_AFTER))
                .flatten()
                .and_then(|value| parse_retry_after(value.as_bytes())),
            doubtful_end: if version < Version::HTTP_2 { framing.doubt() } else { None },
        }
    }

    /// Why this is no answer at all, if it is none.
    pub(super) fn defect(&self) -> Option<&'static str> {
        match self.status {
            101 => Some("answered 101: switching protocols was not asked for"),
            200..=599 => self.doubtful_end,
            _ => Some("the response's status is outside 100 to 599"),
        }
    }
}

fn kept_lines(headers: &HeaderMap, whole_lines: usize, size: usize) -> Bytes {
    let mut lines = Vec::with_capacity(size);
    for (name, value) in headers.iter().take(whole_lines) {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    Bytes::from(lines)
}

fn parse_retry_after(value: &[u8]) -> Option<RetryAfter> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if text.is_empty() || text.len() > RETRY_AFTER_LIMIT {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(RetryAfter::Seconds(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(RetryAfter::At(since.as_millis() as u64))
}

/// A body as it is read: the first bytes, and how much there was.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) bytes: Vec<u8>,
    pub(super) seen: usize,
}

impl Kept {
    fn take(&mut self, data: &[u8], limit: usize) {
        self.seen += data.len();
        let room = limit.saturating_sub(self.bytes.len()).min(data.len());
        self.bytes.extend_from_slice(&data[..room]);
    }
}

/// How a body ended.
#[derive(Debug)]
pub(super) enum BodyEnd {
    Complete,
    /// Beyond the limit; the rest was not read.
    TooLong,
    Broken(hyper::Error),
}

/// Reads until the end or until more than `max` bytes came, keeping the first `keep`. What was
/// kept so far stays in `kept` if the caller stops waiting.
pub(super) async fn read_body(
    body: &mut Incoming,
    kept: &mut Kept,
    max: usize,
    keep: usize,
) -> BodyEnd {
    while !body.is_end_stream() {
        match body.frame().await {
            None => break,
            Some(Err(error)) => return BodyEnd::Broken(error),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    kept.take(data, keep);
                    if kept.seen > max {
                        return BodyEnd::TooLong;
                    }
                }
            }
        }
    }
    BodyEnd::Complete
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_header_lines_are_whole_and_bounded() {
        let mut headers = HeaderMap::new();
        headers.insert("x-first", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        let head = Head::read(StatusCode::OK, Version::HTTP_11, &headers);
        assert_eq!(&head.lines[..], b"x-first: caf\xe9\r\n");
        for number in 0..50 {
            let name = HeaderName::try_from(format!("x-{number}")).unwrap();
            headers.insert(name, HeaderValue::try_from("v".repeat(90)).unwrap());
        }
        headers.insert("x-huge", HeaderValue::try_from("v".repeat(9_000)).unwrap());
        let head = Head::read(StatusCode::OK, Version::HTTP_11, &headers);
        assert!(head.lines.len() <= KEPT_HEADERS && head.lines.len() > KEPT_HEADERS - 100);
        assert!(head.lines.ends_with(b"v\r\n"));
    }

    #[test]
    fn a_body_is_kept_up_to_its_limit_and_counted_beyond() {
        let mut kept = Kept::default();
        for chunk in [&b"abc"[..], b"def", b"ghi"] {
            kept.take(chunk, 5);
        }
        assert_eq!((kept.bytes.as_slice(), kept.seen), (&b"abcde"[..], 9));
    }
}
