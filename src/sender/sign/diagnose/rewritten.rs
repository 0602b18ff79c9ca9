//! The bodies that could have been sent where another one was read.
//!
//! Who parses a body and writes it again gets other bytes: other white space, another order, other
//! escapes. Most libraries write JSON in one of a few styles, and the sender's library did too; so the
//! body that was signed is often found among what those would write.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::Body;

const RAW: &str = "verify the raw bytes, before any parser has seen them";

/// The body as it was read, and what it may have been. Each stands once.
pub(super) fn bodies(body: &[u8]) -> Vec<Body> {
    let mut found = vec![Body::as_read(body)];
    let mut add = |what: Vec<u8>, code, detail: String| {
        if !found.iter().any(|known| known.what == what) {
            found.push(Body::changed(what, code, detail));
        }
    };
    let trimmed = body.trim_ascii_end();
    add(
        trimmed.to_vec(),
        "body_line_end_added",
        format!("the body was read with a line end that was not sent (`echo`, an editor): {RAW}"),
    );
    for end in ["\n", "\r\n"] {
        let detail = format!("the body was sent with a line end, which is missing here: {RAW}");
        add([trimmed, end.as_bytes()].concat(), "body_line_end_removed", detail);
    }
    let unix = replaced(body, b"\r\n", b"\n");
    let detail = |sent: &str| format!("the line ends of the body were changed from {sent}: {RAW}");
    add(replaced(&unix, b"\n", b"\r\n"), "body_line_ends", detail("CR LF to LF"));
    add(unix, "body_line_ends", detail("LF to CR LF"));
    let mark = "\u{feff}".as_bytes();
    let detail = format!("a byte order mark was added to the body, or removed: {RAW}");
    match body.strip_prefix(mark) {
        Some(rest) => add(rest.to_vec(), "body_byte_order_mark", detail),
        None => add([mark, body].concat(), "body_byte_order_mark", detail),
    }
    if serde_json::from_slice::<IgnoredAny>(body).is_ok()
        && let Ok(text) = std::str::from_utf8(body)
    {
        for (rewritten, style) in rewritings(text) {
            let detail = format!(
                "the body was parsed and written again: it was sent as JSON {style}; {RAW}"
            );
            add(rewritten.into_bytes(), "body_reserialised", detail);
        }
    }
    found
}

fn replaced(body: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = memchr::memmem::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// How a library puts white space between what it writes.
#[derive(Clone, Copy)]
enum Spaces {
    None,
    /// `{"a": 1, "b": 2}`: Python.
    AfterBoth,
    /// A line for each member.
    Lines(&'static str),
}

/// How it writes what need not be escaped.
#[derive(Clone, Copy)]
struct Escapes {
    /// `\u00fc` for `ü`.
    ascii: bool,
    /// `\/`: PHP.
    slashes: bool,
}

const SPACES: [(Spaces, &str); 5] = [
    (Spaces::None, "without white space"),
    (Spaces::AfterBoth, "with a space after each comma and colon"),
    (Spaces::Lines("  "), "indented by two spaces"),
    (Spaces::Lines("    "), "indented by four spaces"),
    (Spaces::Lines("\t"), "indented by tabs"),
];

const ESCAPES: [(Escapes, &str); 4] = [
    (Escapes { ascii: false, slashes: false }, ""),
    (Escapes { ascii: true, slashes: false }, ", with \\u escapes"),
    (Escapes { ascii: false, slashes: true }, ", with \\/ for slashes"),
    (Escapes { ascii: true, slashes: true }, ", with \\u escapes and \\/ for slashes"),
];

/// The same JSON in the usual styles: in its own order, and with sorted names.
fn rewritings(text: &str) -> Vec<(String, String)> {
    let sorted = serde_json::from_str::<Value>(text).map(|value| value.to_string());
    let orders = [(text.to_owned(), ""), (sorted.unwrap_or_default(), ", its names sorted")];
    let mut all = Vec::new();
    for (text, order) in orders {
        let tokens = tokens(&text);
        for (spaces, with_spaces) in SPACES {
            for (escapes, with_escapes) in ESCAPES {
                let written = written(&tokens, spaces, escapes);
                let style = format!("{with_spaces}{with_escapes}{order}");
                all.push((format!("{written}\n"), format!("{style}, with a line end")));
                all.push((written, style));
            }
        }
    }
    // The plainest explanation first.
    all.sort_by_key(|(_, style)| style.len());
    all
}

/// The tokens of valid JSON, in order; numbers and strings as they stand there.
fn tokens(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            b'"' => {
                at += 1;
                while bytes.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'{' | b'}' | b'[' | b']' | b',' | b':' => at += 1,
            _ => {
                let ends = |byte: &u8| b" \t\n\r,:{}[]\"".contains(byte);
                at += bytes[at..].iter().position(ends).unwrap_or(bytes.len() - at);
            }
        }
        tokens.push(text.get(start..at).unwrap_or_default());
    }
    tokens
}

fn written(tokens: &[&str], spaces: Spaces, escapes: Escapes) -> String {
    let mut out = String::new();
    let mut depth = 0_usize;
    let indent = |out: &mut String, depth: usize| {
        if let Spaces::Lines(by) = spaces {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(by));
        }
    };
    for (at, token) in tokens.iter().enumerate() {
        let is_empty = |other: Option<&&str>| matches!(other, Some(&("}" | "]")));
        match *token {
            "{" | "[" => {
                out.push_str(token);
                if !is_empty(tokens.get(at + 1)) {
                    depth += 1;
                    indent(&mut out, depth);
                }
            }
            "}" | "]" => {
                let opened = at.checked_sub(1).map(|before| tokens[before]);
                if !matches!(opened, Some("{" | "[")) {
                    depth = depth.saturating_sub(1);
                    indent(&mut out, depth);
                }
                out.push_str(token);
            }
            "," => {
                out.push(',');
                match spaces {
                    Spaces::AfterBoth => out.push(' '),
                    _ => indent(&mut out, depth),
                }
            }
            ":" => out.push_str(if matches!(spaces, Spaces::None) { ":" } else { ": " }),
            text if text.starts_with('"') => string(text, escapes, &mut out),
            other => out.push_str(other),
        }
    }
    out
}

/// A string with other escapes; as it stands where it is none that Rust can hold.
fn string(token: &str, escapes: Escapes, out: &mut String) {
    let Ok(text) = serde_json::from_str::<String>(token) else { return out.push_str(token) };
    let plain = Value::from(text).to_string();
    for character in plain.chars() {
        match character {
            '/' if escapes.slashes => out.push_str("\\/"),
            character if escapes.ascii && !character.is_ascii() => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            character => out.push(character),
        }
    }
}
