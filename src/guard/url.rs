//! The one parser of webhook URLs.
//!
//! Server-side request forgery lives where two parsers disagree, so this one refuses, with advice,
//! what another might read differently: it never strips, repairs or guesses. What is left is split
//! here, by a grammar small enough to see that it is right; host names go through IDNA and IPv4
//! spellings through the URL standard's parser (`url` crate), because browsers and `curl` made
//! those spellings a fact; paths are normalised by the same crate behind a host of our own, so no
//! path can change the host. The result is typed and canonical, and nobody parses it again.
//!
//! Work is bounded: a text longer than the limit is refused before anything looks at it, a host
//! longer than any name can become before IDNA runs.
//!
//! It does not decide where a name leads; see [`address`](super::address).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::Position;

use super::{Host, Policy, Scheme, WebhookUrl, address::Denied};

/// Why a URL cannot be a webhook's. Each message says what is wrong and what to do, and nothing
/// about the network behind the gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("the URL is empty; write one such as https://hooks.example.com/in")]
    Empty,
    #[error(
        "the URL is longer than {limit} bytes, counted in its canonical form; use a shorter one"
    )]
    TooLong { limit: usize },
    #[error(
        "the URL has the character U+{:04X} at byte {at}, which is invisible or has no place in a \
         URL; remove it, or percent-encode it if the path needs it", u32::from(*.character)
    )]
    Character { at: usize, character: char },
    #[error("the URL has a backslash at byte {at}; use / as separator, or %5C inside the path")]
    Backslash { at: usize },
    #[error("the URL has no scheme; start it with https://")]
    NoScheme,
    #[error("the URL's scheme is neither https nor http; start it with https://")]
    Scheme,
    #[error("the URL's scheme is not followed by //; write https://host/path")]
    Slashes,
    #[error("the URL has a fragment (#…), which is never sent; remove it, or write %23 for a #")]
    Fragment,
    #[error(
        "the URL has a user name or password before the host; remove it and use the webhook's \
         custom headers, for example Authorization"
    )]
    Userinfo,
    #[error("the URL has no host; write https://host/path")]
    NoHost,
    #[error(
        "the URL's port is not a number from 1 to 65535 without leading zeros; mend or remove it"
    )]
    Port,
    #[error("the URL's host looks like an IPv4 address but is none; write it as 4 decimal numbers")]
    Ipv4,
    #[error(
        "the URL's host is not a valid IPv6 address; write it in brackets, as in [2001:db8::1]"
    )]
    Ipv6,
    #[error(
        "the URL's IPv6 address has a zone (%…), which means something on one machine only; remove it"
    )]
    ZoneId,
    #[error(
        "the URL's host is not a valid name; names have letters, digits, hyphens and dots, and \
         international names have to be valid under IDNA"
    )]
    Name,
    #[error(
        "the URL's host name is too long; a name has up to 253 characters, each label up to 63"
    )]
    NameTooLong,
    #[error("the URL's path or query cannot be sent; percent-encode its special characters")]
    Path,
    #[error("the URL has to use https://")]
    HttpsRequired,
    #[error("webhooks may not use port {0}; use 443 or another port meant for web servers")]
    PortNotAllowed(u16),
    #[error("webhooks may not reach this host; use one that is reachable from the public internet")]
    Blocked(Denied),
}

impl UrlError {
    /// A stable code for API clients.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HttpsRequired => "https_required",
            Self::PortNotAllowed(_) => "port_not_allowed",
            Self::Blocked(_) => "blocked_target",
            _ => "invalid_url",
        }
    }

    /// A finer reason for the operator's log. Not for tenants: it tells apart what `Display` and
    /// [`code`](Self::code) on purpose do not.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong { .. } => "too_long",
            Self::Character { .. } => "character",
            Self::Backslash { .. } => "backslash",
            Self::NoScheme => "no_scheme",
            Self::Scheme => "scheme",
            Self::Slashes => "slashes",
            Self::Fragment => "fragment",
            Self::Userinfo => "userinfo",
            Self::NoHost => "no_host",
            Self::Port => "bad_port",
            Self::Ipv4 => "bad_ipv4",
            Self::Ipv6 => "bad_ipv6",
            Self::ZoneId => "zone_id",
            Self::Name => "bad_name",
            Self::NameTooLong => "name_too_long",
            Self::Path => "bad_path",
            Self::HttpsRequired => "https_required",
            Self::PortNotAllowed(_) => "port_not_allowed",
            Self::Blocked(denied) => denied.class.as_str(),
        }
    }
}

