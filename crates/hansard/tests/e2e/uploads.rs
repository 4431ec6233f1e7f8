//! Uploads: the client only sees the gateway's address, which is bound to whoever opened it.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::{Answer, Scripted, ScriptedReply, World, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{binary, block_on, record_of};

/// "Resumable uploads" in Google's media upload documentation.
fn script(line: &str, request: &Request<Bytes>) -> ScriptedReply {
    let done = r#"{"jobReference":{"projectId":"p","jobId":"load_1","location":"US"},"status":{"state":"RUNNING"},"configuration":{"load":{}}}"#;
    if line.contains("upload_id=secret") {
        return match request.headers().get("content-range").and_then(|range| range.to_str().ok()) {
            Some(range) if !range.ends_with("/10") => {
                ScriptedReply { status: 308, headers: vec![("range", "bytes=0-4".into())], body: Vec::new() }
            }
            _ => ScriptedReply::json(done),
        };
    }
    if line.contains("uploadType=resumable") {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        let at = if line.contains("elsewhere") {
            "http://127.0.0.1:1".to_owned()
        } else {
            format!("http://{host}")
        };
        return ScriptedReply { status: 200, headers: vec![], body: Vec::new() }
            .header(
                "location",
                &format!("{at}/upload/bigquery/v2/projects/p/jobs?uploadType=resumable&upload_id=secret"),
            )
            .header("x-guploader-uploadid", "secret");
    }
    ScriptedReply::json(done)
}

