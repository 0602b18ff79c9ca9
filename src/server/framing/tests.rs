use proptest::prelude::*;

use super::*;

/// Feeds `bytes` in pieces of `piece` and tells what came out and the tracker at the end.
fn feed(bytes: &[u8], piece: usize) -> (Vec<u8>, Framing) {
    let mut framing = Framing::new();
    let mut out = bytes.to_vec();
    for piece in out.chunks_mut(piece) {
        framing.inspect(piece);
    }
    (out, framing)
}

/// `expected` is the state after all bytes, or where a byte was spoiled. However the bytes are
/// cut, the answer is the same.
#[track_caller]
fn check(bytes: &str, expected: Result<State, usize>) {
    for piece in [1, 2, 3, 7, 64, 10_000] {
        let (out, framing) = feed(bytes.as_bytes(), piece);
        let changed: Vec<_> = (0..out.len()).filter(|i| out[*i] != bytes.as_bytes()[*i]).collect();
        match expected {
            Ok(state) => {
                assert_eq!(changed, [0usize; 0], "pieces of {piece}");
                assert_eq!(framing.state, state, "pieces of {piece}");
            }
            Err(at) => {
                assert_eq!(changed, [at], "pieces of {piece}");
                assert_eq!((out[at], bytes.as_bytes()[at]), (0, b'\n'));
                assert!(framing.is_refused());
            }
        }
    }
}

const HEAD: &str = "POST /v1/events HTTP/1.1\r\nHost: x\r\n";

fn with(headers: &str) -> String {
    format!("{HEAD}{headers}\r\n")
}

#[test]
fn plain_requests_pass_one_after_another() {
    check("", Ok(State::Idle));
    check("GET / HTTP/1.1\r\nHost: x\r\n\r\n", Ok(State::Idle));
    check("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Ok(State::Idle));
    check("GET / HTTP/1.1\r\nHost: x\r\n", Ok(State::Head));
    check(&with("Content-Length: 0\r\n"), Ok(State::Idle));
    check(&(with("content-LENGTH:5\r\n") + "a\nb\n\n"), Ok(State::Idle));
    check(&(with("Content-Length: 5\r\n") + "a\nb"), Ok(State::Body(2)));
    let one = with("Content-Length: 5\r\n") + "a\nb\n\n";
    check(&format!("{one}{one}{one}GET"), Ok(State::Idle));
    check(&format!("{one}{one}GET / HTTP/1.1\r\nX"), Ok(State::Head));
    let long = format!("GET /{} HTTP/1.1\r\nX: {}\r\n\r\n", "p".repeat(500), "v".repeat(500));
    check(&long, Ok(State::Idle));
}

#[test]
fn chunked_bodies_are_followed_to_their_end() {
    let chunked = with("Transfer-Encoding: chunked\r\n");
    let start = State::Chunk(Chunk::Size { size: 0, digits: 0 });
    check(&chunked, Ok(start));
    check(&format!("{chunked}5\r\na\n\nbc\r\n"), Ok(start));
    check(&format!("{chunked}5;x=\"y\"\r\nabcde\r\n0\r\n\r\n"), Ok(State::Idle));
    check(
        &format!("{chunked}1F\r\n{}\r\n0\r\nTrail: er\r\n\r\n", "\n".repeat(31)),
        Ok(State::Idle),
    );
    check(&format!("{chunked}0\r\n\r\n{HEAD}"), Ok(State::Head));
    for broken in ["x", "\r\n", "5\n", "5\r\nabcdeX", "11111111111111111\r\n", "5;\n"] {
        check(&format!("{chunked}{broken}"), Ok(State::Off));
    }
}

#[test]
fn doubtful_framing_is_spoiled() {
    let at_end_of = |headers: &str| Err(HEAD.len() + headers.len() - 1);
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "X: a\r\n folded: b\r\n",
        "X: a\r\n\tfolded: b\r\n",
        "X: bare LF\n",
        "\n",
    ] {
        check(&with(headers), at_end_of(headers));
    }
    let padded = format!("Content-Length: {}5\r\n", " ".repeat(80));
    check(&with(&padded), at_end_of(&padded));
    check("GET / HTTP/1.1\nHost: x\n\n", Err(14));
    check("\nGET / HTTP/1.1\r\n\r\n", Err(0));
    // Also in a request that follows another.
    let one = with("Content-Length: 3\r\n") + "\n\n\n";
    check(&format!("{one}GET / HTTP/1.1\n\r\n"), Err(one.len() + 14));
}

#[test]
fn http2_is_left_alone() {
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\n", Ok(State::Off));
}

#[test]
fn a_head_has_begun_with_its_first_byte_and_is_over_with_its_last() {
    let request = with("Content-Length: 1\r\n") + "x";
    for end in 0..=request.len() {
        let (_, framing) = feed(&request.as_bytes()[..end], 1_000);
        let in_head = (1..request.len() - 1).contains(&end);
        assert_eq!(framing.in_head(), in_head, "{end}");
    }
    for (bytes, in_head) in [("\r\n", true), ("\r\n\r\n", true), ("GET / HTTP/1.1\r\n\r\n", false)]
    {
        assert_eq!(feed(bytes.as_bytes(), 1).1.in_head(), in_head, "{bytes:?}");
    }
}

proptest! {
    /// What is smuggled into bodies stays there: no byte of a body is changed, and the next
    /// request is found where it stands.
    #[test]
    fn bodies_pass_untouched(
        bodies in proptest::collection::vec(
            (proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..50), any::<bool>()),
            1..6,
        ),
        piece in 1usize..80,
    ) {
        let mut bytes = Vec::new();
        for (body, chunked) in &bodies {
            if *chunked {
                bytes.extend_from_slice(with("Transfer-Encoding: chunked\r\n").as_bytes());
                for part in body.chunks(7) {
                    bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                    bytes.extend_from_slice(part);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            } else {
                let length = format!("Content-Length: {}\r\n", body.len());
                bytes.extend_from_slice(with(&length).as_bytes());
                bytes.extend_from_slice(body);
            }
        }
        let (out, framing) = feed(&bytes, piece);
        prop_assert_eq!(out, bytes);
        prop_assert_eq!(framing.state, State::Idle);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1usize..80) {
        feed(&bytes, piece);
    }
}
