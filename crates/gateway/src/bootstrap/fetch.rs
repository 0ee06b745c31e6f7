//! Fetching a list over HTTP or HTTPS.

use std::time::Duration;

use clawchat_mesh::bootstrap::{self, List, ListError, MAX_LIST_BYTES};
use clawchat_mesh::{Reach, WsUrl, WsUrlError};
use ureq::{Agent, Error};

/// How long fetching may take in all.
const FETCH_LIMIT: Duration = Duration::from_secs(10);
/// Redirects followed.
const MAX_REDIRECTS: u32 = 3;
/// Largest head of an answer, in bytes.
const MAX_RESPONSE_HEAD_BYTES: usize = 16 * 1024;
/// How we present ourselves.
const USER_AGENT: &str = concat!("clawchatd/", env!("CARGO_PKG_VERSION"));

/// Where a list is.
#[derive(Clone, Debug)]
pub(crate) struct ListUrl {
    text: String,
    secure: bool,
    reach: Reach,
}

impl ListUrl {
    /// An `http://` or `https://` URL.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn parse(text: &str) -> Result<Self, WsUrlError> {
        let lower = text.to_ascii_lowercase();
        if !lower.starts_with("http://") && !lower.starts_with("https://") {
            return Err(WsUrlError::BadScheme);
        }
        let url: WsUrl = text.parse()?;
        Ok(Self {
            text: text.to_owned(),
            secure: url.is_secure(),
            reach: if url.host().is_loopback() {
                Reach::Everywhere
            } else {
                Reach::Elsewhere
            },
        })
    }

    /// Where the peers on that list may be: on this machine only if the list is.
    pub(super) fn reach(&self) -> Reach {
        self.reach
    }
}

/// Fetches it. Blocks, for at most [`FETCH_LIMIT`].
pub(super) fn fetch(list: &ListUrl) -> Result<List, FetchError> {
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(FETCH_LIMIT))
        .max_redirects(MAX_REDIRECTS)
        .http_status_as_error(false)
        // A list that is asked for over TLS is not taken from anywhere else.
        .https_only(list.secure)
        // The environment decides nothing here.
        .proxy(None)
        .user_agent(USER_AGENT)
        .max_response_header_size(MAX_RESPONSE_HEAD_BYTES)
        .build()
        .into();
    let mut answer = agent
        .get(&list.text)
        .header("Accept", "application/json")
        .call()
        .map_err(FetchError::of)?;
    if answer.status() != 200 {
        return Err(FetchError::Status(answer.status().as_u16()));
    }
    let bytes = answer
        .body_mut()
        .with_config()
        .limit(MAX_LIST_BYTES as u64)
        .read_to_vec()
        .map_err(FetchError::of)?;
    Ok(bootstrap::read(&bytes)?)
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("its server cannot be reached: {0}")]
    Unreachable(String),
    #[error("its server did not answer in time")]
    TimedOut,
    #[error("its server answered with HTTP status {0}")]
    Status(u16),
    #[error("its server redirects more than {MAX_REDIRECTS} times")]
    Redirects,
    #[error(transparent)]
    NotAList(#[from] ListError),
}

impl FetchError {
    fn of(error: Error) -> Self {
        match error {
            Error::Timeout(_) => Self::TimedOut,
            Error::TooManyRedirects => Self::Redirects,
            Error::BodyExceedsLimit(_) => Self::NotAList(ListError::TooLong),
            error => Self::Unreachable(error.to_string()),
        }
    }
}
