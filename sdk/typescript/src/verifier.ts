import { bytesOf, described, utf8, type RawBody } from "./bytes.js";
import { WebhookVerificationError } from "./errors.js";
import { parseEvent, type WebhookEvent } from "./event.js";
import { header, joined, type RequestHeaders } from "./headers.js";
import { parseSecret, type Secret } from "./secret.js";
import { checkHex, checkStandard, type Refusal } from "./signature.js";

export interface UnwrapOptions {
  /** How far `webhook-timestamp` may be from now, in seconds, both ways; 300 where not said. */
  tolerance?: number | undefined;
  /** What counts as now; for tests and for bodies out of a log. */
  now?: Date | undefined;
  /** Refuse what has no `webhook-timestamp`; where not said, what `SenderZ` was made with. */
  requireTimestamp?: boolean | undefined;
}

const TOLERANCE = 300;

/** The receiving side: what was signed with one of the secrets, and what was not. */
export class Verifier {
  readonly #secrets: readonly Secret[];
  readonly #requireTimestamp: boolean;

  constructor(secrets: string | readonly string[] | undefined, requireTimestamp: boolean | undefined) {
    this.#requireTimestamp = requireTimestamp ?? false;
    const given = secrets === undefined ? [] : Array.isArray(secrets) ? secrets : [secrets];
    this.#secrets = given.map(parseSecret);
  }

  /**
   * Whether the header `X-Senderz-Signature` fits the raw body. A header that is missing, malformed
   * or wrong is `false`; a body that is not raw, or swapped arguments, are a mistake in the program
   * and a `TypeError`. No header and no raw body that a stranger could send makes it throw.
   */
  verify(signature: string | readonly string[] | null | undefined, body: RawBody): boolean {
    const secrets = this.#needSecrets();
    const text = signatureText(signature);
    const bytes = bytesOf(body);
    if (text === undefined) return false;
    const isValid = checkHex(secrets, text, bytes) === undefined;
    if (!isValid) refuseSwapped(secrets, text, body);
    return isValid;
  }

  /**
   * The event, once its signature is checked; throws `WebhookVerificationError` where that fails.
   * Checks the Standard Webhooks headers where any of them is there, else `X-Senderz-Signature`,
   * which has no timestamp: with `requireTimestamp` that does not do.
   */
  unwrap(headers: RequestHeaders, body: RawBody, options: UnwrapOptions = {}): WebhookEvent {
    const secrets = this.#needSecrets();
    if (typeof headers !== "object" || headers === null) {
      throw new TypeError(`unwrap takes the request's headers first, and they are ${described(headers)}`);
    }
    const bytes = bytesOf(body);
    const requireTimestamp = options.requireTimestamp ?? this.#requireTimestamp;
    const refusal = check(secrets, headers, bytes, { ...options, requireTimestamp });
    if (refusal !== undefined) throw new WebhookVerificationError(refusal);
    return parseEvent(bytes);
  }

  #needSecrets(): readonly Secret[] {
    if (this.#secrets.length > 0) return this.#secrets;
    throw new TypeError(
      "there is no webhookSecret to verify with: new SenderZ({ webhookSecret: 'whsec_…' }); is the environment variable set?",
    );
  }
}

function check(
  secrets: readonly Secret[],
  headers: RequestHeaders,
  body: Uint8Array,
  options: UnwrapOptions,
): Refusal {
  const tolerance = options.tolerance ?? TOLERANCE;
  if (!(tolerance >= 0)) throw new TypeError("the tolerance is a number of seconds, 0 or more");
  const [id, timestamp, signature] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map((name) =>
    header(headers, name),
  );
  if (id === undefined && timestamp === undefined && signature === undefined && !options.requireTimestamp) {
    const hex = header(headers, "x-senderz-signature");
    return hex === undefined ? "missing_header" : checkHex(secrets, hex, body);
  }
  if (id === undefined || timestamp === undefined || signature === undefined) return "missing_header";
  const now = (options.now?.getTime() ?? Date.now()) / 1000;
  return checkStandard(secrets, { id, timestamp, signature }, body, now, tolerance);
}

function signatureText(signature: unknown): string | undefined {
  if (signature === null || signature === undefined) return undefined;
  if (typeof signature === "string" || Array.isArray(signature)) return joined(signature);
  throw new TypeError(
    `verify(signature, body) takes the header X-Senderz-Signature first, and it is ${described(signature)}; are the arguments swapped?`,
  );
}

/**
 * They are where they fit the other way round. What they look like would not do: a stranger's body may
 * look like a signature too, and then it could make a receiver throw that expects true or false.
 */
function refuseSwapped(secrets: readonly Secret[], signature: string, body: unknown): void {
  if (typeof body === "string" && checkHex(secrets, body, utf8(signature)) === undefined) {
    throw new TypeError("the arguments are swapped: verify(signature, body)");
  }
}
