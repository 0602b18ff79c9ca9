//! `webhooks stats`: what came of attempts lately, and what waits, for people to read.

use serde_json::{Value, json};

use super::{
    Output,
    client::{Answer, Client, segment, with_query},
    output,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The webhook, wh_…; without it all of the tenant's, or, without --tenant, the whole gateway's
    pub(super) id: Option<String>,
    /// Over which time until now
    #[arg(long, default_value = "24h", value_parser = ["1h", "24h", "3d"])]
    period: String,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> anyhow::Result<()> {
    let path = match &args.id {
        Some(id) => format!("/v1/webhooks/{}/stats", segment(id)),
        None => "/v1/stats".to_owned(),
    };
    let answer = client.get(&with_query(&path, &[("period", Some(args.period))])).await?;
    Ok(show(output, &answer)?)
}

fn show(output: Output, answer: &Answer) -> std::io::Result<()> {
    if output == Output::Json || !answer.is_object() {
        return output::json(&answer.body);
    }
    let fields = summary(answer);
    output::fields(fields.iter().map(|(name, value)| (name, value)))?;
    let points = answer["points"].as_array().map_or(&[][..], Vec::as_slice);
    let busy = points.iter().filter(|point| point["attempts"] != 0);
    let rows: Vec<_> = busy.map(row).collect();
    if rows.is_empty() {
        return output::line("no attempts in this time");
    }
    output::line("")?;
    output::line(&output::table(&["at", "attempts", "success", "p50", "p95", "p99"], &rows))
}

/// The lines above the table, each with its name.
fn summary(stats: &Value) -> Vec<(String, Value)> {
    let (ended, backlog) = (&stats["deliveries"], &stats["backlog"]);
    let since = match stats["complete"] == true {
        true => stats["since"].clone(),
        false => json!(format!("{} (nothing was counted before)", text(&stats["since"]))),
    };
    let named = |counts: &Value| {
        let counts = counts.as_object().into_iter().flatten();
        counts.map(|(name, count)| format!("{count} {}", name.replace('_', " "))).collect()
    };
    let list = |counts: &Value| {
        let parts: Vec<String> = named(counts);
        if parts.is_empty() { Value::Null } else { json!(parts.join(", ")) }
    };
    let mut waiting = backlog.clone();
    let oldest = waiting.as_object_mut().and_then(|waiting| waiting.remove("oldest_at"));
    let fields = [
        ("webhook", stats["webhook_id"].clone()),
        ("enabled", stats["enabled"].clone()),
        ("breaker", stats["breaker"].clone()),
        ("webhooks", list(&stats["webhooks"])),
        ("since", since),
        ("attempts", stats["attempts"].clone()),
        ("success", percent(&stats["success_rate"])),
        ("errors", list(&stats["errors"])),
        ("ended", list(ended)),
        ("waiting", list(&waiting)),
        ("oldest", oldest.unwrap_or_default()),
        ("p50", millis(&stats["latency_ms"]["p50"])),
        ("p95", millis(&stats["latency_ms"]["p95"])),
        ("p99", millis(&stats["latency_ms"]["p99"])),
    ];
    let known = fields.into_iter().filter(|(_, value)| !value.is_null());
    known.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn row(point: &Value) -> Value {
    let latency = &point["latency_ms"];
    json!({
        "at": point["at"],
        "attempts": point["attempts"],
        "success": percent(&point["success_rate"]),
        "p50": millis(&latency["p50"]),
        "p95": millis(&latency["p95"]),
        "p99": millis(&latency["p99"]),
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Rounded down: what is not whole must not look so.
fn percent(share: &Value) -> Value {
    share
        .as_f64()
        .map_or(Value::Null, |share| json!(format!("{:.1} %", (share * 1e3).floor() / 10.)))
}

fn millis(value: &Value) -> Value {
    value.as_f64().map_or(Value::Null, |millis| json!(format!("{millis:.1} ms")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out_and_what_is_not_whole_does_not_look_so() {
        let stats = json!({
            "complete": false, "since": "T", "attempts": 10_000, "success_rate": 0.9999,
            "errors": {"timeout": 1}, "deliveries": {"delivered": 9_999}, "latency_ms": null,
            "backlog": {"pending": 0, "in_flight": 2, "oldest_at": null},
        });
        let lines: Vec<_> = summary(&stats)
            .into_iter()
            .map(|(name, value)| format!("{name}: {}", value.to_string().replace('"', "")))
            .collect();
        assert_eq!(
            lines,
            [
                "since: T (nothing was counted before)",
                "attempts: 10000",
                "success: 99.9 %",
                "errors: 1 timeout",
                "ended: 9999 delivered",
                "waiting: 2 in flight, 0 pending",
            ]
        );
    }
}
