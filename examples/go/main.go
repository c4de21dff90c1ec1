// An SMS gateway client: sends one message, repeats it, sends many, asks for a status, reads errors, and retries.
//
//	go run . [ADDRESS [BUSY_ADDRESS]]
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "sms-gateway-example/gen/sms/gateway/v1"
)

const timeout = 10 * time.Second

type object = map[string]any

// detail finds the detail of one kind in a rich status.
func detail[D any](from *status.Status) (found D, ok bool) {
	for _, one := range from.Details() {
		if found, ok = one.(D); ok {
			return found, true
		}
	}
	return found, false
}

// withRetry repeats a call when the gateway asks for it. Safe for a message with a request_id: it is sent only once.
func withRetry[A any](ctx context.Context, call func(context.Context) (A, error), onRetry func(codes.Code, time.Duration)) (A, error) {
	const attempts = 8
	for attempt := 1; ; attempt++ {
		once, cancel := context.WithTimeout(ctx, timeout)
		answer, err := call(once)
		cancel()
		code := status.Code(err)
		if (code != codes.ResourceExhausted && code != codes.Unavailable) || attempt == attempts {
			return answer, err
		}
		// Without RetryInfo, the gateway was not reached. Wait longer each time.
		delay := min(100*time.Millisecond<<attempt, 10*time.Second)
		if info, ok := detail[*errdetails.RetryInfo](status.Convert(err)); ok {
			delay = info.GetRetryDelay().AsDuration()
		}
		if onRetry != nil {
			onRetry(code, delay)
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return answer, ctx.Err()
		}
	}
}

// retryLog returns a callback that records each code and delay with which a gateway asked for a retry, and the record.
func retryLog() (onRetry func(codes.Code, time.Duration), retries *[]object) {
	retries = &[]object{}
	return func(code codes.Code, delay time.Duration) {
		one := object{"code": code, "delay_s": delay.Seconds()}
		if !slices.ContainsFunc(*retries, func(other object) bool { return fmt.Sprint(one) == fmt.Sprint(other) }) {
			*retries = append(*retries, one)
		}
	}, retries
}

func send(ctx context.Context, gateway pb.SmsGatewayServiceClient, message *pb.SendSmsRequest, onRetry func(codes.Code, time.Duration)) (*pb.SendSmsResponse, error) {
	return withRetry(ctx, func(ctx context.Context) (*pb.SendSmsResponse, error) {
		return gateway.SendSms(ctx, message)
	}, onRetry)
}

// sendMany sends three chunks on one stream; each message is accepted or refused on its own.
func sendMany(ctx context.Context, gateway pb.SmsGatewayServiceClient, run string) ([]object, error) {
	recipients := [][]string{{"+233201000001", "+233201000002"}, {"+233201000003", "+12"}, {"+233201000004"}}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stream, err := gateway.BatchSend(ctx)
	if err != nil {
		return nil, err
	}
	go func() { // answers arrive while chunks are still being sent
		for sequence, chunk := range recipients {
			request := &pb.BatchSendRequest{Sequence: uint64(sequence)}
			for index, recipient := range chunk {
				request.Messages = append(request.Messages, &pb.SendSmsRequest{
					Recipient: recipient,
					Body:      "One of many",
					RequestId: fmt.Sprintf("%s-%d-%d", run, sequence, index),
				})
			}
			if stream.Send(request) != nil {
				return // Recv returns the error
			}
		}
		stream.CloseSend()
	}()
	var answers []object
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return answers, nil
		}
		if err != nil {
			return nil, err
		}
		var results []any
		for _, one := range answer.GetResults() {
			results = append(results, resultOf(one))
		}
		answers = append(answers, object{"sequence": answer.GetSequence(), "results": results})
	}
}

func resultOf(result *pb.BatchSendResult) any {
	if result.GetAccepted() != nil {
		return "accepted"
	}
	fields := []string{}
	for field := range violations(status.FromProto(result.GetError())) {
		fields = append(fields, field)
	}
	slices.Sort(fields)
	return object{"code": result.GetError().GetCode(), "fields": fields}
}

// violations reads what is wrong with each field.
func violations(from *status.Status) map[string]string {
	found := map[string]string{}
	if bad, ok := detail[*errdetails.BadRequest](from); ok {
		for _, one := range bad.GetFieldViolations() {
			found[one.GetField()] = one.GetDescription()
		}
	}
	return found
}

