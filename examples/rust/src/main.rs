//! An SMS gateway client: sends one message, repeats it, sends many, asks for a status, reads errors, and retries.
//!
//!     cargo run [ADDRESS [BUSY_ADDRESS]]

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tonic_types::{BadRequest, RpcStatusExt, StatusExt};
use uuid::Uuid;

#[allow(dead_code)] // the protos also have what only other programs need
mod protos {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}
use protos::sms::gateway::v1::batch_send_result::Result as Outcome;
use protos::sms::gateway::v1::get_status_request::Key;
use protos::sms::gateway::v1::sms_gateway_service_client::SmsGatewayServiceClient;
use protos::sms::gateway::v1::{
    BatchSendRequest, BatchSendResult, GetStatusRequest, MessageState, MessageStatus, Priority, SendSmsRequest,
    SendSmsResponse,
};

type Gateway = SmsGatewayServiceClient<Channel>;
type Failure = Box<dyn std::error::Error>;

const TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 8;

fn open(address: &str) -> Result<Gateway, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.timeout(TIMEOUT);
    Ok(Gateway::new(endpoint.connect_lazy()))
}

/// Repeats a call when the gateway asks for it. Safe for a message with a request_id: it is sent only once.
async fn with_retry<A>(
    mut call: impl AsyncFnMut() -> Result<Response<A>, Status>,
    mut on_retry: impl FnMut(Code, Duration),
) -> Result<A, Status> {
    let mut attempt = 1;
    loop {
        let error = match call().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(error) => error,
        };
        if !matches!(error.code(), Code::ResourceExhausted | Code::Unavailable) || attempt == ATTEMPTS {
            return Err(error);
        }
        // Without RetryInfo, the gateway was not reached. Wait longer each time.
        let delay = error
            .get_details_retry_info()
            .and_then(|info| info.retry_delay)
            .unwrap_or(Duration::from_millis(100 << attempt));
        on_retry(error.code(), delay);
        sleep(delay).await;
        attempt += 1;
    }
}

/// Records each code and delay with which a gateway asked for a retry.
fn log_retry(retries: &mut Vec<Value>, code: Code, delay: Duration) {
    let one = json!({"code": code as i32, "delay_s": delay.as_secs_f64()});
    if !retries.contains(&one) {
        retries.push(one);
    }
}

async fn send(gateway: &Gateway, message: &SendSmsRequest) -> Result<SendSmsResponse, Status> {
    send_and_log(gateway, message, |_, _| ()).await
}

async fn send_and_log(
    gateway: &Gateway,
    message: &SendSmsRequest,
    on_retry: impl FnMut(Code, Duration),
) -> Result<SendSmsResponse, Status> {
    with_retry(async || gateway.clone().send_sms(message.clone()).await, on_retry).await
}

/// Sends three chunks on one stream; each message is accepted or refused on its own.
async fn send_many(gateway: &Gateway, run: &str) -> Result<Vec<Value>, Status> {
    let recipients = [vec!["+233201000001", "+233201000002"], vec!["+233201000003", "+12"], vec!["+233201000004"]];
    let chunks: Vec<_> = (0..)
        .zip(recipients)
        .map(|(sequence, chunk)| BatchSendRequest {
            sequence,
            messages: (0..)
                .zip(chunk)
                .map(|(index, recipient)| SendSmsRequest {
                    recipient: recipient.into(),
                    body: "One of many".into(),
                    request_id: format!("{run}-{sequence}-{index}"),
                    ..Default::default()
                })
                .collect(),
        })
        .collect();
    let mut stream = gateway.clone().batch_send(tokio_stream::iter(chunks)).await?.into_inner();
    let mut answers = vec![];
    while let Some(answer) = stream.message().await? {
        let results: Vec<_> = answer.results.iter().map(result_of).collect();
        answers.push(json!({"sequence": answer.sequence, "results": results}));
    }
    Ok(answers)
}

fn result_of(result: &BatchSendResult) -> Value {
    match &result.result {
        Some(Outcome::Error(error)) => {
            let fields: Vec<_> = violations(error.get_details_bad_request()).into_keys().collect();
            json!({"code": error.code, "fields": fields})
        }
        _ => json!("accepted"),
    }
}

