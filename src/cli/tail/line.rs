//! What is printed of an event: a line.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Event, Output};
use crate::cli::{
    colour::{Colour, Palette},
    output,
};

pub(super) struct Line {
    pub(super) output: Output,
    pub(super) palette: Palette,
}

impl Line {
    /// Adds an event's line; nothing for one that only says how far the stream has come.
    pub(super) fn write(&self, event: &Event, to: &mut String) {
        if event.data.is_empty() {
            return;
        }
        let written = match self.output {
            // The data byte for byte, as the gateway wrote it.
            Output::Json => {
                let [name, id] = [&event.name, &event.id].map(|text| Value::from(text.as_str()));
                writeln!(to, "{{\"event\":{name},\"id\":{id},\"data\":{}}}", event.data)
            }
            Output::Text => {
                let data = serde_json::from_str(&event.data).unwrap_or(Value::Null);
                match event.name.as_str() {
                    "attempt" => writeln!(to, "{}", self.attempt(&data)),
                    "lagged" => writeln!(to, "{}", self.lagged(&data)),
                    _ => Ok(()),
                }
            }
        };
        written.expect("a string takes all");
    }

    fn attempt(&self, data: &Value) -> String {
        let attempt = &data["attempt"];
        let text = |value: &Value| output::text(value.as_str().unwrap_or("-"));
        let status = data["status"].as_str().unwrap_or("-");
        let colour = match status {
            "delivered" => Colour::Green,
            "retrying" => Colour::Yellow,
            "failed" => Colour::Red,
            _ => Colour::Dim,
        };
        let answer = match attempt["status"].as_u64() {
            Some(status) => status.to_string(),
            None => text(&attempt["error"]["code"]),
        };
        let mut line = format!(
            "{}  {}  {:<17}  {}  {}  {}  attempt {}  {answer}  {:.1} ms",
            self.palette.paint(Colour::Dim, &text(&attempt["at"])),
            self.palette.paint(colour, &format!("{status:<9}")),
            text(&data["event_type"]),
            text(&data["tenant_id"]),
            text(&data["webhook_id"]),
            text(&data["delivery_id"]),
            attempt["number"],
            attempt["latency_ms"].as_f64().unwrap_or_default(),
        );
        if let Some(cause) = attempt["error"]["cause"].as_str() {
            line += &format!("  {}", output::text(cause));
        }
        if let Some(next) = attempt["next_attempt_at"].as_str() {
            line += &self.palette.paint(Colour::Dim, &format!("  next {}", output::text(next)));
        }
        line
    }

    fn lagged(&self, data: &Value) -> String {
        let missed = match data["missed"].as_u64() {
            Some(1) => "1 attempt is".to_owned(),
            Some(missed) => format!("{missed} attempts are"),
            None => "some attempts may be".to_owned(),
        };
        let why = match data["reason"].as_str().unwrap_or_default() {
            "slow_reader" => "more came than was read",
            "retention" => "they are no longer kept",
            "damage" => "a part of the log is damaged",
            "lost_history" => "the gateway has lost what was seen, and goes on from now",
            other => other,
        };
        let resume = match data["resume_from"].as_str() {
            Some(from) => format!("; tail --after {} begins with them", output::text(from)),
            None => String::new(),
        };
        let line = format!("-- {missed} missing here: {}{resume}", output::text(why));
        self.palette.paint(Colour::Red, &line)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(output: Output, is_on: bool, name: &str, data: &Value) -> String {
        let event = Event { name: name.to_owned(), id: "pos_1".to_owned(), data: data.to_string() };
        let mut text = String::new();
        Line { output, palette: Palette::fixed(is_on) }.write(&event, &mut text);
        text
    }

    fn attempt() -> Value {
        json!({
            "tenant_id": "acme", "webhook_id": "wh_1", "event_type": "message.sent",
            "delivery_id": "dlv_1", "status": "retrying",
            "attempt": {
                "number": 2, "at": "2026-11-23T04:20:00.123Z", "status": 503, "latency_ms": 81.25,
                "error": {"code": "status", "cause": "The receiver\u{1b}[2J answered 503."},
                "next_attempt_at": "2026-11-23T04:20:02.123Z",
            },
        })
    }

    #[test]
    fn an_attempt_is_a_line_without_control_characters_of_others() {
        let line = "2026-11-23T04:20:00.123Z  retrying   message.sent       acme  wh_1  dlv_1  \
                    attempt 2  503  81.2 ms  The receiver\\u{1b}[2J answered 503.  \
                    next 2026-11-23T04:20:02.123Z\n";
        assert_eq!(written(Output::Text, false, "attempt", &attempt()), line);
        let coloured = written(Output::Text, true, "attempt", &attempt());
        assert!(coloured.contains("\u{1b}[33mretrying \u{1b}[0m"), "{coloured}");
        assert_eq!(coloured.matches("\u{1b}[0m").count(), 3);
        let mut failed = attempt();
        failed["attempt"]["status"] = Value::Null;
        failed["attempt"]["error"]["code"] = json!("timeout");
        assert!(written(Output::Text, false, "attempt", &failed).contains("  timeout  "));
    }

    #[test]
    fn what_is_missing_is_said() {
        let line = |data: Value| written(Output::Text, false, "lagged", &data);
        let slow = json!({"missed": 7, "reason": "slow_reader", "resume_from": "pos_9"});
        let told = "-- 7 attempts are missing here: more came than was read; \
                    tail --after pos_9 begins with them\n";
        assert_eq!(line(slow), told);
        let retired = json!({"missed": null, "reason": "retention", "resume_from": null});
        let told = "-- some attempts may be missing here: they are no longer kept\n";
        assert_eq!(line(retired), told);
    }

    #[test]
    fn json_is_an_object_a_line_with_the_data_as_it_came() {
        let event = Event {
            name: "attempt".to_owned(),
            id: "pos_1".to_owned(),
            data: "{\"a\":1.0, \"a\":2}".to_owned(),
        };
        let mut text = String::new();
        let line = Line { output: Output::Json, palette: Palette::fixed(true) };
        line.write(&event, &mut text);
        line.write(&Event { data: String::new(), ..event }, &mut text);
        let expected = "{\"event\":\"attempt\",\"id\":\"pos_1\",\"data\":{\"a\":1.0, \"a\":2}}\n";
        assert_eq!(text, expected);
    }
}
