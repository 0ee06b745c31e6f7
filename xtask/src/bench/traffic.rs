//! Sending messages over one local connection, in the ways that are measured.

use std::time::{Duration, Instant};

use clawchat_ipc::client::{Client, ClientError};
use clawchat_ipc::{Answer, Call};
use serde_json::{Value, json};

use crate::gateways::{ANSWER_LIMIT, Outcome};

/// Bytes of text in each message.
const MESSAGE_BYTES: usize = 100;
/// Requests in flight; the daemon takes 256 of one connection.
const IN_FLIGHT: usize = 200;
/// Requests written at once while the pipeline is full.
const REFILL: usize = 32;
/// Messages between two looks at the clock while an inbox is filled.
const FILL_STEP: u64 = 5_000;

/// How long many messages took.
pub(super) struct Plain {
    /// Until the last one was on disk here.
    pub(super) queued: Duration,
    /// Until the last one, and with it every other, was on disk there.
    pub(super) delivered: Duration,
}

/// Sends messages one after the other's receipt. How long each took, sorted.
pub(super) fn one_at_a_time(client: &mut Client, to: &str, count: u64) -> Outcome<Vec<Duration>> {
    let calls = calls(to, count, true)?;
    let mut times = Vec::with_capacity(calls.len());
    for call in &calls {
        let begun = Instant::now();
        let answer = client.call(call).map_err(failed)?;
        times.push(begun.elapsed());
        check(&answer, "delivered")?;
    }
    times.sort_unstable();
    Ok(times)
}

/// Sends messages as fast as the daemon takes them, each answered with its receipt. How long until the last.
pub(super) fn waited(client: &mut Client, to: &str, count: u64) -> Outcome<Duration> {
    let calls = calls(to, count, true)?;
    let begun = Instant::now();
    flow(client, &calls, "delivered")?;
    Ok(begun.elapsed())
}

/// Sends messages as fast as the daemon takes them, and waits for the receipt of the last one only.
pub(super) fn plain(client: &mut Client, to: &str, count: u64) -> Outcome<Plain> {
    let calls = calls(to, count.saturating_sub(1), false)?;
    let last = calls_waiting_for_one(to)?;
    let begun = Instant::now();
    flow(client, &calls, "queued")?;
    let queued = begun.elapsed();
    let answer = client.call(&last).map_err(failed)?;
    check(&answer, "delivered")?;
    Ok(Plain {
        queued,
        delivered: begun.elapsed(),
    })
}

/// Delivers `count` messages, or as many as `limit` allows. Returns how many.
pub(super) fn fill(client: &mut Client, to: &str, count: u64, limit: Duration) -> Outcome<u64> {
    let begun = Instant::now();
    let mut sent = 0;
    while sent < count && begun.elapsed() < limit {
        let step = FILL_STEP.min(count - sent);
        plain(client, to, step)?;
        sent += step;
    }
    Ok(sent)
}

fn calls(to: &str, count: u64, wait: bool) -> Outcome<Vec<Call>> {
    let limit = u64::try_from(ANSWER_LIMIT.as_millis()).unwrap_or(u64::MAX);
    (0..count)
        .map(|number| {
            let content = format!("{number:0MESSAGE_BYTES$}");
            let mut request = json!({ "cmd": "send", "id": number, "to": to, "content": content });
            if wait {
                request["wait"] = json!(limit);
            }
            Call::from_value(request).map_err(|error| error.to_string())
        })
        .collect()
}

fn calls_waiting_for_one(to: &str) -> Outcome<Call> {
    calls(to, 1, true)?.pop().ok_or_else(|| "no message".to_owned())
}

/// Keeps [`IN_FLIGHT`] requests going until all are answered, each with `status`.
fn flow(client: &mut Client, calls: &[Call], status: &str) -> Outcome {
    let (mut offered, mut answered) = (0, 0);
    while answered < calls.len() {
        let room = IN_FLIGHT - (offered - answered);
        if room >= REFILL && offered < calls.len() {
            let end = calls.len().min(offered + room);
            client
                .send_many(calls.get(offered..end).unwrap_or_default())
                .map_err(failed)?;
            offered = end;
        }
        let Answer { result, .. } = client.receive().map_err(failed)?;
        check(&result.map_err(|failure| failure.to_string())?, status)?;
        answered += 1;
    }
    Ok(())
}

fn check(answer: &Value, status: &str) -> Outcome {
    if answer["status"] == status {
        Ok(())
    } else {
        Err(format!("not {status}, but {answer}"))
    }
}

fn failed(error: ClientError) -> String {
    format!("the gateway: {error}")
}
