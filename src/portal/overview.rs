//! How it goes: the figures of a period, and what does not get through, by webhook and cause.
//!
//! Causes are those of the newest deliveries that failed or wait for a retry, of one day and as many as
//! one page of the API has, and the page says so: they cost one bounded read, however many there are.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;

use super::{
    ask::{Refused, with_query},
    shell::{Place, Shell, page},
    stats::{self, Panel},
    visit::Visit,
    webhooks::Names,
    wire::{Delivery, Page},
    words::When,
};
use crate::{
    clock::{Millis, rfc3339, wall_ms},
    stats::Period,
};

/// How many deliveries are looked at for causes.
const NEWEST: &str = "50";
/// What does not get through, as the API names it.
const STUCK: &str = "failed,retrying";
const DAY: Millis = 24 * 60 * 60 * 1000;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    shell: Shell,
    base: String,
    names: Names,
    panel: Panel,
    /// Nothing was ever sent, as far as one look says.
    is_new: bool,
    looked_at: usize,
    /// There are more than were looked at.
    has_more: bool,
    troubles: Vec<Trouble>,
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
    let counted = stats::ask(&visit, "/v1/stats", Period::Hour).await?;
    let since = rfc3339(wall_ms().saturating_sub(DAY));
    let stuck = [("status", STUCK), ("since", &since), ("limit", NEWEST)];
    let stuck: Page<Delivery> = visit.asker.get(&with_query("/v1/deliveries", stuck)).await?;
    let any = with_query("/v1/deliveries", [("limit", "1")]);
    let any: Page<Delivery> = visit.asker.get(&any).await?;
    let base = visit.to("");
    Ok(page(&OverviewPage {
        shell: visit.shell("Overview", Place::Overview),
        names: Names::of(&visit).await?,
        panel: Panel::of(&visit, &counted, &visit.to("/"), None),
        is_new: any.data.is_empty() && any.next_cursor.is_none(),
        looked_at: stuck.data.len(),
        has_more: stuck.next_cursor.is_some(),
        troubles: troubles(&visit, &stuck.data, &since),
        base,
    }))
}

/// What did not get through, the most frequent first.
fn troubles(visit: &Visit, rows: &[Delivery], since: &str) -> Vec<Trouble> {
    let mut found: BTreeMap<(&str, &str), Trouble> = BTreeMap::new();
    for row in rows {
        let error = row.last_attempt.as_ref().and_then(|last| last.error.as_ref());
        let Some(error) = error else { continue };
        let filters = [
            ("webhook", row.webhook()),
            ("status", STUCK),
            ("error", &error.code),
            ("since", since),
        ];
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
