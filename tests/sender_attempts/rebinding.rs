//! Names that lead elsewhere from one question to the next: what was judged is what is dialled.
//!
//! Only 127.0.0.1 is allowed here; 127.0.0.2 plays the private address, and something listens there.

use std::{
    cell::Cell,
    net::{Ipv4Addr, Ipv6Addr},
    rc::Rc,
    time::Duration,
};

use senderz_gateway::{
    delivery::{ErrorCode, Outcome},
    guard::Policy,
    sender::Settings,
};

use tokio::task::spawn_local;

use crate::{
    name_server::{Family, NO_ERROR, NO_SUCH_NAME, NameServer, Says},
    rig::{To, code, detail, eventually, policy, receiver_at, run, sender},
};

const GOOD: [u8; 4] = [127, 0, 0, 1];
const BAD: [u8; 4] = [127, 0, 0, 2];

/// Every attempt asks anew and connects anew.
fn forgetful(server: &NameServer) -> Settings {
    let mut settings = server.settings();
    settings.dns_min_ttl = Duration::ZERO;
    settings.dns_negative_ttl = Duration::ZERO;
    settings.dns_timeout = Duration::from_secs(1);
    settings.pool_max_age = Duration::ZERO;
    settings.policy = policy(&["127.0.0.1/32"]);
    settings
}

fn at_once(v4: &[[u8; 4]]) -> Says {
    let v4 = v4.iter().map(|ip| Ipv4Addr::from(*ip)).collect();
    Says::Addresses { v4, v6: Vec::new(), ttl: 0 }
}

fn alias(to: &'static str, v4: &[[u8; 4]]) -> Says {
    Says::Alias { to, v4: v4.iter().map(|ip| Ipv4Addr::from(*ip)).collect() }
}

/// What is said in turn, and whether an attempt may then deliver.
fn plans() -> Vec<(Says, bool)> {
    let mixed = |v6| Says::Addresses { v4: vec![GOOD.into()], v6: vec![v6], ttl: 0 };
    let late = |says| Says::Late(Duration::from_millis(3), Box::new(says));
    // Too long for UDP: it comes over TCP, with the forbidden one at its end.
    let mut long = vec![GOOD; 60];
    long.push(BAD);
    vec![
        (at_once(&[GOOD]), true),
        (at_once(&[BAD]), false),
        (at_once(&[GOOD, BAD]), false),
        (at_once(&[BAD, GOOD]), false),
        (at_once(&[GOOD; 60]), true),
        (at_once(&long), false),
        (mixed(Ipv6Addr::LOCALHOST), false),
        (mixed(Ipv4Addr::from(BAD).to_ipv6_mapped()), false),
        (mixed(Ipv4Addr::from(GOOD).to_ipv6_mapped()), true),
        (late(at_once(&[GOOD])), true),
        (late(at_once(&[BAD])), false),
        (alias("other.example.", &[GOOD]), true),
        (alias("other.example.", &[BAD]), false),
        (alias("other.example.", &[GOOD, BAD]), false),
        (Says::Code(NO_SUCH_NAME), false),
    ]
}

/// Names that flip beside each other, …
const NAMES: usize = 8;
/// … each so often.
const FLIPS: usize = 126;

#[test]
fn names_that_flip_a_thousand_times_never_reach_the_forbidden_address() {
    run(async {
        let allowed = receiver_at("127.0.0.1:0").await;
        let port = allowed.address.port();
        let forbidden = receiver_at(&format!("127.0.0.2:{port}")).await;
        let plans = Rc::new(plans());
        let turns: Rc<[Cell<usize>; NAMES]> = Rc::default();
        let server = NameServer::start({
            let (plans, turns) = (Rc::clone(&plans), Rc::clone(&turns));
            move |name, _| match name.strip_prefix("flip").and_then(|rest| rest.get(..1)) {
                Some(number) => {
                    let turn = turns[number.parse::<usize>().unwrap()].get();
                    plans[turn % plans.len()].0.clone()
                }
                // What an alias leads to is asked for where the answer did not say it.
                None => Says::Code(NO_ERROR),
            }
        })
        .await;
        let sender = sender(forgetful(&server));
        let flips = (0..NAMES).map(|name| {
            let (sender, plans, turns) = (Rc::clone(&sender), Rc::clone(&plans), Rc::clone(&turns));
            let out = To::name(&format!("flip{name}.example"), port).outgoing();
            let allowed = allowed.address;
            spawn_local(async move {
                let (mut delivered, mut blocked) = (0, 0);
                for number in 0..FLIPS {
                    // Another order in each round, and for each name.
                    turns[name].set(name + number * 4 + number / plans.len());
                    let may = plans[turns[name].get() % plans.len()].1;
                    let done = sender.attempt(out.clone()).await;
                    let found = code(&done);
                    assert_eq!(found.is_none(), may, "{number}: {found:?} {}", detail(&done));
                    match found {
                        None => {
                            assert_eq!(done.attempt.peer, Some(allowed));
                            delivered += 1;
                        }
                        Some(ErrorCode::BlockedTarget) => blocked += 1,
                        Some(ErrorCode::Dns) => {}
                        other => panic!("{other:?}: {}", detail(&done)),
                    }
                }
                (delivered, blocked)
            })
        });
        let (mut delivered, mut blocked) = (0, 0);
        for flips in flips.collect::<Vec<_>>() {
            let (reached, refused) = flips.await.unwrap();
            delivered += reached;
            blocked += refused;
        }
        assert!(delivered > 250 && blocked > 500, "{delivered} delivered, {blocked} blocked");
        assert_eq!((allowed.connections(), forbidden.connections()), (delivered, 0));
    });
}

