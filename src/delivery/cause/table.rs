//! The closed tables of causes: one row for each thing that the sender can say of a request without
//! an answer, one for each status. `docs/causes.md` shows them to people; a test compares the two.

use crate::delivery::ErrorCode;

/// A kind of failure that leaves no answer.
#[derive(Clone, Copy, Debug)]
pub struct Unanswered {
    pub code: ErrorCode,
    /// What the sender's detail holds; the last row of a code takes every detail.
    pub said: &'static str,
    pub words: &'static str,
    pub hint: &'static str,
    /// Whether what the detail says after `said` belongs to the words.
    pub(super) with_rest: bool,
}

/// A status, or a class of them.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    pub from: u16,
    pub until: u16,
    pub words: &'static str,
    pub hint: &'static str,
}

/// A bot protection in front of the receiver says so itself.
pub const CHALLENGED: &str = "a bot protection (Cloudflare's) stopped the request: let requests with the user agent senderZ-Webhooks/1.0 to this path pass";

const fn row(
    code: ErrorCode,
    said: &'static str,
    words: &'static str,
    hint: &'static str,
) -> Unanswered {
    Unanswered { code, said, words, hint, with_rest: false }
}

/// Where the detail goes on with something worth saying: a date, names, a reason.
const fn open(
    code: ErrorCode,
    said: &'static str,
    words: &'static str,
    hint: &'static str,
) -> Unanswered {
    Unanswered { code, said, words, hint, with_rest: true }
}

const RENEW: &str =
    "renew the certificate and reload the server that presents it; check its automatic renewal";
const RIGHT_NAME: &str = "install a certificate whose names include the URL's host, or use the URL's host that the certificate is for";
const CLOCK: &str = "install a certificate that is valid today; if it should be, check the clock of the machine that issued it";
const FULL_CHAIN: &str = "install the full chain (the certificate and its intermediates) of a public authority; a private one has to be known to the gateway (tls.ca_file, the operator's)";
const REISSUE: &str = "have the certificate issued anew, for a server, by a public authority";
const CIPHERS: &str = "enable TLS 1.2 or 1.3 with current cipher suites on the server";
const TLS_PORT: &str = "check the URL's scheme and port: this port may speak plain HTTP";
const OURS: &str = "nothing is wrong with the receiver; it is tried again on schedule, and the gateway's operator can see why";
const LISTENS: &str = "check that the server runs, listens on this port on its public address, and that no firewall refuses the connection";
const REACHABLE: &str = "check the server's network and its firewall: packets of the gateway have to reach it and find back";
const SLOW_DNS: &str =
    "check the name servers of the host's domain: they have to answer within seconds";
const ANSWER_FIRST: &str = "answer 200 first and do the work after; if the receiver needs longer, raise the webhook's timeout";
const CRASHED: &str = "look into the receiver's log at this time: it, or a proxy before it, ended the connection; it may have crashed, restarted, or refused the body";
const HTTP_SERVER: &str =
    "check that the port is an HTTP server's and that nothing between rewrites its answers";

