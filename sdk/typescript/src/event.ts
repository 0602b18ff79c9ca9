import { WebhookVerificationError } from "./errors.js";

/** Every type of event there is. */
export const EVENT_TYPES = [
  "message.sent",
  "message.delivered",
  "message.failed",
  "message.inbound",
  "message.read",
  "message.blocked",
] as const;

export type EventType = (typeof EVENT_TYPES)[number];

/** What the message did. Members that are not listed pass through from the producer. */
export interface MessageData {
  id: string;
  channel: string;
  recipient: string;
  status_reason?: string | null;
  [member: string]: unknown;
}

/** Of messages that did not arrive: why is always said. */
export interface UnsentMessageData extends MessageData {
  status_reason: string;
}

interface Payload<Type extends EventType, Data extends MessageData> {
  type: Type;
  /** RFC 3339. */
  timestamp: string;
  data: Data;
  [member: string]: unknown;
}

export type MessageSent = Payload<"message.sent", MessageData>;
export type MessageDelivered = Payload<"message.delivered", MessageData>;
export type MessageFailed = Payload<"message.failed", UnsentMessageData>;
export type MessageInbound = Payload<"message.inbound", MessageData>;
export type MessageRead = Payload<"message.read", MessageData>;
export type MessageBlocked = Payload<"message.blocked", UnsentMessageData>;

/** A delivery's body. `switch (event.type)` narrows it. */
export type WebhookEvent =
  | MessageSent
  | MessageDelivered
  | MessageFailed
  | MessageInbound
  | MessageRead
  | MessageBlocked;

/** What the gateway tells its operator: only webhooks of the operator's own tenant may ask for it. */
export type OperatorEventType = "webhook.disabled";

/** The gateway disabled a webhook, of whichever tenant. */
export interface WebhookDisabled {
  type: "webhook.disabled";
  timestamp: string;
  data: {
    /** The webhook's. */
    id: string;
    tenant: string;
    /** Of its URL. */
    host: string;
    description: string;
    /** Every attempt had failed for long, or the receiver answered 410. */
    reason: "failing" | "gone";
    failing_since?: string;
    /** True in an example (`webhooks.test`); else left out. */
    test?: boolean;
  };
}

// A mark of the byte order is part of the bytes: JSON may not start with one.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads a body whose signature fitted. A type that this version does not know is let through: the
 * gateway that signed it is newer, and refusing it would make it come again and fail.
 */
export function parseEvent(body: Uint8Array): WebhookEvent {
  let event: unknown;
  try {
    event = JSON.parse(decoder.decode(body));
  } catch {
    throw new WebhookVerificationError("malformed_payload", "the body is not JSON");
  }
  const { type, data } = (event ?? {}) as { type?: unknown; data?: unknown };
  if (typeof type !== "string" || typeof data !== "object" || data === null) {
    throw new WebhookVerificationError("malformed_payload");
  }
  return event as WebhookEvent;
}
