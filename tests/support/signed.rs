//! Whether requests are signed as the contract says, worked out a second time: nothing here is of
//! the gateway's own code.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::receiver::Request;

/// The keys of one signing secret: the contract's own scheme takes the text as it is shown, Standard
/// Webhooks what stands in it.
struct Keys {
    whole: Hmac<Sha256>,
    decoded: Hmac<Sha256>,
}

impl Keys {
    fn of(secret: &str) -> Self {
        let inner = secret.strip_prefix("whsec_").expect("every secret begins so");
        let inner = STANDARD.decode(inner).expect("the rest is base64");
        let key = |bytes: &[u8]| Hmac::new_from_slice(bytes).expect("any length will do");
        Self { whole: key(secret.as_bytes()), decoded: key(&inner) }
    }

    /// Both headers, or neither: they are of one secret.
    fn signed(&self, request: &Request) -> bool {
        let (id, at) = (request.header("webhook-id"), request.header("webhook-timestamp"));
        let hex = mac(&self.whole, &[&request.body]);
        let hex: String = hex.iter().map(|byte| format!("{byte:02x}")).collect();
        let told = [id.as_bytes(), b".", at.as_bytes(), b".", &request.body];
        let standard = format!("v1,{}", STANDARD.encode(mac(&self.decoded, &told)));
        let is = |header, separator, expected: &str| {
            request.header(header).split(separator).any(|one| one == expected)
        };
        is("x-senderz-signature", ',', &hex) && is("webhook-signature", ' ', &standard)
    }
}

fn mac(key: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = key.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// The secrets that tenants had or have.
#[derive(Default)]
pub struct Signers(HashMap<&'static str, Vec<Keys>>);

impl Signers {
    pub fn know(&mut self, tenant: &'static str, secret: &str) {
        self.0.entry(tenant).or_default().push(Keys::of(secret));
    }

    /// Each request is signed by a secret of the tenant that its path names.
    pub fn judge(&self, requests: &[Request]) {
        for (tenant, all) in &self.0 {
            // Of many secrets that followed each other, mostly that of the request before.
            let mut last = 0;
            for request in requests.iter().filter(|request| request.path.ends_with(tenant)) {
                let mut order = (last..all.len()).chain(0..last);
                let found = order.find(|at| all[*at].signed(request));
                let id = request.header("webhook-id");
                last = found.unwrap_or_else(|| panic!("{id}, {tenant}'s, is not rightly signed"));
            }
        }
    }
}
