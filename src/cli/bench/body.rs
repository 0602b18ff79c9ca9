//! What is sent: payloads that differ in their number only.

use bytes::Bytes;

use crate::{
    cli::{client::segment, send},
    clock,
    event::EventType,
    tenant::TenantId,
};

const NUMBER: &str = "{{n}}";
const NOW: &str = "{{now}}";

/// A payload with places for what differs.
#[derive(Debug)]
pub(super) struct Bodies {
    template: String,
}

impl Bodies {
    /// From a file, or from stdin.
    pub(super) fn read(source: &str) -> anyhow::Result<Self> {
        let template = String::from_utf8(send::read_input(source)?)?;
        anyhow::ensure!(!template.trim().is_empty(), "{source} is empty");
        Ok(Self { template: template.trim().to_owned() })
    }

    /// Of `size` bytes, give or take the digits of its number.
    pub(super) fn made_up(event_type: EventType, size: usize) -> anyhow::Result<Self> {
        let fields = [("id", format!("msg_bench_{NUMBER}")), ("note", String::new())];
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        let mut payload = send::example(event_type, &fields);
        payload["timestamp"] = NOW.into();
        // The number is about as long as its place; the time is longer by this.
        let least = payload.to_string().len() + "2026-11-23T04:20:00.123Z".len() - NOW.len();
        anyhow::ensure!(size >= least, "--size: a payload of this type has at least {least} bytes");
        payload["data"]["note"] = "x".repeat(size - least).into();
        Ok(Self { template: payload.to_string() })
    }

    /// The payload with this number.
    pub(super) fn one(&self, number: u64) -> Bytes {
        self.filled(number).into()
    }

    /// Lines with `count` payloads, of a tenant.
    pub(super) fn lines(&self, tenant: &TenantId, first: u64, count: u64) -> Bytes {
        let tenant = tenant.as_str();
        let lines = (first..first + count).map(|number| {
            // A line has one end, whatever the payload was written with.
            let payload = self.filled(number).replace(['\n', '\r'], " ");
            format!("{{\"tenant\":\"{tenant}\",\"payload\":{payload}}}\n")
        });
        lines.collect::<String>().into()
    }

    fn filled(&self, number: u64) -> String {
        let filled = self.template.replace(NUMBER, &number.to_string());
        if !filled.contains(NOW) {
            return filled;
        }
        filled.replace(NOW, &clock::rfc3339(clock::wall_ms()))
    }
}

pub(super) fn event_path(tenant: &TenantId) -> String {
    format!("/v1/tenants/{}/events", segment(tenant.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn payloads_have_the_size_asked_for_and_differ_in_their_number() {
        for event_type in EventType::ALL {
            let bodies = Bodies::made_up(event_type, 512).unwrap();
            let [one, other] = [bodies.one(12_345), bodies.one(54_321)];
            assert_eq!(one.len(), 512, "a number of five digits is as long as its place");
            assert_ne!(one, other);
            let payload: Value = serde_json::from_slice(&one).unwrap();
            assert_eq!(payload["data"]["id"], "msg_bench_12345");
            assert_eq!(payload["type"], event_type.as_str());
        }
        let error = Bodies::made_up(EventType::Sent, 10).unwrap_err().to_string();
        assert!(error.contains("at least"), "{error}");
    }

    #[test]
    fn a_batch_is_a_line_for_each_event() {
        let bodies = Bodies { template: "{\n\"id\": \"{{n}}\"\r\n}".to_owned() };
        let lines = bodies.lines(&"acme".parse().unwrap(), 7, 2);
        let expected = "{\"tenant\":\"acme\",\"payload\":{ \"id\": \"7\"  }}\n\
                        {\"tenant\":\"acme\",\"payload\":{ \"id\": \"8\"  }}\n";
        assert_eq!(lines, expected);
    }
}
