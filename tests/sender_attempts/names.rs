//! Names: a scripted name server on loopback, over UDP and TCP.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use senderz_gateway::{
    delivery::{ErrorCode, Outcome},
    engine::Blame,
    sender::{Sender, Settings},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    task::{JoinSet, spawn_local},
};

use crate::rig::{OK, Receiver, To, code, detail, policy, read_request, run, sender, settings};

const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const REFUSED: u8 = 5;

/// What the name server says to one question.
#[derive(Clone)]
enum Says {
    Addresses {
        v4: Vec<Ipv4Addr>,
        v6: Vec<Ipv6Addr>,
        ttl: u32,
    },
    Code(u8),
    /// A code for one family, addresses for the other one.
    OnlyV4 {
        v4: Vec<Ipv4Addr>,
        v6_code: Option<u8>,
    },
    Nonsense,
    /// Nothing about names, but the servers of the root: a name server whose peers are silent.
    Nothing,
    /// Nothing at all: a name server that is down.
    Dead,
}

fn addresses(v4: &[[u8; 4]]) -> Says {
    Says::Addresses { v4: v4.iter().map(|ip| Ipv4Addr::from(*ip)).collect(), v6: vec![], ttl: 60 }
}

#[derive(Clone, Copy, PartialEq)]
enum Family {
    V4,
    V6,
    /// The servers of the root.
    Root,
}

/// A name server; `script` gets the number of the question, counted for each family from 0.
struct NameServer {
    address: SocketAddr,
    asked: Rc<RefCell<Vec<(String, Family)>>>,
}

impl NameServer {
    async fn start(script: impl Fn(&str, usize) -> Says + 'static) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let asked = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&asked);
        let script = Rc::new(move |query: &[u8], limit: usize| {
            let (name, family, question) = parse(query);
            let number = {
                let mut log = log.borrow_mut();
                let before = log.iter().filter(|(_, asked)| *asked == family).count();
                log.push((name.clone(), family));
                before
            };
            answer(query, question, family, script(&name, number), limit)
        });
        let over_tcp = Rc::clone(&script);
        spawn_local(async move {
            let mut query = [0; 2048];
            loop {
                let (len, from) = udp.recv_from(&mut query).await.unwrap();
                if let Some(answer) = script(&query[..len], 512) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        spawn_local(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let script = Rc::clone(&over_tcp);
                spawn_local(async move {
                    while let Ok(len) = stream.read_u16().await {
                        let mut query = vec![0; usize::from(len)];
                        stream.read_exact(&mut query).await.unwrap();
                        let Some(answer) = script(&query, usize::MAX) else { continue };
                        stream.write_u16(answer.len() as u16).await.unwrap();
                        stream.write_all(&answer).await.unwrap();
                    }
                });
            }
        });
        Self { address, asked }
    }

    async fn saying(says: Says) -> Self {
        Self::start(move |_, _| says.clone()).await
    }

    fn asked(&self, family: Family) -> usize {
        self.asked.borrow().iter().filter(|(_, asked)| *asked == family).count()
    }

    fn settings(&self) -> Settings {
        Settings { dns_servers: vec![self.address], ..settings() }
    }

    fn sender(&self) -> Rc<Sender> {
        sender(self.settings())
    }
}

/// The name asked for, its family, and how long the question is.
fn parse(query: &[u8]) -> (String, Family, usize) {
    let mut name = String::new();
    let mut at = 12;
    while query[at] != 0 {
        let len = usize::from(query[at]);
        name += std::str::from_utf8(&query[at + 1..at + 1 + len]).unwrap();
        name.push('.');
        at += 1 + len;
    }
    let family = match query[at + 2] {
        1 => Family::V4,
        28 => Family::V6,
        2 if name.is_empty() => Family::Root,
        other => panic!("asked for type {other}"),
    };
    (name, family, at + 5 - 12)
}

fn answer(
    query: &[u8],
    question: usize,
    family: Family,
    says: Says,
    limit: usize,
) -> Option<Vec<u8>> {
    let (code, ttl, addresses): (u8, u32, Vec<Vec<u8>>) = match (says, family) {
        (Says::Dead, _) => return None,
        (_, Family::Root) => (NO_ERROR, 0, vec![]),
        (Says::Nothing, _) => return None,
        (Says::OnlyV4 { v6_code: None, .. }, Family::V6) => return None,
        (Says::Nonsense, _) => return Some([&query[..2], &[0xff; 40]].concat()),
        (Says::Code(code), _) => (code, 0, vec![]),
        (Says::OnlyV4 { v6_code: Some(code), .. }, Family::V6) => (code, 0, vec![]),
        (Says::OnlyV4 { v4, .. }, Family::V4) => {
            (NO_ERROR, 60, v4.iter().map(|ip| ip.octets().to_vec()).collect())
        }
        (Says::Addresses { v4, ttl, .. }, Family::V4) => {
            (NO_ERROR, ttl, v4.iter().map(|ip| ip.octets().to_vec()).collect())
        }
        (Says::Addresses { v6, ttl, .. }, Family::V6) => {
            (NO_ERROR, ttl, v6.iter().map(|ip| ip.octets().to_vec()).collect())
        }
    };
    let mut message = query[..2].to_vec();
    message.extend([0x81, 0x80 | code, 0, 1]);
    message.extend((addresses.len() as u16).to_be_bytes());
    message.extend([0, 0, 0, 0]);
    message.extend(&query[12..12 + question]);
    for address in &addresses {
        let kind = if address.len() == 4 { 1u16 } else { 28 };
        message.extend([0xc0, 12]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend((address.len() as u16).to_be_bytes());
        message.extend(address);
    }
    if message.len() > limit {
        // Truncated: ask again over TCP.
        message.truncate(12 + question);
        message[2] |= 0x02;
        message[6..8].copy_from_slice(&[0, 0]);
    }
    Some(message)
}

async fn receiver_at(address: &str) -> Receiver {
    Receiver::start_at(address, |mut stream, _, _| async move {
        while read_request(&mut stream).await.is_some() {
            stream.write_all(OK).await.unwrap();
        }
    })
    .await
}

#[test]
fn a_name_leads_to_its_address() {
    run(async {
        let server = NameServer::saying(addresses(&[[127, 0, 0, 1]])).await;
        let receiver = receiver_at("127.0.0.1:0").await;
        let out = To::name("hooks.example", receiver.address.port()).outgoing();
        let done = server.sender().attempt(out).await;
        assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
        assert_eq!(done.attempt.peer, Some(receiver.address));
        assert!(done.attempt.phases.dns > 0);
        let asked = server.asked.borrow();
        assert!(asked.iter().all(|(name, _)| name == "hooks.example."), "{asked:?}");
    });
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Family::V4 => "A",
            Family::V6 => "AAAA",
            Family::Root => "NS",
        })
    }
}