/// Every way to stay without an answer. A timeout that is called by its phase comes first.
pub const UNANSWERED: &[Unanswered] = &[
    row(
        ErrorCode::Dns,
        "name does not exist",
        "the URL's host does not exist in DNS",
        "correct the host in the webhook's URL, or create its DNS record",
    ),
    row(
        ErrorCode::Dns,
        "name has no address",
        "the URL's host has no address in DNS",
        "create an A or AAAA record for the host",
    ),
    row(
        ErrorCode::Dns,
        "name servers failed",
        "the name servers of the URL's host failed to answer",
        "check the domain's delegation and DNSSEC, for example with `dig +trace`",
    ),
    row(ErrorCode::Dns, "", "the gateway could not ask for the host's address", OURS),
    row(
        ErrorCode::Connect,
        "connection refused",
        "nothing accepts connections on the URL's host and port",
        LISTENS,
    ),
    row(
        ErrorCode::Connect,
        "connection reset",
        "the connection was reset while it was opened",
        LISTENS,
    ),
    row(ErrorCode::Connect, "host unreachable", "there is no way to the host", REACHABLE),
    row(
        ErrorCode::Connect,
        "network unreachable",
        "there is no way to the host's network",
        REACHABLE,
    ),
    row(
        ErrorCode::Connect,
        "the gateway has",
        "the gateway had no resources left for a connection",
        OURS,
    ),
    row(ErrorCode::Connect, "", "the connection could not be made", LISTENS),
    open(
        ErrorCode::Tls,
        "the certificate has expired",
        "the server's certificate has expired",
        RENEW,
    ),
    open(
        ErrorCode::Tls,
        "the certificate is not valid yet",
        "the server's certificate is not valid yet",
        CLOCK,
    ),
    open(
        ErrorCode::Tls,
        "the certificate is for another name",
        "the server's certificate is for other names than the URL's host",
        RIGHT_NAME,
    ),
    row(
        ErrorCode::Tls,
        "issuer is not trusted",
        "the server's certificate comes from an unknown authority, or its chain is incomplete",
        FULL_CHAIN,
    ),
    row(
        ErrorCode::Tls,
        "the certificate is revoked",
        "the server's certificate was revoked",
        REISSUE,
    ),
    row(
        ErrorCode::Tls,
        "the certificate is malformed",
        "the server's certificate cannot be read",
        REISSUE,
    ),
    row(
        ErrorCode::Tls,
        "signature is wrong",
        "the signature of the server's certificate is wrong",
        FULL_CHAIN,
    ),
    row(
        ErrorCode::Tls,
        "not meant for servers",
        "the server's certificate is not meant for servers",
        REISSUE,
    ),
    row(
        ErrorCode::Tls,
        "the certificate is not acceptable",
        "the server's certificate is not acceptable",
        REISSUE,
    ),
    row(
        ErrorCode::Tls,
        "presented no certificate",
        "the server presented no certificate",
        "install a certificate on the server",
    ),
    row(
        ErrorCode::Tls,
        "does not speak TLS",
        "the server does not speak TLS on this port",
        TLS_PORT,
    ),
    row(
        ErrorCode::Tls,
        "no common TLS version",
        "the server offers no TLS version or cipher that the gateway accepts",
        CIPHERS,
    ),
    row(
        ErrorCode::Tls,
        "neither HTTP/2 nor HTTP/1.1",
        "the server offers neither HTTP/2 nor HTTP/1.1",
        "enable http/1.1 or h2 in the server's ALPN",
    ),
    row(
        ErrorCode::Tls,
        "does not know this name",
        "the server has no site of the URL's host",
        "add the host to the server's configuration (its TLS names)",
    ),
    row(
        ErrorCode::Tls,
        "asks for a client certificate",
        "the server asks for a client certificate",
        "exempt the webhook's path from client certificates; verify the signature of deliveries instead",
    ),
    row(ErrorCode::Tls, "broke the TLS protocol", "the server broke the TLS protocol", CIPHERS),
    row(
        ErrorCode::Tls,
        "no name that a certificate can have",
        "the URL's host is no name that a certificate can have",
        "use a host name in the webhook's URL",
    ),
    row(
        ErrorCode::Tls,
        "closed the connection during",
        "the server closed the connection during the TLS handshake",
        TLS_PORT,
    ),
    row(ErrorCode::Tls, "", "the TLS handshake failed", CIPHERS),
    row(
        ErrorCode::Timeout,
        "waiting for a connection",
        "no connection within the time: earlier attempts were still opening one",
        REACHABLE,
    ),
    row(
        ErrorCode::Timeout,
        "resolving the host's name",
        "no answer from DNS within the time",
        SLOW_DNS,
    ),
    row(
        ErrorCode::Timeout,
        "in the TLS handshake",
        "the server did not finish the TLS handshake within the time",
        TLS_PORT,
    ),
    row(
        ErrorCode::Timeout,
        "waiting for the response",
        "no answer within the time after the request was sent",
        ANSWER_FIRST,
    ),
    row(
        ErrorCode::Timeout,
        "reading the response",
        "the answer began and was not finished within the time",
        "send the whole answer at once, with its Content-Length; an empty body will do",
    ),
    row(
        ErrorCode::Timeout,
        "connecting",
        "no connection within the time: the host does not answer",
        REACHABLE,
    ),
    row(
        ErrorCode::Timeout,
        "connection request",
        "no connection within the time: the host does not answer",
        REACHABLE,
    ),
    row(ErrorCode::Timeout, "", "the connection stopped answering", REACHABLE),
    open(
        ErrorCode::Reset,
        "closed the HTTP/2 connection",
        "the server closed the HTTP/2 connection before an answer",
        CRASHED,
    ),
    open(
        ErrorCode::Reset,
        "reset the stream",
        "the server reset the HTTP/2 stream before an answer",
        CRASHED,
    ),
    row(
        ErrorCode::Reset,
        "was closed before an answer",
        "the connection was closed before an answer",
        CRASHED,
    ),
    row(ErrorCode::Reset, "", "the connection was reset before an answer", CRASHED),
    row(
        ErrorCode::BadResponse,
        "head is too large",
        "the response's headers are too large",
        "send fewer or shorter headers and cookies with the answer",
    ),
    row(
        ErrorCode::BadResponse,
        "both Transfer-Encoding and Content-Length",
        "the response has both Transfer-Encoding and Content-Length",
        "send one of the two; a proxy on the way may add the other",
    ),
    row(
        ErrorCode::BadResponse,
        "in one plain way where it ends",
        "the response does not say in one plain way where it ends",
        "send one Content-Length that is a number, or Transfer-Encoding: chunked and nothing else in it",
    ),
    row(
        ErrorCode::BadResponse,
        "answered 101",
        "the receiver answered 101: it wants to switch protocols",
        "the URL is a WebSocket's; use one that takes POST requests",
    ),
    row(
        ErrorCode::BadResponse,
        "status is outside",
        "the response's status is none of HTTP's",
        HTTP_SERVER,
    ),
    row(ErrorCode::BadResponse, "not valid HTTP/2", "the answer is not valid HTTP/2", HTTP_SERVER),
    row(ErrorCode::BadResponse, "", "the answer is not valid HTTP", HTTP_SERVER),
    row(
        ErrorCode::BlockedTarget,
        "",
        "the URL leads to an address that webhooks may not reach",
        "use a host with public addresses only (no loopback, private, link-local or metadata address among them); for one inside, the operator can allow its network (security.allow_networks), and sees the rule in the gateway's log (level debug)",
    ),
    row(ErrorCode::Status, "", "the receiver refused the request", REFUSED),
    row(ErrorCode::Canceled, "", "the gateway cut the attempt short by a fault of its own", OURS),
];

