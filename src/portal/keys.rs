//! The tenant's API keys and its signing secret.
//!
//! A new key is in the one answer that made it. The secret is shown where somebody asks for it by a
//! button, which the log of the gateway records, and never by looking at the page.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::json;

use super::{
    ask::{Refused, with_query},
    deliveries::said,
    form::Form,
    shell::{Place, Shell, page, page_with},
    visit::Visit,
    wire::{Key, NewKey, Page, Secrets},
    words::When,
};

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage {
    shell: Shell,
    base: String,
    rows: Vec<Key>,
    older: Option<String>,
    new: Option<NewKey>,
    /// Until when older secrets sign as well.
    overlaps: Vec<When>,
    secrets: Option<Secrets>,
    wrong: Vec<String>,
}

async fn whole(visit: &Visit) -> Result<KeysPage, Refused> {
    let cursor = visit.query.filled("cursor").map(|cursor| ("cursor", cursor));
    let rows: Page<Key> = visit.asker.get(&with_query("/v1/keys", cursor)).await?;
    let base = visit.to("");
    let next = rows.next_cursor.as_deref();
    Ok(KeysPage {
        shell: visit.shell("Keys and secret", Place::Keys),
        older: next.map(|next| with_query(&visit.to("/keys"), [("cursor", next)])),
        rows: rows.data,
        base,
        new: None,
        overlaps: visit.overlaps(),
        secrets: None,
        wrong: Vec::new(),
    })
}

pub(super) async fn list(visit: Visit) -> Result<Response, Refused> {
    Ok(page(&whole(&visit).await?))
}

pub(super) async fn create(visit: Visit) -> Result<Response, Refused> {
    match visit.asker.post::<NewKey>("/v1/keys", json!({"kind": "tenant"})).await {
        Ok(new) => Ok(page(&KeysPage { new: Some(new), ..whole(&visit).await? })),
        Err(refused) => correct(&visit, refused).await,
    }
}

pub(super) async fn revoke(visit: Visit) -> Result<Response, Refused> {
    visit.asker.delete(&format!("/v1/keys/{}", visit.id)).await?;
    Ok(visit.done("/keys", "revoked"))
}

/// Somebody who reloads what a button showed.
pub(super) async fn secret(visit: Visit) -> Response {
    Redirect::to(&visit.to("/keys")).into_response()
}

pub(super) async fn reveal(visit: Visit) -> Result<Response, Refused> {
    let secrets = Some(visit.asker.get("/v1/signing-secret").await?);
    Ok(page(&KeysPage { secrets, ..whole(&visit).await? }))
}

pub(super) async fn rotate(visit: Visit, Form(form): Form) -> Result<Response, Refused> {
    let body = json!({"overlap": form.text("overlap")});
    match visit.asker.post::<Secrets>("/v1/signing-secret/rotate", body).await {
        Ok(secrets) => {
            let overlaps = secrets.previous.iter().filter_map(|one| one.until()).collect();
            let shown = whole(&visit).await?;
            Ok(page(&KeysPage { secrets: Some(secrets), overlaps, ..shown }))
        }
        Err(refused) => correct(&visit, refused).await,
    }
}

async fn correct(visit: &Visit, refused: Refused) -> Result<Response, Refused> {
    if !refused.is_correctable() {
        return Err(refused);
    }
    let shown = whole(visit).await?;
    Ok(page_with(refused.status, &KeysPage { wrong: said(&refused), ..shown }))
}
