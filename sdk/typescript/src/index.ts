/**
 * The receiving side of senderZ webhooks, and a client for the gateway's API.
 *
 * Nothing here depends on a runtime: plain JavaScript, `fetch` and the text and base64 functions that
 * Node 18, Bun, Deno and Workers share.
 */

export type * from "./api.js";
export type { RawBody } from "./bytes.js";
export {
  ApiError,
  WebhookVerificationError,
  type FieldError,
  type Problem,
  type WebhookVerificationCode,
} from "./errors.js";
export {
  EVENT_TYPES,
  type EventType,
  type MessageBlocked,
  type MessageData,
  type MessageDelivered,
  type MessageFailed,
  type MessageInbound,
  type MessageRead,
  type MessageSent,
  type OperatorEventType,
  type UnsentMessageData,
  type WebhookDisabled,
  type WebhookEvent,
} from "./event.js";
export { deliveryOf, type Delivery, type RequestHeaders } from "./headers.js";
export type { CallOptions, ClientOptions } from "./http.js";
export {
  SenderZ,
  type Audit,
  type Deliveries,
  type Erasures,
  type Replays,
  type Events,
  type SenderZOptions,
  type Webhooks,
} from "./senderz.js";
export type { StreamOptions } from "./stream.js";
export type { UnwrapOptions } from "./verifier.js";
