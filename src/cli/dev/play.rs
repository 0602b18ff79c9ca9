//! Playing a file of events through the whole gateway, and counting at three independent places:
//! the receiver, the attempt log as the API tells it, and the metrics.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use serde::Deserialize;

use super::{ClientError, Stage};
use crate::{
    cli::{output::tell, progress::Progress},
    clock, metrics,
};

/// Lines in one batch.
const BATCH_LINES: usize = 500;
/// Bytes in one batch, well below `ingest.max_batch`.
const BATCH_BYTES: usize = 4 << 20;
/// How long a gateway that says "overloaded" is asked again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the counts are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Without any progress for this long, the play has failed.
const STALLED: Duration = Duration::from_secs(60);

/// Events sent, by tenant.
pub(super) type Offered = BTreeMap<String, u64>;

/// Makes the file's tenants, then sends its lines as they are.
pub(super) async fn send_file(stage: &Stage, file: &Path) -> anyhow::Result<Offered> {
    #[derive(Deserialize)]
    struct Line {
        tenant: String,
    }
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the events in {}", file.display()))?;
    let mut offered = Offered::new();
    for (number, line) in text.lines().enumerate() {
        let line: Line = serde_json::from_str(line).with_context(|| {
            format!("line {} of {} is no event with a tenant", number + 1, file.display())
        })?;
        *offered.entry(line.tenant).or_default() += 1;
    }
    if offered.is_empty() {
        bail!("{} holds no events", file.display());
    }
    for tenant in offered.keys() {
        stage.tenant(tenant).await.with_context(|| format!("setting up tenant {tenant}"))?;
    }
    let started = clock::instant();
    let mut batch = String::new();
    let mut lines = 0;
    for line in text.lines() {
        if lines == BATCH_LINES || batch.len() + line.len() > BATCH_BYTES {
            send(stage, std::mem::take(&mut batch)).await?;
            lines = 0;
        }
        batch.push_str(line);
        batch.push('\n');
        lines += 1;
    }
    send(stage, batch).await?;
    tell(format_args!(
        "accepted {} events of {} tenants in {:.2} s",
        offered.values().sum::<u64>(),
        offered.len(),
        started.elapsed().as_secs_f64()
    ));
    Ok(offered)
}

/// Sends a batch, again where the gateway asks to wait.
async fn send(stage: &Stage, batch: String) -> anyhow::Result<()> {
    let batch = Bytes::from(batch);
    let started = clock::instant();
    loop {
        match stage.client.post_lines("/v1/events?ids=false", batch.clone()).await {
            Ok(_) => return Ok(()),
            Err(ClientError::Problem(problem))
                if matches!(problem.status.as_u16(), 429 | 503) && started.elapsed() < PATIENCE =>
            {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(error) => return Err(error).context("sending the events"),
        }
    }
}

/// What was counted where.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    events: u64,
    requests: u64,
    requests_succeeded: u64,
    requests_failed: u64,
    duplicates: u64,
    bad_requests: u64,
    unverified: u64,
    log: Tally,
    metrics: Tally,
}

/// Attempts and how deliveries ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    attempts: u64,
    delivered: u64,
    failed: u64,
    other: u64,
}

