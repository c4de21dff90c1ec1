// An SMS gateway client on connect-node: sends one message, repeats it, sends many, asks for a status, reads errors,
// and retries.
//
//     node dist/client.js [ADDRESS [BUSY_ADDRESS]]
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type DescMessage, enumToJson, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type BadRequest, BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";
import { type BatchSendResult, SendSmsRequestSchema, SmsGatewayService } from "./gen/sms/gateway/v1/gateway_pb.js";
import {
  AttemptOutcomeSchema,
  EncodingSchema,
  MessageState,
  MessageStateSchema,
  Priority,
} from "./gen/sms/gateway/v1/message_pb.js";

type Gateway = Client<typeof SmsGatewayService>;
type Message = MessageInitShape<typeof SendSmsRequestSchema>;
type OnRetry = (code: Code, seconds: number) => void;

const RETRYABLE = [Code.ResourceExhausted, Code.Unavailable];

const open = (address: string): Gateway =>
  createClient(SmsGatewayService, createGrpcTransport({ baseUrl: `http://${address}`, defaultTimeoutMs: 10_000 }));

/** Repeats a call when the gateway asks for it. Safe for a message with a requestId: it is sent only once. */
async function withRetry<A>(call: () => Promise<A>, onRetry: OnRetry = () => {}, attempts = 8): Promise<A> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (cause) {
      const error = ConnectError.from(cause);
      if (!RETRYABLE.includes(error.code) || attempt === attempts) throw error;
      const [wait] = error.findDetails(RetryInfoSchema);
      // Without RetryInfo, the gateway was not reached. Wait longer each time.
      const milliseconds = wait?.retryDelay ? durationMs(wait.retryDelay) : Math.min(100 * 2 ** attempt, 10_000);
      onRetry(error.code, milliseconds / 1000);
      await sleep(milliseconds);
    }
  }
}

/** Records each code and delay with which a gateway asked for a retry. */
function retryLog() {
  const seen = new Map<string, unknown>();
  const onRetry: OnRetry = (code, delay_s) => seen.set(`${code} ${delay_s}`, { code, delay_s });
  return { onRetry, listed: () => [...seen.values()] };
}

const send = (gateway: Gateway, message: Message, onRetry?: OnRetry) =>
  withRetry(() => gateway.sendSms(message), onRetry);

/** Sends three chunks on one stream; each message is accepted or refused on its own. */
async function sendMany(gateway: Gateway, run: string) {
  const recipients = [["+233201000001", "+233201000002"], ["+233201000003", "+12"], ["+233201000004"]];
  async function* chunks() {
    for (const [sequence, chunk] of recipients.entries()) {
      const messages = chunk.map((recipient, index) => ({
        recipient,
        body: "One of many",
        requestId: `${run}-${sequence}-${index}`,
      }));
      yield { sequence: BigInt(sequence), messages };
    }
  }
  const answers = [];
  for await (const { sequence, results } of gateway.batchSend(chunks())) {
    answers.push({ sequence: Number(sequence), results: results.map(resultOf) });
  }
  return answers;
}

function resultOf({ result }: BatchSendResult) {
  if (result.case !== "error") return "accepted";
  return { code: result.value.code, fields: Object.keys(violations(detail(result.value, BadRequestSchema))).sort() };
}

/** Finds the detail of one kind in a rich status that is part of a message. */
function detail<D extends DescMessage>(status: Status, kind: D): MessageShape<D> | undefined {
  return status.details.map((packed) => anyUnpack(packed, kind)).find((one) => one !== undefined);
}

/** Reads what is wrong with each field. */
const violations = (bad: BadRequest | undefined) =>
  Object.fromEntries((bad?.fieldViolations ?? []).map((one) => [one.field, one.description]));

/** Asks for the status until a provider has taken the message. watchStatus does the same without polling. */
async function untilSent(gateway: Gateway, messageId: string, withinSeconds = 30) {
  const end = Date.now() + withinSeconds * 1000;
  for (;;) {
    const { status } = await gateway.getStatus({ key: { case: "messageId", value: messageId } });
    if (status?.state === MessageState.SENT || status?.final || Date.now() > end) return status;
    await sleep(100);
  }
}

/** Sends a message that is not valid, and reads every fault from the error. */
async function refused(gateway: Gateway) {
  try {
    await send(gateway, { recipient: "nobody", sender: "far too long a sender" });
    return "accepted";
  } catch (cause) {
    const error = ConnectError.from(cause);
    const [info] = error.findDetails(ErrorInfoSchema);
    const [bad] = error.findDetails(BadRequestSchema);
    return { code: error.code, reason: info?.reason, domain: info?.domain, violations: violations(bad) };
  }
}

/** Sends three messages to a gateway whose backlog has room for one: it says when to retry. */
async function busy(address: string, run: string) {
  const gateway = open(address);
  const { onRetry, listed } = retryLog();
  for (let index = 0; index < 3; index++) {
    await send(gateway, { recipient: "+233201234567", body: "In time", requestId: `${run}-busy-${index}` }, onRetry);
  }
  return { accepted: 3, retries: listed() };
}

async function exercise(address: string, busyAddress?: string) {
  const run = `typescript-${randomUUID()}`;
  const gateway = open(address);
  const message: Message = {
    recipient: "+233 20 123 4567",
    body: "Grüße aus Ακρα",
    priority: Priority.OTP,
    requestId: run,
    clientReference: "Bestellung № 1",
    labels: { shop: "Kumasi", order: "1" },
  };
  const { onRetry, listed } = retryLog();
  const first = await send(gateway, message, onRetry);
  const again = await send(gateway, message);
  const batch = await sendMany(gateway, run);
  const status = await untilSent(gateway, first.messageId);
  return {
    client: "typescript",
    sent: {
      state: enumToJson(MessageStateSchema, first.state),
      encoding: enumToJson(EncodingSchema, first.encoding),
      segments: first.segments,
      recipient: first.recipient,
      replayed: first.replayed,
      retries: listed(),
    },
    again: { replayed: again.replayed, same_message_id: again.messageId === first.messageId },
    batch,
    status: status && {
      state: enumToJson(MessageStateSchema, status.state),
      attempts: status.attempts.map((one) => enumToJson(AttemptOutcomeSchema, one.outcome)),
      client_reference: status.clientReference,
      labels: status.labels,
    },
    refused: await refused(gateway),
    busy: busyAddress ? await busy(busyAddress, run) : null,
  };
}

const [address = "127.0.0.1:50051", busyAddress] = process.argv.slice(2);
console.log(JSON.stringify(await exercise(address, busyAddress), null, 2));
