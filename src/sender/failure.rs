//! What went wrong on the way out, in words for the tenant.
//!
//! Each source of errors (DNS, TCP, TLS, HTTP) has one function that maps all it can say to a
//! code of the closed list, a detail, and whose fault it was. A detail names the class of the
//! problem and nothing of our inside: no resolved address, no path, no library's wording.

use std::{borrow::Cow, error::Error as StdError, io, time::Duration};

use rustix::io::Errno;
use rustls::{AlertDescription, CertificateError, pki_types::UnixTime};

use crate::{clock, delivery::ErrorCode, engine::Blame};

/// How many of a certificate's names a detail shows, …
const NAMES_SHOWN: usize = 3;

/// … and how much of each, characters.
const NAME_SHOWN: usize = 64;

/// Why there is no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: ErrorCode,
    pub(super) detail: Cow<'static, str>,
    pub(super) blame: Blame,
}

/// How far an attempt has come; a timeout names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Started,
    /// For a connection that another attempt is opening, and that this one may share.
    Waiting,
    Resolving,
    Connecting,
    Tls,
    Response,
    Body,
}

impl Failure {
    pub(super) fn receiver(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), blame: Blame::Receiver }
    }

    pub(super) fn own(code: ErrorCode, detail: &'static str) -> Self {
        Self { code, detail: detail.into(), blame: Blame::Own }
    }

    pub(super) fn bad_response(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::receiver(ErrorCode::BadResponse, detail)
    }

    pub(super) fn blocked() -> Self {
        Self::receiver(
            ErrorCode::BlockedTarget,
            "the host has an address that webhooks may not reach",
        )
    }

    pub(super) fn timeout(stage: Stage, limit: Duration) -> Self {
        let doing = match stage {
            Stage::Started | Stage::Waiting => "waiting for a connection",
            Stage::Resolving => "resolving the host's name",
            Stage::Connecting => "connecting",
            Stage::Tls => "in the TLS handshake",
            Stage::Response => "waiting for the response",
            Stage::Body => "reading the response",
        };
        Self {
            code: ErrorCode::Timeout,
            detail: format!("timed out after {limit:?} {doing}").into(),
            blame: Blame::ReceiverTimeout,
        }
    }

    /// A TCP connection that could not be made.
    pub(super) fn connect(error: &io::Error) -> Self {
        if let Some(own) = own_fault(error) {
            return own;
        }
        let detail = match error.kind() {
            io::ErrorKind::TimedOut => {
                return Self {
                    code: ErrorCode::Timeout,
                    detail: "the host did not answer the connection request".into(),
                    blame: Blame::ReceiverTimeout,
                };
            }
            io::ErrorKind::ConnectionRefused => "connection refused",
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => "connection reset",
            io::ErrorKind::HostUnreachable => "host unreachable",
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => {
                "network unreachable"
            }
            _ => "the connection could not be made",
        };
        Self::receiver(ErrorCode::Connect, detail)
    }

    /// A TLS handshake that failed, or TLS that broke later.
    pub(super) fn tls(error: &io::Error) -> Self {
        if let Some(own) = own_fault(error) {
            return own;
        }
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let detail = match inner {
            Some(rustls::Error::InvalidCertificate(error)) => certificate_detail(error),
            Some(error) => tls_detail(error).into(),
            None => "the server closed the connection during the TLS handshake".into(),
        };
        Self::receiver(ErrorCode::Tls, detail)
    }

    /// A request that got no answer.
    pub(super) fn http(error: &hyper::Error) -> Self {
        if error.is_timeout() {
            return Self {
                code: ErrorCode::Timeout,
                detail: "the connection stopped answering".into(),
                blame: Blame::ReceiverTimeout,
            };
        }
        if error.is_parse_too_large() {
            return Self::bad_response("the response's head is too large");
        }
        if error.is_parse_status() {
            return Self::bad_response("the response has no valid status line");
        }
        if error.is_parse() {
            return Self::bad_response("the response is not valid HTTP");
        }
        if let Some(error) = find::<h2::Error>(error) {
            return Self::http2(error);
        }
        if let Some(error) = find::<io::Error>(error) {
            return Self::transport(error);
        }
        Self::receiver(ErrorCode::Reset, "the connection was closed before an answer")
    }

    fn http2(error: &h2::Error) -> Self {
        if let Some(error) = error.get_io() {
            return Self::transport(error);
        }
        let reason = error.reason().unwrap_or(h2::Reason::NO_ERROR);
        let reason = reason.description();
        if error.is_library() {
            Self::bad_response("the response is not valid HTTP/2")
        } else if error.is_go_away() {
            let detail = format!("the server closed the HTTP/2 connection: {reason}");
            Self::receiver(ErrorCode::Reset, detail)
        } else {
            Self::receiver(ErrorCode::Reset, format!("the server reset the stream: {reason}"))
        }
    }

    /// Reading or writing failed on a connection that was open.
    fn transport(error: &io::Error) -> Self {
        let detail = match error.kind() {
            io::ErrorKind::TimedOut => {
                return Self {
                    code: ErrorCode::Timeout,
                    detail: "the connection stopped answering".into(),
                    blame: Blame::ReceiverTimeout,
                };
            }
            io::ErrorKind::UnexpectedEof => "the connection was closed before an answer",
            _ if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                return Self::tls(error);
            }
            _ => "the connection was reset before an answer",
        };
        Self::receiver(ErrorCode::Reset, detail)
    }
}

