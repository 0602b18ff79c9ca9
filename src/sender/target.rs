//! A webhook made ready to be called: everything that does not change between its attempts.
//!
//! The header block is built once, with a placeholder where each attempt puts its own value.
//! A request is a clone of the block, with those values replaced: the map never grows, and all
//! values of one attempt are slices of one allocation. Webhooks without headers of their own share
//! one block: it is five kilobytes, which a hundred thousand of them would neither have room for
//! nor ever find in a cache.

use std::{
    fmt,
    hash::{BuildHasher as _, Hash, Hasher, RandomState},
    sync::LazyLock,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header,
    uri::{Authority, PathAndQuery, Scheme as UriScheme},
};
use http_body_util::Full;
use rustls::pki_types::ServerName;

use super::{Outgoing, Settings, sign::Signer};
use crate::{
    clock::Millis,
    delivery::Protocol,
    event::EventType,
    guard::{Host, Scheme, WebhookUrl},
    id::{TenantNo, WebhookNo},
    tenant::Tenant,
    webhook::{SuccessRule, Webhook},
};

const USER_AGENT: HeaderValue = HeaderValue::from_static("senderZ-Webhooks/1.0");
const PLACEHOLDER: HeaderValue = HeaderValue::from_static("");

/// The headers that are the same in every attempt come first, `Host` before all …
const FIXED: usize = 4;
/// … then those that each attempt has its own values for, in the order of [`Target::stamp`].
const STAMPED: usize = 8;
static STAMPED_NAMES: [HeaderName; STAMPED] = [
    header::CONTENT_LENGTH,
    HeaderName::from_static("x-senderz-signature"),
    HeaderName::from_static("x-senderz-event"),
    HeaderName::from_static("x-senderz-delivery"),
    HeaderName::from_static("x-senderz-attempt"),
    HeaderName::from_static("webhook-id"),
    HeaderName::from_static("webhook-timestamp"),
    HeaderName::from_static("webhook-signature"),
];

/// Values that attempts share cost no copy and no count of references; HTTP/2 compresses them.
static EVENT_TYPES: [HeaderValue; EventType::ALL.len()] = [
    event_type_value(0),
    event_type_value(1),
    event_type_value(2),
    event_type_value(3),
    event_type_value(4),
    event_type_value(5),
];
static NUMBERS: [HeaderValue; 6] = [
    HeaderValue::from_static("1"),
    HeaderValue::from_static("2"),
    HeaderValue::from_static("3"),
    HeaderValue::from_static("4"),
    HeaderValue::from_static("5"),
    HeaderValue::from_static("6"),
];

const fn event_type_value(at: usize) -> HeaderValue {
    HeaderValue::from_static(EventType::ALL[at].as_str())
}

/// The block of webhooks without headers of their own; the host is a placeholder, too.
static PLAIN: LazyLock<HeaderMap> = LazyLock::new(|| header_block(PLACEHOLDER, std::iter::empty()));

/// Enough for the values of one attempt while two secrets sign.
const VALUES_CAPACITY: usize = 384;

/// Which connections may carry a request. No tenant's byte travels on another tenant's connection,
/// and the scheme is part of the key because it decides the TLS identity: there is one client
/// configuration without client certificates, so scheme, host and port say all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OriginKey {
    /// Of all the rest, made once: it is looked up twice in every attempt. Whoever chooses hosts
    /// cannot choose it.
    hash: u64,
    pub(super) tenant: TenantNo,
    pub(super) scheme: Scheme,
    pub(super) host: Host,
    pub(super) port: u16,
}

impl OriginKey {
    fn new(tenant: TenantNo, scheme: Scheme, host: Host, port: u16) -> Self {
        static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let hash = SECRET.hash_one((tenant, scheme, &host, port));
        Self { hash, tenant, scheme, host, port }
    }
}

impl Hash for OriginKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A webhook made ready to be called.
pub struct Target {
    webhook: WebhookNo,
    pub(super) origin: OriginKey,
    /// For TLS; none where the URL is `http`, or where its host cannot name a TLS server.
    pub(super) server_name: Option<ServerName<'static>>,
    pub(super) timeout: Duration,
    pub(super) success: SuccessRule,
    host: HeaderValue,
    /// None where [`PLAIN`] and the host are all.
    headers: Option<HeaderMap>,
    /// `/path?query`, for HTTP/1.1.
    origin_form: Uri,
    /// With scheme and authority, which HTTP/2 sends as pseudo headers.
    absolute_form: Uri,
    signer: Signer,
}