async fn request(method: &str, url: &str, token: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request =
        Request::builder().method(method).uri(url).header("authorization", format!("Bearer {token}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()).await
}

#[test]
fn a_resumable_upload_stays_at_the_gateway_and_with_its_owner() {
    block_on(async {
        let upstream = Scripted::start(Arc::new(script)).await;
        let world = World::new(binary(), &upstream.url, "[recording]\nuploads = \"bytes\"\n").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let start = format!("{}/upload/bigquery/v2/projects/p/jobs?uploadType=resumable", gateway.url);
        let opened = request(
            "POST",
            &start,
            &token,
            &[("x-upload-content-type", "text/csv")],
            r#"{"configuration":{"load":{}}}"#,
        )
        .await;
        assert_eq!(opened.status, 200);
        let location = opened.header("location");
        assert!(location.starts_with(&gateway.url) && !location.contains("secret"), "{location}");
        assert!(!format!("{:?}", opened.headers).contains("secret"), "the upstream's own id never leaves");
        let job = record_of(&gateway, &opened)["job"]["id"].clone();
        assert!(job.as_str().unwrap().starts_with("hsd_"), "{job}");

        let first = request("PUT", &location, &token, &[("content-range", "bytes 0-4/*")], "hello").await;
        assert_eq!((first.status, first.header("range")), (308, "bytes=0-4".into()));

        let other = world.issuer.token("mallory@example.com", &["data"]);
        let stolen = request("PUT", &location, &other, &[("content-range", "bytes 5-9/10")], "evil!").await;
        assert_eq!(stolen.status, 404);

        // It survives a restart.
        assert_eq!(gateway.stop(), 0);
        let gateway = world.gateway();
        let last = request("PUT", &location, &token, &[("content-range", "bytes 5-9/10")], "world").await;
        assert_eq!((last.status, &last.json()["jobReference"]["jobId"]), (200, &json!("load_1")));
        let record = record_of(&gateway, &last);
        assert_eq!((&record["request"]["bytes"], &record["job"]["id"]), (&json!(5), &json!("load_1")));
        assert_eq!(record["request"]["sha256"], ledger::sha256(b"world").to_string());
        let bodies: Vec<_> = upstream.asked().iter().map(|asked| asked.body().clone()).collect();
        assert_eq!(
            &bodies[1..],
            [Bytes::from("hello"), Bytes::from("world")],
            "the stolen part never went up"
        );
        assert_eq!(gateway.hansard(&["verify"]).code, 0);
    });
}

#[test]
fn an_upload_address_on_another_host_is_not_followed() {
    block_on(async {
        let upstream = Scripted::start(Arc::new(script)).await;
        let world = World::new(binary(), &upstream.url, "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let start =
            format!("{}/upload/bigquery/v2/projects/p/jobs?uploadType=resumable&elsewhere=1", gateway.url);
        assert_eq!(request("POST", &start, &token, &[], "{}").await.status, 503);
    });
}

#[test]
fn a_multipart_upload_is_understood_by_its_first_part() {
    block_on(async {
        let upstream = Scripted::start(Arc::new(script)).await;
        let world = World::new(binary(), &upstream.url, "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let data = "a,b\r\n--B is no delimiter\r\n".repeat(100_000);
        let body = format!(
            "--BOUND\r\ncontent-type: application/json\r\n\r\n{{\"configuration\":{{\"load\":{{}}}}}}\r\n--BOUND\r\ncontent-type: */*\r\n\r\n{data}\r\n--BOUND--\r\n"
        );
        let url = format!("{}/upload/bigquery/v2/projects/p/jobs?uploadType=multipart", gateway.url);
        let kind = "multipart/related; boundary=\"BOUND\"";
        let answer = request("POST", &url, &token, &[("content-type", kind)], &body).await;
        assert_eq!(answer.status, 200);
        let sent = String::from_utf8(upstream.asked()[0].body().to_vec()).unwrap();
        let record = record_of(&gateway, &answer);
        assert!(sent.contains(&format!("hsd_{}", answer.record())), "the job got its id");
        assert!(
            sent.contains("hansard_session") && sent.ends_with(&format!("\r\n\r\n{data}\r\n--BOUND--\r\n"))
        );
        assert_eq!(record["request"]["sha256"], ledger::sha256(sent.as_bytes()).to_string());
        assert_eq!(
            record["request"]["body"], r#"{"configuration":{"load":{}}}"#,
            "no data of the upload is kept"
        );
    });
}

/// Answers at once and goes on reading: how many bytes came in each body, and their SHA-256.
async fn early_upstream() -> (String, Arc<Mutex<Vec<(usize, String)>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let got = Arc::<Mutex<Vec<(usize, String)>>>::default();
    let shared = got.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let got = shared.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let (got, is_upload) = (got.clone(), request.uri().path().starts_with("/upload/"));
                tokio::spawn(async move {
                    let body =
                        request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                    if is_upload {
                        got.lock().unwrap().push((body.len(), testkit::sha256(&body).to_string()));
                    }
                });
                let answer = r#"{"jobReference":{"projectId":"p","jobId":"load_1","location":"US"},"status":{"state":"DONE"},"configuration":{"load":{}}}"#;
                async move { Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::from(answer))) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    (url, got)
}

/// Attack 60: the answer came first, and the record was of half an upload that went up whole.
#[test]
fn an_upload_that_is_answered_before_its_end_is_recorded_whole() {
    block_on(async {
        for kept in ["hash", "bytes"] {
            let (upstream, got) = early_upstream().await;
            let uploads = format!("[recording]\nuploads = \"{kept}\"\n");
            let world = World::new(binary(), &upstream, &uploads).await;
            let gateway = world.gateway();
            let token = world.issuer.token("alice@example.com", &["data"]);
            let load = r#"{"configuration":{"load":{"destinationTable":{"projectId":"p","datasetId":"d","tableId":"t"},"sourceFormat":"CSV"}}}"#;
            let before = format!(
                "--b\r\nContent-Type: application/json\r\n\r\n{load}\r\n--b\r\nContent-Type: text/csv\r\n\r\n"
            );
            let (part, parts, after) = ("x".repeat(64 * 1024), 32, "\r\n--b--\r\n");
            let length = before.len() + parts * part.len() + after.len();
            let mut socket = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
            let head = format!(
                "POST /upload/bigquery/v2/projects/p/jobs?uploadType=multipart HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: multipart/related; boundary=b\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{before}"
            );
            socket.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..parts {
                socket.write_all(part.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            socket.write_all(after.as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            let id =
                answer.lines().find_map(|line| line.strip_prefix("x-hansard-record: ")).unwrap().to_owned();
            let record = gateway.record(id.trim());
            let (bytes, sha256) = got.lock().unwrap().first().cloned().expect("it went up");
            assert!(bytes >= parts * part.len(), "{bytes}");
            assert_eq!(
                (&record["request"]["bytes"], &record["request"]["sha256"]),
                (&json!(bytes), &json!(sha256)),
                "{kept}: {record:#}"
            );
        }
    });
}