const fn on(status: u16, words: &'static str, hint: &'static str) -> Answered {
    Answered { from: status, until: status, words, hint }
}

const fn within(from: u16, until: u16, words: &'static str, hint: &'static str) -> Answered {
    Answered { from, until, words, hint }
}

const REFUSED: &str = "read the response's body and the receiver's log of this time";
const FINAL_URL: &str = "set the webhook's URL to where it points, if that is yours; a redirect often adds https, www or a slash at the end, or leads to a login";
const UPSTREAM: &str = "check that the application behind the proxy runs and answers in time";
const SLOWER: &str =
    "take more requests, or let fewer come: set the webhook's rate_limit or max_in_flight";
const CDN: &str =
    "check that the origin server runs, that its firewall lets the CDN in, and its certificate";

/// Every status that is no success, single ones first.
pub const ANSWERED: &[Answered] = &[
    within(
        200,
        299,
        "only 200 counts as a success",
        "answer 200, or set the webhook's success to \"2xx\"",
    ),
    on(
        304,
        "a request that changes something cannot be unmodified",
        "take POST requests past the cache",
    ),
    within(300, 399, "redirects are not followed", FINAL_URL),
    on(
        400,
        "it finds the request malformed",
        "read the response's body; parse the body as JSON, and verify the signature over its raw bytes",
    ),
    on(
        401,
        "it wants to know who asks",
        "a custom header is probably missing or wrong: set it in the webhook's headers (Authorization, for example), or let the path pass and verify the signature",
    ),
    on(
        403,
        "it does not let the request in",
        "a custom header is probably missing or wrong; or a firewall, an allow-list of addresses or a CSRF protection stands before the path: exempt it, and verify the signature",
    ),
    on(
        404,
        "there is nothing at the URL's path",
        "correct the path of the webhook's URL, or deploy the route",
    ),
    on(405, "the path does not take POST", "let the route take POST, or correct the webhook's URL"),
    on(
        406,
        "it has nothing in a form that it thinks is wanted",
        "answer 200 whatever the Accept header says",
    ),
    on(407, "a proxy wants to know who asks", "the URL leads to a proxy: use the receiver's own"),
    on(
        408,
        "it did not get the whole request in time",
        "raise the time that the receiver or its proxy waits for a body",
    ),
    on(
        409,
        "it conflicts with what the receiver has",
        "if the event was processed before, answer 200: dedupe by webhook-id",
    ),
    on(
        410,
        "what was at the URL is gone for good",
        "delete the webhook, or set its URL to the new place",
    ),
    on(411, "it wants a Content-Length", "deliveries have one: a proxy on the way takes it off"),
    on(
        413,
        "the body is too large for it",
        "take bodies of 256 KiB (client_max_body_size in nginx)",
    ),
    on(414, "the URL is too long for it", "shorten the webhook's URL"),
    on(415, "it does not take application/json", "let the route take application/json"),
    on(
        421,
        "the server is not the one for this host",
        "check the server's sites and the names of its certificate",
    ),
    on(
        422,
        "it understands the body and does not accept it",
        "read the response's body; ignore members that you do not know, and answer 200 to event types that you do not need",
    ),
    on(425, "it fears a replay of early data", REFUSED),
    on(429, "it has too many requests", SLOWER),
    on(
        431,
        "the request's headers are too large for it",
        "set fewer or shorter custom headers, or raise the receiver's limit",
    ),
    on(451, "it may not answer for legal reasons", REFUSED),
    within(400, 499, "it refuses the request", REFUSED),
    on(
        500,
        "something in it failed",
        "read the receiver's log of this time: the request reached it and its code failed",
    ),
    on(501, "it does not know the method", "let the route take POST"),
    on(502, "a proxy got no valid answer from the application", UPSTREAM),
    on(503, "it is out of service or overloaded", SLOWER),
    on(504, "a proxy got no answer from the application in time", UPSTREAM),
    on(505, "it does not take this version of HTTP", "enable HTTP/1.1 on the server"),
    on(507, "it has no room left", "free space at the receiver"),
    on(508, "it runs in a circle", REFUSED),
    on(
        511,
        "a network wants a login first",
        "the URL leads into a network with a login page: use a public one",
    ),
    within(520, 530, "the CDN could not reach the origin server", CDN),
    within(500, 599, "something in it failed", "read the receiver's log of this time"),
    within(0, u16::MAX, "it is no success", REFUSED),
];
