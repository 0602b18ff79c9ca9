//! What was changed, and by whom: a tenant's own, and for operators all of it.
//!
//! Numbers without a gap say that no record was taken away; where the page shows all records of one
//! tenant, it says between which two some are missing.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::{
    ask::{Asker, Refused, with_query},
    deliveries::said,
    filter::absolute,
    shell::{Place, Shell, page},
    visit::{OperatorVisit, Visit},
    wire::{AuditRecord, Page},
};
use crate::audit::Action;

const FILTERS: [&str; 5] = ["action", "actor", "object", "since", "until"];

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    shell: Shell,
    here: String,
    /// Where its objects are; empty where it is about all tenants.
    base: String,
    actions: [&'static str; Action::ALL.len()],
    chosen: Chosen,
    rows: Vec<Row>,
    wrong: Vec<String>,
    older: Option<String>,
    newest: Option<String>,
}

/// Filters by the API's names, none of them empty.
struct Chosen(Vec<(&'static str, String)>);

impl Chosen {
    fn of(visit: &Visit) -> Self {
        let value = |name: &'static str| {
            visit.query.filled(name).map(|value| (name, absolute(name, value)))
        };
        Self(FILTERS.into_iter().filter_map(value).collect())
    }

    fn value(&self, name: &str) -> &str {
        self.0.iter().find(|(own, _)| *own == name).map_or("", |(_, value)| value)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is what an address with several has, which the control cannot say.
    fn has_several(&self) -> bool {
        self.value("action").contains(',')
    }

    fn at(&self, path: &str, cursor: Option<&str>) -> String {
        let own = self.0.iter().map(|(name, value)| (*name, value.as_str()));
        with_query(path, own.chain(cursor.map(|cursor| ("cursor", cursor))))
    }
}

struct Row {
    record: AuditRecord,
    /// The page of its object, where there is one.
    object: Option<String>,
    /// The same list with one more filter.
    of_actor: Option<String>,
    /// How many of the tenant's records are missing between this one and the one above it.
    missing: u64,
}

pub(super) async fn of_tenant(visit: Visit) -> Result<Response, Refused> {
    let (here, base) = (visit.to("/audit"), visit.to(""));
    let shell = visit.shell("Audit", Place::Audit);
    show(&visit, &visit.asker, shell, here, base).await
}

pub(super) async fn of_all(OperatorVisit(visit): OperatorVisit) -> Result<Response, Refused> {
    let asker = Asker { tenant: None, ..visit.asker.clone() };
    let mut shell = visit.shell("Audit of all", Place::AuditOfAll);
    shell.entries.clear();
    show(&visit, &asker, shell, "/portal/audit".to_owned(), String::new()).await
}

async fn show(
    visit: &Visit,
    asker: &Asker,
    shell: Shell,
    here: String,
    base: String,
) -> Result<Response, Refused> {
    let chosen = Chosen::of(visit);
    if super::filter::is_relative(&visit.query) {
        // A cursor belongs to its filters, and an age is another time each time.
        return Ok(Redirect::to(&chosen.at(&here, None)).into_response());
    }
    let cursor = visit.query.filled("cursor");
    let mut wrong = Vec::new();
    let found: Page<AuditRecord> = match asker.get(&chosen.at("/v1/audit", cursor)).await {
        Ok(found) => found,
        Err(refused) if refused.is_correctable() => {
            wrong = said(&refused);
            Page { data: Vec::new(), next_cursor: None }
        }
        Err(refused) => return Err(refused),
    };
    let is_whole = chosen.is_empty() && !base.is_empty();
    Ok(page(&AuditPage {
        shell,
        older: found.next_cursor.as_deref().map(|next| chosen.at(&here, Some(next))),
        newest: cursor.map(|_| chosen.at(&here, None)),
        rows: rows(found.data, &here, &base, is_whole),
        actions: Action::ALL.map(Action::as_str),
        chosen,
        wrong,
        here,
        base,
    }))
}

/// `is_whole`: nothing of one chain is left out.
fn rows(records: Vec<AuditRecord>, here: &str, base: &str, is_whole: bool) -> Vec<Row> {
    let mut above: Option<u64> = None;
    let row = |record: AuditRecord| {
        let missing = above.map_or(0, |above| above.saturating_sub(record.sequence + 1));
        above = Some(record.sequence);
        let tenant = record.tenant.as_deref();
        let base = match (base.is_empty(), tenant) {
            (true, Some(tenant)) => format!("/portal/t/{tenant}"),
            _ => base.to_owned(),
        };
        let actor = record.actor.session_id.as_ref().or(record.actor.key_id.as_ref());
        Row {
            object: page_of(&record, &base),
            of_actor: actor.map(|id| with_query(here, [("actor", id.as_str())])),
            missing: if is_whole { missing } else { 0 },
            record,
        }
    };
    records.into_iter().map(row).collect()
}

fn page_of(record: &AuditRecord, base: &str) -> Option<String> {
    let id = record.object_id.as_deref()?;
    let list = match id.split_once('_')?.0 {
        "wh" => "webhooks",
        "dlv" => "deliveries",
        "rpl" => "replays",
        _ => return None,
    };
    // Of what is gone there is no page.
    let is_there = !record.action.ends_with(".deleted") && !base.is_empty();
    is_there.then(|| format!("{base}/{list}/{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64, action: &str, object: Option<&str>) -> AuditRecord {
        serde_json::from_value(serde_json::json!({
            "sequence": sequence, "at": "2026-11-23T04:20:00Z", "tenant": "acme",
            "action": action, "object_id": object, "changed": [],
            "actor": {"kind": "tenant", "key_id": "key_1", "session_id": null},
            "request_id": null,
        }))
        .expect("as the API writes it")
    }

    #[test]
    fn what_is_missing_between_two_is_said_where_all_are_shown() {
        let all = || [9, 8, 5, 4].map(|nth| record(nth, "key.created", None)).to_vec();
        let missing = |is_whole| -> Vec<u64> {
            rows(all(), "/here", "/base", is_whole).iter().map(|row| row.missing).collect()
        };
        assert_eq!(missing(true), [0, 0, 2, 0]);
        assert_eq!(missing(false), [0, 0, 0, 0]);
    }

    #[test]
    fn a_record_leads_to_what_it_is_about_and_to_what_else_its_actor_did() {
        for (base, action, object, page) in [
            ("/p", "webhook.updated", Some("wh_1"), Some("/p/webhooks/wh_1")),
            ("/p", "webhook.deleted", Some("wh_1"), None),
            ("", "delivery.replayed", Some("dlv_1"), Some("/portal/t/acme/deliveries/dlv_1")),
            ("/p", "key.created", Some("key_1"), None),
            ("/p", "secret.rotated", None, None),
        ] {
            let rows = rows(vec![record(1, action, object)], "/here", base, true);
            assert_eq!(rows[0].object.as_deref(), page, "{action}");
            assert_eq!(rows[0].of_actor.as_deref(), Some("/here?actor=key_1"));
        }
    }
}
