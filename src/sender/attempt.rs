//! The course of one attempt.
//!
//! One deadline covers all of it, from the name to the last byte of the body. The exchange runs
//! under it and notes how far it has come in a [`Progress`] outside of it, so that whatever ends
//! it early (an error, the deadline) leaves behind what is known. The usual way, over a
//! connection that is open, awaits two things: the response's head and, where there is one, its
//! body. Everything rarer is boxed, to keep the future of the usual way small.
//!
//! Dropping the future closes an HTTP/1.1 connection and resets an HTTP/2 stream; slot, permit and
//! socket are given back.

use std::{
    net::SocketAddr,
    pin::pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::{
    Attempted, Outgoing, Sender,
    deadline::Late,
    failure::{Failure, Stage, is_refused_unprocessed},
    outcome::{self, Ending, Judgement, Now},
    pool::Connection,
    response::{BodyEnd, Head, Kept, read_body},
    target::Target,
};
use crate::{
    clock::{self, Millis},
    delivery::{Attempt, KeptResponse, Phases, Protocol},
    guard::Scheme,
};

/// How long an attempt waits for a connection that another one is opening to the same origin.
const SHARE_WAIT: Duration = Duration::from_secs(1);

/// What is known of an attempt so far.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) started: Instant,
    pub(super) stage: Stage,
    pub(super) phases: Phases,
    peer: Option<SocketAddr>,
    protocol: Protocol,
    reused: bool,
    head: Option<Head>,
    body: Kept,
    body_started: Option<Instant>,
    body_complete: bool,
    /// When the last byte was read, if all of them were.
    ended: Option<Instant>,
}

/// The head of a response, the connection it came on, and when.
struct Answer {
    connection: Connection,
    response: Response<Incoming>,
    at: Instant,
}

