/** Why a delivery is not accepted. */
export type WebhookVerificationCode =
  /** Neither scheme's headers are there, or one of the three Standard Webhooks headers is missing. */
  | "missing_header"
  | "empty_signature"
  | "malformed_signature"
  /** More signatures than any gateway sends; checking them all would be work for an attacker's sake. */
  | "too_many_signatures"
  | "malformed_timestamp"
  /** Further in the past than the tolerance: a replayed request, or a clock that is wrong. */
  | "timestamp_too_old"
  /** Further in the future than the tolerance. */
  | "timestamp_too_new"
  /** No signature fits: another secret, or a body that is not the one that was sent. */
  | "signature_mismatch"
  /** The signature fits and the body is no event. */
  | "malformed_payload";

const MESSAGES: Record<WebhookVerificationCode, string> = {
  missing_header: "the signature headers are missing",
  empty_signature: "the signature header is empty",
  malformed_signature: "the signature header is malformed",
  too_many_signatures: "the signature header has too many signatures",
  malformed_timestamp: "webhook-timestamp is not a number of seconds",
  timestamp_too_old: "webhook-timestamp is too far in the past",
  timestamp_too_new: "webhook-timestamp is too far in the future",
  signature_mismatch: "no signature matches: check the secret, and that the body is the raw one",
  malformed_payload: "the body is not an event",
};

/** Thrown by `unwrap`. */
export class WebhookVerificationError extends Error {
  override readonly name = "WebhookVerificationError";
  readonly code: WebhookVerificationCode;

  constructor(code: WebhookVerificationCode, detail?: string) {
    super(detail ?? MESSAGES[code]);
    this.code = code;
  }
}

/** One wrong thing in a request: a JSON pointer into the body, or `?` and a parameter's name. */
export interface FieldError {
  pointer: string;
  detail: string;
  code?: string;
  line?: number;
}

/** What the gateway says when it refuses a request (RFC 9457). */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  /** Stable, made for machines: `not_found`, `rate_limited`, `delivery_not_ended`, … */
  code: string;
  errors?: FieldError[];
}

/** Thrown by everything that asks the API and is refused. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly code: string;
  readonly errors: readonly FieldError[];
  /** Seconds after which it may go better, where the answer said so. */
  readonly retryAfter: number | undefined;
  /** The whole document, as far as the answer was one. */
  readonly problem: Readonly<Partial<Problem>>;
  /** What the gateway calls the request, in its log too (`X-Request-Id`): for whoever runs it. */
  readonly requestId: string | undefined;

  constructor(status: number, problem: Partial<Problem>, retryAfter?: number, requestId?: string) {
    super(`${status}: ${problem.detail ?? problem.title ?? "the answer was no problem document"}`);
    this.status = status;
    this.code = problem.code ?? "unknown";
    this.errors = problem.errors ?? [];
    this.retryAfter = retryAfter;
    this.problem = problem;
    this.requestId = requestId;
  }
}
