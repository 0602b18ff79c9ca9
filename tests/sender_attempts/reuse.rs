//! The pool: what is reused, what is not, and what is given back.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use senderz_gateway::{
    delivery::{ErrorCode, Outcome},
    engine::Blame,
    sender::Connections,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::spawn_local,
};

use crate::rig::{
    Log, OK, Receiver, To, code, detail, eventually, policy, read_request, run, sender, settings,
};

/// Answers every request and keeps the connection open.
async fn polite(mut stream: tokio::net::TcpStream, _: usize, log: Log) {
    while log.read_request(&mut stream).await {
        stream.write_all(OK).await.unwrap();
    }
}

#[test]
fn one_connection_carries_one_request_after_another() {
    run(async {
        let receiver = Receiver::start(polite).await;
        let sender = sender(settings());
        let out = To::http(receiver.address).outgoing();
        for number in 0..50 {
            let done = sender.attempt(out.clone()).await;
            assert_eq!(done.outcome, Outcome::Delivered);
            assert_eq!(done.attempt.reused_connection, number > 0);
        }
        assert_eq!(receiver.connections(), 1);
        assert_eq!(receiver.requests().len(), 50);
        assert_eq!(sender.connections(), Connections { open: 1, idle: 1, origins: 1 });
    });
}

#[test]
fn every_way_to_end_a_body_leaves_a_connection_to_reuse() {
    run(async {
        for response in [
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 204 No\r\n\r\n",
            "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        ] {
            let receiver = Receiver::start(move |mut stream, _, log| async move {
                while log.read_request(&mut stream).await {
                    stream.write_all(response.as_bytes()).await.unwrap();
                    if response.contains("5000") {
                        tokio::task::yield_now().await;
                        stream.write_all(&[b'x'; 5000]).await.unwrap();
                    }
                }
            })
            .await;
            let sender = sender(settings());
            let out = To::http(receiver.address).outgoing();
            for _ in 0..5 {
                sender.attempt(out.clone()).await;
            }
            assert_eq!(receiver.connections(), 1, "{response}");
        }
    });
}

#[test]
fn tenants_never_share_a_connection() {
    run(async {
        let receiver = Receiver::start(polite).await;
        let sender = sender(settings());
        for tenant in [1, 2, 1, 2] {
            let out = To::http(receiver.address).tenant(tenant).outgoing();
            assert_eq!(sender.attempt(out).await.outcome, Outcome::Delivered);
        }
        assert_eq!(receiver.connections(), 2);
        assert_eq!(sender.connections().origins, 2);
    });
}

#[test]
fn a_server_that_closes_idle_connections_costs_no_attempt() {
    run(async {
        // Closes after each answer, without saying so.
        let receiver = Receiver::start(|mut stream, _, log| async move {
            if log.read_request(&mut stream).await {
                stream.write_all(OK).await.unwrap();
            }
        })
        .await;
        let sender = sender(settings());
        let out = To::http(receiver.address).outgoing();
        for number in 0..300 {
            let done = sender.attempt(out.clone()).await;
            assert_eq!(done.outcome, Outcome::Delivered, "{number}: {}", detail(&done));
            // The close is on its way: give it the time of a loopback.
            tokio::task::yield_now().await;
        }
        assert_eq!(receiver.connections(), 300);
    });
}

#[test]
fn a_close_that_the_runtime_has_not_heard_of_is_noticed_before_the_request_is_written() {
    run(async {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let (close, closing) = std::sync::mpsc::channel::<()>();
        let (closed, wait_closed) = std::sync::mpsc::channel::<()>();
        let serving = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            for connection in server.incoming().take(2) {
                let mut connection = connection.unwrap();
                let _ = connection.read(&mut [0; 4096]).unwrap();
                connection.write_all(OK).unwrap();
                closing.recv().unwrap();
                drop(connection);
                closed.send(()).unwrap();
            }
        });
        let sender = sender(settings());
        let out = To::http(address).outgoing();
        for _ in 0..2 {
            assert_eq!(sender.attempt(out.clone()).await.outcome, Outcome::Delivered);
            // Past the rest after which an idle connection is checked, blocking the runtime all
            // the while, so that it cannot hear of the close.
            std::thread::sleep(Duration::from_millis(120));
            close.send(()).unwrap();
            wait_closed.recv().unwrap();
        }
        serving.join().unwrap();
    });
}

