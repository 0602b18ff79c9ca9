import type * as api from "./api.js";
import { ApiError } from "./errors.js";
import type { EventType, OperatorEventType, WebhookEvent } from "./event.js";
import { all, Http, segment, type CallOptions, type ClientOptions } from "./http.js";
import { stream, type StreamOptions } from "./stream.js";
import { Verifier } from "./verifier.js";

export interface SenderZOptions extends ClientOptions {
  /** The tenant's signing secret, `whsec_…`; several while you change from one to the next. */
  webhookSecret?: string | readonly string[] | undefined;
  /**
   * Refuse deliveries without the Standard Webhooks headers. The gateway sends them with each one; who
   * has seen an old one can leave them out, and `X-Senderz-Signature` does not say how old it is.
   */
  requireTimestamp?: boolean | undefined;
}

/** The receiving side needs `webhookSecret`, the API needs `apiKey` and `baseUrl`. */
export class SenderZ {
  readonly webhooks: Webhooks;
  readonly events: Events;
  readonly deliveries: Deliveries;
  readonly replays: Replays;
  readonly erasures: Erasures;
  readonly audit: Audit;
  readonly #http: Http;

  constructor(options: SenderZOptions = {}) {
    const http = new Http(options);
    this.webhooks = new Webhooks(options.webhookSecret, options.requireTimestamp, http);
    this.events = new Events(http);
    this.deliveries = new Deliveries(http);
    this.replays = new Replays(http);
    this.erasures = new Erasures(http);
    this.audit = new Audit(http);
    this.#http = http;
  }

  /** What came of attempts lately, over all of the tenant's webhooks, and what waits; of the gateway, where an operator names no tenant. */
  async stats(params?: api.StatsParams, options?: CallOptions): Promise<api.OverallStats> {
    return this.#http.ask("GET", "/v1/stats", { ...options, query: params });
  }

  /**
   * Attempts as they are made. A connection that breaks is made again, and goes on behind what was seen;
   * it ends when you leave the loop, when the signal does, or with an `ApiError` where it is refused.
   */
  stream(params?: api.StreamParams, options?: StreamOptions): AsyncGenerator<api.StreamEvent, void, undefined> {
    return stream(this.#http, params, options);
  }
}

/** `/v1/webhooks`, and what is delivered to them. */
export class Webhooks extends Verifier {
  readonly #http: Http;

  constructor(secrets: string | readonly string[] | undefined, requireTimestamp: boolean | undefined, http: Http) {
    super(secrets, requireTimestamp);
    this.#http = http;
  }

  async create(webhook: api.NewWebhook, options?: CallOptions): Promise<api.Webhook> {
    return this.#http.ask("POST", "/v1/webhooks", { ...options, body: webhook });
  }

  /** Tries a webhook without saving it: an example event is sent there once, signed. */
  async check(webhook: api.NewWebhook, options?: CallOptions): Promise<api.WebhookCheck> {
    return this.#http.ask("POST", "/v1/webhooks", { ...options, query: { dry_run: "true" }, body: webhook });
  }

  /** Tries what an update would make of a webhook, and saves nothing. */
  async checkUpdate(id: string, patch: api.WebhookPatch, options?: CallOptions): Promise<api.WebhookCheck> {
    return this.#http.ask("PATCH", `/v1/webhooks/${segment(id)}`, { ...options, query: { dry_run: "true" }, body: patch });
  }

  async list(params?: api.PageParams, options?: CallOptions): Promise<api.Page<api.Webhook>> {
    return this.#http.ask("GET", "/v1/webhooks", { ...options, query: params });
  }

  all(params?: api.PageParams, options?: CallOptions): AsyncGenerator<api.Webhook, void, undefined> {
    return all((cursor) => this.list({ ...params, ...(cursor && { cursor }) }, options));
  }

  async get(id: string, options?: CallOptions): Promise<api.Webhook> {
    return this.#http.ask("GET", `/v1/webhooks/${segment(id)}`, options);
  }

  async update(id: string, patch: api.WebhookPatch, options?: CallOptions): Promise<api.Webhook> {
    return this.#http.ask("PATCH", `/v1/webhooks/${segment(id)}`, { ...options, body: patch });
  }

  /**
   * Changes what is there now: reads the webhook, asks `change` for a patch of it, and makes that only
   * if nobody else has changed the webhook meanwhile; otherwise reads again, up to five times.
   */
  async modify(
    id: string,
    change: (webhook: api.Webhook) => api.WebhookPatch,
    options?: CallOptions,
  ): Promise<api.Webhook> {
    const path = `/v1/webhooks/${segment(id)}`;
    for (let tried = 1; ; tried++) {
      const { value, tag } = await this.#http.askTagged<api.Webhook>("GET", path, options);
      const headers: Record<string, string> = tag === null ? {} : { "if-match": tag };
      try {
        return await this.#http.ask("PATCH", path, { ...options, headers, body: change(value) });
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 412) || tried >= 5) throw error;
      }
    }
  }

  async delete(id: string, options?: CallOptions): Promise<void> {
    return this.#http.ask("DELETE", `/v1/webhooks/${segment(id)}`, options);
  }

  /** What came of its attempts lately, and what waits. */
  async stats(id: string, params?: api.StatsParams, options?: CallOptions): Promise<api.WebhookStats> {
    return this.#http.ask("GET", `/v1/webhooks/${segment(id)}/stats`, { ...options, query: params });
  }

  /** Sends an example event to this webhook only. */
  async test(id: string, type: EventType | OperatorEventType, options?: CallOptions): Promise<api.SentTest> {
    return this.#http.ask("POST", `/v1/webhooks/${segment(id)}/test`, { ...options, body: { type } });
  }
}

