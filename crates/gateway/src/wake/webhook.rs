//! Calls a webhook for a wake.

use std::time::Duration;

use clawchat_types::MessageId;
use ureq::http::StatusCode;
use ureq::{Agent, Error};

use super::Failed;
use crate::config::{Webhook, WebhookToken, is_token};
use crate::home;

/// Largest token file, in bytes.
const MAX_TOKEN_FILE_BYTES: u64 = 4096;
/// Largest head of an answer, in bytes. Of its body nothing is read.
const MAX_RESPONSE_HEAD_BYTES: usize = 16 * 1024;
/// How we present ourselves.
const USER_AGENT: &str = concat!("clawchatd/", env!("CARGO_PKG_VERSION"));

/// POSTs `body`, with `key` as the idempotency key. Blocks, for at most `limit`. Redirects are not followed: the token
/// is for the host the operator named.
///
/// # Errors
/// No answer in time, or none that begins with 2.
pub(super) fn post(hook: &Webhook, body: &str, key: &MessageId, limit: Duration) -> Result<(), Failed> {
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(limit))
        .max_redirects(0)
        .http_status_as_error(false)
        // The environment decides nothing here.
        .proxy(None)
        .user_agent(USER_AGENT)
        .max_response_header_size(MAX_RESPONSE_HEAD_BYTES)
        .build()
        .into();
    let mut request = agent
        .post(&hook.url)
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", key.to_string());
    if let Some(token) = token(hook)? {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let answer = request.send(body).map_err(|error| failed(hook, &error))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    Err(Failed::new(refused(hook, status)))
}

fn token(hook: &Webhook) -> Result<Option<String>, Failed> {
    match &hook.token {
        None => Ok(None),
        Some(WebhookToken::Text(token)) => Ok(Some(token.expose().to_owned())),
        Some(WebhookToken::File(path)) => {
            let text = home::read_text_bounded(path, MAX_TOKEN_FILE_BYTES)
                .map_err(|error| Failed::new(format!("cannot read the webhook's token: {error}")))?;
            match text.as_deref().map(str::trim) {
                Some(token) if is_token(token) => Ok(Some(token.to_owned())),
                Some(_) => Err(Failed::new(format!("{} holds no token", path.display()))),
                None => Err(Failed::new(format!("there is no {}", path.display()))),
            }
        }
    }
}

fn refused(hook: &Webhook, status: StatusCode) -> String {
    let what = if status.is_redirection() {
        "redirects, which is not followed"
    } else {
        "answered"
    };
    format!("{} {what} ({status})", hook.shown())
}

/// Only our own words: those of the library may repeat the address.
fn failed(hook: &Webhook, error: &Error) -> Failed {
    let why = match error {
        Error::Timeout(_) => "did not answer in time".to_owned(),
        Error::HostNotFound => "is not a known host".to_owned(),
        Error::Io(error) => format!("cannot be reached: {error}"),
        Error::ConnectionFailed => "cannot be reached".to_owned(),
        Error::Rustls(error) => format!("is not trusted: {error}"),
        Error::Protocol(_) | Error::LargeResponseHeader(_, _) => "does not answer as HTTP demands".to_owned(),
        _ => "cannot be called".to_owned(),
    };
    Failed::new(format!("{} {why}", hook.shown()))
}

#[cfg(test)]
mod tests;
