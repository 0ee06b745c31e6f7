//! `demo`: two gateways with fresh identities in temporary folders, one conversation, then nothing is left.

mod stage;

use std::thread;
use std::time::{Duration, Instant};

use clawchat_ipc::{ErrorCode, Request};
use clawchat_types::Content;
use serde_json::{Value, json};

use self::stage::{Side, Stage};
use super::Context;
use crate::failure::{Failure, Outcome};
use crate::human;
use crate::interrupt;
use crate::render::Screen;

/// How long any step of the conversation may take.
const STEP_LIMIT: Duration = Duration::from_secs(30);

/// Runs the demonstration and removes everything again, whatever happens.
pub(super) fn run(context: &Context) -> Outcome {
    let started = Instant::now();
    let stage = Stage::new()?;
    let on_interrupt = stage.clone();
    interrupt::on_interrupt(move |code| {
        on_interrupt.clear();
        std::process::exit(code);
    })?;
    let tale = Tale {
        screen: context.screen,
        started,
    };
    let told = play(context, &stage, tale);
    if stage.is_cleared() {
        // Interrupted: what failed, failed for that. The interrupt's own end is near.
        loop {
            thread::park();
        }
    }
    stage.clear();
    told?;
    let text = format!(
        "Done in {}. Both gateways are stopped, their folders removed.",
        human::elapsed(started.elapsed())
    );
    tale.tell(json!({"event": "done"}), &text)
}

fn play(context: &Context, stage: &Stage, tale: Tale) -> Outcome {
    let place = stage.folder().display().to_string();
    tale.tell(
        json!({"event": "begin", "folder": place}),
        &format!("Two gateways in {place}, with fresh identities."),
    )?;
    let alice = enter(context, stage, tale, "alice")?;
    let bob = enter(context, stage, tale, "bob")?;
    alice.learn(&bob)?;
    bob.learn(&alice)?;
    tale.tell(
        json!({"event": "peers"}),
        "Each of them is told where the other is.",
    )?;

    deliver(
        tale,
        &alice,
        &bob,
        "Hello Bob! Encrypted from my identity to yours, over a direct connection.",
    )?;
    deliver(
        tale,
        &bob,
        &alice,
        "Hello Alice! Yours is on my disk, that is what your receipt means.",
    )?;
    deliver(tale, &alice, &bob, "And once more, now that the session is open.")?;
    question(tale, &alice, &bob, "What is six times seven?", "Forty-two.")
}

/// One gateway: set up, started, serving.
fn enter(context: &Context, stage: &Stage, tale: Tale, name: &'static str) -> Outcome<Side> {
    let begun = Instant::now();
    let side = stage.enter(context, name)?;
    let took = begun.elapsed();
    tale.tell(
        json!({"event": "gateway", "name": name, "principal": side.principal, "address": side.address, "took": millis(took)}),
        &format!("{name} is {}, set up and serving after {}.", side.principal, human::elapsed(took)),
    )?;
    Ok(side)
}

/// A message from one to the other, its receipt, and the other reading it.
fn deliver(tale: Tale, from: &Side, to: &Side, text: &str) -> Outcome {
    said(tale, from, to, text)?;
    let begun = Instant::now();
    let receipt = from.call_waiting(
        Request::Send {
            to: to.name.to_owned(),
            content: content(text)?,
            payload: None,
            reply_to: None,
            wait: Some(STEP_LIMIT),
            expires: None,
        },
        STEP_LIMIT,
    )?;
    let took = begun.elapsed();
    tale.tell(
        json!({"event": "receipt", "of": from.name, "id": receipt.get("id"), "status": receipt.get("status"), "took": millis(took)}),
        &format!("    {}: stored on {}'s disk, {} after sending", word(&receipt), to.name, human::elapsed(took)),
    )?;
    let message = to.next_message(STEP_LIMIT)?;
    received(tale, to, &message)
}

/// A question from one to the other, who is waiting for it, and the answer.
fn question(tale: Tale, from: &Side, to: &Side, text: &str, answer: &str) -> Outcome {
    thread::scope(|scope| {
        let answering = scope.spawn(|| -> Outcome {
            let message = to.next_message(STEP_LIMIT)?;
            received(tale, to, &message)?;
            to.reply(&message, content(answer)?, STEP_LIMIT)
        });
        said(tale, from, to, text)?;
        let begun = Instant::now();
        let request = Request::Ask {
            to: to.name.to_owned(),
            content: content(text)?,
            payload: None,
            timeout: Some(STEP_LIMIT),
        };
        let reply = from.call_waiting(request, STEP_LIMIT);
        let took = begun.elapsed();
        answering
            .join()
            .unwrap_or_else(|_| Err(Failure::new(ErrorCode::Internal, "the answering side broke")))?;
        let reply = reply?;
        tale.tell(
            json!({"event": "reply", "from": to.name, "to": from.name, "content": reply.get("content"),
                   "replyTo": reply.get("replyTo"), "took": millis(took)}),
            &format!(
                "{} replies: {:?}\n    asked and answered in {}",
                to.name,
                reply.get("content").and_then(Value::as_str).unwrap_or_default(),
                human::elapsed(took)
            ),
        )
    })
}

fn said(tale: Tale, from: &Side, to: &Side, text: &str) -> Outcome {
    tale.tell(
        json!({"event": "send", "from": from.name, "to": to.name, "content": text}),
        &format!("{} -> {}: {text:?}", from.name, to.name),
    )
}

fn received(tale: Tale, by: &Side, message: &Value) -> Outcome {
    let nick = message
        .get("fromNick")
        .and_then(Value::as_str)
        .unwrap_or("somebody");
    tale.tell(
        json!({"event": "received", "by": by.name, "message": message}),
        &format!("    {} has it, from {nick}", by.name),
    )
}

fn content(text: &str) -> Outcome<Content> {
    Content::new(text).map_err(|error| Failure::new(ErrorCode::TooLarge, error.to_string()))
}

fn word(receipt: &Value) -> &str {
    receipt.get("status").and_then(Value::as_str).unwrap_or("sent")
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// What is told, and since when.
#[derive(Clone, Copy)]
struct Tale {
    screen: Screen,
    started: Instant,
}

impl Tale {
    /// One thing that happened: an object a line for programs, a sentence for people.
    fn tell(self, mut event: Value, text: &str) -> Outcome {
        let since = self.started.elapsed();
        if let Some(object) = event.as_object_mut() {
            object.insert("ms".to_owned(), json!(millis(since)));
        }
        self.screen
            .event(&event, &format!("[{:7.3} s] {text}", since.as_secs_f64()))
    }
}
