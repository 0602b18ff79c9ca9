//! The route of one-time links into the portal.

use http::StatusCode;
use serde_json::json;

use super::{Answer, Settings};
use crate::{
    api::portal::MIN_LINK_LIFETIME,
    config::units::format_duration,
    openapi::{Operation, body, reference, words::Example},
    sessions::MAX_LINK_LIFETIME,
};

pub(in crate::api) fn create(_: &Settings) -> Operation {
    let (least, most) = (format_duration(MIN_LINK_LIFETIME), format_duration(MAX_LINK_LIFETIME));
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {"expires_in": {
            "description": format!(
                "How long the link is good for: `{least}` to `{most}`; the gateway's default \
                 (`portal.link_lifetime`) where left out."
            ),
            "type": ["string", "null"],
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
        }},
    });
    let link = json!({
        "url": "https://hooks.example.com/portal/link/2m8s0w6TqvJmZk3nX1cYb9dLr4hFgUeP5oKiAaVtBs4",
        "expires_at": Example::TIME,
    });
    let made = "The link; no other answer shows it.";
    Operation {
        id: "createPortalSession",
        tag: "Portal",
        summary: "Make a link into the portal",
        description: "A link that logs one browser into the portal as this tenant, once. For a \
                      customer's own page: make it when the customer asks for the portal, and send \
                      the browser there."
            .to_owned(),
        body: Some(body(false, &["application/json"], schema, json!({"expires_in": "5m"}))),
        answers: vec![Answer::new(StatusCode::CREATED, made, reference("PortalSession"), link)],
        ..Operation::default()
    }
}
