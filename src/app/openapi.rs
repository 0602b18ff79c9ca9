//! The OpenAPI document of the whole gateway: the API's routes and ingest's, under one
//! configuration's limits.

use bytes::Bytes;

use crate::{
    api,
    config::Config,
    guard::Policy,
    ingest,
    openapi::{self, Parts},
};

/// The document, as JSON.
pub fn document(config: &Config) -> serde_json::Value {
    let settings = super::api_settings(config, &Policy::default().into(), Bytes::new());
    let mut operations = api::openapi::operations(&settings);
    operations.extend(ingest::openapi::operations(&config.ingest));
    let mut schemas = api::openapi::schemas(&settings);
    schemas.extend(ingest::openapi::schemas(&config.ingest));
    let api_kinds = api::Code::ALL.map(api::Code::kind);
    let kinds =
        api_kinds.into_iter().chain(ingest::problem::Code::ALL.map(ingest::problem::Code::kind));
    openapi::document(&Parts {
        operations,
        schemas,
        tags: api::openapi::tags(),
        kinds: kinds.collect(),
    })
}

/// As it is served.
pub(super) fn bytes(config: &Config) -> Bytes {
    document(config).to_string().into()
}
