//! What the emulator can't do, answered in Google's documented shapes; the source stands at each test.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use std::sync::Arc;
use testkit::{Scripted, ScriptedReply, World, ask, send};

use crate::{binary, block_on, queries, record_of};

/// `QueryResponse`: discovery revision 20261009, schemas.QueryResponse.
const ANSWER: &str = r#"{"kind":"bigquery#queryResponse","schema":{"fields":[{"name":"x","type":"INTEGER","mode":"NULLABLE"}]},"jobReference":{"projectId":"p","jobId":"job_1","location":"EU"},"totalRows":"2","rows":[{"f":[{"v":"1"}]},{"f":[{"v":null}]}],"totalBytesProcessed":"10","jobComplete":true,"cacheHit":false,"statementType":"SELECT","totalBytesBilled":"10485760","totalSlotMs":"31"}"#;

async fn world(
    script: impl Fn(&str, &Request<Bytes>) -> ScriptedReply + Send + Sync + 'static,
    extra: &str,
) -> (World, Scripted) {
    let upstream = Scripted::start(Arc::new(script)).await;
    let world = World::new(binary(), &upstream.url, &format!("shared_history = true\n{extra}")).await;
    (world, upstream)
}

#[test]
fn a_query_is_recorded_as_it_was_sent_and_answered() {
    block_on(async {
        let (world, upstream) = world(|_, _| ScriptedReply::json(ANSWER), "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let body = r#"{"query":"SELECT x\n  FROM t -- \u00e9 \"q\"","useLegacySql":false,"labels":{"team":"a"},"queryParameters":[{"name":"n"}]}"#;
        let answer = ask("POST", &queries(&gateway.url), &token, body).await;
        assert_eq!((answer.status, answer.body.as_ref()), (200, ANSWER.as_bytes()));
        assert_eq!(answer.header("cache-control"), "private");

        let record = record_of(&gateway, &answer);
        assert_eq!(record["v"], "hansard.record/1");
        assert_eq!(record["statement"]["sql"], "SELECT x\n  FROM t -- é \"q\"");
        assert_eq!(record["statement"]["params"], json!([{"name": "n"}]));
        assert_eq!(
            (&record["statement"]["kind"], &record["statement"]["certain"]),
            (&json!("SELECT"), &json!(true))
        );
        assert_eq!(record["request"]["body"], body);
        assert_eq!(record["task"]["labels"], json!({"team": "a"}));
        assert_eq!(record["actor"]["email"], json!({"value": "alice@example.com", "proof": "verified"}));
        assert_eq!(record["actor"]["groups"]["value"], json!(["data"]));
        assert_eq!(record["target"]["upstream_principal"], testkit::UPSTREAM_PRINCIPAL);
        assert_eq!(
            (&record["job"]["id"], &record["job"]["bytes_billed"], &record["target"]["location"]),
            (&json!("job_1"), &json!("10485760"), &json!("EU"))
        );
        assert_eq!(
            (&record["result"]["rows"], &record["result"]["bytes"]),
            (&json!(2), &json!(ANSWER.len()))
        );
        assert_eq!(record["result"]["data"], serde_json::from_str::<Value>(ANSWER).unwrap());
        assert_eq!((&record["outcome"], &record["decision"]["effect"]), (&json!("ok"), &json!("allow")));

        // The upstream saw the client's bytes, and beside them only the request id and the labels.
        let asked = upstream.asked();
        let sent: Value = serde_json::from_slice(asked[0].body()).unwrap();
        let id = answer.record();
        assert_eq!(sent["requestId"], id);
        assert_eq!(
            sent["labels"],
            json!({"team": "a", "hansard_record": id, "hansard_session": record["session"]})
        );
        let text = String::from_utf8(asked[0].body().to_vec()).unwrap();
        assert!(
            text.contains(r#""query":"SELECT x\n  FROM t -- \u00e9 \"q\"","useLegacySql":false"#),
            "{text}"
        );
        assert_eq!(gateway.stop(), 0);
    });
}

#[test]
fn jobs_get_an_id_and_labels_that_the_client_never_sees() {
    block_on(async {
        // `Job`: discovery revision 20261009; it repeats the configuration that it was given.
        let echo = |_: &str, request: &Request<Bytes>| {
            let asked: Value = serde_json::from_slice(request.body()).unwrap_or_default();
            let job = json!({
                "kind": "bigquery#job", "etag": "e", "jobReference": asked["jobReference"], "configuration": asked["configuration"],
                "status": {"state": "DONE"},
                "statistics": {"totalBytesProcessed": "7", "query": {"statementType": "DROP_TABLE", "referencedTables": [{"projectId": "p", "datasetId": "d", "tableId": "t"}]}},
            });
            ScriptedReply::json(job.to_string()).header("etag", "upstream-etag")
        };
        let (world, upstream) = world(echo, "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let jobs = format!("{}/bigquery/v2/projects/p/jobs", gateway.url);
        let insert = |configuration: Value| {
            let (token, jobs) = (token.clone(), jobs.clone());
            async move { ask("POST", &jobs, &token, json!({ "configuration": configuration }).to_string()).await }
        };

        let plain = insert(json!({"query": {"query": "DROP TABLE d.t"}})).await;
        let id = format!("hsd_{}", plain.record());
        assert_eq!(plain.json()["jobReference"], json!({"projectId": "p", "jobId": id}));
        assert_eq!(plain.json()["configuration"], json!({"query": {"query": "DROP TABLE d.t"}}));
        assert_eq!(plain.header("etag"), "", "a body that was changed carries no upstream etag");
        let record = record_of(&gateway, &plain);
        assert_eq!((&record["job"]["id"], &record["statement"]["kind"]), (&json!(id), &json!("DROP_TABLE")));
        assert_eq!(record["statement"]["tables"], json!(["p.d.t"]));
        let sent: Value = serde_json::from_slice(upstream.asked()[0].body()).unwrap();
        assert_eq!(sent["configuration"]["labels"]["hansard_record"], plain.record());

        let own = insert(json!({"labels": {"a": "b"}, "query": {"query": "SELECT 1"}})).await;
        assert_eq!(own.json()["configuration"]["labels"], json!({"a": "b"}));

        let dry = insert(json!({"dryRun": true, "query": {"query": "SELECT 1"}})).await;
        assert_eq!(dry.status, 200);
        let many: serde_json::Map<String, Value> = (0..63).map(|n| (format!("l{n}"), "x".into())).collect();
        assert_eq!(insert(json!({"labels": many, "query": {"query": "SELECT 1"}})).await.status, 200);
        let asked = upstream.asked();
        let labels = |at: usize| {
            serde_json::from_slice::<Value>(asked[at].body()).unwrap()["configuration"]["labels"].clone()
        };
        assert!(labels(1).get("hansard_session").is_some());
        assert_eq!(labels(2), Value::Null, "a dry run is not labelled");
        assert_eq!(labels(3).as_object().unwrap().len(), 63, "63 labels leave no place");

        let forged = insert(json!({"labels": {"hansard_record": "x"}, "query": {"query": "SELECT 1"}})).await;
        assert_eq!((forged.status, upstream.asked().len()), (400, 4));
    });
}

#[test]
fn label_jobs_can_be_turned_off() {
    block_on(async {
        let (world, upstream) = world(|_, _| ScriptedReply::json(ANSWER), "").await;
        let path = world.folder.join("hansard.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}\nlabel_jobs = false\n")).unwrap();
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        ask("POST", &queries(&gateway.url), &token, r#"{"query":"SELECT 1","requestId":"mine"}"#).await;
        let sent = String::from_utf8(upstream.asked()[0].body().to_vec()).unwrap();
        let (before, rest) = sent.split_once("\"requestId\":\"").unwrap();
        let (id, after) = rest.split_at(36);
        assert_eq!((before, after), (r#"{"query":"SELECT 1","#, "\"}"), "not a byte beside it is changed");
        assert!(id.chars().all(|c| c.is_ascii_hexdigit()), "an id of this principal's own: {id}");
    });
}

#[test]
fn fields_are_widened_upstream_and_narrowed_for_the_client() {
    block_on(async {
        let (world, upstream) = world(|_, _| ScriptedReply::json(ANSWER), "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let url = format!(
            "{}/bigquery/v2/projects/p/queries/job_1?fields=rows%2Fv,rows/f,jobComplete",
            gateway.url
        );
        let answer = ask("GET", &url, &token, "").await;
        assert_eq!(
            answer.json(),
            json!({"rows": [{"f": [{"v": "1"}]}, {"f": [{"v": null}]}], "jobComplete": true})
        );
        let seen = upstream.asked()[0].uri().to_string();
        assert!(seen.contains("schema") && seen.contains("jobReference"), "{seen}");
        let record = record_of(&gateway, &answer);
        assert_eq!(record["result"]["bytes"], answer.body.len());
        assert_eq!(
            record["result"]["schema"]["fields"][0]["name"], "x",
            "the schema is kept beside the rows"
        );
        assert_eq!((&record["result"]["rows"], &record["job"]["id"]), (&json!(2), &json!("job_1")));
        let wrong =
            ask("GET", &format!("{}/bigquery/v2/projects/p/queries/j?fields=a(", gateway.url), &token, "")
                .await;
        assert_eq!(wrong.status, 400);
    });
}

#[test]
fn an_answer_without_a_job_is_recorded_by_its_query_id() {
    block_on(async {
        // JOB_CREATION_OPTIONAL: "Short query optimized mode" in BigQuery's documentation.
        let body = r#"{"kind":"bigquery#queryResponse","queryId":"q_77","jobComplete":true,"schema":{"fields":[]},"totalRows":"0","location":"US"}"#;
        let (world, _upstream) = world(move |_, _| ScriptedReply::json(body), "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let answer = ask(
            "POST",
            &queries(&gateway.url),
            &token,
            r#"{"query":"SELECT 1","jobCreationMode":"JOB_CREATION_OPTIONAL"}"#,
        )
        .await;
        let record = record_of(&gateway, &answer);
        assert_eq!((&record["job"]["query_id"], record["job"].get("id")), (&json!("q_77"), None));
        assert_eq!(record["result"]["rows"], 0);
    });
}

#[test]
fn arrow_inside_rest_is_recorded_whole() {
    block_on(async {
        // queryResultsFormat: discovery revision 20261009, QueryRequest and QueryResponse.arrowRecordBatch.
        let body = r#"{"jobComplete":true,"jobReference":{"jobId":"j"},"arrowSchema":{"serializedSchema":"AAAA"},"arrowRecordBatch":{"serializedRecordBatch":"BBBB"},"pageRowCount":"3","totalRows":"3"}"#;
        let (world, _upstream) = world(move |_, _| ScriptedReply::json(body), "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let answer = ask(
            "POST",
            &queries(&gateway.url),
            &token,
            r#"{"query":"SELECT 1","queryResultsFormat":"ARROW"}"#,
        )
        .await;
        let record = record_of(&gateway, &answer);
        assert_eq!(record["result"]["rows"], 3);
        assert_eq!(record["result"]["data"]["arrowRecordBatch"]["serializedRecordBatch"], "BBBB");
    });
}

#[test]
fn packed_answers_pass_and_are_recorded_unpacked() {
    block_on(async {
        let script = |line: &str, request: &Request<Bytes>| {
            assert!(
                matches!(request.headers()["accept-encoding"].to_str().unwrap(), "gzip" | "identity"),
                "{line}"
            );
            let reply = ScriptedReply::json(ANSWER).gzip();
            match line.contains("torn") {
                true => ScriptedReply { body: reply.body[..reply.body.len() - 9].to_vec(), ..reply },
                false => reply,
            }
        };
        let (world, _upstream) = world(script, "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let get = |job: &str| {
            let request = Request::get(format!("{}/{job}", queries(&gateway.url)))
                .header("accept-encoding", "gzip, br");
            send(request.header("authorization", format!("Bearer {token}")).body(Bytes::new()).unwrap())
        };
        let answer = get("whole").await;
        assert_eq!(answer.header("content-encoding"), "gzip");
        let record = record_of(&gateway, &answer);
        assert_eq!(
            (&record["result"]["bytes"], &record["result"]["wire_bytes"]),
            (&json!(ANSWER.len()), &json!(answer.body.len()))
        );
        assert_eq!(record["result"]["data"]["totalRows"], "2");

        let torn = get("torn").await;
        assert_eq!(torn.status, 503, "a shortened answer is never given as whole");
        assert_eq!(record_of(&gateway, &torn)["outcome"], "aborted");
    });
}

#[test]
fn a_long_answer_is_released_in_windows() {
    block_on(async {
        let row = format!(r#"{{"f":[{{"v":"{}"}}]}}"#, "x".repeat(1000));
        let body =
            format!(r#"{{"jobComplete":true,"rows":[{}],"totalRows":"5000"}}"#, vec![row; 5000].join(","));
        let (expected, len) = (body.clone(), body.len());
        let (world, _upstream) = world(move |_, _| ScriptedReply::json(body.clone()), "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let answer = ask("GET", &format!("{}/j", queries(&gateway.url)), &token, "").await;
        assert!(answer.whole && answer.body == expected.as_bytes());
        let record = record_of(&gateway, &answer);
        assert_eq!((&record["result"]["rows"], &record["result"]["bytes"]), (&json!(5000), &json!(len)));
        assert!(record["result"]["pages"].as_u64().unwrap() >= 4);
        assert_eq!(record["result"]["data"], serde_json::from_str::<Value>(&expected).unwrap());
        assert_eq!(gateway.hansard(&["verify"]).code, 0);
    });
}

#[test]
fn a_long_packed_answer_is_released_in_windows_too() {
    block_on(async {
        // Numbers that repeat nothing, so that what is packed is longer than a window as well.
        let mut seed = 1u64;
        let mut number = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!(r#"{{"f":[{{"v":"{:016x}"}}]}}"#, seed >> 3)
        };
        let rows: Vec<String> = (0..150_000).map(|_| number()).collect();
        let body = format!(r#"{{"jobComplete":true,"rows":[{}],"totalRows":"150000"}}"#, rows.join(","));
        let (len, packed) = (body.len(), ScriptedReply::json(body).gzip());
        let expected = packed.body.clone();
        assert!(expected.len() > 1024 * 1024);
        let (world, _upstream) = world(move |_, _| packed.clone(), "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let request = Request::get(format!("{}/j", queries(&gateway.url))).header("accept-encoding", "gzip");
        let request = request.header("authorization", format!("Bearer {token}")).body(Bytes::new()).unwrap();
        let answer = send(request).await;
        assert!(answer.whole && answer.body == expected, "byte for byte");
        let record = record_of(&gateway, &answer);
        assert_eq!(
            (&record["result"]["bytes"], &record["result"]["wire_bytes"], &record["result"]["rows"]),
            (&json!(len), &json!(expected.len()), &json!(150_000))
        );
        assert_eq!(gateway.hansard(&["verify"]).code, 0);
    });
}

#[test]
fn packed_bytes_that_say_nothing_fill_windows_too() {
    block_on(async {
        // RFC 1952: a head, then RFC 1951 3.2.4: stored blocks of no length, the last one marked, then CRC and length.
        let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
        let body = [head.as_slice(), &[0, 0, 0, 0xff, 0xff].repeat(600_000), &[1, 0, 0, 0xff, 0xff], &[0; 8]];
        let reply = ScriptedReply { body: body.concat(), ..ScriptedReply::json("") };
        let reply = reply.header("content-encoding", "gzip");
        let expected = reply.body.clone();
        let (world, _upstream) = world(move |_, _| reply.clone(), "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let answer = ask("GET", &format!("{}/j", queries(&gateway.url)), &token, "").await;
        assert!(answer.whole && answer.body == expected);
        let record = record_of(&gateway, &answer);
        assert_eq!(
            (&record["result"]["bytes"], &record["result"]["wire_bytes"]),
            (&json!(0), &json!(expected.len()))
        );
        assert_eq!(gateway.hansard(&["verify"]).code, 0);
    });
}

#[test]
fn results_can_be_kept_as_a_hash_or_a_count() {
    block_on(async {
        for (kept, hash) in [("hash", true), ("none", false)] {
            let (world, _upstream) =
                world(|_, _| ScriptedReply::json(ANSWER), &format!("[recording]\nresults = \"{kept}\"\n"))
                    .await;
            let gateway = world.gateway();
            let token = world.issuer.token("alice@example.com", &["data"]);
            let answer = ask("POST", &queries(&gateway.url), &token, r#"{"query":"SELECT 1"}"#).await;
            let record = record_of(&gateway, &answer);
            assert_eq!((&record["result"]["rows"], &record["result"]["retained"]), (&json!(2), &json!(kept)));
            assert_eq!(
                (record["result"].get("sha256").is_some(), &record["result"]["data"]),
                (hash, &Value::Null)
            );
        }
    });
}

#[test]
fn errors_and_304_pass_and_are_recorded() {
    block_on(async {
        // "Error messages" in BigQuery's documentation.
        let error = r#"{"error":{"code":403,"message":"Quota exceeded: too much","status":"PERMISSION_DENIED","errors":[{"message":"Quota exceeded: too much","domain":"usageLimits","reason":"quotaExceeded"}]}}"#;
        let script = move |line: &str, request: &Request<Bytes>| match request.headers().get("if-none-match")
        {
            Some(_) => {
                ScriptedReply { status: 304, headers: vec![("etag", "\"e\"".into())], body: Vec::new() }
            }
            None if line.contains("datasets") => ScriptedReply::json("{}").header("etag", "\"e\""),
            None => ScriptedReply::json(error).status(403),
        };
        let (world, _upstream) = world(script, "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let failed = ask("POST", &queries(&gateway.url), &token, r#"{"query":"SELECT 1"}"#).await;
        assert_eq!((failed.status, failed.body.as_ref()), (403, error.as_bytes()));
        let record = record_of(&gateway, &failed);
        assert_eq!(
            (&record["outcome"], &record["status"]["reason"], &record["status"]["message"]),
            (&json!("error"), &json!("quotaExceeded"), &json!("Quota exceeded: too much"))
        );

        let datasets = format!("{}/bigquery/v2/projects/p/datasets", gateway.url);
        assert_eq!(ask("GET", &datasets, &token, "").await.header("etag"), "\"e\"");
        let request = Request::get(&datasets)
            .header("if-none-match", "\"e\"")
            .header("authorization", format!("Bearer {token}"));
        let unchanged = send(request.body(Bytes::new()).unwrap()).await;
        assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
        let record = record_of(&gateway, &unchanged);
        assert_eq!(
            (&record["status"]["http"], &record["outcome"], &record["result"]["bytes"]),
            (&json!(304), &json!("ok"), &json!(0))
        );
    });
}

#[test]
fn what_is_no_method_is_refused_and_recorded_and_not_forwarded() {
    block_on(async {
        let (world, upstream) = world(|_, _| ScriptedReply::json("{}"), "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        for (method, path, status, reason) in [
            ("POST", "/mcp", 404, "unknownMethod"),
            ("GET", "/bigquery/v2/projects/p/nonsense", 404, "unknownMethod"),
            ("POST", "/bigquery/v2/projects/other/queries", 404, "unknownConnection"),
            ("GET", "/bigquery/v2/projects/p/datasets?alt=media", 400, "invalid"),
            ("GET", "/bigquery/v2/projects/p/datasets?callback=f", 400, "invalid"),
            ("GET", "/bigquery/v2/projects/p/datasets?access_token=x", 400, "invalid"),
        ] {
            let answer = ask(method, &format!("{}{path}", gateway.url), &token, "").await;
            assert_eq!(answer.status, status, "{path}");
            let error = answer.json()["error"].clone();
            assert_eq!(error["message"], error["errors"][0]["message"]);
            assert!(error["message"].as_str().unwrap().contains(&answer.record()), "{error}");
            let record = record_of(&gateway, &answer);
            assert_eq!(
                (&record["outcome"], &record["status"]["reason"]),
                (&json!("refused"), &json!(reason)),
                "{path}"
            );
        }
        for body in [r#"{"query":"SELECT 1","query":"DROP TABLE t"}"#, r#"{"query":"#, r#"{"query":1}"#] {
            let answer = ask("POST", &queries(&gateway.url), &token, body).await;
            assert_eq!(answer.status, 400, "{body}");
            assert_eq!(record_of(&gateway, &answer)["request"]["body"], body);
        }
        let reference =
            r#"{"jobReference":{"projectId":"elsewhere"},"configuration":{"query":{"query":"SELECT 1"}}}"#;
        assert_eq!(
            ask("POST", &format!("{}/bigquery/v2/projects/p/jobs", gateway.url), &token, reference)
                .await
                .status,
            400
        );
        assert!(upstream.asked().is_empty(), "nothing was forwarded");
        let long = format!("{{\"query\":\"{}\"}}", "x".repeat(17 * 1024 * 1024));
        let answer = ask("POST", &queries(&gateway.url), &token, long).await;
        assert_eq!(answer.status, 413);
    });
}

#[test]
fn a_body_is_read_by_its_own_door_alone() {
    block_on(async {
        let (world, upstream) = world(|_, _| ScriptedReply::json(ANSWER), "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let both = r#"{"query":"SELECT 1","dryRun":true,"configuration":{"query":{"query":"DROP TABLE t"}}}"#;
        let project = format!("{}/bigquery/v2/projects/p", gateway.url);
        for (door, sql) in [("jobs", "DROP TABLE t"), ("queries", "SELECT 1")] {
            let answer = ask("POST", &format!("{project}/{door}"), &token, both).await;
            assert_eq!(gateway.record(&answer.record())["statement"]["sql"], sql, "{door}");
        }
        let sent: Value = serde_json::from_slice(upstream.asked()[0].body()).unwrap();
        assert!(sent["configuration"]["labels"]["hansard_record"].is_string(), "no dry run of a job: {sent}");
        for body in [r#"["SELECT 1"]"#, r#"{"configuration":{"query":["DROP TABLE t"]}}"#] {
            assert_eq!(ask("POST", &format!("{project}/jobs"), &token, body).await.status, 400, "{body}");
        }
        assert_eq!(upstream.asked().len(), 2, "an array is no object");
    });
}

#[test]
fn the_statement_is_found_in_a_body_of_any_shape() {
    block_on(async {
        let (world, _upstream) = world(|_, _| ScriptedReply::json(ANSWER), "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let sql = format!("SELECT '{}'", "y".repeat(5_000_000));
        let padded = format!(r#"{{"pad":"{}","query":{}}}"#, "x".repeat(70_000), json!(sql));
        let answer = ask("POST", &queries(&gateway.url), &token, padded.clone()).await;
        assert_eq!(record_of(&gateway, &answer)["statement"]["sql"], sql);

        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, padded.as_bytes()).unwrap();
        let request = Request::post(queries(&gateway.url))
            .header("content-encoding", "gzip")
            .header("authorization", format!("Bearer {token}"));
        let answer = send(request.body(packed.finish().unwrap().into()).unwrap()).await;
        assert_eq!(record_of(&gateway, &answer)["statement"]["sql"], sql);

        let escaped = r#"{"qu\u0065ry":"SELECT \u0031"}"#;
        let answer = ask("POST", &queries(&gateway.url), &token, escaped).await;
        assert_eq!(record_of(&gateway, &answer)["statement"]["sql"], "SELECT 1");
        let found = gateway.records(&["--contains", "yyyyyyyy"]);
        assert_eq!(found.len(), 2, "long statements are searched too");
    });
}

#[test]
fn a_long_get_that_was_sent_as_a_post_is_a_get_again() {
    block_on(async {
        let (world, upstream) = world(|_, _| ScriptedReply::json(ANSWER), "").await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let request = Request::post(format!("{}/j", queries(&gateway.url)))
            .header("x-http-method-override", "GET")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", format!("Bearer {token}"));
        let answer = send(request.body(Bytes::from_static(b"maxResults=5&location=EU")).unwrap()).await;
        assert_eq!(answer.status, 200);
        let asked = &upstream.asked()[0];
        assert_eq!((asked.method().as_str(), asked.body().len()), ("GET", 0));
        assert!(asked.uri().query().unwrap().contains("maxResults=5&location=EU"));
        let record = record_of(&gateway, &answer);
        assert_eq!(
            (&record["target"]["method"], &record["request"]["body"]),
            (&json!("jobs.getQueryResults"), &json!("maxResults=5&location=EU"))
        );
    });
}

/// Attack 57: `TableDataInsertAllResponse` says in an answer of 200 which rows were refused.
#[test]
fn rows_that_were_refused_in_an_answer_of_success_are_an_error() {
    block_on(async {
        let answer = r#"{"kind":"bigquery#tableDataInsertAllResponse","insertErrors":[{"index":3,"errors":[{"reason":"invalid","message":"no such field: x"}]}]}"#;
        let refused = |rows| {
            let row = r#"{"index":0,"errors":[{"reason":"stopped"}]}"#;
            format!(r#"{{"insertErrors":[{}]}}"#, vec![row; rows].join(","))
        };
        // Of so many that it is not read any more, it is known that there are some.
        let (many, more) = (refused(100_000), refused(900_000));
        let (world, _) = world(
            move |line, _| match line {
                line if line.contains("/good/") => ScriptedReply::json(r#"{"kind":"x"}"#),
                line if line.contains("/many/") => ScriptedReply::json(many.clone()),
                line if line.contains("/more/") => ScriptedReply::json(more.clone()),
                _ => ScriptedReply::json(answer),
            },
            "",
        )
        .await;
        let gateway = world.gateway();
        let token = world.issuer.token("alice@example.com", &["data"]);
        let tables = format!("{}/bigquery/v2/projects/p/datasets/d/tables", gateway.url);
        let rows = r#"{"rows":[{"json":{"x":1}}]}"#;
        let recorded = async |path: &str| {
            let answer = ask("POST", &format!("{tables}/{path}"), &token, rows).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let record = record_of(&gateway, &answer);
            (record["outcome"].clone(), record["status"].clone(), answer.json())
        };
        let refused = json!({"http": 200, "reason": "invalid", "message": "row 3: no such field: x"});
        let (outcome, status, shown) = recorded("bad/insertAll").await;
        assert_eq!((outcome, status), (json!("error"), refused.clone()));
        assert_eq!(shown["insertErrors"][0]["index"], 3);
        // Also where the client does not want to see it.
        let (outcome, status, shown) = recorded("bad/insertAll?fields=kind").await;
        assert_eq!((outcome, status, &shown["insertErrors"]), (json!("error"), refused, &Value::Null));
        for (path, reason) in [("many/insertAll", "stopped"), ("more/insertAll", "invalid")] {
            let (outcome, status, _) = recorded(path).await;
            assert_eq!((outcome, &status["reason"]), (json!("error"), &json!(reason)));
        }
        assert_eq!(recorded("good/insertAll").await.0, "ok");
    });
}