/// Whether the server said that it did not and will not process the request, so that sending it
/// once more at once cannot deliver it twice (RFC 9113, section 8.7).
pub(super) fn is_refused_unprocessed(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        error.is_remote()
            && match error.reason() {
                Some(h2::Reason::REFUSED_STREAM) => error.is_reset(),
                // The stream's number is above the last one that the GOAWAY covers; those below
                // it go on and end differently.
                Some(h2::Reason::NO_ERROR) => error.is_go_away(),
                _ => false,
            }
    })
}

/// Out of descriptors, ports or buffers: nothing that the receiver could help.
fn own_fault(error: &io::Error) -> Option<Failure> {
    let detail = match Errno::from_io_error(error)? {
        Errno::MFILE | Errno::NFILE => "the gateway has no free file descriptor",
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => "the gateway has no free local port",
        Errno::NOBUFS | Errno::NOMEM => "the gateway has no free network buffer",
        _ => return None,
    };
    Some(Failure::own(ErrorCode::Connect, detail))
}

fn tls_detail(error: &rustls::Error) -> &'static str {
    use rustls::{Error, InvalidMessage};
    match error {
        Error::NoCertificatesPresented => "the server presented no certificate",
        Error::InvalidMessage(
            InvalidMessage::HandshakePayloadTooLarge | InvalidMessage::CertificatePayloadTooLarge,
        ) => "the server broke the TLS protocol",
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::PeerSentOversizedRecord => "the server does not speak TLS on this port",
        Error::PeerIncompatible(_) => "the server offers no common TLS version or cipher",
        Error::AlertReceived(alert) => alert_detail(*alert),
        Error::NoApplicationProtocol => "the server offers neither HTTP/2 nor HTTP/1.1",
        Error::PeerMisbehaved(_)
        | Error::InappropriateHandshakeMessage { .. }
        | Error::DecryptError => "the server broke the TLS protocol",
        _ => "the TLS handshake failed",
    }
}

/// With what shows which certificate is meant: its dates, its names.
fn certificate_detail(error: &CertificateError) -> Cow<'static, str> {
    use CertificateError as E;
    let detail = match error {
        E::ExpiredContext { not_after, .. } => {
            return format!("the certificate has expired on {}", date(*not_after)).into();
        }
        E::NotValidYetContext { not_before, .. } => {
            return format!("the certificate is not valid yet, but from {}", date(*not_before))
                .into();
        }
        E::NotValidForNameContext { presented, .. } => {
            return format!("the certificate is for another name{}", names(presented)).into();
        }
        E::Expired => "the certificate has expired",
        E::NotValidYet => "the certificate is not valid yet",
        E::NotValidForName => "the certificate is for another name",
        E::UnknownIssuer => "the certificate's issuer is not trusted, or the chain is incomplete",
        E::Revoked => "the certificate is revoked",
        E::BadEncoding => "the certificate is malformed",
        E::BadSignature => "the certificate's signature is wrong",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "the certificate is not meant for servers"
        }
        _ => "the certificate is not acceptable",
    };
    detail.into()
}

fn date(at: UnixTime) -> String {
    clock::rfc3339(at.as_secs().saturating_mul(1000))
}

/// The first few names of a certificate, which come as `DnsName("a.example")`. A server says in
/// them what it likes, so only what can stand in a name is taken over.
fn names(presented: &[String]) -> String {
    let name = |shown: &String| {
        let inner = shown.split_once('(').map_or(shown.as_str(), |(_, rest)| rest);
        let fit = |c: &char| c.is_ascii_alphanumeric() || ".-*:_".contains(*c);
        inner.chars().filter(fit).take(NAME_SHOWN).collect::<String>()
    };
    let shown: Vec<String> = presented.iter().take(NAMES_SHOWN).map(name).collect();
    match presented.len() {
        0 => " (it has none)".to_owned(),
        count if count > NAMES_SHOWN => {
            format!(" (it has {} and {} more)", shown.join(", "), count - NAMES_SHOWN)
        }
        _ => format!(" (it has {})", shown.join(", ")),
    }
}

