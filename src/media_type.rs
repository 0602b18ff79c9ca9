//! What a request says that its body is (`Content-Type`: RFC 9110, section 8.3), as far as it
//! matters to a gateway that takes JSON.

use http::{HeaderMap, header};

/// What to do about a charset other than UTF-8, in which JSON is written (RFC 8259, section 8.1).
pub const SEND_UTF8: &str = "JSON is UTF-8; send the body in it, with `charset=utf-8` or without a \
                             charset in Content-Type";

/// A media type with its parameters, as it was written.
#[derive(Clone, Copy, Debug)]
pub struct MediaType<'a> {
    essence: &'a str,
    parameters: &'a str,
}

impl<'a> MediaType<'a> {
    /// What the one `Content-Type` says; of two nobody could tell which one holds.
    pub fn of(headers: &'a HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::CONTENT_TYPE).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let text = value.to_str().ok()?;
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        Some(Self { essence: essence.trim(), parameters })
    }

    /// Whether it is one of `names`, which are in lower case.
    pub fn is_one_of(self, names: &[&str]) -> bool {
        names.iter().any(|name| self.essence.eq_ignore_ascii_case(name))
    }

    /// Whether no `charset` says that it is anything but UTF-8.
    pub fn is_utf8(self) -> bool {
        let mut rest = self.parameters;
        while !rest.is_empty() {
            let (parameter, others) = rest.split_at(end_of_parameter(rest));
            rest = others.strip_prefix(';').unwrap_or(others);
            let Some((name, value)) = parameter.split_once('=') else { continue };
            if name.trim().eq_ignore_ascii_case("charset") && !says_utf8(value.trim()) {
                return false;
            }
        }
        true
    }
}

/// Up to the next semicolon that is not inside of quotes.
fn end_of_parameter(text: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

/// A token, or the same in quotes; what nobody needs to escape is not looked for behind escapes.
fn says_utf8(value: &str) -> bool {
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    unquoted.unwrap_or(value).eq_ignore_ascii_case("utf-8")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let value = |text: &&'static str| (header::CONTENT_TYPE, HeaderValue::from_static(text));
        values.iter().map(value).collect()
    }

    #[test]
    fn a_type_is_known_by_its_name_whatever_stands_behind_it() {
        for text in ["application/json", "Application/JSON ; charset=utf-8", "application/json;"] {
            let headers = headers(&[text]);
            let found = MediaType::of(&headers).expect("one type");
            assert!(found.is_one_of(&["text/plain", "application/json"]), "{text}");
            assert!(!found.is_one_of(&["text/plain", "application"]), "{text}");
        }
        assert!(MediaType::of(&headers(&[])).is_none());
        assert!(MediaType::of(&headers(&["application/json", "application/json"])).is_none());
    }

    #[test]
    fn only_utf_8_is_utf_8() {
        let check = |parameters: &'static str, expected: bool| {
            let found = MediaType { essence: "application/json", parameters };
            assert_eq!(found.is_utf8(), expected, "{parameters}");
        };
        for utf8 in [
            "",
            " ",
            "charset=utf-8",
            " Charset=UTF-8",
            "charset=\"Utf-8\"",
            " version=1; charset=\"utf-8\" ;x",
            "x=\"a;charset=utf-16\"",
            "x=\"\\\";charset=utf-16\"; charset=utf-8",
            "charsets=utf-16",
        ] {
            check(utf8, true);
        }
        for other in [
            "charset=utf-16",
            "charset=\"UTF-16LE\"",
            "CHARSET=iso-8859-1",
            "charset=",
            "charset=\"utf-8",
            "version=1;charset=us-ascii",
            "charset=utf-8;charset=utf-16",
            "x=\"a\\\\\";charset=utf-16",
        ] {
            check(other, false);
        }
    }
}