/// Waits until every delivery has ended, then counts.
pub(super) async fn count_when_ended(stage: &Stage, offered: &Offered) -> anyhow::Result<Counts> {
    let events = offered.values().sum();
    let started = clock::instant();
    let mut last: (u64, Instant) = (0, started);
    let bar = Progress::of_count(events, std::io::stderr().is_terminal());
    loop {
        let metrics = read_metrics();
        let ended = metrics.delivered + metrics.failed + metrics.other;
        if ended >= events {
            break;
        }
        bar.at(ended, &format!("deliveries ended, {} attempts", metrics.attempts));
        let progress = metrics.attempts;
        if progress != last.0 {
            last = (progress, clock::instant());
        } else if last.1.elapsed() > STALLED {
            bail!("no attempt ended for {STALLED:?}; {metrics:?} of {events} events");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bar.end();
    tell(format_args!("every delivery has ended after {:.2} s", started.elapsed().as_secs_f64()));
    let mut log = Tally::default();
    for tenant in offered.keys() {
        let count = |row: &serde_json::Value| {
            log.attempts += row["attempts_made"].as_u64().unwrap_or_default();
            match row["status"].as_str() {
                Some("delivered") => log.delivered += 1,
                Some("failed") => log.failed += 1,
                _ => log.other += 1,
            }
        };
        stage.pages(tenant, "/v1/deliveries", count).await?;
    }
    let receiver = stage.receiver.stats();
    Ok(Counts {
        events,
        requests: receiver.requests,
        requests_succeeded: receiver.succeeded,
        requests_failed: receiver.failed,
        duplicates: receiver.duplicates,
        bad_requests: receiver.bad_signatures + receiver.malformed,
        unverified: receiver.unverified,
        log,
        metrics: read_metrics(),
    })
}

/// The counters as Prometheus would scrape them.
fn read_metrics() -> Tally {
    let text = metrics::install().render();
    let sum = |name: &str, label: &str| -> u64 {
        text.lines()
            .filter(|line| line.starts_with(name) && line.contains(label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    };
    Tally {
        attempts: sum(metrics::ATTEMPTS, ""),
        delivered: sum(metrics::DELIVERIES_ENDED, "\"delivered\""),
        failed: sum(metrics::DELIVERIES_ENDED, "\"failed\""),
        other: sum(metrics::DELIVERIES_ENDED, "\"canceled\""),
    }
}

impl Counts {
    /// Prints the counts; true where all of them agree.
    pub(super) fn report(&self) -> bool {
        tell(format_args!("{:<14} {:>9} {:>9} {:>9}", "", "attempts", "delivered", "failed"));
        tell(format_args!(
            "{:<14} {:>9} {:>9} {:>9}",
            "receiver", self.requests, self.requests_succeeded, ""
        ));
        for (name, tally) in [("attempt log", &self.log), ("metrics", &self.metrics)] {
            let Tally { attempts, delivered, failed, .. } = tally;
            tell(format_args!("{name:<14} {attempts:>9} {delivered:>9} {failed:>9}"));
        }
        tell(format_args!(
            "receiver: {} requests failed on purpose, {} duplicates, {} bad signatures or requests, {} unverified",
            self.requests_failed, self.duplicates, self.bad_requests, self.unverified
        ));
        let disagreements = self.disagreements();
        for what in &disagreements {
            tell(format_args!("DISAGREES: {what}"));
        }
        if disagreements.is_empty() {
            tell(format_args!(
                "all counts agree: {} events, {} delivered, {} failed, every signature verified",
                self.events, self.log.delivered, self.log.failed
            ));
        }
        disagreements.is_empty()
    }

    fn disagreements(&self) -> Vec<&'static str> {
        let Self { log, metrics, .. } = self;
        let checks = [
            ("attempt log and metrics", log == metrics),
            ("requests received and attempts recorded", self.requests == log.attempts),
            (
                "successes received and deliveries recorded",
                self.requests_succeeded == log.delivered,
            ),
            (
                "every event has ended delivered or failed",
                self.events == log.delivered + log.failed,
            ),
            ("no event was received twice", self.duplicates == 0),
            ("every signature is right", self.bad_requests == 0 && self.unverified == 0),
        ];
        checks.into_iter().filter(|(_, holds)| !holds).map(|(what, _)| what).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreeing() -> Counts {
        let tally = || Tally { attempts: 12, delivered: 9, failed: 1, other: 0 };
        Counts {
            events: 10,
            requests: 12,
            requests_succeeded: 9,
            requests_failed: 3,
            log: tally(),
            metrics: tally(),
            ..Counts::default()
        }
    }

    #[test]
    fn counts_that_agree_have_no_disagreement() {
        assert_eq!(agreeing().disagreements(), Vec::<&str>::new());
    }

    #[test]
    fn each_count_that_is_off_is_noticed() {
        let spoil: [fn(&mut Counts); 8] = [
            |c| c.events += 1,
            |c| c.requests += 1,
            |c| c.requests_succeeded -= 1,
            |c| c.log.attempts += 1,
            |c| c.metrics.failed += 1,
            |c| c.duplicates += 1,
            |c| c.bad_requests += 1,
            |c| c.unverified += 1,
        ];
        for (number, spoil) in spoil.iter().enumerate() {
            let mut counts = agreeing();
            spoil(&mut counts);
            assert!(!counts.disagreements().is_empty(), "spoiled count {number}");
        }
    }
}