impl WebhookUrl {
    /// Parses and judges: the way in for every URL that a tenant writes.
    pub fn parse(text: &str, policy: &Policy) -> Result<Self, UrlError> {
        let url = parse(text, policy.max_url)?;
        policy.judge_url(&url)?;
        Ok(url)
    }

    /// Reads back what `Display` wrote, under whatever policy it was accepted then: a stricter
    /// policy must not keep the gateway from reading its own store. Not for tenants' input. Before
    /// an attempt the connection is judged by the policy of the day.
    pub fn from_stored(text: &str) -> Result<Self, UrlError> {
        parse(text, LONGEST_STORED)
    }
}

impl Policy {
    /// Judges a parsed URL: its host, its scheme, its port, and whether it leads back to us. The
    /// most telling refusal comes first.
    pub fn judge_url(&self, url: &WebhookUrl) -> Result<(), UrlError> {
        match &url.host {
            Host::Name(name) => {
                self.judge_name(name).map_err(UrlError::Blocked)?;
                if self.is_allowed_localhost(name) {
                    self.judge_not_own(Ipv4Addr::LOCALHOST.into(), url.port)?;
                    self.judge_not_own(Ipv6Addr::LOCALHOST.into(), url.port)?;
                }
            }
            Host::V4(_) | Host::V6(_) => {
                let ip = url.host.ip().expect("both are addresses");
                self.judge_literal(ip).map_err(UrlError::Blocked)?;
                self.judge_ip(ip).map_err(UrlError::Blocked)?;
                self.judge_not_own(ip, url.port)?;
            }
        }
        if url.scheme == Scheme::Http && self.require_https && !self.allows_plain_http(&url.host) {
            return Err(UrlError::HttpsRequired);
        }
        self.judge_port(url.port).map_err(|_| UrlError::PortNotAllowed(url.port))
    }

    fn judge_not_own(&self, ip: IpAddr, port: u16) -> Result<(), UrlError> {
        self.judge_own(SocketAddr::new(ip, port)).map_err(UrlError::Blocked)
    }

    /// Plain http stays inside networks that the operator named.
    fn allows_plain_http(&self, host: &Host) -> bool {
        match host {
            Host::Name(name) => self.is_allowed_localhost(name),
            Host::V4(ip) => self.allows((*ip).into()),
            Host::V6(ip) => self.allows((*ip).into()),
        }
    }
}

/// Far above any `limits.url`; only a damaged store has more.
const LONGEST_STORED: usize = 64 * 1024;

/// Presentation form, without the trailing dot (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A host that is longer as written cannot become a name of [`LONGEST_NAME`]: percent-encoding
/// takes 3 bytes for 1, UTF-8 up to 4, and IDNA composes up to 3 characters into one.
const LONGEST_RAW_HOST: usize = LONGEST_NAME * 3 * 4;

fn parse(text: &str, limit: usize) -> Result<WebhookUrl, UrlError> {
    if text.is_empty() {
        return Err(UrlError::Empty);
    }
    if text.len() > limit {
        return Err(UrlError::TooLong { limit });
    }
    check_characters(text)?;
    let (scheme, rest) = split_scheme(text)?;
    if rest.contains('#') {
        return Err(UrlError::Fragment);
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(UrlError::Userinfo);
    }
    let (host, port) = split_port(authority)?;
    let port = port.map_or(Ok(scheme.default_port()), parse_port)?;
    let url = WebhookUrl {
        scheme,
        host: parse_host(host)?,
        port,
        path_and_query: canonical_path_and_query(tail)?,
    };
    // Encoding lengthens: what we hand out must be what we would take back.
    if url.to_string().len() > limit {
        return Err(UrlError::TooLong { limit });
    }
    Ok(url)
}

/// Refuses what the URL standard would strip and what a reader would not see.
fn check_characters(text: &str) -> Result<(), UrlError> {
    match text.char_indices().find(|(_, c)| *c == '\\' || is_invisible(*c)) {
        None => Ok(()),
        Some((at, '\\')) => Err(UrlError::Backslash { at }),
        Some((at, character)) => Err(UrlError::Character { at, character }),
    }
}

/// Controls, white space, and what Unicode calls default-ignorable or format characters.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || c.is_whitespace()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The scheme, and what follows its `//`.
fn split_scheme(text: &str) -> Result<(Scheme, &str), UrlError> {
    let (name, rest) = text.split_once(':').ok_or(UrlError::NoScheme)?;
    let scheme = if name.eq_ignore_ascii_case("https") {
        Scheme::Https
    } else if name.eq_ignore_ascii_case("http") {
        Scheme::Http
    } else if name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    {
        return Err(UrlError::Scheme);
    } else {
        return Err(UrlError::NoScheme);
    };
    Ok((scheme, rest.strip_prefix("//").ok_or(UrlError::Slashes)?))
}

