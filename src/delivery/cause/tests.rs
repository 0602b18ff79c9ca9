use bytes::Bytes;

use super::*;
use crate::delivery::{AttemptError, Phases, Protocol};

/// A failed attempt; where there is a status, with these header lines.
fn attempt(code: ErrorCode, detail: &str, answer: Option<(u16, &'static str)>) -> Attempt {
    let headers = answer.map_or("", |(_, headers)| headers);
    Attempt {
        number: 1,
        at: 0,
        status: answer.map(|(status, _)| status),
        error: Some(AttemptError { code, detail: detail.to_owned() }),
        latency: 0,
        phases: Phases::default(),
        response: KeptResponse {
            headers: Bytes::from_static(headers.as_bytes()),
            ..KeptResponse::default()
        },
        peer: None,
        protocol: Protocol::Http1,
        reused_connection: false,
    }
}

fn unanswered_cause(code: ErrorCode, detail: &str) -> Cause {
    attempt(code, detail, None).cause().expect("it failed")
}

fn answered_cause(status: u16, headers: &'static str) -> Cause {
    attempt(ErrorCode::Status, "answered", Some((status, headers))).cause().expect("it failed")
}

#[test]
fn a_delivered_attempt_has_no_cause() {
    let delivered = Attempt { error: None, ..attempt(ErrorCode::Status, "", Some((200, ""))) };
    assert_eq!(delivered.cause(), None);
}

#[test]
fn each_row_is_what_its_own_words_lead_to() {
    for row in UNANSWERED {
        let detail = format!("before {} after", row.said);
        let found = unanswered(row.code, &detail);
        assert_eq!((found.said, found.words), (row.said, row.words));
        assert!(row.hint.len() > 10, "{}", row.words);
    }
    for row in ANSWERED.iter().filter(|row| row.from == row.until) {
        assert_eq!(answered(row.from).words, row.words, "a row before it hides {}", row.from);
    }
}

#[test]
fn every_code_and_every_status_has_a_row() {
    for code in ErrorCode::ALL {
        assert_eq!(unanswered(code, "words of another version").said, "", "{code:?}");
        // Also where an odd record has no status.
        unanswered_cause(code, "");
    }
    for status in 0..=u16::MAX {
        answered(status);
    }
}

#[test]
fn what_the_sender_found_out_is_part_of_the_words() {
    let check = |code, detail: &str, words: &str| {
        assert_eq!(unanswered_cause(code, detail).words, words);
    };
    check(
        ErrorCode::Tls,
        "the certificate has expired on 2021-01-01T00:00:00Z",
        "the server's certificate has expired on 2021-01-01T00:00:00Z",
    );
    check(
        ErrorCode::Tls,
        "the certificate is for another name (it has a.example, *.b.example)",
        "the server's certificate is for other names than the URL's host (it has a.example, *.b.example)",
    );
    check(
        ErrorCode::Reset,
        "the server reset the stream: refused stream",
        "the server reset the HTTP/2 stream before an answer: refused stream",
    );
}

#[test]
fn timeouts_differ_by_phase() {
    let check = |doing: &str, words: &str| {
        let cause = unanswered_cause(ErrorCode::Timeout, &format!("timed out after 15s {doing}"));
        assert!(cause.words.contains(words), "{doing}: {}", cause.words);
    };
    check("waiting for a connection", "still opening one");
    check("resolving the host's name", "DNS");
    check("connecting", "no connection");
    check("in the TLS handshake", "TLS");
    check("waiting for the response", "after the request was sent");
    check("reading the response", "not finished");
}

#[test]
fn a_status_is_explained_with_what_the_receiver_added() {
    let check = |status, headers, words: &str| {
        assert_eq!(answered_cause(status, headers).words, words);
    };
    check(204, "", "the receiver answered 204: only 200 counts as a success");
    check(
        301,
        "Server: x\r\nLOCATION:  https://www.example.com/in \r\n",
        "the receiver answered 301: redirects are not followed; it points to https://www.example.com/in",
    );
    check(302, "", "the receiver answered 302: redirects are not followed");
    check(
        401,
        "www-authenticate: Basic realm=\"a, b\"\r\n",
        "the receiver answered 401: it wants to know who asks; it asks for Basic",
    );
    check(
        405,
        "allow: GET, HEAD\r\n",
        "the receiver answered 405: the path does not take POST; it allows GET, HEAD",
    );
    check(
        429,
        "retry-after: 7\r\n",
        "the receiver answered 429: it has too many requests; its Retry-After is 7",
    );
    check(
        500,
        "location: /not-a-redirect\r\n",
        "the receiver answered 500: something in it failed",
    );
    check(418, "", "the receiver answered 418: it refuses the request");
    let hint = |status, headers| answered_cause(status, headers).hint;
    assert!(hint(401, "").contains("custom header"));
    assert!(hint(403, "").contains("custom header"));
    assert_eq!(hint(403, "cf-mitigated: challenge\r\n"), CHALLENGED);
}

#[test]
fn what_a_receiver_wrote_is_cut_and_moves_no_cursor() {
    let long: &'static str = Box::leak(format!("location: {}\r\n", "é".repeat(500)).into());
    assert!(answered_cause(302, long).words.len() < 300);
    let cause = answered_cause(302, "location: /\u{1b}[2J\r\n");
    assert!(cause.words.ends_with("/\u{fffd}[2J"), "{}", cause.words);
    // Bytes that are no text, and a name without a value.
    assert!(!answered_cause(302, "location:\r\n").words.contains("points"));
}

/// What `docs/causes.md` says, from the tables.
fn documented() -> String {
    let mut text = String::new();
    for code in ErrorCode::ALL.into_iter().filter(|code| *code != ErrorCode::Status) {
        text.push_str(&format!("\n## `{}`\n\n| cause | hint |\n|---|---|\n", code.as_str()));
        for row in UNANSWERED.iter().filter(|row| row.code == code) {
            let rest = if row.with_rest { " …" } else { "" };
            text.push_str(&format!("| {}{rest} | {} |\n", row.words, row.hint));
        }
    }
    text.push_str("\n## `status`\n\n| status | cause | hint |\n|---|---|---|\n");
    for row in ANSWERED {
        let status = match (row.from, row.until) {
            (0, _) => "other".to_owned(),
            (from, until) if from == until => from.to_string(),
            (from, until) if from.is_multiple_of(100) && until == from + 99 => {
                format!("{}xx", from / 100)
            }
            (from, until) => format!("{from}–{until}"),
        };
        text.push_str(&format!("| {status} | {} | {} |\n", row.words, row.hint));
    }
    text.push_str(&format!("| 403 with `cf-mitigated` | as 403 | {CHALLENGED} |\n"));
    text
}

#[test]
fn the_documentation_has_every_row() {
    let page = include_str!("../../../docs/causes.md");
    let documented = documented();
    assert!(
        page.ends_with(&documented),
        "docs/causes.md ends differently; it has to be:\n{documented}"
    );
}
