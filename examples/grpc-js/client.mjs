// An SMS gateway client on plain @grpc/grpc-js: sends one message, repeats it, sends many, asks for a status, reads
// errors, and retries. The protos are read at run time.
//
//     node client.mjs [ADDRESS [BUSY_ADDRESS]]
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const definition = protoLoader.loadSync(["sms/gateway/v1/gateway.proto", "google/rpc/error_details.proto"], {
  includeDirs: [here("../../proto")],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const { SmsGatewayService } = grpc.loadPackageDefinition(definition).sms.gateway.v1;
const RETRYABLE = [grpc.status.RESOURCE_EXHAUSTED, grpc.status.UNAVAILABLE];
const deadline = () => ({ deadline: Date.now() + 10_000 });

/** Makes a unary call and returns a promise of its answer. */
const unary = (gateway, method, request) =>
  new Promise((resolve, reject) =>
    gateway[method](request, deadline(), (error, answer) => (error ? reject(error) : resolve(answer))),
  );

/** Finds the detail of one kind, such as "google.rpc.RetryInfo", in a rich status. */
function detail(status, kind) {
  const packed = status?.details.find((one) => one.type_url === `type.googleapis.com/${kind}`);
  return packed && definition[kind].deserialize(packed.value);
}

/** Reads the rich status from the trailers of an error. */
function richStatus(error) {
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  return bytes && definition["google.rpc.Status"].deserialize(bytes);
}

/** Repeats a call when the gateway asks for it. Safe for a message with a request_id: it is sent only once. */
async function withRetry(call, { attempts = 8, onRetry = () => {} } = {}) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      if (!RETRYABLE.includes(error.code) || attempt === attempts) throw error;
      const wait = detail(richStatus(error), "google.rpc.RetryInfo")?.retry_delay;
      // Without RetryInfo, the gateway was not reached. Wait longer each time.
      const seconds = wait ? wait.seconds + wait.nanos / 1e9 : Math.min(0.1 * 2 ** attempt, 10);
      onRetry(error.code, seconds);
      await sleep(seconds * 1000);
    }
  }
}

/** Records each code and delay with which a gateway asked for a retry. */
function retryLog() {
  const seen = new Map();
  return {
    onRetry: (code, delay_s) => seen.set(`${code} ${delay_s}`, { code, delay_s }),
    listed: () => [...seen.values()],
  };
}

const send = (gateway, message, retry) => withRetry(() => unary(gateway, "SendSms", message), retry);

/** Sends three chunks on one stream; each message is accepted or refused on its own. */
async function sendMany(gateway, run) {
  const recipients = [["+233201000001", "+233201000002"], ["+233201000003", "+12"], ["+233201000004"]];
  const stream = gateway.BatchSend(deadline());
  for (const [sequence, chunk] of recipients.entries()) {
    const messages = chunk.map((recipient, index) => ({
      recipient,
      body: "One of many",
      request_id: `${run}-${sequence}-${index}`,
    }));
    stream.write({ sequence, messages });
  }
  stream.end();
  const answers = [];
  for await (const { sequence, results } of stream) answers.push({ sequence, results: results.map(resultOf) });
  return answers;
}

const resultOf = ({ result, error }) =>
  result === "accepted" ? "accepted" : { code: error.code, fields: Object.keys(violations(error)).sort() };

/** Reads what is wrong with each field. */
const violations = (status) =>
  Object.fromEntries(
    (detail(status, "google.rpc.BadRequest")?.field_violations ?? []).map((one) => [one.field, one.description]),
  );

/** Asks for the status until a provider has taken the message. WatchStatus does the same without polling. */
async function untilSent(gateway, message_id, withinSeconds = 30) {
  const end = Date.now() + withinSeconds * 1000;
  for (;;) {
    const { status } = await unary(gateway, "GetStatus", { message_id });
    if (status.state === "MESSAGE_STATE_SENT" || status.final || Date.now() > end) return status;
    await sleep(100);
  }
}

/** Sends a message that is not valid, and reads every fault from the error. */
async function refused(gateway) {
  try {
    await send(gateway, { recipient: "nobody", sender: "far too long a sender" });
    return "accepted";
  } catch (error) {
    const status = richStatus(error);
    const { reason, domain } = detail(status, "google.rpc.ErrorInfo");
    return { code: error.code, reason, domain, violations: violations(status) };
  }
}

/** Sends three messages to a gateway whose backlog has room for one: it says when to retry. */
async function busy(address, run) {
  const gateway = new SmsGatewayService(address, grpc.credentials.createInsecure());
  const { onRetry, listed } = retryLog();
  for (let index = 0; index < 3; index++) {
    const message = { recipient: "+233201234567", body: "In time", request_id: `${run}-busy-${index}` };
    await send(gateway, message, { onRetry });
  }
  gateway.close();
  return { accepted: 3, retries: listed() };
}

async function exercise(address, busyAddress) {
  const run = `grpc-js-${randomUUID()}`;
  const gateway = new SmsGatewayService(address, grpc.credentials.createInsecure());
  const message = {
    recipient: "+233 20 123 4567",
    body: "Grüße aus Ακρα",
    priority: "PRIORITY_OTP",
    request_id: run,
    client_reference: "Bestellung № 1",
    labels: { shop: "Kumasi", order: "1" },
  };
  const { onRetry, listed } = retryLog();
  const first = await send(gateway, message, { onRetry });
  const again = await send(gateway, message);
  const batch = await sendMany(gateway, run);
  const status = await untilSent(gateway, first.message_id);
  const document = {
    client: "grpc-js",
    sent: {
      state: first.state,
      encoding: first.encoding,
      segments: first.segments,
      recipient: first.recipient,
      replayed: first.replayed,
      retries: listed(),
    },
    again: { replayed: again.replayed, same_message_id: again.message_id === first.message_id },
    batch,
    status: {
      state: status.state,
      attempts: status.attempts.map((one) => one.outcome),
      client_reference: status.client_reference,
      labels: status.labels,
    },
    refused: await refused(gateway),
    busy: busyAddress ? await busy(busyAddress, run) : null,
  };
  gateway.close();
  return document;
}

const [address = "127.0.0.1:50051", busyAddress] = process.argv.slice(2);
console.log(JSON.stringify(await exercise(address, busyAddress), null, 2));
