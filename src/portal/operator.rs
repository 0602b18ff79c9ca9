//! The operator's own pages: tenants, links into their portal, the state of the gateway.

use askama::Template;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::{
    ask::{Refused, with_query},
    deliveries::said,
    form::Form,
    shell::{Place, Shell, page, page_with},
    visit::{OperatorVisit, Visit},
    wire::{NewTenant, Page, Tenant},
    words::When,
};
use crate::metrics::{CATALOGUE, Kind};

#[derive(Template)]
#[template(path = "tenants.html")]
struct TenantsPage {
    shell: Shell,
    rows: Vec<Tenant>,
    older: Option<String>,
    new: Option<NewTenant>,
    link: Option<Link>,
    wrong: Vec<String>,
}

#[derive(Deserialize)]
struct Link {
    url: String,
    expires_at: String,
    #[serde(skip)]
    tenant: String,
}

impl Link {
    fn until(&self) -> Option<When> {
        When::of(&self.expires_at)
    }
}

async fn whole(visit: &Visit) -> Result<TenantsPage, Refused> {
    let cursor = visit.query.filled("cursor").map(|cursor| ("cursor", cursor));
    // About all of them, wherever the page stands.
    let asker = super::ask::Asker { tenant: None, ..visit.asker.clone() };
    let rows: Page<Tenant> = asker.get(&with_query("/v1/tenants", cursor)).await?;
    let next = rows.next_cursor.as_deref();
    let mut shell = visit.shell("Tenants", Place::Tenants);
    shell.entries.clear();
    Ok(TenantsPage {
        shell,
        older: next.map(|next| with_query("/portal/tenants", [("cursor", next)])),
        rows: rows.data,
        new: None,
        link: None,
        wrong: Vec::new(),
    })
}

pub(super) async fn tenants(OperatorVisit(visit): OperatorVisit) -> Result<Response, Refused> {
    Ok(page(&whole(&visit).await?))
}

pub(super) async fn create_tenant(
    OperatorVisit(visit): OperatorVisit,
    Form(form): Form,
) -> Result<Response, Refused> {
    let id = form.text("id").trim();
    let name = form.filled("name").unwrap_or(id);
    match visit.asker.post("/v1/tenants", json!({"id": id, "name": name})).await {
        Ok(new) => Ok(page(&TenantsPage { new: Some(new), ..whole(&visit).await? })),
        Err(refused) if refused.is_correctable() => {
            let shown = whole(&visit).await?;
            Ok(page_with(refused.status, &TenantsPage { wrong: said(&refused), ..shown }))
        }
        Err(refused) => Err(refused),
    }
}

/// Makes a one-time link for a tenant and shows it.
pub(super) async fn link(OperatorVisit(visit): OperatorVisit) -> Result<Response, Refused> {
    let made: Link = visit.asker.post("/v1/portal/sessions", json!({})).await?;
    let link = Link { tenant: visit.tenant().to_owned(), ..made };
    Ok(page(&TenantsPage { link: Some(link), ..whole(&visit).await? }))
}

#[derive(Template)]
#[template(path = "system.html")]
struct SystemPage {
    shell: Shell,
    not_ready: Vec<&'static str>,
    version: &'static str,
    numbers: Vec<Number>,
    configuration: Option<String>,
}

/// A gauge of the catalogue, with what it is.
struct Number {
    name: String,
    value: String,
    help: &'static str,
}

pub(super) async fn system(OperatorVisit(visit): OperatorVisit) -> Response {
    let about = &visit.asker.portal.about;
    let mut shell = visit.shell("System", Place::System);
    shell.entries.clear();
    page(&SystemPage {
        shell,
        not_ready: about.not_ready(),
        version: env!("CARGO_PKG_VERSION"),
        numbers: gauges(&about.metrics()),
        configuration: about.configuration(),
    })
}

/// What stands now. Counters say little without a time to compare with, which Prometheus has.
fn gauges(text: &str) -> Vec<Number> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let number = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let name = series.split('{').next().unwrap_or(series);
        let metric = CATALOGUE.iter().find(|metric| metric.name == name)?;
        (metric.kind == Kind::Gauge).then(|| Number {
            name: series.to_owned(),
            value: value.to_owned(),
            help: metric.help,
        })
    };
    lines.filter_map(number).collect()
}