/// The close and the test's own wake-up reach the runtime in one turn: the attempt starts before
/// the connection's task has seen the close, and its request comes back unsent.
#[test]
fn a_request_that_was_never_written_goes_to_a_new_connection_unnoticed() {
    run(async {
        let signal = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut signaled =
            tokio::net::TcpStream::connect(signal.local_addr().unwrap()).await.unwrap();
        let (mut signal, _) = signal.accept().unwrap();
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let (close, closing) = std::sync::mpsc::channel::<()>();
        let (closed, wait_closed) = std::sync::mpsc::channel::<()>();
        let serving = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            for connection in server.incoming().take(20) {
                let mut connection = connection.unwrap();
                let _ = connection.read(&mut [0; 4096]).unwrap();
                connection.write_all(OK).unwrap();
                closing.recv().unwrap();
                drop(connection);
                signal.write_all(b"x").unwrap();
                closed.send(()).unwrap();
            }
        });
        let sender = sender(settings());
        let out = To::http(address).outgoing();
        for number in 0..20 {
            let done = sender.attempt(out.clone()).await;
            assert_eq!(done.outcome, Outcome::Delivered, "{number}: {}", detail(&done));
            assert!(!done.attempt.reused_connection);
            close.send(()).unwrap();
            wait_closed.recv().unwrap();
            // Room for more than comes: a full buffer would let the next read succeed without
            // a turn of the runtime.
            assert_eq!(signaled.read(&mut [0; 16]).await.unwrap(), 1);
        }
        serving.join().unwrap();
    });
}

