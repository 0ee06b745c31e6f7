use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use clawchat_ipc::Secret;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);
const KEY: MessageId = MessageId::new([7; 16]);

/// A server that answers one request after the other, each with one of these functions. The requests come out of the
/// handle.
fn server(answers: Vec<fn(TcpStream)>) -> (Webhook, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = Webhook {
        url: format!("http://{}/hook/s3cret?x=1", listener.local_addr().unwrap()),
        token: None,
    };
    let serving = thread::spawn(move || {
        answers
            .into_iter()
            .map(|answer| {
                let (mut stream, _) = listener.accept().unwrap();
                let request = request(&mut stream);
                answer(stream);
                request
            })
            .collect()
    });
    (hook, serving)
}

/// Reads a request whose length is given.
fn request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with("\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
    let length = text.to_ascii_lowercase();
    let length = length.split("content-length: ").nth(1).unwrap();
    let mut body = vec![0; length.split("\r\n").next().unwrap().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    text + &String::from_utf8(body).unwrap()
}

fn ok(mut stream: TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
}

fn broken(mut stream: TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops");
}

/// Keeps the connection until the other side hangs up.
fn hang(mut stream: TcpStream) {
    let _ = stream.read(&mut [0]);
}

fn redirect(mut stream: TcpStream) {
    let here = stream.local_addr().unwrap();
    let head = format!("HTTP/1.1 307 Elsewhere\r\nLocation: http://{here}/\r\nContent-Length: 0\r\n\r\n");
    let _ = stream.write_all(head.as_bytes());
}

fn endless_body(mut stream: TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    while stream.write_all(&[b'x'; 65536]).is_ok() {}
}

fn endless_head(mut stream: TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
    while stream
        .write_all(b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")
        .is_ok()
    {}
}

fn nonsense(mut stream: TcpStream) {
    let _ = stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n");
}

#[test]
fn a_call_has_token_key_and_body() {
    let (mut hook, serving) = server(vec![ok]);
    hook.token = Some(WebhookToken::Text(Secret::new("t0ken")));
    post(&hook, "{\"count\":1}", &KEY, LIMIT).unwrap();
    let request = &serving.join().unwrap()[0];
    assert!(
        request.starts_with("POST /hook/s3cret?x=1 HTTP/1.1\r\n"),
        "{request}"
    );
    let lower = request.to_ascii_lowercase();
    assert!(lower.contains("\r\nauthorization: bearer t0ken\r\n"), "{request}");
    assert!(
        lower.contains(&format!("\r\nidempotency-key: {KEY}\r\n")),
        "{request}"
    );
    assert!(
        lower.contains("\r\ncontent-type: application/json\r\n"),
        "{request}"
    );
    assert!(request.ends_with("{\"count\":1}"), "{request}");
}

#[test]
fn the_token_file_is_read_for_every_call() {
    let (mut hook, serving) = server(vec![ok, ok]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    hook.token = Some(WebhookToken::File(file.clone()));
    let failed = post(&hook, "{}", &KEY, LIMIT).unwrap_err();
    assert_eq!(failed.reason, format!("there is no {}", file.display()));
    for token in ["one\n", "two"] {
        fs::write(&file, token).unwrap();
        post(&hook, "{}", &KEY, LIMIT).unwrap();
    }
    fs::write(&file, "a b").unwrap();
    assert!(
        post(&hook, "{}", &KEY, LIMIT)
            .unwrap_err()
            .reason
            .ends_with("holds no token")
    );
    let requests = serving.join().unwrap();
    assert!(requests[0].contains("Bearer one\r\n") && requests[1].contains("Bearer two\r\n"));
}

#[test]
fn a_redirect_is_a_failure() {
    let (mut hook, serving) = server(vec![redirect]);
    hook.token = Some(WebhookToken::Text(Secret::new("t0ken")));
    let failed = post(&hook, "{}", &KEY, LIMIT).unwrap_err();
    assert!(
        failed.reason.contains("redirects, which is not followed"),
        "{failed:?}"
    );
    assert!(!failed.reason.contains("s3cret"), "{failed:?}");
    assert_eq!(serving.join().unwrap().len(), 1);
}

#[test]
fn an_error_is_a_failure_and_the_next_call_may_succeed() {
    let (hook, serving) = server(vec![broken, ok]);
    let failed = post(&hook, "{}", &KEY, LIMIT).unwrap_err();
    assert!(failed.reason.contains("500"), "{failed:?}");
    post(&hook, "{}", &KEY, LIMIT).unwrap();
    serving.join().unwrap();
}

#[test]
fn a_server_that_hangs_is_given_up() {
    // On a busy machine it may be given up before it was asked anything.
    for seconds in [3, 12, 48] {
        let (hook, serving) = server(vec![hang]);
        let failed = post(&hook, "{}", &KEY, Duration::from_secs(seconds)).unwrap_err();
        assert!(failed.reason.ends_with("did not answer in time"), "{failed:?}");
        assert!(!failed.reason.contains("s3cret"), "{failed:?}");
        if serving.join().is_ok() {
            return;
        }
    }
    panic!("the request never arrived");
}

#[test]
fn answers_without_end_cost_nothing() {
    let (hook, serving) = server(vec![endless_body, endless_head, nonsense]);
    let start = Instant::now();
    post(&hook, "{}", &KEY, LIMIT).unwrap();
    post(&hook, "{}", &KEY, LIMIT).unwrap_err();
    post(&hook, "{}", &KEY, LIMIT).unwrap_err();
    assert!(start.elapsed() < LIMIT);
    serving.join().unwrap();
}

#[test]
fn nobody_there_is_a_failure() {
    // Bound and never listening: no other test is given this port.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/s3cret", nobody.local_addr().unwrap());
    let failed = post(&Webhook { url, token: None }, "{}", &KEY, LIMIT).unwrap_err();
    assert!(
        failed.reason.contains("cannot be reached") && !failed.reason.contains("s3cret"),
        "{failed:?}"
    );
}

#[test]
fn https_is_encrypted_before_anything_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = Webhook {
        url: format!("https://{}/s3cret", listener.local_addr().unwrap()),
        token: Some(WebhookToken::Text(Secret::new("t0ken"))),
    };
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut start = [0; 64];
        stream.read_exact(&mut start).unwrap();
        start
    });
    post(&hook, "{}", &KEY, LIMIT).unwrap_err();
    let start = serving.join().unwrap();
    assert_eq!(start[..2], [0x16, 3], "a TLS handshake");
}
