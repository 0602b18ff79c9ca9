//! The stylesheet, the script and the icon, compiled in.
//!
//! Their addresses hold a hash of what they are, so browsers may keep them for good.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, header};
use sha2::{Digest as _, Sha256};

use super::ask::Refused;

/// Name, media type, content.
const ASSETS: [(&str, &str, &[u8]); 3] = [
    ("portal.css", "text/css; charset=utf-8", include_bytes!("assets/portal.css")),
    ("portal.js", "text/javascript; charset=utf-8", include_bytes!("assets/portal.js")),
    ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
];

/// One version for all of them: they change together with the binary.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for (name, _, content) in ASSETS {
        hash.update(name);
        hash.update(content);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
});

pub(super) async fn serve(Path((version, name)): Path<(String, String)>) -> Response {
    let found = ASSETS.iter().find(|(known, ..)| *known == name && version == *VERSION);
    let Some((_, kind, content)) = found else { return Refused::nothing_here().into_response() };
    let mut response = content.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let for_good = HeaderValue::from_static("public, max-age=31536000, immutable");
    headers.insert(header::CACHE_CONTROL, for_good);
    response
}