fn alert_detail(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::ProtocolVersion
        | AlertDescription::HandshakeFailure
        | AlertDescription::InsufficientSecurity => {
            "the server offers no common TLS version or cipher"
        }
        AlertDescription::UnrecognisedName => "the server does not know this name",
        AlertDescription::CertificateRequired => "the server asks for a client certificate",
        AlertDescription::NoApplicationProtocol => "the server offers neither HTTP/2 nor HTTP/1.1",
        _ => "the server ended the TLS handshake with an alert",
    }
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{delivery::cause::unanswered, sender::dns::Unresolved};

    #[test]
    fn faults_of_our_own_are_not_charged_to_the_receiver() {
        let check = |errno: Errno, blame, code| {
            let failure = Failure::connect(&io::Error::from(errno));
            assert_eq!((failure.blame, failure.code), (blame, code), "{errno:?}");
        };
        for errno in [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS] {
            check(errno, Blame::Own, ErrorCode::Connect);
        }
        for errno in [Errno::CONNREFUSED, Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::CONNRESET] {
            check(errno, Blame::Receiver, ErrorCode::Connect);
        }
        check(Errno::TIMEDOUT, Blame::ReceiverTimeout, ErrorCode::Timeout);
    }

    #[test]
    fn timeouts_say_where_the_time_went() {
        let failure = Failure::timeout(Stage::Tls, Duration::from_secs(15));
        assert_eq!(failure.detail, "timed out after 15s in the TLS handshake");
        assert_eq!(failure.blame, Blame::ReceiverTimeout);
    }

    /// A certificate's fault as rustls gives it, with what it knows of the certificate.
    fn presented(names: &[&str]) -> CertificateError {
        let host = rustls::pki_types::ServerName::try_from("a.example").unwrap();
        let presented = names.iter().map(|name| (*name).to_owned()).collect();
        CertificateError::NotValidForNameContext { expected: host, presented }
    }

    #[test]
    fn a_certificate_is_described_by_its_dates_and_names() {
        let check = |error: CertificateError, expected: &str| {
            assert_eq!(certificate_detail(&error), expected);
        };
        let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        check(
            CertificateError::ExpiredContext { time: at(9), not_after: at(1_609_459_200) },
            "the certificate has expired on 2021-01-01T00:00:00.000Z",
        );
        let far = CertificateError::NotValidYetContext { time: at(9), not_before: at(u64::MAX) };
        assert!(certificate_detail(&far).starts_with("the certificate is not valid yet, but from"));
        check(presented(&[]), "the certificate is for another name (it has none)");
        check(
            presented(&["DnsName(\"*.b.example\")", "IpAddress(1.2.3.4)", "x\u{1b}[2J", "d"]),
            "the certificate is for another name (it has *.b.example, 1.2.3.4, x2J and 1 more)",
        );
        let long = "DnsName(".to_owned() + &"x".repeat(5000);
        assert!(certificate_detail(&presented(&[&long])).len() < 200);
    }

    #[test]
    fn everything_that_can_go_wrong_has_a_cause_of_its_own() {
        use rustls::Error as Tls;
        let mut failures = Vec::new();
        for stage in [
            Stage::Waiting,
            Stage::Resolving,
            Stage::Connecting,
            Stage::Tls,
            Stage::Response,
            Stage::Body,
        ] {
            failures.push(Failure::timeout(stage, Duration::from_secs(15)));
        }
        for errno in [
            Errno::MFILE,
            Errno::ADDRINUSE,
            Errno::NOBUFS,
            Errno::TIMEDOUT,
            Errno::CONNREFUSED,
            Errno::CONNRESET,
            Errno::HOSTUNREACH,
            Errno::NETUNREACH,
        ] {
            failures.push(Failure::connect(&io::Error::from(errno)));
        }
        for error in [
            CertificateError::Expired,
            CertificateError::NotValidYet,
            CertificateError::NotValidForName,
            presented(&["a"]),
            CertificateError::UnknownIssuer,
            CertificateError::Revoked,
            CertificateError::BadEncoding,
            CertificateError::BadSignature,
            CertificateError::InvalidPurpose,
            CertificateError::UnhandledCriticalExtension,
        ] {
            let error = Tls::InvalidCertificate(error);
            failures.push(Failure::tls(&io::Error::other(error)));
        }
        for error in [
            Tls::NoCertificatesPresented,
            Tls::PeerSentOversizedRecord,
            Tls::AlertReceived(AlertDescription::ProtocolVersion),
            Tls::AlertReceived(AlertDescription::UnrecognisedName),
            Tls::AlertReceived(AlertDescription::CertificateRequired),
            Tls::NoApplicationProtocol,
            Tls::DecryptError,
        ] {
            failures.push(Failure::tls(&io::Error::other(error)));
        }
        for why in [
            Unresolved::NoSuchName,
            Unresolved::NoAddress,
            Unresolved::ServerFailure,
            Unresolved::Timeout,
        ] {
            failures.push(why.into());
        }
        failures.push(Failure::tls(&io::ErrorKind::UnexpectedEof.into()));
        failures.push(Failure::transport(&io::ErrorKind::UnexpectedEof.into()));
        for reason in [h2::Reason::INTERNAL_ERROR, h2::Reason::CANCEL] {
            failures.push(Failure::http2(&reason.into()));
        }
        for Failure { code, detail, .. } in failures {
            assert_ne!(unanswered(code, &detail).said, "", "{code:?}: {detail}");
        }
    }
}
