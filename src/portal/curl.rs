//! A delivery's request, for people: its headers, a command that sends it by hand, its payload laid
//! out.
//!
//! The command signs with a secret that it takes from the shell's environment: it can be passed
//! around.

use super::wire::{Delivery, Webhook};

/// What the next attempt would be sent with, the signatures left out.
pub(super) fn headers(delivery: &Delivery, webhook: &Webhook) -> Vec<(String, String)> {
    let own = [
        ("Content-Type", "application/json".to_owned()),
        ("User-Agent", "senderZ-Webhooks/1.0".to_owned()),
        ("X-Senderz-Event", delivery.event_type.clone()),
        ("X-Senderz-Delivery", delivery.id.clone()),
        ("X-Senderz-Attempt", (delivery.attempts_made.max(1)).to_string()),
        ("webhook-id", delivery.event_id.clone()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    let custom = webhook.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
    own.chain(custom).collect()
}

/// For a shell with `curl` and `openssl`.
pub(super) fn command(url: &str, headers: &[(String, String)], payload: &str) -> String {
    let mut text = format!("BODY={}\n", quoted(payload));
    text += "SIGNATURE=$(printf %s \"$BODY\" | openssl dgst -sha256 -hmac \"$WEBHOOK_SECRET\" | \
             sed 's/.* //')\n";
    text += &format!("curl -i -X POST {}", quoted(url));
    for (name, value) in headers {
        text += &format!(" \\\n  -H {}", quoted(&format!("{name}: {value}")));
    }
    text += " \\\n  -H \"X-Senderz-Signature: $SIGNATURE\" \\\n  --data-binary \"$BODY\"\n";
    text
}

/// One word to a shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// JSON with a line for each member. Names, numbers and strings stay as they were written, which a
/// parser and a printer would not promise.
pub(super) fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut chars = json.chars().peekable();
    let mut is_inside_string = false;
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        if is_inside_string {
            out.push(c);
            match c {
                '\\' => out.extend(chars.next()),
                '"' => is_inside_string = false,
                _ => {}
            }
            continue;
        }
        match c {
            '"' => {
                is_inside_string = true;
                out.push(c);
            }
            '{' | '[' => {
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                out.push(c);
                match chars.next_if(|c| matches!(c, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_laid_out_and_not_changed() {
        let json = r#"{"a":[1,2.50,{}],"b":"x, {\"y\": 1}\\","c":{ },"d":[ ],"e":1e400}"#;
        let laid_out = pretty(json);
        let expected = "{\n  \"a\": [\n    1,\n    2.50,\n    {}\n  ],\n  \"b\": \"x, {\\\"y\\\": \
                        1}\\\\\",\n  \"c\": {},\n  \"d\": [],\n  \"e\": 1e400\n}";
        assert_eq!(laid_out, expected);
        assert_eq!(pretty(&laid_out), laid_out);
    }

    #[test]
    fn nothing_breaks_out_of_the_command() {
        let headers = [("X-A".to_owned(), "'; rm -rf ~; '".to_owned())];
        let command = command("https://a.example/?x='$(id)'", &headers, r#"{"a":"it's"}"#);
        assert!(command.contains(r"'https://a.example/?x='\''$(id)'\'''"), "{command}");
        assert!(command.contains(r"'X-A: '\''; rm -rf ~; '\'''"), "{command}");
        assert!(command.contains(r#"BODY='{"a":"it'\''s"}'"#), "{command}");
    }
}
