// Receives webhooks of backfill-watch. Needs Node.js 18 and nothing else.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";

interface BackfillEvent {
  type: string;
  timestamp: string;
  data: { project: string; operationId?: string; sequence?: number; phase?: string };
}

const secret = Buffer.from((process.env.WEBHOOK_SECRET ?? "").trim().replace(/^whsec_/, ""), "base64");
if (secret.length < 24) throw new Error("WEBHOOK_SECRET is not a webhook secret");
const port = Number(process.env.PORT ?? 8000);
const tolerance = 5 * 60; // seconds
const maxBody = 20_000; // bytes

/** Returns whether the daemon signed this request within the last five minutes. */
function isSigned(headers: IncomingHttpHeaders, body: Buffer): boolean {
  const id = String(headers["webhook-id"] ?? "");
  const timestamp = String(headers["webhook-timestamp"] ?? "");
  if (!/^\d{1,10}$/.test(timestamp)) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > tolerance) return false;
  const digest = createHmac("sha256", secret).update(`${id}.${timestamp}.`).update(body).digest("base64");
  const expected = Buffer.from(`v1,${digest}`);
  // There is one signature for each secret while a secret is rotated.
  const signatures = String(headers["webhook-signature"] ?? "").split(" ");
  return signatures
    .map((signature) => Buffer.from(signature))
    .some((signature) => signature.length === expected.length && timingSafeEqual(signature, expected));
}

const known = new Set<string>();

/** Stores an event. Returns whether it is new. Replace it: insert the ID under a unique key of your database. */
async function store(id: string, _event: BackfillEvent): Promise<boolean> {
  if (known.has(id)) return false;
  known.add(id);
  return true;
}

/** Reads at most `maxBody` bytes. */
async function read(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > maxBody) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function receive(request: IncomingMessage): Promise<number> {
  const body = await read(request);
  if (body === undefined) return 413;
  if (!isSigned(request.headers, body)) return 401;
  const id = String(request.headers["webhook-id"]);
  const event = JSON.parse(body.toString()) as BackfillEvent;
  const result = (await store(id, event)) ? "accepted" : "duplicate";
  console.log(result, id, event.type, event.data.operationId ?? "");
  return 204;
}

const server = createServer((request, response) => {
  receive(request)
    .catch(() => 500)
    .then((status) => response.writeHead(status).end());
});
server.listen(port, "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
});
