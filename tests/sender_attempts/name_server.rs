//! A scripted name server on loopback, over UDP and TCP.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use senderz_gateway::sender::{Sender, Settings};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    task::spawn_local,
};

use crate::rig::{sender, settings};

pub(crate) const NO_ERROR: u8 = 0;
pub(crate) const SERVER_FAILURE: u8 = 2;
pub(crate) const NO_SUCH_NAME: u8 = 3;
pub(crate) const REFUSED: u8 = 5;

/// What the name server says to one question.
#[derive(Clone)]
pub(crate) enum Says {
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
    /// The name is another one's alias, with that one's address where it is known.
    Alias {
        to: &'static str,
        v4: Vec<Ipv4Addr>,
    },
    /// An alias of an alias, so many times, with the addresses of the last one.
    Chain {
        length: usize,
        v4: Vec<Ipv4Addr>,
    },
    /// Somebody else is faster, with this address; in truth there is no such name.
    Forged(Forgery, Ipv4Addr),
    /// A name whose end is its own beginning.
    PointsToItself,
    /// The same, later.
    Late(Duration, Box<Says>),
    /// Nothing about names, but the servers of the root: a name server whose peers are silent.
    Nothing,
    /// Nothing at all: a name server that is down.
    Dead,
}

/// What a forged answer gets wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Forgery {
    Id,
    Question,
}

pub(crate) fn addresses(v4: &[[u8; 4]]) -> Says {
    Says::Addresses { v4: v4.iter().map(|ip| Ipv4Addr::from(*ip)).collect(), v6: vec![], ttl: 60 }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Family {
    V4,
    V6,
    /// The servers of the root.
    Root,
}

/// A name server; `script` gets the number of the question, counted for each family from 0.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    pub(crate) asked: Rc<RefCell<Vec<(String, Family)>>>,
}

impl NameServer {
    pub(crate) async fn start(script: impl Fn(&str, usize) -> Says + 'static) -> Self {
        Self::listen(script, true).await
    }

    /// Refuses connections.
    pub(crate) async fn over_udp_alone(says: Says) -> Self {
        Self::listen(move |_, _| says.clone(), false).await
    }

    async fn listen(script: impl Fn(&str, usize) -> Says + 'static, has_tcp: bool) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = Rc::new(UdpSocket::bind(address).await.unwrap());
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
            let (delay, says) = match script(&name, number) {
                Says::Late(delay, says) => (delay, *says),
                says => (Duration::ZERO, says),
            };
            let forged = match says {
                Says::Forged(forgery, ip) => Some(forge(query, question, family, forgery, ip)),
                _ => None,
            };
            (delay, forged, answer(query, question, family, says, limit))
        });
        let over_tcp = Rc::clone(&script);
        spawn_local(async move {
            let mut query = [0; 2048];
            loop {
                let (len, from) = udp.recv_from(&mut query).await.unwrap();
                let (delay, forged, answer) = script(&query[..len], 512);
                if let Some(forged) = forged {
                    udp.send_to(&forged, from).await.unwrap();
                }
                let Some(answer) = answer else { continue };
                if delay.is_zero() {
                    udp.send_to(&answer, from).await.unwrap();
                    continue;
                }
                let udp = Rc::clone(&udp);
                spawn_local(async move {
                    tokio::time::sleep(delay).await;
                    // Whoever asked may be gone.
                    let _ = udp.send_to(&answer, from).await;
                });
            }
        });
        if !has_tcp {
            return Self { address, asked };
        }
        spawn_local(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let script = Rc::clone(&over_tcp);
                spawn_local(async move {
                    while let Ok(len) = stream.read_u16().await {
                        let mut query = vec![0; usize::from(len)];
                        stream.read_exact(&mut query).await.unwrap();
                        let (delay, _, answer) = script(&query, usize::MAX);
                        let Some(answer) = answer else { continue };
                        if !delay.is_zero() {
                            tokio::time::sleep(delay).await;
                        }
                        stream.write_u16(answer.len() as u16).await.unwrap();
                        stream.write_all(&answer).await.unwrap();
                    }
                });
            }
        });
        Self { address, asked }
    }

    pub(crate) async fn saying(says: Says) -> Self {
        Self::start(move |_, _| says.clone()).await
    }

    pub(crate) fn asked(&self, family: Family) -> usize {
        self.asked.borrow().iter().filter(|(_, asked)| *asked == family).count()
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings { dns_servers: vec![self.address], ..settings() }
    }

    pub(crate) fn sender(&self) -> Rc<Sender> {
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
    let aliases: Vec<String> = match &says {
        _ if family == Family::Root => Vec::new(),
        Says::Alias { to, .. } => vec![(*to).to_owned()],
        Says::Chain { length, .. } => (0..*length).map(|n| format!("alias{n}.example.")).collect(),
        _ => Vec::new(),
    };
    let (code, ttl, addresses): (u8, u32, Vec<Vec<u8>>) = match (says, family) {
        (Says::Late(..), _) => panic!("a delay of a delay"),
        (Says::Alias { v4, .. } | Says::Chain { v4, .. }, Family::V4) => {
            (NO_ERROR, 0, v4.iter().map(|ip| ip.octets().to_vec()).collect())
        }
        (Says::Alias { .. } | Says::Chain { .. }, _) => (NO_ERROR, 0, vec![]),
        (Says::Dead, _) => return None,
        (_, Family::Root) => (NO_ERROR, 0, vec![]),
        (Says::Forged(..), _) => (NO_SUCH_NAME, 0, vec![]),
        (Says::PointsToItself, _) => {
            let head = [&query[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
            let asked = &query[12..12 + question];
            let itself = (0xc000 | (12 + question) as u16).to_be_bytes();
            return Some([&head, asked, &itself, &[0, 1, 0, 1, 0, 0, 0, 0, 0, 0]].concat());
        }
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
    let records = addresses.len() + aliases.len();
    message.extend((records as u16).to_be_bytes());
    message.extend([0, 0, 0, 0]);
    message.extend(&query[12..12 + question]);
    // Where the name stands that the addresses are of.
    let mut owner = 12u16;
    for alias in &aliases {
        message.extend((0xc000 | owner).to_be_bytes());
        message.extend([0, 5, 0, 1, 0, 0, 0, 0]);
        let labels = alias.split_terminator('.');
        let labels = labels.flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat());
        let target: Vec<u8> = labels.chain([0]).collect();
        message.extend((target.len() as u16).to_be_bytes());
        owner = message.len() as u16;
        message.extend(target);
    }
    for address in &addresses {
        let kind = if address.len() == 4 { 1u16 } else { 28 };
        message.extend((0xc000 | owner).to_be_bytes());
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

/// As [`answer`], with an address, to another question or another asker.
fn forge(query: &[u8], question: usize, family: Family, forgery: Forgery, ip: Ipv4Addr) -> Vec<u8> {
    let says = addresses(&[ip.octets()]);
    let mut message = answer(query, question, family, says, 512).expect("an answer");
    match forgery {
        Forgery::Id => message[1] ^= 1,
        Forgery::Question => message[13] ^= 1,
    }
    message
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
