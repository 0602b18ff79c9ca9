//! The schemas of the words that answers are made of: what a string or a number in one may be.
//!
//! Each is a type without values, so that a derived schema can name it (`value_type`). What they
//! say comes from the words themselves: the lists of their values, their prefixes and limits.

use serde_json::{Value, json};
use utoipa::openapi::{
    KnownFormat, ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, SchemaFormat, Type,
    schema::{AnyOfBuilder, SchemaType},
};

use crate::{
    delivery::{CancelReason, ErrorCode, FailReason, Protocol},
    event::{MAX_CHANNEL, MAX_ID, MAX_RECIPIENT, MAX_STATUS_REASON},
    id::{
        AttemptId as Attempt, DeliveryId as Delivery, DeliveryKey, ErasureId as Erasure,
        EventId as Event, KeyId as Key, NodeNo, Place, ReplayId as Replay, SessionId as Session,
        StreamId as Stream, WebhookId as Webhook, WebhookNo,
    },
    tenant::{SigningSecret as Secret, TenantId as Tenant},
    webhook::{ALL_EVENTS, SuccessRule as Success},
};

/// A word's name in the document is its type's.
macro_rules! word {
    ($name:ident, $schema:expr) => {
        #[derive(Debug)]
        pub struct $name;

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $schema.into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(crate) use word;

word!(Time, time());
word!(Duration, duration());
word!(Milliseconds, milliseconds());
word!(WebhookUrl, url());
word!(TenantId, tenant_id());
word!(WebhookId, id(Webhook::PREFIX, "A webhook's id."));
word!(EventId, id(Event::PREFIX, "An event's id: the same for all its deliveries and attempts."));
word!(DeliveryId, id(Delivery::PREFIX, "A delivery's id."));
word!(AttemptId, id(Attempt::PREFIX, "An attempt's id."));
word!(ReplayId, id(Replay::PREFIX, "The id of a replay of many."));
word!(ErasureId, id(Erasure::PREFIX, "The id of an erasure."));
word!(SessionId, id(Session::PREFIX, "Names a session of the portal without opening it."));
word!(RequestId, text("^[A-Za-z0-9._:/+=@-]{1,128}$", "What a request is called."));
word!(BackupName, text("^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$", "The name of a backup's directory."));
word!(KeyId, id(Key::PREFIX, "Names an API key without being one."));
word!(EventType, one_of(types(), EVENT_TYPE));
word!(EventTypeOrAll, one_of(types().chain([ALL_EVENTS]), "An event type, or `*` for all."));
word!(SuccessRule, one_of(Success::ALL.map(Success::as_str), "Which statuses are a success."));
word!(AttemptErrorCode, one_of(ErrorCode::ALL.map(ErrorCode::as_str), "Why an attempt failed."));
word!(HttpVersion, one_of(Protocol::ALL.map(Protocol::as_str), "What was spoken."));
word!(EndReason, one_of(reasons(), "Why a delivery failed or was canceled."));
word!(SigningSecret, text(&format!("^{}", Secret::PREFIX), "A signing secret, the whole string."));
word!(Traceparent, text(TRACEPARENT, "W3C Trace Context: version, trace id, span id and flags."));
word!(EventPayload, payload());
word!(StoredPayload, stored_payload());
word!(HeaderMap, header_map());

const BASE32: &str = "[0-7][0-9a-hjkmnp-tv-z]{25}";

const TRACEPARENT: &str = "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$";

const EVENT_TYPE: &str = "One of the six types that producers send, or `webhook.disabled`, with which \
                          the gateway tells its operator's own tenant of a webhook that it disabled.";

fn types() -> impl Iterator<Item = &'static str> {
    crate::event::EventType::EVERY.into_iter().map(crate::event::EventType::as_str)
}

fn reasons() -> impl Iterator<Item = &'static str> {
    let failed = FailReason::ALL.into_iter().map(FailReason::as_str);
    failed.chain(CancelReason::ALL.into_iter().map(CancelReason::as_str))
}

fn text(pattern: &str, description: &str) -> Schema {
    string().pattern(Some(pattern)).description(Some(description)).into()
}

fn boolean() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Boolean)
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A string out of a closed list.
pub fn one_of<'a>(values: impl IntoIterator<Item = &'a str>, description: &str) -> Schema {
    let values = values.into_iter().map(Value::from);
    string().enum_values(Some(values)).description(Some(description)).into()
}

fn id(prefix: &str, description: &str) -> Schema {
    text(&format!("^{prefix}{BASE32}$"), description)
}

fn time() -> Schema {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    string().format(Some(format)).description(Some("RFC 3339, in UTC, with milliseconds.")).into()
}

fn duration() -> Schema {
    let rule = "A whole number and a unit (ms, s, m, h or d): `250ms`, `15s`, `24h`.";
    text("^[0-9]+(ms|s|m|h|d)$", rule)
}

fn milliseconds() -> Schema {
    let text = "Milliseconds, to the microsecond.";
    let number = ObjectBuilder::new().schema_type(Type::Number);
    number.minimum(Some(0)).description(Some(text)).into()
}

fn url() -> Schema {
    let text = "Where deliveries go. No user name, no fragment; a host in the public internet.";
    let format = SchemaFormat::Custom("uri".to_owned());
    string().format(Some(format)).description(Some(text)).into()
}

