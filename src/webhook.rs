//! Webhooks: a registered URL with its event filter and its settings.

use std::time::Duration;

use crate::{
    clock::Millis,
    event::EventTypes,
    guard::WebhookUrl,
    id::{TenantNo, WebhookId, WebhookNo},
};

/// A tenant's registered URL, what it wants to hear of, and how it wants to be called.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub no: WebhookNo,
    pub id: WebhookId,
    pub tenant: TenantNo,
    pub url: WebhookUrl,
    pub events: EventTypes,
    pub description: String,
    pub headers: CustomHeaders,
    pub enabled: bool,
    /// Which responses count as delivered; the gateway's default where none.
    pub success: Option<SuccessRule>,
    /// The deadline of one attempt; the gateway's default where none.
    pub timeout: Option<Duration>,
    /// How many attempts may be under way at once; the gateway's default where none.
    pub max_in_flight: Option<u32>,
    /// Attempts per second; unlimited where none.
    pub rate_limit: Option<u32>,
    pub created_at: Millis,
    pub updated_at: Millis,
}

/// Which response statuses are a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SuccessRule {
    /// Only 200: the published contract.
    #[default]
    Only200,
    /// 200 to 299.
    Any2xx,
}

impl SuccessRule {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Only200 => "200",
            Self::Any2xx => "2xx",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Only200, Self::Any2xx].into_iter().find(|rule| rule.as_str() == text)
    }

    pub fn accepts(self, status: u16) -> bool {
        match self {
            Self::Only200 => status == 200,
            Self::Any2xx => (200..300).contains(&status),
        }
    }
}

/// Headers that the tenant adds to every request of a webhook. Values may be credentials: `Debug`
/// hides them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(Vec<(http::HeaderName, http::HeaderValue)>);

impl CustomHeaders {
    pub fn iter(&self) -> impl Iterator<Item = (&http::HeaderName, &http::HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl std::fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