/// The host as written, brackets included, and the text after its colon.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    let (host, after) = if authority.starts_with('[') {
        let end = authority.find(']').ok_or(UrlError::Ipv6)?;
        authority.split_at(end + 1)
    } else {
        authority.split_at(authority.find(':').unwrap_or(authority.len()))
    };
    if after.is_empty() {
        return Ok((host, None));
    }
    match after.strip_prefix(':') {
        None => Err(UrlError::Ipv6),
        // `::1` without its brackets.
        Some(port) if port.contains(':') => Err(UrlError::Ipv6),
        Some(port) => Ok((host, Some(port))),
    }
}

fn parse_port(text: &str) -> Result<u16, UrlError> {
    let canonical = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    if !canonical {
        return Err(UrlError::Port);
    }
    text.parse().map_err(|_| UrlError::Port)
}

fn parse_host(raw: &str) -> Result<Host, UrlError> {
    if raw.is_empty() {
        return Err(UrlError::NoHost);
    }
    if let Some(inside) = raw.strip_prefix('[') {
        return parse_ipv6(inside.strip_suffix(']').ok_or(UrlError::Ipv6)?);
    }
    if raw.len() > LONGEST_RAW_HOST {
        return Err(UrlError::NameTooLong);
    }
    let decoded = percent_decode(raw)?;
    match url::Host::parse(&decoded) {
        Ok(url::Host::Ipv4(ip)) => Ok(Host::V4(ip)),
        Ok(url::Host::Ipv6(_)) => Err(UrlError::Name),
        Ok(url::Host::Domain(name)) => check_name(name),
        Err(url::ParseError::InvalidIpv4Address) => Err(UrlError::Ipv4),
        Err(url::ParseError::EmptyHost) => Err(UrlError::NoHost),
        Err(_) => Err(UrlError::Name),
    }
}

/// An IPv4-mapped address becomes the IPv4 address that packets would go to: one host, one
/// spelling.
fn parse_ipv6(inside: &str) -> Result<Host, UrlError> {
    if inside.contains('%') {
        return Err(UrlError::ZoneId);
    }
    let ip: Ipv6Addr = inside.parse().map_err(|_| UrlError::Ipv6)?;
    Ok(ip.to_ipv4_mapped().map_or(Host::V6(ip), Host::V4))
}

/// Decodes a percent-encoded host once. What it hid is held to the same rules as what stands
/// openly; a `%` that is left would be decoded again by somebody.
fn percent_decode(raw: &str) -> Result<String, UrlError> {
    if !raw.contains('%') {
        return Ok(raw.to_owned());
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or(UrlError::Name)?;
        rest = after;
        bytes.push(
            hex(digits[0]).zip(hex(digits[1])).map(|(h, l)| h << 4 | l).ok_or(UrlError::Name)?,
        );
    }
    let decoded = String::from_utf8(bytes).map_err(|_| UrlError::Name)?;
    if decoded.contains(|c| "%\\@:/?#[]".contains(c) || is_invisible(c)) {
        return Err(UrlError::Name);
    }
    Ok(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Takes a name after IDNA and leaves letters, digits, hyphens, dots, and the underscores that
/// some real servers have.
fn check_name(name: String) -> Result<Host, UrlError> {
    let name = name.strip_suffix('.').unwrap_or(&name);
    if name.is_empty() {
        return Err(UrlError::NoHost);
    }
    if name.len() > LONGEST_NAME {
        return Err(UrlError::NameTooLong);
    }
    for label in name.split('.') {
        if label.len() > LONGEST_LABEL {
            return Err(UrlError::NameTooLong);
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if label.is_empty()
            || label.starts_with('-')
            || label.ends_with('-')
            || !label.bytes().all(plain)
        {
            return Err(UrlError::Name);
        }
    }
    Ok(Host::Name(name.to_owned()))
}

/// Path and query as the URL standard has them: dot segments resolved, what is not visible ASCII
/// percent-encoded. The host is ours, so whatever stands in the tail can only become a path.
fn canonical_path_and_query(tail: &str) -> Result<String, UrlError> {
    let url = url::Url::parse(&format!("https://h{tail}")).map_err(|_| UrlError::Path)?;
    let text = &url[Position::BeforePath..Position::AfterQuery];
    let sendable = text.starts_with('/')
        && text.bytes().all(|b| b.is_ascii_graphic())
        && http::uri::PathAndQuery::try_from(text).is_ok();
    if url.host_str() != Some("h") || !sendable {
        return Err(UrlError::Path);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