/// Reads what is wrong with each field.
fn violations(bad: Option<BadRequest>) -> BTreeMap<String, String> {
    let found = bad.map(|bad| bad.field_violations).unwrap_or_default();
    found.into_iter().map(|one| (one.field, one.description)).collect()
}

/// Asks for the status until a provider has taken the message. watch_status does the same without polling.
async fn until_sent(gateway: &Gateway, message_id: &str) -> Result<MessageStatus, Status> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let request = GetStatusRequest { key: Some(Key::MessageId(message_id.into())) };
        let status = gateway.clone().get_status(request).await?.into_inner().status.unwrap_or_default();
        if status.state() == MessageState::Sent || status.r#final || Instant::now() > end {
            return Ok(status);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Sends a message that is not valid, and reads every fault from the error.
async fn refused(gateway: &Gateway) -> Value {
    let message = SendSmsRequest {
        recipient: "nobody".into(),
        sender: "far too long a sender".into(),
        ..Default::default()
    };
    match send(gateway, &message).await {
        Ok(_) => json!("accepted"),
        Err(error) => {
            let info = error.get_details_error_info();
            json!({
                "code": error.code() as i32,
                "reason": info.as_ref().map(|info| &info.reason),
                "domain": info.as_ref().map(|info| &info.domain),
                "violations": violations(error.get_details_bad_request()),
            })
        }
    }
}

/// Sends three messages to a gateway whose backlog has room for one: it says when to retry.
async fn busy(address: &str, run: &str) -> Result<Value, Failure> {
    let gateway = open(address)?;
    let mut retries: Vec<Value> = vec![];
    for index in 0..3 {
        let message = SendSmsRequest {
            recipient: "+233201234567".into(),
            body: "In time".into(),
            request_id: format!("{run}-busy-{index}"),
            ..Default::default()
        };
        send_and_log(&gateway, &message, |code, delay| log_retry(&mut retries, code, delay)).await?;
    }
    Ok(json!({"accepted": 3, "retries": retries}))
}

async fn exercise(address: &str, busy_address: Option<&String>) -> Result<Value, Failure> {
    let run = format!("rust-{}", Uuid::new_v4());
    let gateway = open(address)?;
    let message = SendSmsRequest {
        recipient: "+233 20 123 4567".into(),
        body: "Grüße aus Ακρα".into(),
        priority: Priority::Otp.into(),
        request_id: run.clone(),
        client_reference: "Bestellung № 1".into(),
        labels: HashMap::from([("shop".into(), "Kumasi".into()), ("order".into(), "1".into())]),
        ..Default::default()
    };
    let mut retries: Vec<Value> = vec![];
    let first = send_and_log(&gateway, &message, |code, delay| log_retry(&mut retries, code, delay)).await?;
    let again = send(&gateway, &message).await?;
    let batch = send_many(&gateway, &run).await?;
    let status = until_sent(&gateway, &first.message_id).await?;
    Ok(json!({
        "client": "rust",
        "sent": {
            "state": first.state().as_str_name(),
            "encoding": first.encoding().as_str_name(),
            "segments": first.segments,
            "recipient": first.recipient,
            "replayed": first.replayed,
            "retries": retries,
        },
        "again": {"replayed": again.replayed, "same_message_id": again.message_id == first.message_id},
        "batch": batch,
        "status": {
            "state": status.state().as_str_name(),
            "attempts": status.attempts.iter().map(|one| one.outcome().as_str_name()).collect::<Vec<_>>(),
            "client_reference": status.client_reference,
            "labels": status.labels,
        },
        "refused": refused(&gateway).await,
        "busy": match busy_address {
            Some(address) => busy(address, &run).await?,
            None => Value::Null,
        },
    }))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let addresses: Vec<String> = std::env::args().skip(1).collect();
    let address = addresses.first().map_or("127.0.0.1:50051", String::as_str);
    println!("{:#}", exercise(address, addresses.get(1)).await?);
    Ok(())
}
