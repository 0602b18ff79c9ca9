//! Which bytes of an HTTP/1 connection are a request's head, and whether its framing is beyond
//! doubt.
//!
//! hyper reads some requests more kindly than a gateway behind other proxies should: it ends lines
//! at a bare LF, and where both `Transfer-Encoding` and `Content-Length` are given it picks one.
//! RFC 9112 allows both; request smuggling lives on such differences. This tracker follows the same
//! bytes and is strict: a head with a bare LF, a folded line, two `Content-Length`s, both framing
//! headers, or a transfer coding other than `chunked` is refused.
//!
//! It refuses by spoiling: the LF that ends the offending line becomes a NUL, which hyper answers
//! with 400 and a closed connection, in its turn among pipelined answers. (hyper looks at a head
//! again only when it sees its end: whoever feeds hyper must let [`END_OF_HEAD`] follow.) Only
//! bytes of a head are ever changed, and only in a request that is then refused; a body passes
//! untouched.
//!
//! It also knows when a head has begun and is not yet complete, which is what the head's deadline
//! is about. HTTP/2 is recognised by its preface and then left alone.
//!
//! Pure: bytes in, nothing else.

#[cfg(test)]
mod tests;

/// The start of a header line that is kept to tell its name and, for the two framing headers, its
/// value. A framing header that does not fit is refused.
const KEPT: usize = 64;

/// What follows a refused head.
pub(super) const END_OF_HEAD: &[u8] = b"\r\n\r\n";

const HTTP2_PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0";

/// Follows one connection's bytes.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    line: Line,
    head: Head,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between requests.
    Idle,
    /// In a head.
    Head,
    /// In a body of which this many bytes are to come.
    Body(u64),
    Chunk(Chunk),
    /// A head was spoiled.
    Refused,
    /// HTTP/2, or chunks so broken that hyper ends the connection: nothing is followed any more.
    Off,
}

/// Where in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// In the trailers; how long the line is so far.
    Trailer {
        len: usize,
    },
}

/// What a head has said about its framing.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    /// Blank lines came before the request line: it has begun.
    has_blank_line: bool,
    has_request_line: bool,
    is_http2: bool,
    content_length: Option<u64>,
    is_chunked: bool,
}

/// The line of a head that is being read.
#[derive(Debug)]
struct Line {
    kept: [u8; KEPT],
    len: usize,
    last: u8,
}

impl Line {
    fn clear(&mut self) {
        self.len = 0;
        self.last = 0;
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.len < KEPT {
            let n = bytes.len().min(KEPT - self.len);
            self.kept[self.len..self.len + n].copy_from_slice(&bytes[..n]);
        }
        self.len += bytes.len();
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    /// The line without its CR, as far as it was kept, and whether that is all of it. Call only
    /// where the line ends with a CR.
    fn text(&self) -> (&[u8], bool) {
        let len = self.len - 1;
        (&self.kept[..len.min(KEPT)], len <= KEPT)
    }
}

impl Framing {
    pub(super) fn new() -> Self {
        let line = Line { kept: [0; KEPT], len: 0, last: 0 };
        Self { state: State::Idle, line, head: Head::default() }
    }

    /// Whether a head has begun and is not complete.
    pub(super) fn in_head(&self) -> bool {
        let has_begun = self.line.len > 0 || self.head.has_blank_line;
        self.state == State::Head || (self.state == State::Idle && has_begun)
    }

    /// Whether a head was spoiled: the connection is about to end.
    pub(super) fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    /// Follows `bytes`, which came next on the connection, and spoils them where they must be
    /// refused.
    pub(super) fn inspect(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &mut bytes[at..];
            at += match self.state {
                State::Refused | State::Off => return,
                State::Idle | State::Head => self.head(rest),
                State::Body(left) => {
                    let n = (rest.len() as u64).min(left);
                    self.state = if left == n { State::Idle } else { State::Body(left - n) };
                    n as usize
                }
                State::Chunk(chunk) => {
                    let (next, n) = chunk.follow(rest);
                    self.state = next;
                    n
                }
            };
        }
    }

    /// Follows a head up to the end of a line; returns how many bytes it took, at least 1.
    fn head(&mut self, bytes: &mut [u8]) -> usize {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.line.push(bytes);
            return bytes.len();
        };
        self.line.push(&bytes[..end]);
        let is_good = self.line.last == b'\r' && self.end_of_line();
        if !is_good {
            bytes[end] = 0;
            self.state = State::Refused;
        }
        self.line.clear();
        end + 1
    }

    /// Takes a line that ended with CRLF; false where the request must be refused.
    fn end_of_line(&mut self) -> bool {
        let (line, is_whole) = self.line.text();
        if line.is_empty() {
            if self.head.has_request_line {
                self.end_of_head();
            } else {
                // Allowed before a request (RFC 9112, section 2.2).
                self.head.has_blank_line = true;
            }
            return true;
        }
        if !self.head.has_request_line {
            self.head.has_request_line = true;
            self.head.is_http2 = line == HTTP2_PREFACE_LINE;
            self.state = State::Head;
            return true;
        }
        if line[0] == b' ' || line[0] == b'\t' {
            return false;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return true };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value)
                .ok()
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok());
            let is_first = self.head.content_length.is_none() && !self.head.is_chunked;
            self.head.content_length = length;
            return is_whole && is_first && length.is_some();
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let is_first = self.head.content_length.is_none() && !self.head.is_chunked;
            self.head.is_chunked = true;
            return is_whole && is_first && value.eq_ignore_ascii_case(b"chunked");
        }
        true
    }

    fn end_of_head(&mut self) {
        self.state = match self.head {
            Head { is_http2: true, .. } => State::Off,
            Head { is_chunked: true, .. } => State::Chunk(Chunk::Size { size: 0, digits: 0 }),
            Head { content_length: Some(len @ 1..), .. } => State::Body(len),
            _ => State::Idle,
        };
        self.head = Head::default();
    }
}

impl Chunk {
    /// Follows a chunked body; returns the next state and how many bytes it took, at least 1.
    /// What is not plainly well-formed turns the tracker off: hyper refuses it as well.
    fn follow(self, bytes: &[u8]) -> (State, usize) {
        let byte = bytes[0];
        let next = match (self, byte) {
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() && digits < 16 => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { size, digits: 1.. }, b'\r') => Self::SizeLf { size },
            (Self::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => Self::Extension { size },
            (Self::Extension { size }, b'\r') => Self::SizeLf { size },
            (Self::Extension { size }, 0x20.. | b'\t') => Self::Extension { size },
            (Self::SizeLf { size: 0 }, b'\n') => Self::Trailer { len: 0 },
            (Self::SizeLf { size }, b'\n') => Self::Data { left: size },
            (Self::Data { left }, _) => {
                let n = (bytes.len() as u64).min(left);
                let next = if n == left { Self::DataCr } else { Self::Data { left: left - n } };
                return (State::Chunk(next), n as usize);
            }
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::Trailer { len }, _) => return Self::trailer(len, bytes),
            _ => return (State::Off, 1),
        };
        (State::Chunk(next), 1)
    }

    fn trailer(len: usize, bytes: &[u8]) -> (State, usize) {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            return (State::Chunk(Self::Trailer { len: len + bytes.len() }), bytes.len());
        };
        let next =
            if len + end <= 1 { State::Idle } else { State::Chunk(Self::Trailer { len: 0 }) };
        (next, end + 1)
    }
}
