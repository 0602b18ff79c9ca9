/** Next.js, app router: `export const POST = webhook(sz, handler)`. */

export { webhook } from "./fetch.js";
