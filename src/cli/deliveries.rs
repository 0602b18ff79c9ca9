//! `deliveries`: list, show, cancel.

use serde_json::{Value, json};

use super::{
    Exit, Global, Output,
    client::{Answer, Client, segment, with_query},
    output,
    tenants::{FOR_TENANT, Page},
};
use crate::tenant::TenantId;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List deliveries, the newest first
    List(List),
    /// One delivery with its attempts and the payload
    Show {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        /// The delivery, dlv_…
        id: String,
    },
    /// End a delivery that waits
    Cancel {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        /// The delivery, dlv_…
        id: String,
    },
}

/// What narrows down deliveries, and attempts as they are made.
#[derive(Debug, clap::Args)]
pub(super) struct Filter {
    /// Those to this webhook, wh_…
    #[arg(long)]
    webhook: Option<String>,
    /// Those that are pending, retrying, delivered, failed or canceled; comma-separated
    #[arg(long)]
    status: Option<String>,
    /// Those of events of these types, such as message.sent; comma-separated
    #[arg(long)]
    event_type: Option<String>,
    /// Status code of the last response: 500, or 5xx
    #[arg(long)]
    code: Option<String>,
    /// Error of the last attempt: timeout, connect, …
    #[arg(long)]
    error: Option<String>,
}

impl Filter {
    pub(super) fn parameters(self) -> [(&'static str, Option<String>); 5] {
        [
            ("webhook", self.webhook),
            ("status", self.status),
            ("event_type", self.event_type),
            ("code", self.code),
            ("error", self.error),
        ]
    }
}

#[derive(Debug, clap::Args)]
pub struct List {
    #[arg(long, help = FOR_TENANT)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    filter: Filter,
    /// Those created at this RFC 3339 time or later
    #[arg(long)]
    since: Option<String>,
    /// Those created at this RFC 3339 time or earlier
    #[arg(long)]
    until: Option<String>,
    #[command(flatten)]
    page: Page,
}

pub(super) async fn run(command: Command, global: &Global) -> anyhow::Result<Exit> {
    let path = |id: &str| format!("/v1/deliveries/{}", segment(id));
    match command {
        Command::List(list) => {
            let List { tenant, filter, since, until, page } = list;
            let mut parameters = filter.parameters().to_vec();
            parameters.extend([("since", since), ("until", until)]);
            parameters.extend(page.parameters());
            let path = with_query("/v1/deliveries", &parameters);
            let answer = Client::new(global, tenant)?.get(&path).await?;
            let fields =
                ["id", "status", "event_type", "webhook_id", "attempts_made", "created_at"];
            output::list(global.output, &answer, &fields)?;
        }
        Command::Show { tenant, id } => {
            let answer = Client::new(global, tenant)?.get(&path(&id)).await?;
            show(global.output, &answer)?;
        }
        Command::Cancel { tenant, id } => {
            let client = Client::new(global, tenant)?;
            let answer = client.post(&format!("{}/cancel", path(&id)), &json!({})).await?;
            tell_canceled(global.output, &answer)?;
        }
    }
    Ok(Exit::Ok)
}

/// The API accepts a cancel before it is done: an attempt under way may still succeed.
fn tell_canceled(output: Output, answer: &Answer) -> std::io::Result<()> {
    if output == Output::Json {
        return output::json(&answer.body);
    }
    let text = |name: &str| answer[name].as_str().unwrap_or("-").to_owned();
    output::line(&format!("{} {}", text("status"), text("id")))?;
    if answer["status"] != "canceled" {
        output::note(format_args!("it is canceled shortly, unless an attempt under way succeeds"));
    }
    Ok(())
}

/// The delivery's fields, then a line for each attempt, then why they failed and what mends it.
fn show(output: Output, answer: &Answer) -> std::io::Result<()> {
    let (Output::Text, Some(fields)) = (output, answer.as_object()) else {
        return output::json(&answer.body);
    };
    output::fields(
        fields.iter().filter(|(name, _)| !["attempts", "last_attempt"].contains(&&***name)),
    )?;
    let rows: Vec<_> =
        answer["attempts"].as_array().into_iter().flatten().map(attempt_row).collect();
    if rows.is_empty() {
        return output::line("no attempts yet");
    }
    let columns = ["attempt", "at", "latency_ms", "next_attempt_at", "result"];
    output::line("")?;
    output::line(&output::table(&columns, &rows))?;
    causes(answer["attempts"].as_array().map_or(&[][..], Vec::as_slice))
}

/// Each cause once, with the attempts that failed for it.
fn causes(attempts: &[Value]) -> std::io::Result<()> {
    let mut causes: Vec<(&str, &str, Vec<String>)> = Vec::new();
    for attempt in attempts {
        let error = &attempt["error"];
        let Some(cause) = error["cause"].as_str() else { continue };
        let number = attempt["number"].to_string();
        match causes.iter_mut().find(|(known, ..)| *known == cause) {
            Some((.., numbers)) => numbers.push(number),
            None => causes.push((cause, error["hint"].as_str().unwrap_or("-"), vec![number])),
        }
    }
    for (cause, hint, numbers) in causes {
        let attempts = if numbers.len() == 1 { "attempt" } else { "attempts" };
        output::line(&format!("\n{attempts} {}: {}", numbers.join(", "), output::text(cause)))?;
        output::line(&format!("hint: {}", output::text(hint)))?;
    }
    Ok(())
}

/// A replay's answer. It knows the last attempt only, which would look like all of them.
pub(super) fn sent_again(output: Output, answer: &Answer) -> std::io::Result<()> {
    if output == Output::Json {
        return output::json(&answer.body);
    }
    let number = answer["attempts_made"].as_u64().unwrap_or_default() + 1;
    let id = answer["id"].as_str().unwrap_or_default();
    output::line(&format!("{id} is sent again, with attempt {number}"))
}

fn attempt_row(attempt: &Value) -> Value {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let error = &attempt["error"];
    let result = [
        attempt["status"].as_u64().map(|status| status.to_string()),
        text(&error["code"]),
        text(&error["detail"]).filter(|detail| !detail.is_empty()),
    ];
    json!({
        "attempt": attempt["number"],
        "at": attempt["at"],
        "latency_ms": attempt["latency_ms"],
        "next_attempt_at": attempt["next_attempt_at"],
        "result": result.into_iter().flatten().collect::<Vec<_>>().join(" "),
    })
}
