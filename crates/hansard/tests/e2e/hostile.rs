//! Attacks on the way in: tokens that are almost right, HTTP that two readers would read differently, floods.

use registry::SigningKey;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::{Gateway, Issuer, Scripted, ScriptedReply, World, ask};

use crate::{binary, block_on, queries};

async fn world() -> (World, Scripted) {
    let upstream = Scripted::start(Arc::new(|_, _| ScriptedReply::json(r#"{"jobComplete":true}"#))).await;
    (World::new(binary(), &upstream.url, "").await, upstream)
}

fn part(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

/// Tokens that lack one thing each.
fn almost_right(issuer: &Issuer, lure: &str) -> Vec<(String, String)> {
    let claims = issuer.claims("alice@example.com", &["data"]);
    let text = claims.to_string();
    let good = issuer.sign_text(r#"{"alg":"RS256","kid":"k1"}"#, &text);
    let [header, body, signature]: [String; 3] =
        good.split('.').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();

    let stranger = SigningKey::generate("evil");
    let jwk = stranger.jwks()["keys"][0].to_string();
    let modulus = issuer.public_keys()["keys"][0]["n"].as_str().unwrap().to_owned();

    let mut tokens: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, token: String| tokens.push((name.to_owned(), token));
    for none in ["none", "None", "NONE", "nOnE", "", "null"] {
        let header = part(&format!(r#"{{"alg":"{none}"}}"#));
        add(&format!("alg '{none}'"), format!("{header}.{body}."));
        add(&format!("alg '{none}' with a signature"), format!("{header}.{body}.{signature}"));
    }
    for symmetric in ["HS256", "HS384", "HS512"] {
        let header = format!(r#"{{"alg":"{symmetric}","kid":"k1"}}"#);
        add(symmetric, format!("{}.{body}.{}", part(&header), part(&modulus)));
    }
    add("embedded jwk", stranger.sign_text(&format!(r#"{{"alg":"RS256","jwk":{jwk}}}"#), &text));
    for (name, member) in [("jku", "jku"), ("x5u", "x5u")] {
        add(
            name,
            stranger.sign_text(&format!(r#"{{"alg":"RS256","kid":"evil","{member}":"{lure}"}}"#), &text),
        );
    }
    for kid in ["../../../dev/null", "' OR 1=1 --", "k1\\u0000", &"k".repeat(4000), "k2"] {
        add(
            &format!("kid {kid:.20}"),
            stranger.sign_text(&format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#), &text),
        );
    }
    add("kid is a number", issuer.sign_text(r#"{"alg":"RS256","kid":1}"#, &text));
    add("crit", issuer.sign_text(r#"{"alg":"RS256","kid":"k1","crit":["exp"]}"#, &text));
    add("b64", issuer.sign_text(r#"{"alg":"RS256","kid":"k1","b64":false,"crit":["b64"]}"#, &text));
    add("zip", issuer.sign_text(r#"{"alg":"RS256","kid":"k1","zip":"DEF"}"#, &text));
    add("logout", issuer.sign_text(r#"{"alg":"RS256","kid":"k1","typ":"logout+jwt"}"#, &text));
    add("alg twice", issuer.sign_text(r#"{"alg":"none","kid":"k1","alg":"RS256"}"#, &text));
    add("another family", issuer.sign_text(r#"{"alg":"ES256","kid":"k1"}"#, &text));
    for (name, twice) in [
        ("sub twice", r#","sub":"root""#),
        ("groups twice", r#","groups":["admins"]"#),
        ("aud twice", r#","aud":"hansard""#),
        ("exp twice", r#","exp":99999999999"#),
    ] {
        add(
            name,
            issuer
                .sign_text(r#"{"alg":"RS256","kid":"k1"}"#, &format!("{}{twice}}}", &text[..text.len() - 1])),
        );
    }
    let changed = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        issuer.sign(claims)
    };
    for value in
        [json!("9999999999"), json!(-1), json!(1e300), json!(null), json!([9_999_999_999u64]), json!({})]
    {
        let exp = changed("exp", value.clone());
        if value != json!(1e300) {
            add(&format!("exp {value}"), exp);
        }
    }
    add("nbf far away", changed("nbf", json!(99_999_999_999u64)));
    for (name, value) in
        [("sub", json!("")), ("sub", json!(7)), ("iss", json!([issuer.url])), ("aud", json!({"hansard": 1}))]
    {
        add(&format!("{name} {value}"), changed(name, value));
    }
    add("padding", format!("{header}.{body}=.{signature}"));
    add("other alphabet", format!("{header}.{body}.{}", signature.replace(['-', '_'], "+")));
    add("white space inside", format!("{header}. {body}.{signature}"));
    add("two parts", format!("{header}.{body}"));
    add("four parts", format!("{good}.x"));
    add("five parts", format!("{good}.x.y"));
    add("no signature", format!("{header}.{body}."));
    add("cut", good[..good.len() - 4].to_owned());
    add(
        "deep",
        issuer.sign_text(
            r#"{"alg":"RS256","kid":"k1"}"#,
            &format!("{}1{}", "[".repeat(9000), "]".repeat(9000)),
        ),
    );
    add(
        "long",
        issuer.sign_text(r#"{"alg":"RS256","kid":"k1"}"#, &format!(r#"{{"pad":"{}"}}"#, "x".repeat(20_000))),
    );
    add("one of ours, forged", format!("hsd_{good}"));
    add("one of ours, alg none", format!("hsd_{}.{body}.", part(r#"{"alg":"none"}"#)));
    tokens
}

#[test]
fn tokens_that_are_almost_right_are_refused() {
    block_on(async {
        let (world, upstream) = world().await;
        let gateway = world.gateway();
        let issuer = &world.issuer;
        let claims = issuer.claims("alice@example.com", &["data"]);
        let text = claims.to_string();
        let good = issuer.sign_text(r#"{"alg":"RS256","kid":"k1"}"#, &text);
        assert_eq!(ask("POST", &queries(&gateway.url), &good, r#"{"query":"SELECT 1"}"#).await.status, 200);
        // A listener that must never be asked for keys.
        let bait = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        bait.set_nonblocking(true).unwrap();
        let lure = format!("http://{}/keys", bait.local_addr().unwrap());
        let tokens = almost_right(&world.issuer, &lure);
        let before = upstream.asked().len();
        for (name, token) in &tokens {
            let started = Instant::now();
            let answer = ask("POST", &queries(&gateway.url), token, r#"{"query":"SELECT 1"}"#).await;
            assert_eq!(answer.status, 401, "{name}");
            assert!(started.elapsed() < Duration::from_secs(1), "{name}: {:?}", started.elapsed());
            assert!(!answer.record().is_empty(), "{name} has a record, or is counted in one");
        }
        assert_eq!(upstream.asked().len(), before, "none of them was forwarded");
        assert!(bait.accept().is_err(), "nobody fetched keys from where a token said");
        // The burst of a second is written when the second is over.
        tokio::time::sleep(Duration::from_millis(2200)).await;
        let records = gateway.records(&[]);
        let refusals = records.iter().filter(|record| record["kind"] == "auth");
        let counted: u64 = refusals.map(|record| record["event"]["count"].as_u64().unwrap()).sum();
        assert_eq!(counted, tokens.len() as u64, "each is in the record, or counted in one");
        println!("{} tokens refused", tokens.len());
    });
}

/// Sends bytes as they are, and reads what comes until the connection is silent or closed.
fn raw(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(gateway.url.trim_start_matches("http://")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read) = socket.read(&mut buffer) {
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

const PATH: &str = "/bigquery/v2/projects/p/queries";
const BODY: &str = r#"{"query":"SELECT 1"}"#;

/// What two readers would read differently, or what is no HTTP at all.
fn two_readings(auth: &str, token: &str) -> Vec<(&'static str, String)> {
    let (path, body) = (PATH, BODY);
    let len = body.len();
    let smuggled = format!("GET /bigquery/v2/projects/p/jobs/smuggled HTTP/1.1\r\n{auth}\r\n");
    vec![
        (
            "two lengths",
            format!("POST {path} HTTP/1.1\r\n{auth}Content-Length: {len}\r\nContent-Length: 3\r\n\r\n{body}"),
        ),
        ("length in a list", format!("POST {path} HTTP/1.1\r\n{auth}Content-Length: {len}, 3\r\n\r\n{body}")),
        ("signed length", format!("POST {path} HTTP/1.1\r\n{auth}Content-Length: +{len}\r\n\r\n{body}")),
        (
            "unknown coding",
            format!("POST {path} HTTP/1.1\r\n{auth}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        (
            "coding then identity",
            format!("POST {path} HTTP/1.1\r\n{auth}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ),
        (
            "coding in HTTP/1.0",
            format!("POST {path} HTTP/1.0\r\n{auth}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        (
            "folded header",
            format!("POST {path} HTTP/1.1\r\n{auth}X-A: b\r\n c\r\nContent-Length: {len}\r\n\r\n{body}"),
        ),
        ("space before colon", format!("POST {path} HTTP/1.1\r\n{auth}Content-Length : {len}\r\n\r\n{body}")),
        (
            "NUL in a header",
            format!("POST {path} HTTP/1.1\r\n{auth}X-A: b\0c\r\nContent-Length: {len}\r\n\r\n{body}"),
        ),
        ("NUL in the path", format!("POST {path}\0 HTTP/1.1\r\n{auth}Content-Length: {len}\r\n\r\n{body}")),
        (
            "bad chunk size",
            format!(
                "POST {path} HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n"
            ),
        ),
        (
            "huge chunk size",
            format!(
                "POST {path} HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{body}\r\n0\r\n\r\n"
            ),
        ),
        (
            "two authorizations",
            format!(
                "POST {path} HTTP/1.1\r\n{auth}Authorization: Bearer other\r\nContent-Length: {len}\r\n\r\n{body}"
            ),
        ),
        (
            "dots",
            format!(
                "POST /bigquery/v2/projects/p/x/../queries HTTP/1.1\r\n{auth}Content-Length: {len}\r\n\r\n{body}"
            ),
        ),
        (
            "encoded dots",
            format!(
                "POST /bigquery/v2/projects/p/%2e%2e/p/queries HTTP/1.1\r\n{auth}Content-Length: {len}\r\n\r\n{body}"
            ),
        ),
        (
            "encoded slash",
            format!(
                "POST /bigquery/v2/projects/p%2Fqueries HTTP/1.1\r\n{auth}Content-Length: {len}\r\n\r\n{body}"
            ),
        ),
        (
            "double slash",
            format!(
                "POST //bigquery/v2/projects/p/queries HTTP/1.1\r\n{auth}Content-Length: {len}\r\n\r\n{body}"
            ),
        ),
        (
            "backslash",
            format!(
                "POST /bigquery/v2/projects/p\\queries HTTP/1.1\r\n{auth}Content-Length: {len}\r\n\r\n{body}"
            ),
        ),
        (
            "method twice",
            format!(
                "POST {path} HTTP/1.1\r\n{auth}X-HTTP-Method-Override: GET\r\nX-HTTP-Method-Override: DELETE\r\nContent-Length: {len}\r\n\r\n{body}"
            ),
        ),
        ("lower-case method", format!("post {path} HTTP/1.1\r\n{auth}Content-Length: {len}\r\n\r\n{body}")),
        ("authority form", format!("CONNECT bigquery.googleapis.com:443 HTTP/1.1\r\n{auth}\r\n")),
        ("key twice", {
            let body = r#"{"query":"SELECT 1","query":"DROP TABLE t"}"#;
            format!("POST {path} HTTP/1.1\r\n{auth}Content-Length: {}\r\n\r\n{body}", body.len())
        }),
        (
            "token in the path",
            format!(
                "POST {path}?access_token={token} HTTP/1.1\r\nHost: h\r\nContent-Length: {len}\r\n\r\n{body}"
            ),
        ),
    ]
}

/// What means one thing.
fn one_reading(auth: &str) -> Vec<(&'static str, String)> {
    let (path, body) = (PATH, BODY);
    let len = body.len();
    let smuggled = format!("GET /bigquery/v2/projects/p/jobs/smuggled HTTP/1.1\r\n{auth}\r\n");
    vec![
        (
            "length and chunks: the chunks count, and nothing that follows them",
            format!(
                "POST {path} HTTP/1.1\r\n{auth}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{len:x}\r\n{body}\r\n0\r\n\r\n{smuggled}"
            ),
        ),
        (
            "absolute form",
            format!(
                "POST http://elsewhere.example{path} HTTP/1.1\r\n{auth}Content-Length: {len}\r\n\r\n{body}"
            ),
        ),
        (
            "hop-by-hop list",
            format!(
                "POST {path} HTTP/1.1\r\n{auth}Connection: authorization, x-goog-user-project\r\nX-Goog-User-Project: other\r\nContent-Length: {len}\r\n\r\n{body}"
            ),
        ),
        (
            "chunk extension and trailer",
            format!(
                "POST {path} HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\n{len:x};a=b\r\n{body}\r\n0\r\nAuthorization: Bearer other\r\n\r\n"
            ),
        ),
        (
            "upgrade",
            format!(
                "POST {path} HTTP/1.1\r\n{auth}Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: {len}\r\n\r\n{body}"
            ),
        ),
        (
            "forged origin",
            format!(
                "POST {path} HTTP/1.1\r\n{auth}X-Forwarded-For: 1.2.3.4\r\nX-Goog-IAM-Authority-Selector: root\r\nContent-Length: {len}\r\n\r\n{body}"
            ),
        ),
    ]
}

#[test]
fn http_that_two_readers_read_differently_goes_nowhere_or_in_one_form() {
    block_on(async {
        let (world, upstream) = world().await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let auth = format!("Host: h\r\nAuthorization: Bearer {token}\r\n");
        let requests = two_readings(&auth, &token);
        for (name, request) in &requests {
            let answer = raw(&gateway, request.as_bytes());
            let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
            assert!(status.is_empty() || status.starts_with('4') || status == "501", "{name}: {answer}");
            assert_eq!(upstream.asked().len(), 0, "{name} was forwarded");
        }

        // These mean one thing, and go on in one form.
        let forms = one_reading(&auth);
        for (number, (name, request)) in forms.iter().enumerate() {
            let answer = raw(&gateway, request.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
            let asked = upstream.asked();
            assert_eq!(asked.len(), number + 1, "{name}");
            let sent = asked.last().unwrap();
            assert_eq!(sent.uri().path(), PATH, "{name}");
            let sent_body: Value = serde_json::from_slice(sent.body()).unwrap();
            assert_eq!(sent_body["query"], "SELECT 1", "{name}");
            for header in
                ["x-goog-user-project", "x-forwarded-for", "x-goog-iam-authority-selector", "upgrade", "te"]
            {
                assert!(sent.headers().get(header).is_none(), "{name}: {header}");
            }
            assert_eq!(sent.headers().get_all("authorization").iter().count(), 1, "{name}");
        }
        assert_eq!(
            gateway
                .records(&["--outcome", "ok"])
                .iter()
                .filter(|record| record["kind"] == "exchange")
                .count(),
            forms.len()
        );
    });
}

/// One HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn floods_do_not_disturb_others() {
    block_on(async {
        let (world, _upstream) = world().await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
        // :method GET, :scheme http, :path /, all from the static table.
        let get = [0x82, 0x86, 0x84];
        let reset: Vec<u8> = (0..4000u32)
            .flat_map(|n| [frame(1, 5, 1 + 2 * n, &get), frame(3, 0, 1 + 2 * n, &[0, 0, 0, 8])].concat())
            .collect();
        let continuation: Vec<u8> = std::iter::once(frame(1, 1, 1, &get))
            .chain((0..4000).map(|_| frame(9, 0, 1, &[0; 16])))
            .flatten()
            .collect();
        let floods: Vec<(&str, Vec<u8>)> = vec![
            ("rapid reset", [preface.clone(), reset].concat()),
            ("CONTINUATION", [preface.clone(), continuation].concat()),
            ("SETTINGS", [preface.clone(), frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(20_000)].concat()),
            ("PING", [preface.clone(), frame(6, 0, 0, &[7; 8]).repeat(20_000)].concat()),
            ("empty DATA", [preface, frame(1, 4, 1, &get), frame(0, 0, 1, &[]).repeat(20_000)].concat()),
            ("endless header", [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1_000_000]].concat()),
            ("many headers", [b"GET / HTTP/1.1\r\n".to_vec(), b"X: y\r\n".repeat(50_000)].concat()),
        ];
        for (name, bytes) in floods {
            let address = gateway.url.trim_start_matches("http://").to_owned();
            let flood = std::thread::spawn(move || {
                for _ in 0..3 {
                    let Ok(mut socket) = TcpStream::connect(&address) else { continue };
                    let _ = socket.set_write_timeout(Some(Duration::from_millis(500)));
                    let _ = socket.write_all(&bytes);
                    let _ = socket.set_read_timeout(Some(Duration::from_millis(100)));
                    let _ = socket.read(&mut [0; 1024]);
                }
            });
            let started = Instant::now();
            let answer = ask("POST", &queries(&gateway.url), &token, r#"{"query":"SELECT 1"}"#).await;
            assert_eq!(answer.status, 200, "{name}");
            assert!(started.elapsed() < Duration::from_secs(2), "{name}: {:?}", started.elapsed());
            flood.join().unwrap();
        }
        // A thousand connections that say nothing, and as many that say it slowly.
        let idle: Vec<_> = (0..600)
            .filter_map(|n| {
                let mut socket = TcpStream::connect(gateway.url.trim_start_matches("http://")).ok()?;
                if n % 2 == 0 {
                    let _ = socket.write_all(b"POST / HTTP/1.1\r\nHo");
                }
                Some(socket)
            })
            .collect();
        let started = Instant::now();
        assert_eq!(ask("POST", &queries(&gateway.url), &token, r#"{"query":"SELECT 1"}"#).await.status, 200);
        assert!(started.elapsed() < Duration::from_secs(2));
        assert!(idle.len() > 500);
        drop(idle);
        assert_eq!(gateway.stop(), 0);
    });
}

#[test]
fn a_batch_is_unpacked_and_each_part_is_an_exchange() {
    block_on(async {
        let (world, upstream) = world().await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let inner = |id: &str, request: &str| {
            format!("--b\r\nContent-Type: application/http\r\nContent-ID: <x + {id}>\r\n\r\n{request}\r\n")
        };
        let body = [
            inner("1", "GET /bigquery/v2/projects/p/datasets HTTP/1.1\r\n\r\n"),
            inner("2", "POST /bigquery/v2/projects/p/queries HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{\"query\":\"SELECT 2\"}"),
            inner("3", "POST /mcp HTTP/1.1\r\n\r\n"),
            inner("4", "GET /bigquery/v2/projects/p/jobs/of-somebody HTTP/1.1\r\n\r\n"),
            "--b--\r\n".to_owned(),
        ]
        .concat();
        let send = |body: String, token: &str| {
            let request = http::Request::post(format!("{}/batch/bigquery/v2", gateway.url))
                .header("content-type", "multipart/mixed; boundary=b")
                .header("authorization", format!("Bearer {token}"));
            testkit::send(request.body(body.into()).unwrap())
        };
        let answer = send(body.clone(), &token).await;
        assert_eq!(answer.status, 200);
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let parts: Vec<&str> = text.split("Content-ID: <response-x + ").skip(1).collect();
        let statuses: Vec<&str> = parts
            .iter()
            .map(|part| part.split("HTTP/1.1 ").nth(1).unwrap().split(' ').next().unwrap())
            .collect();
        assert_eq!(statuses, ["200", "200", "404", "404"], "{text}");
        assert_eq!(upstream.asked().len(), 2, "only what may go went");
        let records = gateway.records(&[]);
        let told: Vec<_> = records
            .iter()
            .filter(|record| record["kind"] == "exchange")
            .map(|record| (record["request"]["path"].as_str().unwrap(), record["outcome"].as_str().unwrap()))
            .collect();
        assert_eq!(
            told,
            [
                ("/bigquery/v2/projects/p/datasets", "ok"),
                ("/bigquery/v2/projects/p/queries", "ok"),
                ("/mcp", "refused"),
                ("/bigquery/v2/projects/p/jobs/of-somebody", "refused"),
            ]
        );
        for (number, part) in parts.iter().enumerate() {
            let id = part.split("x-hansard-record: ").nth(1).unwrap().split('\r').next().unwrap();
            assert!(records.iter().any(|record| record["id"] == id), "part {number} names its record");
        }
        assert_eq!(send(body.clone(), "nobody").await.status, 401);
        let cut = send(body.replace("--b--\r\n", ""), &token).await;
        assert_eq!(cut.status, 400, "a batch that was cut is not half run");
        assert_eq!(upstream.asked().len(), 2);
    });
}