/** `/v1/events`. */
export class Events {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** Hands an event to the gateway: a producer's or an operator's key, or the tenant's own. Resolved means on disk. */
  async send(tenant: string, event: WebhookEvent, options?: CallOptions): Promise<api.AcceptedEvent> {
    return this.#http.ask("POST", `/v1/tenants/${segment(tenant)}/events`, { ...options, body: event });
  }

  /** Many at once, of any tenants that the key may send for: accepted whole or not at all. */
  async sendBatch(
    lines: readonly api.EventLine[],
    options?: Omit<CallOptions, "idempotencyKey">,
  ): Promise<api.AcceptedBatch> {
    return this.#http.ask("POST", "/v1/events", { ...options, lines });
  }

  async list(params?: api.EventParams, options?: CallOptions): Promise<api.Page<api.EventSummary>> {
    return this.#http.ask("GET", "/v1/events", { ...options, query: params });
  }

  all(params?: api.EventParams, options?: CallOptions): AsyncGenerator<api.EventSummary, void, undefined> {
    return all((cursor) => this.list({ ...params, ...(cursor && { cursor }) }, options));
  }

  /**
   * The events after this one, the oldest first: what a consumer missed. `"start"` begins with the
   * oldest kept; 410 (`events_gone`) where events after it are no longer kept.
   */
  async after(id: string, params?: api.EventParams, options?: CallOptions): Promise<api.FollowingEvents> {
    return this.#http.ask("GET", "/v1/events", { ...options, query: { ...params, after: id } });
  }

  /** One with its payload and its deliveries. */
  async get(id: string, options?: CallOptions): Promise<api.StoredEvent> {
    return this.#http.ask("GET", `/v1/events/${segment(id)}`, options);
  }

  /** Erases the payloads of all events of this `data.recipient`, as a job: see `erasures`. */
  async erase(recipient: string, options?: CallOptions): Promise<api.Erasure> {
    return this.#http.ask("DELETE", "/v1/events", { ...options, query: { recipient } });
  }
}

/** `/v1/deliveries`. */
export class Deliveries {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  async list(params?: api.DeliveryParams, options?: CallOptions): Promise<api.Page<api.DeliverySummary>> {
    return this.#http.ask("GET", "/v1/deliveries", { ...options, query: params });
  }

  all(params?: api.DeliveryParams, options?: CallOptions): AsyncGenerator<api.DeliverySummary, void, undefined> {
    return all((cursor) => this.list({ ...params, ...(cursor && { cursor }) }, options));
  }

  /** One with its payload and its attempts. */
  async get(id: string, options?: CallOptions): Promise<api.DeliveryDetails> {
    return this.#http.ask("GET", `/v1/deliveries/${segment(id)}`, options);
  }

  /** Sends an ended delivery again: the same event id, attempt numbers go on. */
  async replay(id: string, options?: CallOptions): Promise<api.DeliverySummary> {
    return this.#http.ask("POST", `/v1/deliveries/${segment(id)}/replay`, options);
  }

  /** Ends a pending or retrying one. */
  async cancel(id: string, options?: CallOptions): Promise<api.DeliverySummary> {
    return this.#http.ask("POST", `/v1/deliveries/${segment(id)}/cancel`, options);
  }
}

/** `/v1/erasures`: how far they are. */
export class Erasures {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  async list(params?: api.PageParams, options?: CallOptions): Promise<api.Page<api.Erasure>> {
    return this.#http.ask("GET", "/v1/erasures", { ...options, query: params });
  }

  all(params?: api.PageParams, options?: CallOptions): AsyncGenerator<api.Erasure, void, undefined> {
    return all((cursor) => this.list({ ...params, ...(cursor && { cursor }) }, options));
  }

  async get(id: string, options?: CallOptions): Promise<api.Erasure> {
    return this.#http.ask("GET", `/v1/erasures/${segment(id)}`, options);
  }
}

/** `/v1/audit`: what was changed, and by whom; the newest first. */
export class Audit {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  async list(params?: api.AuditParams, options?: CallOptions): Promise<api.Page<api.AuditRecord>> {
    return this.#http.ask("GET", "/v1/audit", { ...options, query: params });
  }

  all(params?: api.AuditParams, options?: CallOptions): AsyncGenerator<api.AuditRecord, void, undefined> {
    return all((cursor) => this.list({ ...params, ...(cursor && { cursor }) }, options));
  }
}

/** `/v1/replays`: many deliveries sent again, as a job. */
export class Replays {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  async create(replay: api.NewReplay, options?: CallOptions): Promise<api.Replay> {
    return this.#http.ask("POST", "/v1/replays", { ...options, body: replay });
  }

  async list(params?: api.PageParams, options?: CallOptions): Promise<api.Page<api.Replay>> {
    return this.#http.ask("GET", "/v1/replays", { ...options, query: params });
  }

  all(params?: api.PageParams, options?: CallOptions): AsyncGenerator<api.Replay, void, undefined> {
    return all((cursor) => this.list({ ...params, ...(cursor && { cursor }) }, options));
  }

  async get(id: string, options?: CallOptions): Promise<api.Replay> {
    return this.#http.ask("GET", `/v1/replays/${segment(id)}`, options);
  }

  /** It rests until it is resumed. */
  async pause(id: string, options?: CallOptions): Promise<api.Replay> {
    return this.#http.ask("POST", `/v1/replays/${segment(id)}/pause`, options);
  }

  async resume(id: string, options?: CallOptions): Promise<api.Replay> {
    return this.#http.ask("POST", `/v1/replays/${segment(id)}/resume`, options);
  }

  /** Ends it where it is. */
  async cancel(id: string, options?: CallOptions): Promise<api.Replay> {
    return this.#http.ask("POST", `/v1/replays/${segment(id)}/cancel`, options);
  }
}
