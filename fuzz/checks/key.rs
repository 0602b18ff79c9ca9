//! Any text as an API key and any header as its carrier: nobody gets in but the key's holder.

use std::cell::OnceCell;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use senderz_gateway::{directory::KeyRing, ingest::request::bearer};

use super::world::World;

thread_local! {
    /// Never dropped: a runtime must not end while its thread does.
    static WORLD: OnceCell<&'static World> = const { OnceCell::new() };
}

pub(crate) fn check(data: &[u8]) {
    WORLD.with(|world| {
        let world = world.get_or_init(|| Box::leak(Box::new(World::start(Vec::new()))));
        let key = world.tenant_key.as_str();
        if let Ok(text) = std::str::from_utf8(data) {
            assert_eq!(world.directory.authenticate(text).is_some(), text == key);
            // The same with the key's own beginning, which finds its row.
            let near = format!("{}{text}", &key[..key.len() - text.len().min(32)]);
            assert_eq!(world.directory.authenticate(&near).is_some(), near == key);
            if let Ok(ring) = KeyRing::parse(text) {
                assert!((1..=16).contains(&ring.ids().count()));
            }
        }
        let Ok(value) = HeaderValue::from_bytes(data) else { return };
        let request = Request::builder().uri("/v1/webhooks").header(header::AUTHORIZATION, value);
        let request = request.body(Bytes::new().into()).expect("a request");
        let read = bearer(request.headers()).ok().map(str::to_owned);
        assert!(read.as_ref().is_none_or(|key| !key.is_empty() && !key.contains(' ')));
        // Ingest forgives spaces around the key; otherwise both doors read it alike.
        let plain = data.iter().filter(|byte| **byte == b' ').count() == 1;
        let admitted = world.ask(request).status() != StatusCode::UNAUTHORIZED;
        assert_eq!(admitted, plain && read.as_deref() == Some(key));
    });
}
