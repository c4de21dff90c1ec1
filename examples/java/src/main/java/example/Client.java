package example;

import com.google.gson.GsonBuilder;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import java.util.function.Supplier;
import sms.gateway.v1.BatchSendRequest;
import sms.gateway.v1.BatchSendResponse;
import sms.gateway.v1.BatchSendResult;
import sms.gateway.v1.GetStatusRequest;
import sms.gateway.v1.SendSmsRequest;
import sms.gateway.v1.SendSmsResponse;
import sms.gateway.v1.MessageState;
import sms.gateway.v1.MessageStatus;
import sms.gateway.v1.Priority;
import sms.gateway.v1.SmsGatewayServiceGrpc;

/**
 * An SMS gateway client: sends one message, repeats it, sends many, asks for a status, reads errors, and retries.
 *
 * <p>{@code java -jar target/client.jar [ADDRESS [BUSY_ADDRESS]]}
 */
public final class Client implements AutoCloseable {
  private static final int ATTEMPTS = 8;
  private static final int TIMEOUT_S = 10;

  private final ManagedChannel channel;

  Client(String address) {
    channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
  }

  @Override
  public void close() {
    channel.shutdownNow();
  }

  /** A deadline applies to one call, so every call gets its own stub. */
  private SmsGatewayServiceGrpc.SmsGatewayServiceBlockingStub gateway() {
    return SmsGatewayServiceGrpc.newBlockingStub(channel).withDeadlineAfter(TIMEOUT_S, TimeUnit.SECONDS);
  }

  /** Repeats a call when the gateway asks for it. Safe for a message with a request_id: it is sent only once. */
  static <A> A withRetry(Supplier<A> call, BiConsumer<Code, Duration> onRetry) {
    for (int attempt = 1; ; attempt++) {
      try {
        return call.get();
      } catch (StatusRuntimeException error) {
        Code code = error.getStatus().getCode();
        boolean retryable = code == Code.RESOURCE_EXHAUSTED || code == Code.UNAVAILABLE;
        if (!retryable || attempt == ATTEMPTS) {
          throw error;
        }
        // Without RetryInfo, the gateway was not reached. Wait longer each time.
        Duration wait =
            detail(StatusProto.fromThrowable(error), RetryInfo.class)
                .map(RetryInfo::getRetryDelay)
                .map(delay -> Duration.ofSeconds(delay.getSeconds(), delay.getNanos()))
                .orElse(Duration.ofMillis(Math.min(100L << attempt, 10_000)));
        onRetry.accept(code, wait);
        pause(wait);
      }
    }
  }

  /** Records each code and delay with which a gateway asked for a retry. */
  static final class Retries implements BiConsumer<Code, Duration> {
    final LinkedHashSet<Object> all = new LinkedHashSet<>();

    @Override
    public void accept(Code code, Duration delay) {
      all.add(object("code", code.value(), "delay_s", delay.toMillis() / 1000.0));
    }
  }

  /** Finds the detail of one kind in a rich status. */
  static <D extends Message> Optional<D> detail(Status status, Class<D> kind) {
    for (Any packed : status.getDetailsList()) {
      if (packed.is(kind)) {
        try {
          return Optional.of(packed.unpack(kind));
        } catch (InvalidProtocolBufferException broken) {
          throw new IllegalArgumentException(broken);
        }
      }
    }
    return Optional.empty();
  }

  SendSmsResponse send(SendSmsRequest message) {
    return send(message, (code, delay) -> {});
  }

  SendSmsResponse send(SendSmsRequest message, BiConsumer<Code, Duration> onRetry) {
    return withRetry(() -> gateway().sendSms(message), onRetry);
  }

  /** Sends three chunks on one stream; each message is accepted or refused on its own. */
  List<Object> sendMany(String run) {
    var recipients =
        List.of(
            List.of("+233201000001", "+233201000002"),
            List.of("+233201000003", "+12"),
            List.of("+233201000004"));
    var answers = new ArrayList<Object>();
    var done = new CompletableFuture<List<Object>>();
    var stub = SmsGatewayServiceGrpc.newStub(channel).withDeadlineAfter(TIMEOUT_S, TimeUnit.SECONDS);
    StreamObserver<BatchSendRequest> chunks =
        stub.batchSend(
            new StreamObserver<>() {
              @Override
              public void onNext(BatchSendResponse answer) {
                var results = answer.getResultsList().stream().map(Client::resultOf).toList();
                answers.add(object("sequence", answer.getSequence(), "results", results));
              }

              @Override
              public void onError(Throwable error) {
                done.completeExceptionally(error);
              }

              @Override
              public void onCompleted() {
                done.complete(answers);
              }
            });
    for (int sequence = 0; sequence < recipients.size(); sequence++) {
      var chunk = BatchSendRequest.newBuilder().setSequence(sequence);
      for (String recipient : recipients.get(sequence)) {
        chunk
            .addMessagesBuilder()
            .setRecipient(recipient)
            .setBody("One of many")
            .setRequestId("%s-%d-%d".formatted(run, sequence, chunk.getMessagesCount()));
      }
      chunks.onNext(chunk.build());
    }
    chunks.onCompleted();
    return done.join();
  }