impl Target {
    /// What `webhook` leaves open is taken from `defaults`.
    pub fn new(webhook: &Webhook, tenant: &Tenant, defaults: &Settings) -> Self {
        let url = &webhook.url;
        let authority = authority(url);
        let host =
            HeaderValue::from_str(authority.as_str()).expect("an authority is visible ASCII");
        let path = request_target(&url.path_and_query);
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(path.clone());
        let origin_form = Uri::from_parts(parts).expect("a path alone is a URI");
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(match url.scheme {
            Scheme::Http => UriScheme::HTTP,
            Scheme::Https => UriScheme::HTTPS,
        });
        parts.authority = Some(authority.clone());
        parts.path_and_query = Some(path);
        let absolute_form = Uri::from_parts(parts).expect("all three parts are there");
        Self {
            webhook: webhook.no,
            origin: OriginKey::new(webhook.tenant, url.scheme, url.host.clone(), url.port),
            server_name: server_name(url),
            timeout: webhook.timeout.unwrap_or(defaults.timeout),
            success: webhook.success.unwrap_or(defaults.success),
            headers: (!webhook.headers.is_empty())
                .then(|| header_block(host.clone(), webhook.headers.iter())),
            host,
            origin_form,
            absolute_form,
            signer: Signer::new(&tenant.secrets),
        }
    }

    /// Whose it is.
    pub fn tenant(&self) -> TenantNo {
        self.origin.tenant
    }

    /// The request of one attempt, made at the wall time `at`; whether it is the connection's
    /// `first`.
    pub fn request(
        &self,
        out: &Outgoing,
        at: Millis,
        protocol: Protocol,
        first: bool,
    ) -> Request<Full<Bytes>> {
        let mut headers = self.block();
        self.stamp(&mut headers, out, at, first);
        let mut request = Request::new(Full::new(out.payload.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = match protocol {
            Protocol::Http1 => self.origin_form.clone(),
            Protocol::Http2 => {
                // `:authority` says it.
                headers.remove(header::HOST);
                self.absolute_form.clone()
            }
        };
        *request.headers_mut() = headers;
        request
    }

    fn block(&self) -> HeaderMap {
        if let Some(own) = &self.headers {
            return own.clone();
        }
        let mut block = PLAIN.clone();
        *block.values_mut().next().expect("the host is the first") = self.host.clone();
        block
    }

    /// Puts the attempt's own values where the block has placeholders for them.
    fn stamp(&self, headers: &mut HeaderMap, out: &Outgoing, at: Millis, first: bool) {
        let id = out.event.encode();
        let mut digits = [0; 20];
        let timestamp = decimal(&mut digits, at / 1000);
        let mut text = Vec::with_capacity(VALUES_CAPACITY);
        push_decimal(&mut text, out.payload.len() as u64);
        let length = text.len();
        self.signer.write_hex(at, &out.payload, &mut text);
        let signature = text.len();
        text.extend_from_slice(&out.delivery.encode());
        let delivery = text.len();
        text.extend_from_slice(&id);
        let event = text.len();
        text.extend_from_slice(timestamp);
        let seconds = text.len();
        self.signer.write_standard(at, &id, timestamp, &out.payload, &mut text);
        let standard = text.len();

        let text = Bytes::from(text);
        let own = |from: usize, to: usize| {
            let mut value = HeaderValue::from_maybe_shared(text.slice(from..to))
                .expect("ids, digits, hex and base64 are visible ASCII");
            // It differs with every attempt, and would only push useful entries out of HTTP/2's
            // compression table. The first ones bring their names into it: later requests only
            // refer to them.
            value.set_sensitive(!first);
            value
        };
        let number = NUMBERS.get(usize::from(out.number).wrapping_sub(1));
        let values: [HeaderValue; STAMPED] = [
            own(0, length),
            own(length, signature),
            EVENT_TYPES[out.event_type as usize].clone(),
            own(signature, delivery),
            number.cloned().unwrap_or_else(|| HeaderValue::from(out.number)),
            own(delivery, event),
            own(event, seconds),
            own(seconds, standard),
        ];
        // Iteration is in the order of insertion, and nothing has been removed yet: this saves
        // eight look-ups in every attempt.
        for (placeholder, value) in headers.values_mut().skip(FIXED).zip(values) {
            *placeholder = value;
        }
    }
}

/// Headers and path may hold a tenant's credentials, so neither is shown.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("webhook", &self.webhook)
            .field("tenant", &self.origin.tenant)
            .finish_non_exhaustive()
    }
}

/// Header values in the order in which they are sent. Our own names always win: the guard refuses
/// custom headers with these names, and this makes sure of it.
fn header_block<'a>(
    host: HeaderValue,
    custom: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(32);
    headers.insert(header::HOST, host);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::USER_AGENT, USER_AGENT);
    assert_eq!(headers.len(), FIXED);
    for name in &STAMPED_NAMES {
        headers.insert(name, PLACEHOLDER);
    }
    let ours = headers.clone();
    for (name, value) in custom.filter(|(name, _)| !ours.contains_key(*name)) {
        let mut value = value.clone();
        // Often a credential: HTTP/2 then never puts it into a shared compression table.
        value.set_sensitive(true);
        headers.append(name, value);
    }
    headers
}

fn authority(url: &WebhookUrl) -> Authority {
    let host = match &url.host {
        Host::Name(name) => name.clone(),
        Host::V4(ip) => ip.to_string(),
        Host::V6(ip) => format!("[{ip}]"),
    };
    let text = match (url.scheme, url.port) {
        (Scheme::Http, 80) | (Scheme::Https, 443) => host,
        (_, port) => format!("{host}:{port}"),
    };
    text.parse().expect("a canonical host and port are an authority")
}

