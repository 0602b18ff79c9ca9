//! Server-Sent Events as the gateway's stream has them, out of a connection's bytes.

use http::{HeaderValue, Method, header};
use hyper::body::Incoming;

use crate::cli::client::{Client, ClientError, Connection, JSON, whole};

/// The longest text between two empty lines: an attempt has at most a few ten thousand bytes.
const MAX_BLOCK: usize = 1 << 20;

/// An open stream.
pub(super) struct Source {
    pub(super) body: Incoming,
    pub(super) events: Events,
    /// Closed when it is dropped.
    _connection: Connection,
}

/// One event; a comment with a place is one without data.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) data: String,
}

impl Source {
    /// Asks for the stream, behind `seen` where it is given.
    pub(super) async fn open(
        client: &Client,
        path: &str,
        seen: Option<&str>,
    ) -> Result<Self, ClientError> {
        let mut request = client.build(Method::GET, path, JSON, None, None)?;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(seen) = seen {
            let seen = HeaderValue::from_str(seen)
                .map_err(|_| ClientError::Answer("a place has letters and digits".to_owned()))?;
            headers.insert("last-event-id", seen);
        }
        let mut connection = client.connect().await?;
        let response = connection.send(request).await?;
        if !response.status().is_success() {
            let (head, body) = response.into_parts();
            return Err(ClientError::of(&head, &whole(body).await?));
        }
        let events = Events::default();
        Ok(Self { body: response.into_body(), events, _connection: connection })
    }
}

/// What came and is not yet an event.
#[derive(Debug, Default)]
pub(super) struct Events {
    rest: Vec<u8>,
}

impl Events {
    /// The events that are whole with these bytes; what is cut off waits for more.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Event>, ClientError> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut from = 0;
        while let Some(end) = memchr::memmem::find(&self.rest[from..], b"\n\n") {
            let block = String::from_utf8_lossy(&self.rest[from..from + end]);
            let event = read(&block);
            if !event.id.is_empty() {
                events.push(event);
            }
            from += end + 2;
        }
        self.rest.drain(..from);
        if self.rest.len() > MAX_BLOCK {
            return Err(ClientError::Answer("an event of the stream has no end".to_owned()));
        }
        Ok(events)
    }
}

fn read(block: &str) -> Event {
    let mut event = Event::default();
    for (name, value) in block.lines().filter_map(|line| line.split_once(": ")) {
        match name {
            "event" => event.name = value.to_owned(),
            "id" => event.id = value.to_owned(),
            "data" => event.data = value.to_owned(),
            _ => {}
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_their_bytes_were_cut() {
        let text = "retry: 1000\nid: pos_0\n\nevent: attempt\nid: pos_1\ndata: {\"a\":\"é: x\"}\n\n\
                    : nothing new\nid: pos_2\n\nevent: lagged\nid: pos_3\ndata: {}\n\n\
                    event: attempt\nid: pos_4\nda";
        let event = |name: &str, id: &str, data: &str| Event {
            name: name.to_owned(),
            id: id.to_owned(),
            data: data.to_owned(),
        };
        let expected = [
            event("", "pos_0", ""),
            event("attempt", "pos_1", "{\"a\":\"é: x\"}"),
            event("", "pos_2", ""),
            event("lagged", "pos_3", "{}"),
        ];
        for size in [1, 2, 7, text.len()] {
            let mut events = Events::default();
            let pieces = text.as_bytes().chunks(size);
            let found: Vec<_> = pieces.flat_map(|piece| events.take(piece).unwrap()).collect();
            assert_eq!(found, expected, "{size}");
        }
        let mut events = Events::default();
        assert!(events.take(&vec![b'x'; MAX_BLOCK + 1]).is_err(), "what never ends is not kept");
    }
}
