/**
 * Checking signatures, exactly as the gateway's own `verify` does: no white space, no upper-case
 * hex, no other spelling of base64, at most sixteen signatures, and no early exit once a comparison
 * has begun. `sdk/vectors.json` holds both to the same answers.
 */

import { equal, macFromBase64, macFromHex, utf8 } from "./bytes.js";
import type { WebhookVerificationCode } from "./errors.js";
import { hmacSha256 } from "./hmac.js";
import type { Secret } from "./secret.js";

const MAX_SIGNATURES = 16;

/** What is wrong; nothing where the signature fits. */
export type Refusal = WebhookVerificationCode | undefined;

/** `X-Senderz-Signature` over a body. */
export function checkHex(secrets: readonly Secret[], signature: string, body: Uint8Array): Refusal {
  if (signature === "") return "empty_signature";
  const given: Uint8Array[] = [];
  for (const part of signature.split(",", MAX_SIGNATURES + 1)) {
    if (given.length === MAX_SIGNATURES) return "too_many_signatures";
    const mac = macFromHex(part);
    if (mac === undefined) return "malformed_signature";
    given.push(mac);
  }
  return checkMacs(given, secrets.map((secret) => hmacSha256(secret.whole, body)));
}

/** The three Standard Webhooks headers as received. */
export interface StandardHeaders {
  id: string;
  timestamp: string;
  signature: string;
}

/** `webhook-signature` over id, timestamp and body. Times are seconds. */
export function checkStandard(
  secrets: readonly Secret[],
  headers: StandardHeaders,
  body: Uint8Array,
  now: number,
  tolerance: number,
): Refusal {
  if (!/^[0-9]{1,19}$/.test(headers.timestamp)) return "malformed_timestamp";
  const age = Math.floor(now) - Number(headers.timestamp);
  if (age > tolerance) return "timestamp_too_old";
  if (-age > tolerance) return "timestamp_too_new";
  if (headers.signature === "") return "empty_signature";
  const given: Uint8Array[] = [];
  const parts = headers.signature.split(" ", MAX_SIGNATURES + 1);
  for (const [index, part] of parts.entries()) {
    if (index === MAX_SIGNATURES) return "too_many_signatures";
    const comma = part.indexOf(",");
    if (comma < 1 || comma === part.length - 1) return "malformed_signature";
    // Entries of other versions are skipped, as the specification asks.
    if (part.slice(0, comma) !== "v1") continue;
    const mac = macFromBase64(part.slice(comma + 1));
    if (mac === undefined) return "malformed_signature";
    given.push(mac);
  }
  const head = utf8(`${headers.id}.${headers.timestamp}.`);
  return checkMacs(given, secrets.map((secret) => hmacSha256(secret.decoded, head, body)));
}

/** Compares every one with every one, whatever has been found. */
function checkMacs(given: Uint8Array[], expected: Uint8Array[]): Refusal {
  let matches = 0;
  for (const mac of expected) for (const other of given) matches |= Number(equal(mac, other));
  return matches === 0 ? "signature_mismatch" : undefined;
}