  private static Object resultOf(BatchSendResult result) {
    if (result.hasAccepted()) {
      return "accepted";
    }
    return object("code", result.getError().getCode(), "fields", violations(result.getError()).keySet());
  }

  /** Reads what is wrong with each field. */
  static Map<String, String> violations(Status status) {
    var found = new TreeMap<String, String>();
    detail(status, BadRequest.class)
        .ifPresent(bad -> bad.getFieldViolationsList().forEach(one -> found.put(one.getField(), one.getDescription())));
    return found;
  }

  /** Asks for the status until a provider has taken the message. watchStatus does the same without polling. */
  MessageStatus untilSent(String messageId) {
    var request = GetStatusRequest.newBuilder().setMessageId(messageId).build();
    long end = System.nanoTime() + Duration.ofSeconds(30).toNanos();
    while (true) {
      MessageStatus status = gateway().getStatus(request).getStatus();
      boolean sent = status.getState() == MessageState.MESSAGE_STATE_SENT;
      if (sent || status.getFinal() || System.nanoTime() > end) {
        return status;
      }
      pause(Duration.ofMillis(100));
    }
  }

  /** Sends a message that is not valid, and reads every fault from the error. */
  Object refused() {
    try {
      send(SendSmsRequest.newBuilder().setRecipient("nobody").setSender("far too long a sender").build());
      return "accepted";
    } catch (StatusRuntimeException error) {
      Status status = StatusProto.fromThrowable(error);
      ErrorInfo info = detail(status, ErrorInfo.class).orElseThrow();
      return object(
          "code", status.getCode(),
          "reason", info.getReason(),
          "domain", info.getDomain(),
          "violations", violations(status));
    }
  }

  /** Sends three messages to a gateway whose backlog has room for one: it says when to retry. */
  static Object busy(String address, String run) {
    var retries = new Retries();
    try (var client = new Client(address)) {
      for (int index = 0; index < 3; index++) {
        var message =
            SendSmsRequest.newBuilder()
                .setRecipient("+233201234567")
                .setBody("In time")
                .setRequestId("%s-busy-%d".formatted(run, index))
                .build();
        client.send(message, retries);
      }
    }
    return object("accepted", 3, "retries", retries.all);
  }

  Map<String, Object> exercise(String run) {
    var message =
        SendSmsRequest.newBuilder()
            .setRecipient("+233 20 123 4567")
            .setBody("Grüße aus Ακρα")
            .setPriority(Priority.PRIORITY_OTP)
            .setRequestId(run)
            .setClientReference("Bestellung № 1")
            .putLabels("shop", "Kumasi")
            .putLabels("order", "1")
            .build();
    var retries = new Retries();
    SendSmsResponse first = send(message, retries);
    SendSmsResponse again = send(message);
    List<Object> batch = sendMany(run);
    MessageStatus status = untilSent(first.getMessageId());
    boolean same = again.getMessageId().equals(first.getMessageId());
    return object(
        "client", "java",
        "sent", object(
            "state", first.getState().name(),
            "encoding", first.getEncoding().name(),
            "segments", first.getSegments(),
            "recipient", first.getRecipient(),
            "replayed", first.getReplayed(),
            "retries", retries.all),
        "again", object("replayed", again.getReplayed(), "same_message_id", same),
        "batch", batch,
        "status", object(
            "state", status.getState().name(),
            "attempts", status.getAttemptsList().stream().map(one -> one.getOutcome().name()).toList(),
            "client_reference", status.getClientReference(),
            "labels", status.getLabelsMap()),
        "refused", refused());
  }

  private static void pause(Duration delay) {
    try {
      Thread.sleep(delay.toMillis());
    } catch (InterruptedException stop) {
      throw new IllegalStateException(stop);
    }
  }

  private static Map<String, Object> object(Object... pairs) {
    var made = new LinkedHashMap<String, Object>();
    for (int index = 0; index < pairs.length; index += 2) {
      made.put((String) pairs[index], pairs[index + 1]);
    }
    return made;
  }

  public static void main(String[] addresses) {
    String run = "java-" + UUID.randomUUID();
    Map<String, Object> document;
    try (var client = new Client(addresses.length > 0 ? addresses[0] : "127.0.0.1:50051")) {
      document = client.exercise(run);
    }
    document.put("busy", addresses.length > 1 ? busy(addresses[1], run) : null);
    var json = new GsonBuilder().setPrettyPrinting().serializeNulls().create();
    new PrintStream(System.out, true, StandardCharsets.UTF_8).println(json.toJson(document));
  }
}