// untilSent asks for the status until a provider has taken the message. WatchStatus does the same without polling.
func untilSent(ctx context.Context, gateway pb.SmsGatewayServiceClient, messageID string) (*pb.MessageStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request := &pb.GetStatusRequest{Key: &pb.GetStatusRequest_MessageId{MessageId: messageID}}
	for {
		answer, err := gateway.GetStatus(ctx, request)
		if err != nil {
			return nil, err
		}
		if found := answer.GetStatus(); found.GetState() == pb.MessageState_MESSAGE_STATE_SENT || found.GetFinal() {
			return found, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// refused sends a message that is not valid, and reads every fault from the error.
func refused(ctx context.Context, gateway pb.SmsGatewayServiceClient) any {
	message := &pb.SendSmsRequest{Recipient: "nobody", Sender: "far too long a sender"}
	_, err := send(ctx, gateway, message, nil)
	if err == nil {
		return "accepted"
	}
	from := status.Convert(err)
	info, _ := detail[*errdetails.ErrorInfo](from)
	return object{
		"code":       from.Code(),
		"reason":     info.GetReason(),
		"domain":     info.GetDomain(),
		"violations": violations(from),
	}
}

// busy sends three messages to a gateway whose backlog has room for one: it says when to retry.
func busy(ctx context.Context, address, run string) (object, error) {
	gateway, done, err := open(address)
	if err != nil {
		return nil, err
	}
	defer done()
	onRetry, retries := retryLog()
	for index := range 3 {
		message := &pb.SendSmsRequest{
			Recipient: "+233201234567",
			Body:      "In time",
			RequestId: fmt.Sprintf("%s-busy-%d", run, index),
		}
		if _, err := send(ctx, gateway, message, onRetry); err != nil {
			return nil, err
		}
	}
	return object{"accepted": 3, "retries": retries}, nil
}

func open(address string) (gateway pb.SmsGatewayServiceClient, done func() error, err error) {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	return pb.NewSmsGatewayServiceClient(connection), connection.Close, nil
}

func exercise(ctx context.Context, address, busyAddress string) (object, error) {
	run := "go-" + rand.Text()
	gateway, done, err := open(address)
	if err != nil {
		return nil, err
	}
	defer done()
	message := &pb.SendSmsRequest{
		Recipient:       "+233 20 123 4567",
		Body:            "Grüße aus Ακρα",
		Priority:        pb.Priority_PRIORITY_OTP,
		RequestId:       run,
		ClientReference: "Bestellung № 1",
		Labels:          map[string]string{"shop": "Kumasi", "order": "1"},
	}
	onRetry, retries := retryLog()
	first, err := send(ctx, gateway, message, onRetry)
	if err != nil {
		return nil, err
	}
	again, err := send(ctx, gateway, message, nil)
	if err != nil {
		return nil, err
	}
	batch, err := sendMany(ctx, gateway, run)
	if err != nil {
		return nil, err
	}
	found, err := untilSent(ctx, gateway, first.GetMessageId())
	if err != nil {
		return nil, err
	}
	attempts := []string{}
	for _, one := range found.GetAttempts() {
		attempts = append(attempts, one.GetOutcome().String())
	}
	document := object{
		"client": "go",
		"sent": object{
			"state":     first.GetState().String(),
			"encoding":  first.GetEncoding().String(),
			"segments":  first.GetSegments(),
			"recipient": first.GetRecipient(),
			"replayed":  first.GetReplayed(),
			"retries":   retries,
		},
		"again": object{
			"replayed":        again.GetReplayed(),
			"same_message_id": again.GetMessageId() == first.GetMessageId(),
		},
		"batch": batch,
		"status": object{
			"state":            found.GetState().String(),
			"attempts":         attempts,
			"client_reference": found.GetClientReference(),
			"labels":           found.GetLabels(),
		},
		"refused": refused(ctx, gateway),
	}
	if busyAddress != "" {
		if document["busy"], err = busy(ctx, busyAddress, run); err != nil {
			return nil, err
		}
	}
	return document, nil
}

func main() {
	addresses := append(os.Args[1:], "", "")
	if addresses[0] == "" {
		addresses[0] = "127.0.0.1:50051"
	}
	document, err := exercise(context.Background(), addresses[0], addresses[1])
	if err != nil {
		log.Fatal(err)
	}
	printer := json.NewEncoder(os.Stdout)
	printer.SetIndent("", "  ")
	if err := printer.Encode(document); err != nil {
		log.Fatal(err)
	}
}
