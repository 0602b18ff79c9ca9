//! TLS: whom the sender trusts, what it offers, and what it calls that which went wrong.

use std::{cell::RefCell, io::Write as _, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{HandshakeKind, ServerConfig, SupportedProtocolVersion, pki_types::PrivateKeyDer};
use senderz_gateway::{
    delivery::{ErrorCode, Outcome, Protocol},
    engine::Blame,
    guard::{Host, Scheme},
    sender::Settings,
};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::rig::{OK, Receiver, To, code, detail, eventually, read_request, run, sender, settings};

/// A certificate authority whose certificate the sender gets as its `ca_file`.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: NamedTempFile,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("Test Authority")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(issuer.pem().as_bytes()).unwrap();
        Self { issuer, file }
    }

    pub(crate) fn issuer(&self) -> &CertifiedIssuer<'static, KeyPair> {
        &self.issuer
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings { ca_file: Some(self.file.path().to_owned()), ..settings() }
    }

    /// What a server needs that has a certificate for `name`.
    pub(crate) fn server(&self, name: &str, alpn: &[&str]) -> TlsAcceptor {
        self.server_with(name, alpn, rustls::ALL_VERSIONS, |_| {})
    }

    fn server_with(
        &self,
        name: &str,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
        change: impl FnOnce(&mut CertificateParams),
    ) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

async fn serve(mut stream: TlsStream<TcpStream>) {
    while read_request(&mut stream).await.is_some() {
        stream.write_all(OK).await.unwrap();
        stream.flush().await.unwrap();
    }
}

async fn receiver(acceptor: TlsAcceptor) -> Receiver {
    Receiver::start(move |stream, _, _| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream).await;
            }
        }
    })
    .await
}

fn to(address: SocketAddr) -> To {
    To::https("localhost", address.port())
}

#[test]
fn http1_over_tls_is_spoken_where_the_server_chooses_it_or_nothing() {
    run(async {
        let authority = Authority::new();
        for alpn in [&["http/1.1"][..], &[]] {
            let receiver = receiver(authority.server("localhost", alpn)).await;
            let sender = sender(authority.settings());
            for number in 0..3 {
                let done = sender.attempt(to(receiver.address).outgoing()).await;
                assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
                assert_eq!(done.attempt.protocol, Protocol::Http1);
                assert_eq!(done.attempt.phases.tls > 0, number == 0);
            }
            assert_eq!(receiver.connections(), 1);
        }
    });
}

#[test]
fn what_is_wrong_with_a_server_is_told_by_its_class() {
    run(async {
        let authority = Authority::new();
        let other = Authority::named("Another Authority");
        let impostor = Authority::new();
        let ca_file = authority.settings().ca_file;
        let mut checks = JoinSet::new();
        let mut check = |acceptor: TlsAcceptor, expected: &'static str| {
            let settings = Settings { ca_file: ca_file.clone(), ..settings() };
            checks.spawn_local(async move {
                let receiver = receiver(acceptor).await;
                let done = sender(settings).attempt(to(receiver.address).outgoing()).await;
                assert_eq!(detail(&done), expected);
                let expected_code = (!expected.is_empty()).then_some(ErrorCode::Tls);
                assert_eq!((code(&done), done.blame), (expected_code, Blame::Receiver));
            });
        };
        let all = rustls::ALL_VERSIONS;
        check(authority.server("localhost", &[]), "");
        check(authority.server_with("localhost", &[], &[&rustls::version::TLS12], |_| {}), "");
        check(
            authority.server_with("localhost", &[], all, |params| {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            }),
            "the certificate has expired on 2021-01-01T00:00:00.000Z",
        );
        check(
            authority.server_with("localhost", &[], all, |params| {
                params.not_before = date_time_ymd(2200, 1, 1);
                params.not_after = date_time_ymd(2201, 1, 1);
            }),
            "the certificate is not valid yet, but from 2200-01-01T00:00:00.000Z",
        );
        check(
            authority.server("other.example", &[]),
            "the certificate is for another name (it has other.example)",
        );
        check(
            authority.server_with("localhost", &[], all, |params| {
                params.subject_alt_names = Vec::new();
                params.distinguished_name.push(rcgen::DnType::CommonName, "localhost");
            }),
            "the certificate is for another name (it has none)",
        );
        check(
            other.server("localhost", &[]),
            "the certificate's issuer is not trusted, or the chain is incomplete",
        );
        check(impostor.server("localhost", &[]), "the certificate's signature is wrong");
        check(
            authority.server("localhost", &["spdy/3"]),
            "the server offers neither HTTP/2 nor HTTP/1.1",
        );
        while let Some(done) = checks.join_next().await {
            if let Err(error) = done {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    });
}

#[test]
fn tls_and_plain_text_on_each_others_port_fail_cleanly() {
    run(async {
        let authority = Authority::new();
        let sender = sender(authority.settings());
        let plain = Receiver::start(|mut stream, _, _| async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad\r\n\r\n").await;
        })
        .await;
        let done = sender.attempt(to(plain.address).outgoing()).await;
        assert_eq!(code(&done), Some(ErrorCode::Tls));
        assert_eq!(detail(&done), "the server does not speak TLS on this port");

        let closes = Receiver::start(|mut stream, _, _| async move {
            let _ = stream.read(&mut [0; 4096]).await;
        })
        .await;
        let done = sender.attempt(to(closes.address).outgoing()).await;
        assert_eq!(code(&done), Some(ErrorCode::Tls), "{}", detail(&done));

        let tls = receiver(authority.server("localhost", &[])).await;
        let done = sender.attempt(To::http(tls.address).outgoing()).await;
        assert!(matches!(code(&done), Some(ErrorCode::BadResponse | ErrorCode::Reset)));
    });
}