#[test]
fn what_a_name_server_says_is_what_the_attempt_becomes() {
    run(async {
        let receiver = receiver_at("127.0.0.1:0").await;
        let port = receiver.address.port();
        let mut checks = JoinSet::new();
        let mut check = |says: Says, expected: (Option<ErrorCode>, Blame, &'static str)| {
            checks.spawn_local(async move {
                let server = NameServer::saying(says).await;
                let mut settings = server.settings();
                settings.dns_timeout = Duration::from_secs(1);
                let out = To::name("hooks.example", port).outgoing();
                let done = sender(settings).attempt(out).await;
                assert_eq!((code(&done), done.blame, detail(&done)), expected);
            });
        };
        let dns = Some(ErrorCode::Dns);
        let blocked = Some(ErrorCode::BlockedTarget);
        let forbidden = "the host has an address that webhooks may not reach";
        let failed = "the host's name servers failed to answer";
        let (public, private) = ([127, 0, 0, 1], [10, 0, 0, 1]);
        check(Says::Code(NO_SUCH_NAME), (dns, Blame::Receiver, "the host's name does not exist"));
        check(Says::Code(NO_ERROR), (dns, Blame::Receiver, "the host's name has no address"));
        check(Says::Code(SERVER_FAILURE), (dns, Blame::Receiver, failed));
        check(Says::Code(REFUSED), (dns, Blame::Receiver, failed));
        check(
            Says::Nothing,
            (
                Some(ErrorCode::Timeout),
                Blame::ReceiverTimeout,
                "timed out resolving the host's name",
            ),
        );
        check(Says::Dead, (dns, Blame::Own, "the gateway cannot reach its name server"));
        check(addresses(&[private]), (blocked, Blame::Receiver, forbidden));
        check(addresses(&[public, private]), (blocked, Blame::Receiver, forbidden));
        check(addresses(&[private, public]), (blocked, Blame::Receiver, forbidden));
        let mixed =
            Says::Addresses { v4: vec![public.into()], v6: vec![Ipv6Addr::LOCALHOST], ttl: 60 };
        check(mixed, (blocked, Blame::Receiver, forbidden));
        // Beyond those that would be tried, but judged like them.
        let mut many = vec![public; 999];
        many.push(private);
        check(addresses(&many), (blocked, Blame::Receiver, forbidden));
        check(addresses(&[public; 1000]), (None, Blame::Receiver, ""));
        let v4 = || vec![public.into()];
        check(Says::OnlyV4 { v4: v4(), v6_code: Some(NO_ERROR) }, (None, Blame::Receiver, ""));
        check(
            Says::OnlyV4 { v4: v4(), v6_code: Some(SERVER_FAILURE) },
            (None, Blame::Receiver, ""),
        );
        check(Says::OnlyV4 { v4: v4(), v6_code: None }, (None, Blame::Receiver, ""));
        while let Some(done) = checks.join_next().await {
            if let Err(error) = done {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    });
}

#[test]
fn nonsense_from_a_name_server_ends_in_time() {
    run(async {
        let server = NameServer::saying(Says::Nonsense).await;
        let mut settings = server.settings();
        settings.dns_timeout = Duration::from_millis(300);
        let done = sender(settings).attempt(To::name("hooks.example", 80).outgoing()).await;
        assert!(matches!(code(&done), Some(ErrorCode::Dns | ErrorCode::Timeout)));
        assert!(done.attempt.latency < 2_000_000);
    });
}

/// Only 127.0.0.1 is allowed here; 127.0.0.2 plays the private address, and something listens.
#[test]
fn a_name_that_flips_never_reaches_the_forbidden_address() {
    run(async {
        let allowed = receiver_at("127.0.0.1:0").await;
        let port = allowed.address.port();
        let forbidden = receiver_at(&format!("127.0.0.2:{port}")).await;
        let server = NameServer::start(|_, number| Says::Addresses {
            v4: vec![Ipv4Addr::new(127, 0, 0, 1 + (number % 2) as u8)],
            v6: vec![],
            ttl: 0,
        })
        .await;
        let mut settings = server.settings();
        settings.dns_min_ttl = Duration::ZERO;
        settings.pool_max_age = Duration::ZERO;
        settings.policy = policy(&["127.0.0.1/32"]);
        let sender = sender(settings);
        let out = To::name("flip.example", port).outgoing();
        let (mut delivered, mut blocked) = (0, 0);
        for _ in 0..200 {
            let done = sender.attempt(out.clone()).await;
            match code(&done) {
                None => {
                    assert_eq!(done.attempt.peer, Some(allowed.address));
                    delivered += 1;
                }
                Some(ErrorCode::BlockedTarget) => blocked += 1,
                other => panic!("{other:?}: {}", detail(&done)),
            }
        }
        assert_eq!((delivered, blocked), (100, 100), "each attempt resolves anew");
        assert_eq!((allowed.connections(), forbidden.connections()), (100, 0));
    });
}

#[test]
fn answers_are_kept_for_their_time_and_shared_by_a_burst() {
    run(async {
        let says = Says::Addresses { v4: vec![Ipv4Addr::LOCALHOST], v6: vec![], ttl: u32::MAX };
        let server = NameServer::saying(says).await;
        let receiver = receiver_at("127.0.0.1:0").await;
        let sender = server.sender();
        let burst: Vec<_> = (0..20)
            .map(|_| {
                let out = To::name("hooks.example", receiver.address.port()).outgoing();
                let sender = Rc::clone(&sender);
                spawn_local(async move { sender.attempt(out).await })
            })
            .collect();
        for attempt in burst {
            assert_eq!(attempt.await.unwrap().outcome, Outcome::Delivered);
        }
        assert_eq!(server.asked(Family::V4), 1);
        let other_tenant = To::name("hooks.example", receiver.address.port()).tenant(2).outgoing();
        assert_eq!(sender.attempt(other_tenant).await.outcome, Outcome::Delivered);
        assert_eq!(server.asked(Family::V4), 1);
    });
}

#[test]
fn a_dead_address_does_not_hide_a_live_one() {
    run(async {
        let receiver = receiver_at("127.0.0.2:0").await;
        let server = NameServer::saying(addresses(&[[127, 0, 0, 3], [127, 0, 0, 2]])).await;
        let out = To::name("hooks.example", receiver.address.port()).outgoing();
        let done = server.sender().attempt(out).await;
        assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
        assert_eq!(done.attempt.peer, Some(receiver.address));
    });
}

#[test]
fn a_silent_address_leaves_time_for_a_live_one() {
    run(async {
        let receiver = receiver_at("127.0.0.2:0").await;
        let port = receiver.address.port();
        // A listener whose queue is full drops what comes.
        let full = tokio::net::TcpSocket::new_v4().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 3], port));
        full.bind(address).unwrap();
        let _full = full.listen(1).unwrap();
        let mut fillers = Vec::new();
        let patience = Duration::from_millis(100);
        while let Ok(Ok(filler)) =
            tokio::time::timeout(patience, tokio::net::TcpStream::connect(address)).await
        {
            fillers.push(filler);
        }
        let server = NameServer::saying(addresses(&[[127, 0, 0, 3], [127, 0, 0, 2]])).await;
        let out = To::name("hooks.example", port).within(Duration::from_secs(1)).outgoing();
        let done = server.sender().attempt(out).await;
        assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
        assert_eq!(done.attempt.peer, Some(receiver.address));
    });
}

#[test]
fn localhost_needs_no_name_server() {
    run(async {
        let server = NameServer::saying(Says::Code(NO_SUCH_NAME)).await;
        let receiver = receiver_at("127.0.0.1:0").await;
        let out = To::name("localhost", receiver.address.port()).outgoing();
        let done = server.sender().attempt(out).await;
        assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
        assert_eq!(server.asked.borrow().len(), 0);
    });
}