fn tenant_id() -> Schema {
    let pattern = format!("^[A-Za-z0-9_-]{{1,{}}}$", Tenant::MAX_LEN);
    text(&pattern, "A tenant's name for machines, chosen by the operator.")
}

/// How often each of the reasons for which attempts fail was there.
pub fn error_counts() -> Schema {
    let count = || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    let none = ObjectBuilder::new().description(Some("Those that did not happen are left out."));
    let all = ErrorCode::ALL.into_iter();
    all.fold(none, |counts, code| counts.property(code.as_str(), count())).into()
}

fn header_map() -> Schema {
    ObjectBuilder::new()
        .additional_properties(Some(RefOr::T(string().into())))
        .description(Some("Values by the names of their headers."))
        .into()
}

fn payload() -> Schema {
    use crate::event::EventType as T;
    let (needing, others): (Vec<T>, Vec<T>) =
        T::ALL.into_iter().partition(|one| one.needs_status_reason());
    let reason = || string().max_length(Some(MAX_STATUS_REASON));
    let optional = SchemaType::from_iter([Type::String, Type::Null]);
    let text = "An event, as a producer sends it and as a webhook gets it, byte for byte. Members \
                that are not named here pass through. The limits of strings are in bytes.";
    OneOfBuilder::new()
        .item(event(&others, reason().schema_type(optional), false))
        .item(event(&needing, reason().min_length(Some(1)), true))
        .description(Some(text))
        .into()
}

/// As [`payload`], or what the gateway tells its operator.
fn stored_payload() -> Schema {
    let time = || RefOr::T(time());
    let told = ObjectBuilder::new()
        .property("id", RefOr::T(id(Webhook::PREFIX, "Which webhook was disabled.")))
        .required("id")
        .property("tenant", RefOr::T(tenant_id()))
        .required("tenant")
        .property("host", string().description(Some("Of its URL.")))
        .required("host")
        .property("description", string().description(Some("The webhook's.")))
        .required("description")
        .property("reason", one_of(["failing", "gone"], "Why."))
        .required("reason")
        .property("failing_since", time())
        .property("test", boolean().description(Some("True in an example; else left out.")));
    let told = ObjectBuilder::new()
        .property("type", one_of([crate::event::EventType::WebhookDisabled.as_str()], "The type."))
        .required("type")
        .property("timestamp", time())
        .required("timestamp")
        .property("data", told)
        .required("data")
        .description(Some("Of the operator's own tenant only: a webhook was disabled."));
    AnyOfBuilder::new()
        .item(Ref::from_schema_name("EventPayload"))
        .item(told)
        .description(Some("An event as it is kept."))
        .into()
}

/// Events of these types.
fn event(types: &[crate::event::EventType], reason: ObjectBuilder, is_needed: bool) -> Schema {
    let within = |max| string().min_length(Some(1)).max_length(Some(max));
    let mut data = ObjectBuilder::new()
        .property("id", within(MAX_ID).description(Some("The message's id.")))
        .required("id")
        .property("channel", within(MAX_CHANNEL).description(Some("Such as `sms`.")))
        .required("channel")
        .property("recipient", within(MAX_RECIPIENT).description(Some("Who it was for.")))
        .required("recipient")
        .property("status_reason", reason.description(Some("Why it failed or was blocked.")));
    if is_needed {
        data = data.required("status_reason");
    }
    let names = types.iter().map(|one| one.as_str());
    ObjectBuilder::new()
        .property("type", one_of(names, "What happened to the message."))
        .required("type")
        .property("timestamp", {
            let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
            string().format(Some(format)).description(Some("RFC 3339, with any offset."))
        })
        .required("timestamp")
        .property("data", data)
        .required("data")
        .into()
}

/// Ids for examples, which are of one delivery.
#[derive(Debug)]
pub struct Example {
    pub tenant: &'static str,
    pub webhook: String,
    pub event: String,
    pub delivery: String,
    pub attempt: String,
    pub key: String,
    pub replay: String,
    pub erasure: String,
    pub stream: String,
    pub request: String,
}

impl Example {
    pub fn new() -> Self {
        let (node, place) = (NodeNo(1), Place::new(42, 7));
        let delivery = Delivery { node, key: DeliveryKey { place, webhook: WebhookNo(3) } };
        let attempt = Attempt { delivery, number: 1 };
        Self {
            tenant: "acme",
            webhook: Webhook(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef).to_string(),
            event: Event { accepted_at: 1_795_407_600_123, node, place }.to_string(),
            delivery: delivery.to_string(),
            attempt: attempt.to_string(),
            key: Key(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff).to_string(),
            replay: Replay(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10).to_string(),
            erasure: Erasure(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10).to_string(),
            stream: Stream { node, place }.to_string(),
            request: "req_2h9skbyy5sez9j30eefxy5w454".to_owned(),
        }
    }

    /// A backup's name.
    pub const BACKUP: &'static str = "2026-11-23T04-20-00-123Z";

    /// The time of its acceptance.
    pub const TIME: &'static str = "2026-11-23T04:20:00.123Z";

    /// An event's payload.
    pub fn payload() -> Value {
        json!({
            "type": crate::event::EventType::Failed.as_str(),
            "timestamp": Self::TIME,
            "data": {
                "id": "msg_1", "channel": "sms", "recipient": "+15555550100",
                "status_reason": "carrier_rejected",
            },
        })
    }
}

impl Default for Example {
    fn default() -> Self {
        Self::new()
    }
}
