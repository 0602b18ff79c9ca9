//! How it goes: what fails where and why, how fast receivers answer, what waits.
//!
//! The figures are of the newest deliveries that one page of the API has, and say so: they cost one
//! bounded read of the log, however many there are.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;

use super::{
    ask::{Refused, with_query},
    shell::{Place, Shell, page},
    visit::Visit,
    webhooks::Names,
    wire::{Delivery, Page, Webhook},
    words::{When, latency},
};

/// How many deliveries are looked at.
const NEWEST: &str = "100";
/// Columns of the chart of outcomes.
const COLUMNS: usize = 20;
/// The height and width of the chart, in its own units.
const HEIGHT: usize = 120;
const WIDTH: usize = 1000;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    shell: Shell,
    base: String,
    names: Names,
    webhooks: Vec<Webhook>,
    looked_at: usize,
    since: Option<When>,
    delivered: usize,
    waiting: usize,
    oldest_waiting: Option<When>,
    failed: usize,
    /// Of those that have ended.
    success: Option<String>,
    latencies: Vec<(&'static str, String)>,
    columns: Vec<Column>,
    troubles: Vec<Trouble>,
}

/// A stretch of the newest deliveries.
struct Column {
    x: usize,
    width: usize,
    from: Option<When>,
    delivered: Part,
    waiting: Part,
    failed: Part,
}

#[derive(Clone, Copy, Default)]
struct Part {
    count: usize,
    y: usize,
    height: usize,
}

/// Deliveries of one webhook that failed, or wait for a retry, for one cause.
struct Trouble {
    webhook: String,
    error: String,
    cause: String,
    hint: String,
    count: usize,
    last: Option<When>,
    /// The list that explains it.
    address: String,
    /// The newest of them.
    example: String,
}

pub(super) async fn show(visit: Visit) -> Result<Response, Refused> {
    let newest: Page<Delivery> =
        visit.asker.get(&with_query("/v1/deliveries", [("limit", NEWEST)])).await?;
    let rows = newest.data;
    let webhooks: Page<Webhook> = visit.asker.get("/v1/webhooks").await?;
    let of =
        |wanted: &[&str]| rows.iter().filter(|row| wanted.contains(&row.status.as_str())).count();
    let waits = |row: &&Delivery| matches!(row.status.as_str(), "pending" | "retrying");
    let (delivered, failed) = (of(&["delivered"]), of(&["failed"]));
    let ended = delivered + failed;
    Ok(page(&OverviewPage {
        shell: visit.shell("Overview", Place::Overview),
        base: visit.to(""),
        names: Names::of(&visit).await?,
        webhooks: webhooks.data,
        looked_at: rows.len(),
        since: rows.last().and_then(Delivery::created),
        delivered,
        waiting: of(&["pending", "retrying"]),
        oldest_waiting: rows.iter().rev().find(waits).and_then(Delivery::created),
        failed,
        success: (ended > 0).then(|| format!("{:.1} %", 100.0 * delivered as f64 / ended as f64)),
        latencies: latencies(&rows),
        columns: columns(&rows),
        troubles: troubles(&visit, &rows),
    }))
}

/// Quantiles of the last attempts that were answered.
fn latencies(rows: &[Delivery]) -> Vec<(&'static str, String)> {
    let answered = rows.iter().filter_map(|row| row.last_attempt.as_ref());
    let mut all: Vec<f64> =
        answered.filter(|last| last.status.is_some()).map(|last| last.latency_ms).collect();
    all.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = ((all.len() as f64 * share).ceil() as usize).clamp(1, all.len()) - 1;
        latency(all[place])
    };
    if all.is_empty() {
        return Vec::new();
    }
    vec![("p50", at(0.5)), ("p95", at(0.95)), ("p99", at(0.99)), ("slowest", at(1.0))]
}

/// The rows, the oldest on the left, in columns of as many deliveries each.
fn columns(rows: &[Delivery]) -> Vec<Column> {
    if rows.is_empty() {
        return Vec::new();
    }
    let oldest_first: Vec<_> = rows.iter().rev().collect();
    let each = rows.len().div_ceil(COLUMNS);
    let parts = oldest_first.chunks(each);
    let width = WIDTH / parts.len();
    let column = |(at, part): (usize, &[&Delivery])| {
        let of = |wanted: &[&str]| {
            part.iter().filter(|row| wanted.contains(&row.status.as_str())).count()
        };
        let mut y = HEIGHT;
        let mut stack = |count: usize| {
            let height = count * HEIGHT / each;
            y -= height;
            Part { count, y, height }
        };
        Column {
            x: at * width,
            width: width.saturating_sub(6).max(4),
            from: part.first().and_then(|row| row.created()),
            delivered: stack(of(&["delivered"])),
            waiting: stack(of(&["pending", "retrying", "canceled"])),
            failed: stack(of(&["failed"])),
        }
    };
    parts.enumerate().map(column).collect()
}

/// What did not get through, the most frequent first.
fn troubles(visit: &Visit, rows: &[Delivery]) -> Vec<Trouble> {
    let mut found: BTreeMap<(&str, &str), Trouble> = BTreeMap::new();
    for row in rows.iter().filter(|row| matches!(row.status.as_str(), "failed" | "retrying")) {
        let error = row.last_attempt.as_ref().and_then(|last| last.error.as_ref());
        let Some(error) = error else { continue };
        let filters =
            [("webhook", row.webhook()), ("status", "failed,retrying"), ("error", &error.code)];
        let trouble = found.entry((row.webhook(), &error.cause)).or_insert_with(|| Trouble {
            webhook: row.webhook().to_owned(),
            error: error.code.clone(),
            cause: error.cause.clone(),
            hint: error.hint.clone(),
            count: 0,
            last: row.created(),
            address: with_query(&visit.to("/deliveries"), filters),
            example: row.id.clone(),
        });
        trouble.count += 1;
    }
    let mut troubles: Vec<_> = found.into_values().collect();
    troubles.sort_by_key(|trouble| std::cmp::Reverse(trouble.count));
    troubles
}
