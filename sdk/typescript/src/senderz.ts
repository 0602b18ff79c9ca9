import type * as api from "./api.js";
import type { EventType, WebhookEvent } from "./event.js";
import { all, Http, segment, type CallOptions, type ClientOptions } from "./http.js";
import { stream, type StreamOptions } from "./stream.js";
import { Verifier } from "./verifier.js";

export interface SenderZOptions extends ClientOptions {
  /** The tenant's signing secret, `whsec_…`; several while you change from one to the next. */
  webhookSecret?: string | readonly string[] | undefined;
}

/** The receiving side needs `webhookSecret`, the API needs `apiKey` and `baseUrl`. */
export class SenderZ {
  readonly webhooks: Webhooks;
  readonly events: Events;
  readonly deliveries: Deliveries;
  readonly #http: Http;

  constructor(options: SenderZOptions = {}) {
    const http = new Http(options);
    this.webhooks = new Webhooks(options.webhookSecret, http);
    this.events = new Events(http);
    this.deliveries = new Deliveries(http);
    this.#http = http;
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

  constructor(secrets: string | readonly string[] | undefined, http: Http) {
    super(secrets);
    this.#http = http;
  }

  async create(webhook: api.NewWebhook, options?: CallOptions): Promise<api.Webhook> {
    return this.#http.ask("POST", "/v1/webhooks", { ...options, body: webhook });
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

  async delete(id: string, options?: CallOptions): Promise<void> {
    return this.#http.ask("DELETE", `/v1/webhooks/${segment(id)}`, options);
  }

  /** Sends an example event to this webhook only. */
  async test(id: string, type: EventType, options?: CallOptions): Promise<api.SentTest> {
    return this.#http.ask("POST", `/v1/webhooks/${segment(id)}/test`, { ...options, body: { type } });
  }
}

export interface SendOptions extends CallOptions {
  /** Makes sending again safe: the same key within 24 hours is the same event. */
  idempotencyKey?: string;
}

/** `/v1/events`. */
export class Events {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** Hands an event to the gateway: a producer's or an operator's key. Resolved means on disk. */
  async send(tenant: string, event: WebhookEvent, options: SendOptions = {}): Promise<api.AcceptedEvent> {
    const { idempotencyKey, ...rest } = options;
    const headers = idempotencyKey === undefined ? {} : { "idempotency-key": idempotencyKey };
    return this.#http.ask("POST", `/v1/tenants/${segment(tenant)}/events`, { ...rest, headers, body: event });
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
