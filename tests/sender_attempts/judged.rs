//! Whom an open connection really reached: judged before anything is written to it, and again
//! before each further request.

use std::net::SocketAddr;

use senderz_gateway::{
    delivery::{ErrorCode, Outcome},
    guard::Policy,
};
use tokio::io::AsyncWriteExt as _;

use crate::rig::{OK, Receiver, To, code, detail, eventually, policy, run, sender, settings};

async fn polite(address: &str) -> Receiver {
    Receiver::start_at(address, |mut stream, _, log| async move {
        while log.read_request(&mut stream).await {
            stream.write_all(OK).await.unwrap();
        }
    })
    .await
}

/// The kernel takes a connection to 0.0.0.0 to 127.0.0.1: the address judged is not the one reached.
#[test]
fn a_connection_that_reached_another_address_than_was_judged_carries_no_request() {
    run(async {
        let receiver = polite("127.0.0.1:0").await;
        let elsewhere = SocketAddr::from(([0, 0, 0, 0], receiver.address.port()));
        for networks in [&["0.0.0.0/32"][..], &["0.0.0.0/32", "127.0.0.0/8"]] {
            let mut lenient = settings();
            lenient.policy = policy(networks);
            let sender = sender(lenient);
            let before = receiver.connections();
            let done = sender.attempt(To::http(elsewhere).outgoing()).await;
            assert_eq!(code(&done), Some(ErrorCode::BlockedTarget), "{}", detail(&done));
            assert_eq!(done.outcome, Outcome::Failed);
            eventually("the connection was made", || receiver.connections() > before).await;
            assert_eq!(sender.connections().open, 0);
        }
        assert_eq!(receiver.requests().len(), 0);
    });
}

/// The policy may change while the kernel connects: the one of now judges what was opened.
#[test]
fn a_connection_is_judged_by_the_policy_of_the_moment_it_opens() {
    run(async {
        let receiver = polite("127.0.0.1:0").await;
        let sender = sender(settings());
        let attempt = tokio::task::spawn_local({
            let (sender, out) =
                (std::rc::Rc::clone(&sender), To::http(receiver.address).outgoing());
            async move { sender.attempt(out).await }
        });
        // One turn: the address is judged and the connection on its way.
        tokio::task::yield_now().await;
        assert_eq!(sender.connections().open, 1, "it is being opened");
        sender.set_policy(policy(&[]));
        let done = attempt.await.unwrap();
        assert_eq!(code(&done), Some(ErrorCode::BlockedTarget), "{}", detail(&done));
        assert_eq!(receiver.requests().len(), 0);
    });
}

#[test]
fn a_port_denied_since_is_reached_over_no_idle_connection() {
    run(async {
        let receiver = polite("127.0.0.1:0").await;
        let sender = sender(settings());
        let out = To::http(receiver.address).outgoing();
        assert_eq!(sender.attempt(out.clone()).await.outcome, Outcome::Delivered);
        let deny_ports = vec![receiver.address.port()];
        let denying = Policy { deny_ports, ..(*policy(&["127.0.0.0/8"])).clone() };
        sender.set_policy(denying.into());
        let done = sender.attempt(out.clone()).await;
        assert_eq!(code(&done), Some(ErrorCode::BlockedTarget));
        // What was idle is gone, so that allowing it again begins anew.
        sender.set_policy(policy(&["127.0.0.0/8"]));
        let done = sender.attempt(out).await;
        assert_eq!((done.outcome, done.attempt.reused_connection), (Outcome::Delivered, false));
        assert_eq!((receiver.connections(), receiver.requests().len()), (2, 2));
    });
}
