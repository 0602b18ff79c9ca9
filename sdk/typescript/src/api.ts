/**
 * What the API takes and gives, member by member as it goes over the wire. Written by hand, so that
 * it can be read; the tests hold it to the types that are made of the gateway's OpenAPI document.
 */

import type { EventType as MessageType, OperatorEventType, WebhookDisabled, WebhookEvent } from "./event.js";

/** Of an event in the log: what producers send, and what the gateway tells its operator. */
type EventType = MessageType | OperatorEventType;

/** RFC 3339, UTC. */
export type Time = string;
/** A number and a unit: `"15s"`, `"500ms"`, `"1m"`. */
export type Duration = string;

/** One page of a list. A page may be short, even empty, and still have a next one. */
export interface Page<T> {
  data: T[];
  next_cursor: string | null;
}

export interface PageParams {
  /** 1 to 100; 50 where not said. */
  limit?: number;
  /** The `next_cursor` of the page before, with the same filters. */
  cursor?: string;
}

/** A setting that is null takes the gateway's default. */
export interface Webhook {
  id: string;
  url: string;
  /** `["*"]` means all six that producers send. */
  events: (EventType | "*")[];
  description: string;
  headers: Record<string, string>;
  enabled: boolean;
  /** Null where it is enabled. */
  disabled_reason: "requested" | "failing" | "gone" | null;
  disabled_at: Time | null;
  /** Where it was disabled because every attempt failed: since when that had been so. */
  failing_since: Time | null;
  success: "200" | "2xx" | null;
  timeout: Duration | null;
  max_in_flight: number | null;
  /** Attempts per second. */
  rate_limit: number | null;
  created_at: Time;
  updated_at: Time;
}

export interface NewWebhook {
  url: string;
  events: (EventType | "*")[];
  description?: string;
  headers?: Record<string, string>;
  enabled?: boolean;
  success?: "200" | "2xx" | null;
  timeout?: Duration | null;
  max_in_flight?: number | null;
  rate_limit?: number | null;
}

/** A merge patch: what is left out stays, null resets a setting and removes a header. */
export interface WebhookPatch {
  url?: string;
  events?: (EventType | "*")[];
  description?: string | null;
  headers?: Record<string, string | null> | null;
  enabled?: boolean | null;
  success?: "200" | "2xx" | null;
  timeout?: Duration | null;
  max_in_flight?: number | null;
  rate_limit?: number | null;
}

/** The example event that a test sent. */
export interface SentTest {
  event_id: string;
  delivery_id: string;
}

export type StatsPeriod = "1h" | "24h" | "3d";

export interface StatsParams {
  /** Over which time until now; `24h` where left out. */
  period?: StatsPeriod;
}

/** What attempts came to in a stretch of time. */
export interface StatsCounts {
  attempts: number;
  /** The share of them that delivered, 0 to 1; null where there was none. */
  success_rate: number | null;
  /** How many failed, by why; what did not happen is left out. */
  errors: Partial<Record<AttemptErrorCode, number>>;
  /** Those that ended. */
  deliveries: Record<"delivered" | "failed" | "canceled", number>;
  /** Estimates. */
  latency_ms: Record<"p50" | "p95" | "p99", number> | null;
}

export interface StatsPoint extends StatsCounts {
  /** When it begins. */
  at: Time;
}

/** What waits now. */
export interface StatsBacklog {
  pending: number;
  retrying: number;
  in_flight: number;
  oldest_at: Time | null;
}

export interface Stats extends StatsCounts {
  period: StatsPeriod;
  /** Attempts that ended from here on are counted. */
  since: Time;
  until: Time;
  /** Whether the whole period was counted. */
  complete: boolean;
  backlog: StatsBacklog;
  /** From one point to the next. */
  step: Duration;
  /** The oldest first; the last one is under way. */
  points: StatsPoint[];
}

export interface WebhookStats extends Stats {
  webhook_id: string;
  enabled: boolean;
  /** Open where attempts that time out have cut the webhook down to one at a time. */
  breaker: "closed" | "open" | "half_open";
  /** Whether first attempts wait because too many deliveries of the gateway wait for a retry. */
  held_back: boolean;
  /** Since when every attempt has failed; null where the last one did not. */
  failing_since: Time | null;
}

/** Over all webhooks. */
export interface OverallStats extends Stats {
  webhooks: StatsWebhooks;
}

export interface StatsWebhooks {
  enabled: number;
  disabled: number;
  /** Their last attempts have all failed. */
  failing: number;
  breaker_open: number;
  breaker_half_open: number;
  held_back: number;
}

/** What an event's acceptance answers. */
export interface AcceptedEvent {
  id: string;
  /** How many webhooks it goes to. */
  deliveries: number;
}

/** One event of a batch. */
export interface EventLine {
  tenant: string;
  payload: WebhookEvent;
  /** Makes repeating the line safe for 24 hours. */
  idempotency_key?: string | null;
  /** The trace that it belongs to (W3C Trace Context). */
  traceparent?: string | null;
  tracestate?: string | null;
}