impl Sender {
    /// Makes one attempt. Never longer than its deadline; an unsuccessful one is data.
    pub async fn attempt(&self, out: Outgoing) -> Attempted {
        let at = clock::wall_ms();
        let mut progress = Progress {
            started: clock::instant(),
            stage: Stage::Started,
            phases: Phases { queue: out.queued, ..Phases::default() },
            peer: None,
            protocol: Protocol::Http1,
            reused: false,
            head: None,
            body: Kept::default(),
            body_started: None,
            body_complete: false,
            ended: None,
        };
        let limit = out.target.timeout;
        let ended = {
            let started = progress.started;
            let exchange = pin!(self.exchange(&out, at, &mut progress));
            self.deadlines.within(started, limit, exchange).await
        };
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(Late) => Some(Failure::timeout(progress.stage, limit)),
        };
        self.conclude(&out, at, progress, failure)
    }

    async fn exchange(
        &self,
        out: &Outgoing,
        at: Millis,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let target = &*out.target;
        let Answer { mut connection, response, at: answered } =
            self.answer(out, at, progress).await?;
        let mut ended = answered;
        let (head, mut body) = response.into_parts();
        let head = Head::read(head.status, head.version, &head.headers);
        let usable = head.defect().is_none();
        progress.head = Some(head);
        if usable && !body.is_end_stream() {
            progress.stage = Stage::Body;
            progress.body_started = Some(answered);
            let (max, keep) = (self.max_response, self.keep_response);
            let reading = read_body(&mut body, &mut progress.body, max, keep);
            let end = match &mut connection {
                Connection::Http1(http1) => http1.drive(pin!(reading)).await,
                Connection::Http2(_) => reading.await,
            };
            match end {
                BodyEnd::Complete => ended = clock::instant(),
                // Dropping connection and body is what stops the rest of it.
                BodyEnd::TooLong => return Ok(()),
                BodyEnd::Broken(error) => return Err(Failure::http(&error)),
            }
        }
        progress.body_complete = true;
        progress.ended = Some(ended);
        match connection {
            Connection::Http1(connection) if usable => {
                self.pool.park(&target.origin, connection, ended);
            }
            Connection::Http1(_) | Connection::Http2(_) => {}
        }
        Ok(())
    }

    /// Sends the request and waits for the head of its response.
    ///
    /// A connection that was open before may turn out to be closed before anything was written to
    /// it; the request then goes to the next one. Each turn uses up a connection of the pool, and
    /// a new one is not excused, so this ends. A server that refuses an HTTP/2 request unprocessed
    /// is asked once more, on a new connection.
    async fn answer(
        &self,
        out: &Outgoing,
        at: Millis,
        progress: &mut Progress,
    ) -> Result<Answer, Failure> {
        let target = &*out.target;
        let mut refused = false;
        // The latest reading of the clock: a turn may have waited for a connection to share.
        let mut now = progress.started;
        loop {
            let mut connection = match self.checkout(target, refused, now, progress) {
                Some(open) => open,
                None => Box::pin(self.open(target, refused, progress)).await?,
            };
            progress.stage = Stage::Response;
            progress.protocol = connection.protocol();
            progress.peer = Some(connection.link().peer);
            let request = target.request(out, at, progress.protocol, !progress.reused);
            let sent = clock::instant();
            let answer = match &mut connection {
                Connection::Http1(http1) => {
                    let answer = pin!(http1.send(request));
                    http1.drive(answer).await
                }
                Connection::Http2(stream) => {
                    let mut sender = stream.connection.sender.clone();
                    sender.try_send_request(request).await
                }
            };
            let answered = clock::instant();
            progress.phases.first_byte = clock::micros_between(sent, answered);
            let unanswered = match answer {
                Ok(response) => return Ok(Answer { connection, response, at: answered }),
                Err(unanswered) => unanswered,
            };
            let unsent = unanswered.message().is_some();
            let error = unanswered.into_error();
            let refused_now = is_refused_unprocessed(&error);
            if !((unsent && progress.reused) || (refused_now && !refused)) {
                return Err(Failure::http(&error));
            }
            refused |= refused_now;
            now = answered;
        }
    }

    fn checkout(
        &self,
        target: &Target,
        refused: bool,
        now: Instant,
        progress: &mut Progress,
    ) -> Option<Connection> {
        if refused {
            return None;
        }
        let policy = self.connector.policy();
        let open = self.pool.checkout(&target.origin, &policy, now)?;
        progress.reused = true;
        Some(open)
    }

    /// A new connection, or a share of one that another attempt is opening right now: a burst to
    /// a server that speaks HTTP/2 then needs one handshake and not one for each attempt.
    async fn open(
        &self,
        target: &Target,
        refused: bool,
        progress: &mut Progress,
    ) -> Result<Connection, Failure> {
        let origin = self.pool.origin(&target.origin);
        if target.origin.scheme == Scheme::Https && !refused {
            let waiting = async {
                while origin.may_soon_share() {
                    progress.stage = Stage::Waiting;
                    origin.settled().await;
                    let now = clock::instant();
                    if let Some(shared) = self.checkout(target, refused, now, progress) {
                        return Some(shared);
                    }
                }
                None
            };
            if let Ok(Some(shared)) = timeout(SHARE_WAIT, waiting).await {
                return Ok(shared);
            }
        }
        progress.reused = false;
        let mut opening = origin.opening();
        let opened = self.connector.open(&self.pool, target, progress).await?;
        opening.succeeded(opened.protocol());
        Ok(opened)
    }

    fn conclude(
        &self,
        out: &Outgoing,
        at: Millis,
        progress: Progress,
        failure: Option<Failure>,
    ) -> Attempted {
        let ended = progress.ended.unwrap_or_else(clock::instant);
        let latency = clock::micros_between(progress.started, ended);
        let Progress { mut phases, head, body, body_started, body_complete, .. } = progress;
        if let Some(started) = body_started {
            phases.body = clock::micros_between(started, ended);
        }
        let ending = match (&head, failure) {
            (Some(head), broken) => Ending::Answered { head, broken },
            (None, Some(failure)) => Ending::Unanswered(failure),
            (None, None) => Ending::Unanswered(Failure::bad_response("there was no answer")),
        };
        let now = Now { steady: self.clock.after(ended), wall: at };
        let Judgement { outcome, error, blame, gone } =
            outcome::judge(ending, out.target.success, now, self.max_retry_after);
        let truncated = head.is_some() && (!body_complete || body.seen > body.bytes.len());
        let response = KeptResponse {
            headers: head.as_ref().map_or_else(Bytes::new, |head| head.lines.clone()),
            body: Bytes::from(body.bytes),
            truncated,
        };
        let attempt = Attempt {
            number: out.number,
            at,
            status: head.map(|head| head.status).filter(|status| *status < 600),
            error,
            latency,
            phases,
            response,
            peer: progress.peer,
            protocol: progress.protocol,
            reused_connection: progress.reused,
        };
        Attempted { attempt, outcome, blame, gone }
    }
}