fn server_name(url: &WebhookUrl) -> Option<ServerName<'static>> {
    match (url.scheme, &url.host) {
        (Scheme::Http, _) => None,
        (Scheme::Https, Host::Name(name)) => ServerName::try_from(name.clone()).ok(),
        (Scheme::Https, Host::V4(ip)) => Some(ServerName::from(std::net::IpAddr::V4(*ip))),
        (Scheme::Https, Host::V6(ip)) => Some(ServerName::from(std::net::IpAddr::V6(*ip))),
    }
}

/// The URL standard and `http::Uri` do not agree on every character; what the latter refuses is
/// percent-encoded.
fn request_target(path_and_query: &str) -> PathAndQuery {
    path_and_query.parse().unwrap_or_else(|_| {
        let mut encoded = String::with_capacity(path_and_query.len() + 16);
        for byte in path_and_query.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=%".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        encoded.parse().expect("only characters of RFC 3986 are left")
    })
}

fn push_decimal(text: &mut Vec<u8>, number: u64) {
    text.extend_from_slice(decimal(&mut [0; 20], number));
}

fn decimal(buffer: &mut [u8; 20], mut number: u64) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &buffer[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_in_full() {
        for number in [0, 7, 10, 1_795_407_600, u64::MAX] {
            assert_eq!(decimal(&mut [0; 20], number), number.to_string().as_bytes());
        }
    }

    #[test]
    fn custom_headers_follow_ours_and_never_replace_them() {
        let custom = [
            (HeaderName::from_static("authorization"), HeaderValue::from_static("Bearer secret")),
            (HeaderName::from_static("x-extra"), HeaderValue::from_static("1")),
            (HeaderName::from_static("x-extra"), HeaderValue::from_static("2")),
            (HeaderName::from_static("host"), HeaderValue::from_static("evil.example")),
        ];
        let block = header_block(
            HeaderValue::from_static("a.example:8443"),
            custom.iter().map(|(name, value)| (name, value)),
        );
        assert_eq!(block[header::HOST], "a.example:8443");
        let names: Vec<&HeaderName> = block.keys().collect();
        assert_eq!(names[FIXED..FIXED + STAMPED], STAMPED_NAMES.iter().collect::<Vec<_>>());
        assert!(block.values().skip(FIXED).take(STAMPED).all(|value| value == PLACEHOLDER));
        assert_eq!(block.get_all("x-extra").iter().count(), 2);
        assert!(block["authorization"].is_sensitive());
        assert!(!format!("{block:?}").contains("secret"));
    }

    #[test]
    fn origins_differ_in_every_part_and_only_in_them() {
        let (a, b) = (Host::Name("a.example".to_owned()), Host::Name("b.example".to_owned()));
        let key = |tenant, scheme, host: &Host, port| {
            OriginKey::new(TenantNo(tenant), scheme, host.clone(), port)
        };
        let one = key(1, Scheme::Https, &a, 443);
        let same = key(1, Scheme::Https, &a, 443);
        assert!(one == same && one.hash == same.hash);
        let others = [
            key(2, Scheme::Https, &a, 443),
            key(1, Scheme::Http, &a, 443),
            key(1, Scheme::Https, &b, 443),
            key(1, Scheme::Https, &a, 444),
        ];
        assert!(others.iter().all(|other| *other != one && other.hash != one.hash));
    }

    #[test]
    fn request_targets_keep_what_a_uri_allows() {
        let check = |given: &str, expected: &str| {
            assert_eq!(request_target(given).as_str(), expected);
        };
        check("/hooks/a%20b?x=1&y=[2]", "/hooks/a%20b?x=1&y=[2]");
        check("/a<b>", "/a%3Cb%3E");
        check("/", "/");
        for byte in (b'!'..=b'~').filter(|byte| *byte != b'#') {
            let (path, query) = (format!("/a{0}b", byte as char), format!("/?a{0}b", byte as char));
            assert!(request_target(&path).as_str().starts_with("/a"), "{path}");
            assert!(request_target(&query).as_str().starts_with("/?a"), "{query}");
        }
    }

    #[test]
    fn authorities_leave_the_default_port_out() {
        let check = |scheme, host, port, expected: &str| {
            let url = WebhookUrl { scheme, host, port, path_and_query: "/".to_owned() };
            assert_eq!(authority(&url).as_str(), expected);
        };
        check(Scheme::Https, Host::Name("a_b.example".to_owned()), 443, "a_b.example");
        check(Scheme::Https, Host::Name("a.example".to_owned()), 80, "a.example:80");
        check(Scheme::Http, Host::V4([192, 0, 2, 1].into()), 80, "192.0.2.1");
        check(Scheme::Http, Host::V6("2001:db8::1".parse().unwrap()), 8080, "[2001:db8::1]:8080");
    }
}