export interface AcceptedBatch {
  /** Events, one for each line. */
  accepted: number;
  /** In the order of the lines. */
  ids?: string[];
}

/** An event in lists. */
export interface EventSummary {
  id: string;
  type: EventType;
  accepted_at: Time;
  /** Bytes; 0 where it was erased. */
  payload_size: number;
  /** When the payload was erased. */
  erased_at: Time | null;
  deliveries: number;
  /** How many webhooks it would have been for, had they not been disabled when it came. */
  found_disabled: number;
}

/** Events in the order of acceptance, for those who catch up. */
export interface FollowingEvents extends Page<EventSummary> {
  /** Where to ask again later, as `cursor`, with the same parameters. */
  poll_cursor: string;
  /** Whether a damaged part of the log was passed over: events may be missing in this page. */
  incomplete: boolean;
}

export interface StoredEvent {
  id: string;
  type: EventType;
  accepted_at: Time;
  /** Null where it was erased. */
  payload: WebhookEvent | WebhookDisabled | null;
  erased_at: Time | null;
  /** Which trace it belongs to (W3C Trace Context), where its producer said so. */
  traceparent: string | null;
  deliveries: DeliverySummary[];
  /** The webhooks that got no delivery. */
  skipped: SkippedWebhook[];
}

export interface SkippedWebhook {
  /** Null where the webhook was deleted long ago. */
  webhook_id: string | null;
  webhook_deleted: boolean;
  reason: "disabled" | "created_later" | "not_subscribed" | "not_subscribed_then" | "test" | "unknown";
  /** The reason in plain words. */
  detail: string;
  /** By which it can be replayed all the same. */
  delivery_id: string | null;
}

interface PeriodParams extends PageParams {
  event_type?: EventType | readonly EventType[];
  since?: Time | Date;
  until?: Time | Date;
}

export interface EventParams extends PeriodParams {
  /** Those routed to this webhook, whether it was enabled then or not. */
  webhook?: string;
  /** Only those that found a webhook disabled: this one, or any. */
  found_disabled?: true;
}

export type DeliveryStatus = "pending" | "retrying" | "delivered" | "failed" | "canceled";

/** Why a delivery failed or was canceled. */
export type EndReason =
  | "attempts_exhausted"
  | "expired"
  | "blocked_target"
  | "unreadable"
  | "requested"
  | "webhook_deleted"
  | "webhook_disabled"
  | "event_erased";

export type AttemptErrorCode =
  | "dns"
  | "connect"
  | "tls"
  | "timeout"
  | "reset"
  | "bad_response"
  | "blocked_target"
  | "status"
  | "canceled";

export interface DeliveryParams extends PeriodParams {
  webhook?: string;
  status?: DeliveryStatus | readonly DeliveryStatus[];
  /** A response status (`"503"`) or a class (`"5xx"`). */
  code?: string;
  error?: AttemptErrorCode;
}

/** A delivery in lists. */
export interface DeliverySummary {
  id: string;
  event_id: string;
  /** Null where the webhook was deleted long ago. */
  webhook_id: string | null;
  /** Then it can be sent nowhere any more. */
  webhook_deleted: boolean;
  event_type: EventType;
  status: DeliveryStatus;
  /** Why it failed or was canceled. */
  reason: EndReason | null;
  attempts_made: number;
  created_at: Time;
  next_attempt_at: Time | null;
  last_attempt: LastAttempt | null;
}

export interface StreamParams {
  webhook?: string;
  /** Where the delivery stands after the attempt. */
  status?: DeliveryStatus | readonly DeliveryStatus[];
  event_type?: EventType | readonly EventType[];
  /** A response status (`"503"`) or a class (`"5xx"`). */
  code?: string;
  error?: AttemptErrorCode;
}

/** What comes over a stream. `id` is where to resume. */
export type StreamEvent =
  | { type: "attempt"; id: string; data: StreamedAttempt }
  | { type: "lagged"; id: string; data: StreamLagged };

/** An attempt, and where its delivery stands after it. */
export interface StreamedAttempt {
  /** Null where the tenant was deleted. */
  tenant_id: string | null;
  /** Null where the webhook was deleted long ago. */
  webhook_id: string | null;
  event_id: string;
  event_type: EventType;
  delivery_id: string;
  status: DeliveryStatus;
  /** Why it failed or was canceled. */
  reason: EndReason | null;
  attempt: Attempt;
}

/** Attempts that the stream does not have. */
export interface StreamLagged {
  /** How many of this stream's attempts; null where nobody can know. */
  missed: number | null;
  reason: "slow_reader" | "retention" | "damage" | "lost_history";
  /** With this as `lastEventId` another stream begins with them; null where they are gone. */
  resume_from: string | null;
}

/** A delivery with its payload and its attempts, the oldest first; at most the last hundred. */
export interface DeliveryDetails extends DeliverySummary {
  payload: WebhookEvent | WebhookDisabled | null;
  /** When the event was erased, and with it the responses of these attempts. */
  erased_at: Time | null;
  attempts: Attempt[];
}

