//! Fetching a list over HTTP or HTTPS.

use std::time::Duration;

use clawchat_mesh::bootstrap::{self, List, ListError, MAX_LIST_BYTES};
use clawchat_mesh::ws::tls_complaint;
use clawchat_mesh::{Reach, WsUrl, WsUrlError, read_time};
use clawchat_types::UnixMillis;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Error};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// How long fetching may take in all.
const FETCH_LIMIT: Duration = Duration::from_secs(10);
/// Redirects followed.
const MAX_REDIRECTS: u32 = 3;
/// Largest head of an answer, in bytes.
const MAX_RESPONSE_HEAD_BYTES: usize = 16 * 1024;
/// Months as HTTP names them.
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
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

/// Who may vouch for the server of a list: the authorities that Mozilla trusts, and those the operator names.
#[derive(Clone, Debug)]
pub(crate) struct Trusted(RootCerts);

impl Trusted {
    /// With those in `more`: certificates in PEM format, which `ClientTls` was made from as well. May be empty.
    pub(crate) fn new(more: &[u8]) -> Self {
        let more: Vec<Certificate<'static>> = parse_pem(more)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if more.is_empty() {
            return Self(RootCerts::WebPki);
        }
        let usual = TLS_SERVER_ROOT_CERTS.iter().map(|der| Certificate::from_der(der));
        Self(usual.chain(more).into())
    }
}

/// A list, and what else its server said.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) list: List,
    /// The time at the server, to the second, if it told.
    pub(super) date: Option<UnixMillis>,
}

/// Fetches it. Blocks, for at most [`FETCH_LIMIT`].
pub(super) fn fetch(list: &ListUrl, trusted: &Trusted) -> Result<Fetched, FetchError> {
    fetch_within(list, trusted, FETCH_LIMIT)
}

/// The same within another time.
pub(super) fn fetch_within(
    list: &ListUrl,
    trusted: &Trusted,
    limit: Duration,
) -> Result<Fetched, FetchError> {
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(limit))
        .tls_config(TlsConfig::builder().root_certs(trusted.0.clone()).build())
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
    let date = answer.headers().get("Date");
    let date = date.and_then(|date| http_date(date.to_str().ok()?));
    let bytes = answer
        .body_mut()
        .with_config()
        .limit(MAX_LIST_BYTES as u64)
        .read_to_vec()
        .map_err(FetchError::of)?;
    let list = bootstrap::read(&bytes)?;
    Ok(Fetched { list, date })
}

/// The one form of dates that servers send (RFC 9110, section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<UnixMillis> {
    let mut words = text.strip_suffix(" GMT")?.split(' ').skip(1);
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    read_time(&format!("{year}-{month:02}-{day}T{time}Z"))
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("its server cannot be reached: {0}")]
    Unreachable(String),
    #[error("its server is not trusted: {0}")]
    Tls(String),
    #[error("its server did not answer in time")]
    TimedOut,
    #[error("its server answered with HTTP status {0}")]
    Status(u16),
    #[error("its server redirects more than {MAX_REDIRECTS} times")]
    Redirects,
    #[error("its server redirects from https:// to http://; use the URL where it really is")]
    Insecure,
    #[error(transparent)]
    NotAList(#[from] ListError),
}

impl FetchError {
    fn of(error: Error) -> Self {
        match error {
            Error::Timeout(_) => Self::TimedOut,
            Error::TooManyRedirects => Self::Redirects,
            Error::BodyExceedsLimit(_) => Self::NotAList(ListError::TooLong),
            Error::RequireHttpsOnly(_) => Self::Insecure,
            Error::Io(error) => match tls_complaint(&error) {
                Some(complaint) => Self::Tls(complaint),
                None => Self::Unreachable(error.to_string()),
            },
            Error::Rustls(error) => match tls_complaint(&error) {
                Some(complaint) => Self::Tls(complaint),
                None => Self::Unreachable(error.to_string()),
            },
            error => Self::Unreachable(error.to_string()),
        }
    }
}
