//! Names: what a name server says, and what becomes of the attempt.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use senderz_gateway::{
    delivery::{ErrorCode, Outcome},
    engine::Blame,
};
use tokio::task::{JoinSet, spawn_local};

use crate::{
    name_server::{
        Family, Forgery, NO_ERROR, NO_SUCH_NAME, NameServer, REFUSED, SERVER_FAILURE, Says,
        addresses,
    },
    rig::{To, code, detail, receiver_at, run, sender},
};

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
                // Those that answer must not run into it, however busy the machine is.
                let is_silent =
                    matches!(expected, (Some(ErrorCode::Timeout), ..)) || expected.1 == Blame::Own;
                settings.dns_timeout = Duration::from_secs(if is_silent { 1 } else { 8 });
                let to = To::name("hooks.example", port).within(Duration::from_secs(15));
                let done = sender(settings).attempt(to.outgoing()).await;
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

/// As long as a chain of aliases may be that some real ones have, and as long as none has.
#[test]
fn a_chain_of_aliases_is_followed_and_its_end_is_judged() {
    run(async {
        let receiver = receiver_at("127.0.0.1:0").await;
        let port = receiver.address.port();
        for (length, ip, expected) in [
            (1, [127, 0, 0, 1], None),
            (8, [127, 0, 0, 1], None),
            (8, [10, 0, 0, 1], Some(ErrorCode::BlockedTarget)),
            (17, [10, 0, 0, 1], Some(ErrorCode::BlockedTarget)),
        ] {
            let server = NameServer::saying(Says::Chain { length, v4: vec![ip.into()] }).await;
            let out = To::name("hooks.example", port).outgoing();
            let done = server.sender().attempt(out).await;
            assert_eq!(code(&done), expected, "{length}: {}", detail(&done));
        }
        assert_eq!(receiver.connections(), 2);
    });
}

/// Whoever guesses an answer before the name server gives it.
#[test]
fn a_forged_answer_is_not_believed() {
    run(async {
        let receiver = receiver_at("127.0.0.1:0").await;
        let out = To::name("hooks.example", receiver.address.port()).outgoing();
        for forgery in [Forgery::Id, Forgery::Question] {
            let server = NameServer::saying(Says::Forged(forgery, [127, 0, 0, 1].into())).await;
            let done = server.sender().attempt(out.clone()).await;
            let failed = (Some(ErrorCode::Dns), "the host's name does not exist");
            assert_eq!((code(&done), detail(&done)), failed, "{forgery:?}");
        }
        assert_eq!(receiver.connections(), 0);
    });
}

#[test]
fn an_answer_too_long_for_udp_fails_cleanly_where_tcp_is_refused() {
    run(async {
        let server = NameServer::over_udp_alone(addresses(&[[127, 0, 0, 1]; 100])).await;
        let done = server.sender().attempt(To::name("hooks.example", 80).outgoing()).await;
        let failed = "the host's name servers failed to answer";
        let found = (code(&done), done.blame, detail(&done));
        assert_eq!(found, (Some(ErrorCode::Dns), Blame::Receiver, failed));
    });
}

#[test]
fn nonsense_from_a_name_server_ends_in_time() {
    run(async {
        for says in [Says::Nonsense, Says::PointsToItself] {
            let server = NameServer::saying(says).await;
            let mut settings = server.settings();
            settings.dns_timeout = Duration::from_millis(300);
            let done = sender(settings).attempt(To::name("hooks.example", 80).outgoing()).await;
            assert!(matches!(code(&done), Some(ErrorCode::Dns | ErrorCode::Timeout)));
            assert!(done.attempt.latency < 2_000_000);
        }
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