#[test]
fn a_handshake_without_answer_has_its_own_limit() {
    run(async {
        let authority = Authority::new();
        let mut hasty = authority.settings();
        hasty.tls_timeout = Duration::from_millis(200);
        let silent = Receiver::start(|stream, _, _| async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        let done = sender(hasty).attempt(to(silent.address).outgoing()).await;
        assert_eq!((code(&done), done.blame), (Some(ErrorCode::Timeout), Blame::ReceiverTimeout));
        assert_eq!(detail(&done), "timed out after 200ms in the TLS handshake");
    });
}

#[test]
fn names_are_sent_to_the_server_and_addresses_are_not() {
    run(async {
        let authority = Authority::new();
        let seen = Rc::new(RefCell::new(Vec::new()));
        for (certificate, host) in [
            ("localhost", Host::Name("localhost".to_owned())),
            ("127.0.0.1", Host::V4([127, 0, 0, 1].into())),
        ] {
            let acceptor = authority.server(certificate, &[]);
            let log = Rc::clone(&seen);
            let receiver = Receiver::start(move |stream, _, _| {
                let (acceptor, log) = (acceptor.clone(), Rc::clone(&log));
                async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    log.borrow_mut().push(stream.get_ref().1.server_name().map(str::to_owned));
                    serve(stream).await;
                }
            })
            .await;
            let to = To { host, scheme: Scheme::Https, ..To::http(receiver.address) };
            let done = sender(authority.settings()).attempt(to.outgoing()).await;
            assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
        }
        assert_eq!(*seen.borrow(), [Some("localhost".to_owned()), None]);
    });
}

#[test]
fn sessions_are_never_resumed_and_a_missing_goodbye_is_no_failure() {
    run(async {
        let authority = Authority::new();
        let acceptor = authority.server("localhost", &[]);
        let kinds = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&kinds);
        let receiver = Receiver::start(move |stream, _, _| {
            let (acceptor, log) = (acceptor.clone(), Rc::clone(&log));
            async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                log.borrow_mut().push(stream.get_ref().1.handshake_kind());
                read_request(&mut stream).await.unwrap();
                stream.write_all(OK).await.unwrap();
                stream.flush().await.unwrap();
                // Closes the socket without a `close_notify`.
            }
        })
        .await;
        let sender = sender(authority.settings());
        for tenant in [1, 1, 2] {
            let done = sender.attempt(to(receiver.address).tenant(tenant).outgoing()).await;
            assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
            tokio::task::yield_now().await;
        }
        assert_eq!(*kinds.borrow(), [Some(HandshakeKind::Full); 3]);
    });
}

/// TLS wants to say goodbye before it closes, and cannot, because the peer reads nothing.
#[test]
fn a_peer_that_reads_nothing_cannot_keep_the_connection() {
    run(async {
        let authority = Authority::new();
        let acceptor = authority.server("localhost", &[]);
        let ours = Rc::new(RefCell::new(None));
        let port = Rc::clone(&ours);
        let receiver = Receiver::start(move |stream, _, _| {
            let (acceptor, port) = (acceptor.clone(), Rc::clone(&port));
            async move {
                *port.borrow_mut() = Some(stream.peer_addr().unwrap().port());
                let stream = acceptor.accept(stream).await.unwrap();
                std::future::pending::<()>().await;
                drop(stream);
            }
        })
        .await;
        let sender = sender(authority.settings());
        let to = to(receiver.address).within(Duration::from_millis(500));
        let payload = bytes::Bytes::from(vec![b'x'; 16 << 20]);
        let done = sender.attempt(to.outgoing_with(payload)).await;
        assert_eq!(code(&done), Some(ErrorCode::Timeout), "{}", detail(&done));
        let ours = ours.borrow().unwrap();
        let theirs = receiver.address.port();
        eventually("the kernel has our side closed", || !is_established(ours, theirs)).await;
    });
}

fn is_established(local: u16, remote: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is = |field: Option<&str>, end: &str| field.is_some_and(|text| text.ends_with(end));
        is(fields.next(), &local) && is(fields.next(), &remote) && fields.next() == Some("01")
    })
}

#[test]
fn an_unusable_ca_file_is_an_error_that_names_it() {
    let file = NamedTempFile::new().unwrap();
    let check = |path: std::path::PathBuf, expected: &str| {
        let error = senderz_gateway::sender::Sender::new(Settings {
            ca_file: Some(path.clone()),
            ..settings()
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains(expected) && error.contains(path.to_str().unwrap()), "{error}");
    };
    run(async {
        check(file.path().to_owned(), "it has no certificate");
        check("/nowhere/ca.pem".into(), "No such file");
    });
}