#[test]
fn an_alias_without_an_end_ends_in_time_and_leads_nowhere() {
    run(async {
        let receiver = receiver_at("127.0.0.1:0").await;
        for to in ["loop.example.", "other.example."] {
            let server = NameServer::start(move |name, _| {
                alias(if name == to { "loop.example." } else { to }, &[])
            })
            .await;
            let out = To::name("loop.example", receiver.address.port()).outgoing();
            let done = sender(forgetful(&server)).attempt(out).await;
            assert!(matches!(code(&done), Some(ErrorCode::Dns | ErrorCode::Timeout)));
            assert!(server.asked.borrow().len() < 100, "it asks no more than a few times");
        }
        assert_eq!(receiver.connections(), 0);
    });
}

#[test]
fn a_name_denied_since_is_not_looked_up() {
    run(async {
        let server = NameServer::saying(at_once(&[GOOD])).await;
        let receiver = receiver_at("127.0.0.1:0").await;
        let sender = sender(forgetful(&server));
        let out = To::name("hooks.denied.example", receiver.address.port()).outgoing();
        assert_eq!(sender.attempt(out.clone()).await.outcome, Outcome::Delivered);
        let asked = server.asked.borrow().len();
        let deny_hosts = vec!["denied.example".to_owned()];
        let denying = Policy { deny_hosts, ..(*policy(&["127.0.0.1/32"])).clone() };
        sender.set_policy(denying.into());
        let done = sender.attempt(out).await;
        assert_eq!(code(&done), Some(ErrorCode::BlockedTarget), "{}", detail(&done));
        assert_eq!((server.asked.borrow().len(), receiver.connections()), (asked, 1));
    });
}

/// Within one attempt, too: the address that is judged and the one that is dialled come from one
/// answer.
#[test]
fn every_question_answered_differently_is_asked_once_an_attempt() {
    run(async {
        let allowed = receiver_at("127.0.0.1:0").await;
        let port = allowed.address.port();
        let forbidden = receiver_at(&format!("127.0.0.2:{port}")).await;
        let server = NameServer::start(|_, number| at_once(&[[GOOD, BAD][number % 2]])).await;
        let sender = sender(forgetful(&server));
        let out = To::name("flip.example", port).outgoing();
        for number in 0..100 {
            let done = sender.attempt(out.clone()).await;
            let expected = (number % 2 == 1).then_some(ErrorCode::BlockedTarget);
            assert_eq!(code(&done), expected, "{}", detail(&done));
        }
        assert_eq!(server.asked(Family::V4), 100, "each attempt resolves anew");
        assert_eq!((allowed.connections(), forbidden.connections()), (50, 0));
    });
}

#[test]
fn a_kept_connection_outlives_a_flip_only_until_its_age_limit() {
    run(async {
        let allowed = receiver_at("127.0.0.1:0").await;
        let port = allowed.address.port();
        let forbidden = receiver_at(&format!("127.0.0.2:{port}")).await;
        let flipped = Rc::new(Cell::new(false));
        let server = NameServer::start({
            let flipped = Rc::clone(&flipped);
            move |_, _| at_once(&[if flipped.get() { BAD } else { GOOD }])
        })
        .await;
        let mut settings = forgetful(&server);
        settings.pool_max_age = Duration::from_millis(300);
        settings.pool_idle_timeout = Duration::from_millis(300);
        let sender = sender(settings);
        let out = To::name("flip.example", port).outgoing();
        assert_eq!(sender.attempt(out.clone()).await.outcome, Outcome::Delivered);
        flipped.set(true);
        let mut last = None;
        let began = tokio::time::Instant::now();
        while last != Some(ErrorCode::BlockedTarget) {
            let done = sender.attempt(out.clone()).await;
            last = code(&done);
            if last.is_none() {
                assert!(done.attempt.reused_connection, "it goes where it was judged to lead");
                assert_eq!(done.attempt.peer, Some(allowed.address));
            }
            assert!(began.elapsed() < Duration::from_secs(10), "it was never judged again");
            tokio::task::yield_now().await;
        }
        assert_eq!((allowed.connections(), forbidden.connections()), (1, 0));
        // And back.
        flipped.set(false);
        assert_eq!(sender.attempt(out).await.outcome, Outcome::Delivered);
        eventually("a new connection", || allowed.connections() == 2).await;
        assert_eq!(
            server.asked.borrow().iter().filter(|(name, _)| name != "flip.example.").count(),
            0
        );
    });
}
