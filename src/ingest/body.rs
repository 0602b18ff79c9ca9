//! Request bodies: read with a limit, a deadline and a share of bounded memory.
//!
//! A [`Budget`] bounds the bytes of all bodies that are being read or wait to be durable. A body
//! is charged for what has arrived, not for what it announces: a slow sender with a large
//! `Content-Length` holds no more than it sent. The charge rides inside the returned [`Bytes`] and
//! ends with its last slice, wherever that is (this request, the store's queue), so that a client
//! who hangs up frees nothing early.
//!
//! A body that arrives in one frame is not copied; others are copied once, into one buffer, because
//! payloads are slices of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;

/// What a body of unknown or large size starts with.
const FIRST_BUFFER: usize = 64 * 1024;
/// What is read and thrown away after a refusal, so that the client gets to read the answer
/// instead of a reset, …
const LINGER_BYTES: usize = 256 * 1024;
/// … and for how long.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Bytes that may be held at once. Copies of the `Arc` share it.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// Bytes held now; never above the limit.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn open(self: &Arc<Self>) -> Charge {
        Charge { budget: Arc::clone(self), bytes: 0 }
    }

    fn take(&self, bytes: usize) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.limit)
            })
            .is_ok()
    }
}

/// A share of a budget, given back on drop.
struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Makes the share `bytes` large, which is not less than it was; false where there is no room.
    fn grow_to(&mut self, bytes: usize) -> bool {
        let grown = self.budget.take(bytes - self.bytes);
        if grown {
            self.bytes = bytes;
        }
        grown
    }

    /// `data` that holds this share as long as any slice of it lives.
    fn wrap(self, data: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(Charged { data, _charge: self })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct Charged<T> {
    data: T,
    _charge: Charge,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Charged<T> {
    fn as_ref(&self) -> &[u8] {
        self.data.as_ref()
    }
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than the limit")]
    TooLarge,
    #[error("the budget for bodies is used up")]
    NoRoom,
    #[error("the body did not arrive in time")]
    Late,
    /// The client hung up, or broke the framing (a chunk's size, a frame, the announced length).
    #[error("the body broke off")]
    Broken,
}

/// Reads `body` whole: at most `limit` bytes, within `deadline` from now. A body that announces
/// more than `limit` is refused before a byte of it is read.
pub async fn read<B>(
    body: &mut B,
    limit: usize,
    budget: &Arc<Budget>,
    deadline: Duration,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    tokio::time::timeout(deadline, collect(body, limit, budget))
        .await
        .unwrap_or(Err(BodyError::Late))
}

async fn collect<B>(body: &mut B, limit: usize, budget: &Arc<Budget>) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().exact().and_then(|len| usize::try_from(len).ok());
    let most = announced.unwrap_or(limit).min(limit);
    let mut charge = budget.open();
    let mut buffer = Vec::new();
    while let Some(frame) = body.frame().await {
        // Trailers carry nothing for us.
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        let len = buffer.len() + data.len();
        if len > limit {
            return Err(BodyError::TooLarge);
        }
        if buffer.is_empty() && (announced == Some(len) || body.is_end_stream()) {
            return if charge.grow_to(len) {
                Ok(charge.wrap(data))
            } else {
                Err(BodyError::NoRoom)
            };
        }
        if len > buffer.capacity() {
            let capacity = len.max(FIRST_BUFFER.min(most)).max(most.min(buffer.capacity() * 2));
            if !charge.grow_to(capacity) {
                return Err(BodyError::NoRoom);
            }
            buffer.reserve_exact(capacity - buffer.len());
        }
        buffer.extend_from_slice(&data);
    }
    Ok(charge.wrap(buffer))
}

/// Reads on in the background for a moment and throws away what comes: an HTTP/1 connection that
/// is closed with unread bytes is reset, and a reset can take the answer with it.
pub fn linger<B>(mut body: B)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    if body.is_end_stream() {
        return;
    }
    tokio::spawn(async move {
        let discard = async {
            let mut left = LINGER_BYTES;
            while let Some(Ok(frame)) = body.frame().await {
                let len = frame.data_ref().map_or(0, Bytes::len);
                let Some(rest) = left.checked_sub(len) else { break };
                left = rest;
            }
        };
        // Either way the client had its chance to read the answer.
        let _ = tokio::time::timeout(LINGER_TIME, discard).await;
    });
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        pin::Pin,
        task::{Context, Poll},
    };

    use http_body::Frame;
    use http_body_util::Full;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A body of unknown size that plays frames, then ends or hangs.
    struct Script {
        frames: VecDeque<Result<Bytes, &'static str>>,
        then_hang: bool,
    }

    impl Body for Script {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            match self.frames.pop_front() {
                None if self.then_hang => Poll::Pending,
                next => Poll::Ready(next.map(|frame| frame.map(Frame::data))),
            }
        }
    }

    fn pieces(pieces: impl IntoIterator<Item = Vec<u8>>) -> Script {
        let frames = pieces.into_iter().map(|piece| Ok(piece.into())).collect();
        Script { frames, then_hang: false }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_frame_is_not_copied() {
        let budget = Budget::new(100);
        let sent = Bytes::from(vec![7; 60]);
        let got = read(&mut Full::new(sent.clone()), 100, &budget, LONG).await.expect("fits");
        assert_eq!(got.as_ptr(), sent.as_ptr());
        assert_eq!(budget.used(), 60);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_charge_ends_with_the_last_slice() {
        let budget = Budget::new(1_000_000);
        let frames: Vec<_> = (0..10).map(|i| vec![i; 20_000]).collect();
        let whole = frames.concat();
        let got = read(&mut pieces(frames), 300_000, &budget, LONG).await.expect("fits");
        assert_eq!(got, whole);
        assert!((200_000..=300_000).contains(&budget.used()), "{}", budget.used());
        let slice = got.slice(5..10);
        drop(got);
        assert!(budget.used() >= 200_000);
        drop(slice);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn no_more_than_the_limit_is_taken() {
        let budget = Budget::new(1_000_000);
        let at = |n| [vec![0; 40], vec![0; n]];
        assert_eq!(read(&mut pieces(at(60)), 100, &budget, LONG).await.map(|b| b.len()), Ok(100));
        let over = read(&mut pieces(at(61)), 100, &budget, LONG).await;
        assert_eq!(over, Err(BodyError::TooLarge));
        let announced = read(&mut Full::new(Bytes::from(vec![0; 101])), 100, &budget, LONG).await;
        assert_eq!(announced, Err(BodyError::TooLarge));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_full_budget_refuses_and_heals() {
        let budget = Budget::new(100);
        let body = || Full::new(Bytes::from(vec![0; 60]));
        let first = read(&mut body(), 100, &budget, LONG).await.expect("fits");
        assert_eq!(read(&mut body(), 100, &budget, LONG).await, Err(BodyError::NoRoom));
        drop(first);
        read(&mut body(), 100, &budget, LONG).await.expect("fits again");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_slow_body_is_late_and_holds_nothing_afterwards() {
        let budget = Budget::new(1_000);
        let mut body = Script { then_hang: true, ..pieces([vec![0; 3]]) };
        let got = read(&mut body, 500, &budget, Duration::from_millis(20)).await;
        assert_eq!(got, Err(BodyError::Late));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_body_that_breaks_off_is_broken() {
        let budget = Budget::new(1_000);
        let mut body = pieces([vec![0; 3]]);
        body.frames.push_back(Err("gone"));
        assert_eq!(read(&mut body, 500, &budget, LONG).await, Err(BodyError::Broken));
        assert_eq!(budget.used(), 0);
    }
}