export interface AttemptError {
  code: AttemptErrorCode;
  detail: string;
  /** What happened, in plain words; for people, not for programs. */
  cause: string;
  /** What mends it. */
  hint: string;
}

export interface LastAttempt {
  number: number;
  at: Time;
  status: number | null;
  latency_ms: number;
  error: AttemptError | null;
}

/** What came of trying a webhook before it is saved. */
export interface WebhookCheck {
  /** Whether the answer counts as a success by the webhook's own rule. */
  ok: boolean;
  /** As it would be saved. */
  url: string;
  at: Time;
  status: number | null;
  latency_ms: number;
  /** Milliseconds. */
  phases: Record<"queue" | "dns" | "connect" | "tls" | "first_byte" | "body", number>;
  error: AttemptError | null;
  response: { headers: Record<string, string>; body: string; truncated: boolean } | null;
  peer: string | null;
  protocol: "http/1.1" | "h2";
}

export interface Attempt extends LastAttempt {
  id: string;
  /** Milliseconds. */
  phases: Record<"queue" | "dns" | "connect" | "tls" | "first_byte" | "body", number>;
  response: { headers: Record<string, string>; body: string; truncated: boolean } | null;
  peer: string | null;
  protocol: "http/1.1" | "h2";
  reused_connection: boolean;
  next_attempt_at: Time | null;
}

/** `done`: nothing of it is left in the gateway's files. */
export type ErasureState = "erasing" | "scrubbing" | "done";

/** What one person's events said, forgotten as a job. */
export interface Erasure {
  id: string;
  state: ErasureState;
  events: number;
  /** Deliveries of them that still waited. */
  deliveries_canceled: number;
  /** A damaged part of the log was passed over. */
  incomplete: boolean;
  /** Events accepted before this have been looked at. */
  position: Time | null;
  created_at: Time;
  completed_at: Time | null;
}

/** What was done. */
export type AuditAction =
  | "tenant.created"
  | "tenant.deleted"
  | "webhook.created"
  | "webhook.updated"
  | "webhook.deleted"
  | "webhook.disabled"
  | "key.created"
  | "key.revoked"
  | "secret.shown"
  | "secret.rotated"
  | "delivery.replayed"
  | "delivery.canceled"
  | "replay.created"
  | "replay.paused"
  | "replay.resumed"
  | "replay.canceled"
  | "erasure.created"
  | "backup.created"
  | "portal_link.created"
  | "session.started"
  | "session.ended";

export type AuditActorKind = "gateway" | "operator" | "producer" | "tenant";

export interface AuditActor {
  kind: AuditActorKind;
  /** The API key that was used, or that the session was opened with; the operator's are not shown to tenants. */
  key_id: string | null;
  /** The portal's session. */
  session_id: string | null;
}

/** A change, and who made it. */
export interface AuditRecord {
  /** From 1 on; one that is missing between two others was taken away. */
  sequence: number;
  at: Time;
  tenant: string | null;
  action: AuditAction;
  object_id: string | null;
  /** The fields of it that are different now. */
  changed: string[];
  actor: AuditActor;
  /** The header `X-Request-Id` of the answer. */
  request_id: string | null;
}

export interface AuditParams extends PageParams {
  action?: AuditAction | readonly AuditAction[];
  /** The id of a key or of a session, or a kind. */
  actor?: string;
  /** The id of what was changed. */
  object?: string;
  since?: Time | Date;
  until?: Time | Date;
}

export type ReplayState = "running" | "paused" | "done" | "canceled" | "failed";

/** How deliveries ended; `missed` is what found its webhook disabled and was never sent. */
export type ReplayStatus = "delivered" | "failed" | "canceled" | "missed";

/** Which deliveries are sent again: every filter that is set must match. */
export interface NewReplay {
  /** All webhooks where left out. */
  webhook?: string | null;
  /** `failed` where left out. */
  status?: ReplayStatus | ReplayStatus[] | null;
  event_type?: EventType | EventType[] | null;
  since?: Time | Date | null;
  until?: Time | Date | null;
  /** Count, and send nothing. */
  dry_run?: boolean | null;
  /** Deliveries a second. */
  rate?: number | null;
}

/** A replay of many, and how far it is. */
export interface Replay {
  id: string;
  state: ReplayState;
  /** Why it rests or failed without having been told to. */
  reason: "webhook_disabled" | "webhook_deleted" | "gateway_fault" | null;
  dry_run: boolean;
  webhook: string | null;
  status: ReplayStatus[];
  event_type: EventType[];
  since: Time | null;
  until: Time;
  rate: number;
  matched: number;
  replayed: number;
  /** Matched and not sent. */
  skipped: number;
  /** The share of the log that it has walked, 0 to 1. */
  progress: number;
  /** Events accepted before this have been looked at. */
  position: Time | null;
  created_at: Time;
}
