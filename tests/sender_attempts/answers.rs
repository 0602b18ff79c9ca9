//! What a receiver says after a request, and what the attempt becomes: tables, for the sender alone
//! (`behaviours.rs`) and for the whole gateway (`tests/evil.rs`).

use senderz_gateway::delivery::ErrorCode;

/// What follows the bytes of a behaviour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Then {
    Close,
    Reset,
    Hold,
    /// The last byte again and again, as fast as it is taken.
    Flood,
    /// The last byte again and again, one each 20 ms.
    Drip,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expect {
    Delivered,
    /// 200 is known, the body was not read to its end.
    Truncated,
    Fails(ErrorCode, Option<u16>),
}

use Expect::{Delivered, Fails, Truncated};
use Then::{Close, Drip, Flood, Hold, Reset};

pub(crate) type Table = Vec<(Vec<u8>, Then, Expect)>;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn answer(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn with(head: &str, body: &str) -> Vec<u8> {
    answer(&format!("HTTP/1.1 {head}\r\n\r\n{body}"))
}

pub(crate) fn of_all_kinds() -> Table {
    let bad = Fails(ErrorCode::BadResponse, None);
    vec![
        // Complete answers.
        (OK.to_vec(), Hold, Delivered),
        (OK.to_vec(), Close, Delivered),
        (with("200 OK\r\nContent-Length: 0", ""), Hold, Delivered),
        (with("200\r\nContent-Length: 0", ""), Hold, Delivered),
        (with("200 OK\r\nTransfer-Encoding: chunked", "2\r\nok\r\n0\r\n\r\n"), Hold, Delivered),
        (with("200 OK", "until the end"), Close, Delivered),
        (answer("HTTP/1.0 200 OK\r\n\r\nok"), Close, Delivered),
        (
            with("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3", "\x1f\x1f\x1f"),
            Hold,
            Delivered,
        ),
        (
            with("200 OK\r\nSet-Cookie: a=b\r\nAlt-Svc: h3=\":443\"\r\nContent-Length: 0", ""),
            Hold,
            Delivered,
        ),
        (with("200 OK\r\nContent-Length: 15", "{\"error\":\"no!\"}"), Hold, Delivered),
        // More, or less, than was announced.
        (with("200 OK\r\nContent-Length: 2", "ok and more"), Hold, Delivered),
        (with("200 OK\r\nContent-Length: 9", "ok"), Close, Truncated),
        (with("200 OK\r\nContent-Length: 9", "ok"), Reset, Truncated),
        (with("200 OK\r\nContent-Length: 9", "ok"), Hold, Truncated),
        (with("200 OK\r\nContent-Length: 10000000000", "ok"), Close, Truncated),
        (with("200 OK\r\nTransfer-Encoding: chunked", "2\r\nok"), Close, Truncated),
        (with("200 OK\r\nTransfer-Encoding: chunked", "zz\r\nok"), Hold, Truncated),
        (with("200 OK\r\nTransfer-Encoding: chunked", "fffffffffffffffff\r\nok"), Hold, Truncated),
        (with("200 OK", "endless"), Flood, Truncated),
        (with("200 OK\r\nContent-Length: 1000", "slow"), Drip, Truncated),
        (
            with("500 No\r\nContent-Length: 1000", "slow"),
            Close,
            Fails(ErrorCode::Status, Some(500)),
        ),
        // Heads that nobody should believe.
        (
            with(
                "200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2",
                "2\r\nok\r\n0\r\n\r\n",
            ),
            Hold,
            Fails(ErrorCode::BadResponse, Some(200)),
        ),
        (with("200 OK\r\nContent-Length: 2\r\nContent-Length: 3", "ok"), Hold, bad),
        (with("200 OK\r\nContent-Length: +2", "ok"), Hold, bad),
        (with("200 OK\r\nContent-Length: 0x2", "ok"), Hold, bad),
        (with("200 OK\r\nBad Name: x", ""), Hold, bad),
        (with("000 Zero", ""), Hold, bad),
        (with("099 Low", ""), Hold, bad),
        (with("600 High\r\nContent-Length: 0", ""), Hold, bad),
        (with("999 High\r\nContent-Length: 0", ""), Hold, bad),
        (with("2OO OK", ""), Hold, bad),
        (
            with("101 Switching\r\nUpgrade: x\r\nConnection: upgrade", ""),
            Hold,
            Fails(ErrorCode::BadResponse, Some(101)),
        ),
        (answer("HTTP/3.0 200 OK\r\n\r\n"), Hold, bad),
        (answer("http/1.1 200 OK\r\n\r\n"), Hold, bad),
        (answer("SSH-2.0-OpenSSH_9.6\r\n"), Hold, bad),
        (answer("220 mail.example ESMTP\r\n"), Hold, bad),
        (vec![0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x0a], Hold, bad),
        (answer("<html>HTTP/0.9</html>"), Close, bad),
        (with(&format!("200 OK{}", "\r\nX-A: b".repeat(101)), ""), Hold, bad),
        (with(&format!("200 OK\r\nX-Big: {}", "b".repeat(500_000)), ""), Hold, bad),
    ]
}

/// Where a response ends is said in more ways than one.
pub(crate) fn with_doubtful_framing() -> Table {
    let bad = Fails(ErrorCode::BadResponse, None);
    let doubtful = Fails(ErrorCode::BadResponse, Some(200));
    let sized = |length: &str| with(&format!("200 OK\r\nContent-Length: {length}"), "ok");
    let coded = |coding: &str| {
        with(&format!("200 OK\r\nTransfer-Encoding: {coding}"), "2\r\nok\r\n0\r\n\r\n")
    };
    let chunks = |body: &str| with("200 OK\r\nTransfer-Encoding: chunked", body);
    vec![
        // Lengths.
        (sized("2,2"), Hold, doubtful),
        (sized("2, 3"), Hold, bad),
        (sized("-1"), Hold, bad),
        (sized(""), Hold, bad),
        (sized("2 2"), Hold, bad),
        (sized("18446744073709551616"), Hold, bad),
        (with("200 OK\r\nContent-Length: 2\r\nContent-Length: 2", "ok"), Hold, doubtful),
        // Codings.
        (coded("chunked, chunked"), Hold, doubtful),
        (coded("chunked, identity"), Hold, doubtful),
        (coded("xchunked"), Hold, doubtful),
        (coded("identity"), Hold, doubtful),
        (coded("gzip, chunked"), Hold, doubtful),
        (coded("Chunked"), Hold, Delivered),
        // Chunks.
        (chunks("2;a=b\r\nok\r\n0\r\n\r\n"), Hold, Delivered),
        (chunks("+2\r\nok\r\n0\r\n\r\n"), Hold, Truncated),
        (chunks("-2\r\nok\r\n0\r\n\r\n"), Hold, Truncated),
        (chunks("0x2\r\nok\r\n0\r\n\r\n"), Hold, Truncated),
        (chunks("2\nok\n0\n\n"), Hold, Truncated),
        (chunks("2\r\nokay\r\n0\r\n\r\n"), Hold, Truncated),
        (chunks(&format!("2;{}\r\nok\r\n0\r\n\r\n", "e".repeat(1 << 20))), Hold, Truncated),
        (chunks(&format!("2\r\nok\r\n0\r\nX: {}\r\n\r\n", "t".repeat(1 << 20))), Hold, Truncated),
        (chunks("2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"), Hold, Delivered),
        // A head that is read in two ways.
        (with("200 OK\r\nX-A: b\r\n folded", ""), Close, bad),
        (with("200 OK\r\nX-A : b", ""), Close, bad),
        (with("200 OK\r\nX-A: b\0c", ""), Close, bad),
        (answer("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"), Hold, Delivered),
        (answer("\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), Hold, Delivered),
        (answer("HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n"), Hold, bad),
        (answer("HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"), Hold, bad),
        // Bodies where none may be, and two answers to one request.
        (with("204 No", "body"), Hold, Fails(ErrorCode::Status, Some(204))),
        (with("304 Same\r\nContent-Length: 9", "body"), Hold, Fails(ErrorCode::Status, Some(304))),
        ([OK, OK].concat(), Hold, Delivered),
        // What is packed stays packed.
        (
            with("200 OK\r\nContent-Encoding: br\r\nContent-Length: 3", "\x1f\x1f\x1f"),
            Hold,
            Delivered,
        ),
        (
            with("200 OK\r\nKeep-Alive: timeout=0, max=0\r\nContent-Length: 2", "ok"),
            Hold,
            Delivered,
        ),
    ]
}

pub(crate) fn that_break_or_hang() -> Table {
    let reset = Fails(ErrorCode::Reset, None);
    let timeout = Fails(ErrorCode::Timeout, None);
    vec![
        (answer(""), Close, reset),
        (answer(""), Reset, reset),
        (answer("HTTP/1.1 200 O"), Close, reset),
        (answer("HTTP/1.1 200 OK\r\nContent-"), Reset, reset),
        (answer(""), Hold, timeout),
        (answer("HTTP/1.1 200 OK\r\nX: a"), Drip, timeout),
        (answer("HTTP/1.1 100 Continue\r\n\r\n"), Hold, timeout),
        (
            answer(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            ),
            Hold,
            Delivered,
        ),
        // More of them than anybody needs.
        (answer("HTTP/1.1 102 Processing\r\n\r\n").repeat(10_000), Hold, timeout),
    ]
}

pub(crate) fn of_every_status() -> Table {
    let mut table = Vec::new();
    for status in [201, 202, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404]
        .into_iter()
        .chain([405, 408, 409, 410, 413, 421, 422, 425, 429, 431, 451, 500, 502, 503, 504, 599])
    {
        let response = format!(
            "HTTP/1.1 {status} X\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
        );
        table.push((answer(&response), Hold, Fails(ErrorCode::Status, Some(status))));
    }
    table
}
