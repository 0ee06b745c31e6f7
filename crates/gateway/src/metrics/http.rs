//! Metrics over HTTP: `GET /metrics` and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use clawchat_ipc::{ErrorCode, Failure};
use tokio::net::TcpListener;

use super::gather;
use crate::http::{self, Answer, Asked, Method};
use crate::shared::Gateway;

/// Connections served at a time; the next one waits.
const MAX_CONNECTIONS: usize = 8;
/// The media type of the text exposition format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Listens where the configuration says.
///
/// # Errors
/// When that address is not to be had.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::new(
            ErrorCode::Network,
            format!("cannot serve metrics at {address}: {error}"),
        )
        .with_hint("choose another address for \"metrics\".\"listen\" in gateway-config.json")
    })
}

/// Answers until the gateway stops.
pub(crate) async fn serve(gateway: Gateway, listener: TcpListener) {
    let serving = Arc::clone(&gateway);
    let page = move |asked| {
        let gateway = Arc::clone(&serving);
        async move {
            answer(&asked, async || match gather(&gateway).await {
                Ok(page) => Ok(page.to_text()),
                Err(error) => Err(error.to_string()),
            })
            .await
        }
    };
    gateway
        .stop
        .run_until_cancelled(http::serve(listener, MAX_CONNECTIONS, page))
        .await;
}

async fn answer(asked: &Asked, page: impl AsyncFnOnce() -> Result<String, String>) -> Answer {
    match (asked.method, asked.path.as_str()) {
        (Method::Get, "/metrics") => match page().await {
            Ok(text) => Answer::page(TEXT, text),
            Err(error) => Answer::plain("500 Internal Server Error", &error),
        },
        (Method::Get, _) => Answer::plain("404 Not Found", "only /metrics is served here"),
        (Method::Options | Method::Other, _) => {
            Answer::plain("405 Method Not Allowed", "only GET and HEAD").with("Allow", "GET, HEAD")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn metrics_are_told_and_nothing_else() {
        for (method, path, status) in [
            (Method::Get, "/metrics", "200 OK"),
            (Method::Get, "/", "404 Not Found"),
            (Method::Get, "/metrics/../x", "404 Not Found"),
            (Method::Other, "/metrics", "405 Method Not Allowed"),
        ] {
            let path = path.to_owned();
            let told = answer(&Asked { method, path }, async || Ok("a 1\n".to_owned())).await;
            assert_eq!(told.status, status);
        }
        let metrics = Asked {
            method: Method::Get,
            path: "/metrics".to_owned(),
        };
        let failed = answer(&metrics, async || Err("no".to_owned())).await;
        assert_eq!(failed.status, "500 Internal Server Error");
    }
}
