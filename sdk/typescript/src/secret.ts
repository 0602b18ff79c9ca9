import { fromBase64, utf8 } from "./bytes.js";

/** A signing secret as two keys, one for each scheme. */
export interface Secret {
  /** The whole string as shown, `whsec_` included: the key of `X-Senderz-Signature`. */
  readonly whole: Uint8Array;
  /** The bytes that it encodes: the key of `webhook-signature`. */
  readonly decoded: Uint8Array;
}

const PREFIX = "whsec_";

/** Checked where it is given and not at the first delivery. No message shows any of it. */
export function parseSecret(text: unknown): Secret {
  if (typeof text !== "string" || !text.startsWith(PREFIX)) {
    throw new TypeError("a webhook secret is the string that starts with whsec_, as the gateway shows it");
  }
  const decoded = fromBase64(text.slice(PREFIX.length));
  if (decoded === undefined) {
    throw new TypeError("the webhook secret is cut or altered: what follows whsec_ is not base64");
  }
  if (decoded.length < 24 || decoded.length > 64) {
    throw new TypeError("the webhook secret is cut or altered: it has to encode 24 to 64 bytes");
  }
  return { whole: utf8(text), decoded };
}