#[test]
fn what_may_have_been_read_is_not_sent_twice() {
    run(async {
        // Reads the second request of a connection and closes without an answer.
        let receiver = Receiver::start(|mut stream, _, log| async move {
            log.read_request(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            log.read_request(&mut stream).await;
        })
        .await;
        let sender = sender(settings());
        let out = To::http(receiver.address).outgoing();
        assert_eq!(sender.attempt(out.clone()).await.outcome, Outcome::Delivered);
        let done = sender.attempt(out).await;
        assert_eq!(code(&done), Some(ErrorCode::Reset));
        assert!(done.attempt.reused_connection);
        assert_eq!((receiver.connections(), receiver.requests().len()), (1, 2));
    });
}

#[test]
fn unfit_connections_are_not_reused() {
    run(async {
        for response in [
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 204 No\r\n\r\nbody",
            "HTTP/1.1 101 Switching\r\n\r\n",
        ] {
            let receiver = Receiver::start(move |mut stream, _, log| async move {
                while log.read_request(&mut stream).await {
                    if stream.write_all(response.as_bytes()).await.is_err() {
                        return;
                    }
                }
            })
            .await;
            let sender = sender(settings());
            let out = To::http(receiver.address).outgoing();
            for _ in 0..3 {
                let done = sender.attempt(out.clone()).await;
                assert!(!done.attempt.reused_connection, "{response}");
            }
            assert_eq!(receiver.connections(), 3, "{response}");
            eventually("they are closed", || sender.connections().open == 0).await;
        }
    });
}

#[test]
fn the_policy_of_now_judges_the_connections_of_before() {
    run(async {
        let receiver = Receiver::start(polite).await;
        let sender = sender(settings());
        let out = To::http(receiver.address).outgoing();
        assert_eq!(sender.attempt(out.clone()).await.outcome, Outcome::Delivered);
        sender.set_policy(policy(&[]));
        let done = sender.attempt(out).await;
        assert_eq!(code(&done), Some(ErrorCode::BlockedTarget));
        assert_eq!(receiver.requests().len(), 1);
    });
}

#[test]
fn idle_connections_age_out_and_their_origins_are_forgotten() {
    run(async {
        let receiver = Receiver::start(polite).await;
        let mut short = settings();
        short.pool_idle_timeout = Duration::from_millis(50);
        let sender = sender(short);
        let out = To::http(receiver.address).outgoing();
        sender.attempt(out.clone()).await;
        assert_eq!(sender.connections().open, 1);
        eventually("the sweep has nothing left", || {
            sender.connections() == Connections { open: 0, idle: 0, origins: 0 }
        })
        .await;
        let done = sender.attempt(out).await;
        assert!(!done.attempt.reused_connection);
        eventually("it sweeps again", || sender.connections().open == 0).await;
    });
}

#[test]
fn no_request_starts_on_a_connection_that_is_too_old() {
    run(async {
        let receiver = Receiver::start(polite).await;
        let mut young = settings();
        young.pool_max_age = Duration::ZERO;
        let sender = sender(young);
        let out = To::http(receiver.address).outgoing();
        sender.attempt(out.clone()).await;
        sender.attempt(out).await;
        assert_eq!(receiver.connections(), 2);
    });
}

#[test]
fn the_oldest_idle_connection_makes_room_and_a_full_pool_is_our_own_fault() {
    run(async {
        let first = Receiver::start(polite).await;
        let second = Receiver::start(polite).await;
        let silent = Receiver::start(|mut stream, _, _| async move {
            while read_request(&mut stream).await.is_some() {}
        })
        .await;
        let mut tight = settings();
        tight.pool_max_connections = 1;
        let sender = sender(tight);
        for receiver in [&first, &second, &first] {
            let done = sender.attempt(To::http(receiver.address).outgoing()).await;
            assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
            assert_eq!(sender.connections().open, 1);
        }
        assert_eq!((first.connections(), second.connections()), (2, 1));
        let busy = spawn_local({
            let (sender, out) = (Rc::clone(&sender), To::http(silent.address).outgoing());
            async move { sender.attempt(out).await }
        });
        eventually("the only permit is taken", || silent.connections() == 1).await;
        let done = sender.attempt(To::http(second.address).outgoing()).await;
        assert_eq!((done.blame, code(&done)), (Blame::Own, Some(ErrorCode::Connect)));
        assert_eq!(done.outcome, Outcome::Retry { not_before: None });
        busy.abort();
    });
}

#[test]
fn idle_connections_of_one_origin_have_a_limit() {
    run(async {
        let receiver = Receiver::start(polite).await;
        let mut few = settings();
        few.pool_max_idle_per_origin = 2;
        let sender = sender(few);
        let attempts: Vec<_> = (0..5)
            .map(|_| {
                let (sender, out) = (Rc::clone(&sender), To::http(receiver.address).outgoing());
                spawn_local(async move { sender.attempt(out).await })
            })
            .collect();
        for attempt in attempts {
            assert_eq!(attempt.await.unwrap().outcome, Outcome::Delivered);
        }
        assert_eq!(receiver.connections(), 5);
        assert_eq!(sender.connections().idle, 2);
        assert_eq!(sender.connections().open, 2);
    });
}

#[test]
fn dropping_an_attempt_gives_its_slot_back_and_hangs_up() {
    run(async {
        let hung_up = Rc::new(std::cell::Cell::new(0));
        let counter = Rc::clone(&hung_up);
        let receiver = Receiver::start(move |mut stream, _, log| {
            let counter = Rc::clone(&counter);
            async move {
                log.read_request(&mut stream).await;
                assert!(read_request(&mut stream).await.is_none());
                counter.set(counter.get() + 1);
            }
        })
        .await;
        let sender = sender(settings());
        let attempt = spawn_local({
            let (sender, out) = (Rc::clone(&sender), To::http(receiver.address).outgoing());
            async move { sender.attempt(out).await }
        });
        eventually("the request has arrived", || receiver.requests().len() == 1).await;
        assert_eq!(sender.connections().open, 1);
        attempt.abort();
        eventually("slot and connection are free", || {
            sender.connections().open == 0 && hung_up.get() == 1
        })
        .await;
    });
}

#[test]
fn a_receiver_that_reads_nothing_holds_a_slot_no_longer_than_the_deadline() {
    run(async {
        let receiver = Receiver::start(|stream, _, _| async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        let sender = sender(settings());
        let out = To::http(receiver.address)
            .within(Duration::from_millis(200))
            .outgoing_with(Bytes::from(vec![b'x'; 16 << 20]));
        let done = sender.attempt(out).await;
        assert_eq!(code(&done), Some(ErrorCode::Timeout));
        assert_eq!(detail(&done), "timed out after 200ms waiting for the response");
        eventually("the slot is free", || sender.connections().open == 0).await;
    });
}
