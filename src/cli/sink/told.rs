//! What the sink prints, on a thread of its own: a reader that takes nothing (a pager, a full pipe)
//! or is gone holds up neither requests nor signals.

use std::{
    fmt,
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    time::Duration,
};

use serde::{Serialize, Serializer};
use tokio::sync::oneshot;

use super::Stats;
use crate::{
    cli::Output,
    clock::{self, Millis},
};

/// Lines waiting to be printed; requests beyond it are counted as `untold`.
const QUEUE: usize = 8192;
/// At the end, how long lines that still wait may take.
const LAST_LINES: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One request and what it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    #[serde(serialize_with = "rfc3339")]
    pub at: Millis,
    pub webhook_id: Option<String>,
    pub event_type: Option<String>,
    pub attempt: Option<String>,
    /// None where it gets no answer on purpose.
    pub status: Option<u16>,
    pub signature: Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Signature {
    Verified,
    /// One of the two is missing or wrong.
    Wrong,
    /// There is no secret to verify by.
    NotVerified,
    /// It is no delivery, so there is nothing to verify.
    Malformed,
}

fn rfc3339<S: Serializer>(at: &Millis, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&clock::rfc3339(*at))
}

/// Header values are visible ASCII here, so that nothing of a request moves the cursor.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let (id, event_type) = (text(&self.webhook_id), text(&self.event_type));
        let attempt = text(&self.attempt);
        write!(f, "{}  {id}  {event_type:<17}  attempt {attempt}  ", clock::rfc3339(self.at))?;
        match self.status {
            Some(status) => write!(f, "{status}  ")?,
            None => f.write_str("no answer  ")?,
        }
        f.write_str(match self.signature {
            Signature::Verified => "verified",
            Signature::Wrong => "wrong signature",
            Signature::NotVerified => "not verified",
            Signature::Malformed => "no delivery",
        })
    }
}

/// What is printed, a line each.
#[derive(Clone, Debug)]
pub enum Told {
    Request(Seen),
    /// What came so far, and how much of it since the last time.
    Counts(Stats, u64),
    /// What came in all; nothing is printed after it.
    End(Stats),
}

/// Prints until [`Told::End`].
pub(super) struct Printer {
    pub(super) lines: SyncSender<Told>,
    ended: oneshot::Receiver<()>,
}

impl Printer {
    pub(super) fn start(out: impl Write + Send + 'static, output: Output) -> io::Result<Self> {
        let (lines, told) = sync_channel(QUEUE);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("print".to_owned()).spawn(move || {
            print_all(&told, out, output);
            // Nobody waits any more where it took too long.
            let _ = end.send(());
        })?;
        Ok(Self { lines, ended })
    }

    /// Prints the last line, and all before it, if somebody takes them in time.
    pub(super) async fn end(self, stats: Stats) {
        let last = async {
            let mut told = Told::End(stats);
            while let Err(TrySendError::Full(again)) = self.lines.try_send(told) {
                told = again;
                tokio::time::sleep(LOOK_EVERY).await;
            }
            self.ended.await
        };
        let _ = tokio::time::timeout(LAST_LINES, last).await;
    }
}

/// Goes on without a reader: what comes is received and counted all the same.
fn print_all(told: &Receiver<Told>, mut out: impl Write, output: Output) {
    for told in told {
        let is_last = matches!(told, Told::End(_));
        let text = match output {
            Output::Text => in_words(&told),
            Output::Json => in_json(&told),
        };
        let _ = out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush());
        if is_last {
            return;
        }
    }
}

fn in_json(told: &Told) -> String {
    let text = match told {
        Told::Request(seen) => serde_json::to_string(seen),
        Told::Counts(stats, _) | Told::End(stats) => serde_json::to_string(stats),
    };
    text.expect("strings and numbers always serialize")
}

fn in_words(told: &Told) -> String {
    let (stats, since) = match told {
        Told::Request(seen) => return seen.to_string(),
        Told::Counts(stats, since) => (stats, format!(" (+{since})")),
        Told::End(stats) => (stats, String::new()),
    };
    let mut text = format!(
        "requests {}{since}  ok {}  failed {}  hung {}  duplicates {}  bad signatures {}  \
         malformed {}  unverified {}",
        stats.requests,
        stats.succeeded,
        stats.failed,
        stats.hung,
        stats.duplicates,
        stats.bad_signatures,
        stats.malformed,
        stats.unverified,
    );
    if stats.untold > 0 {
        text += &format!("  not shown {}", stats.untold);
    }
    text
}
