//! `hansard exec` and `env`: what they pass, what they refuse, and that they leave nothing behind.

use http::StatusCode;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::{Gateway, Output, Scripted, ScriptedReply, UPSTREAM_TOKEN, World, free_port, run, tools};

use crate::{binary, block_on};

/// A gateway before an upstream that accepts the gateway's credential alone.
struct Set {
    world: World,
    upstream: Scripted,
    gateway: Gateway,
}

impl Set {
    async fn new() -> Self {
        let upstream = Scripted::start(Arc::new(|_, request| {
            let given = request.headers().get("authorization").map(|value| value.as_bytes().to_vec());
            match given == Some(format!("Bearer {UPSTREAM_TOKEN}").into_bytes()) {
                true => ScriptedReply::json(r#"{"kind":"bigquery#datasetList","datasets":[]}"#),
                false => ScriptedReply::json(r#"{"error":{"code":401}}"#).status(401),
            }
        }))
        .await;
        let world = World::new(binary(), &upstream.url, "").await;
        let gateway = world.gateway();
        gateway.issue_key("agent@example.com", "key.json");
        Self { world, upstream, gateway }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).current_dir(&self.world.folder).env("HOME", &self.world.folder);
        command.env_remove("XDG_CONFIG_HOME").env("XDG_RUNTIME_DIR", &self.world.folder);
        command
    }

    fn exec(&self, options: &[&str], words: &[&str]) -> Output {
        let gateway = self.gateway.url.clone();
        let base = ["exec", "--gateway", &gateway, "--key", "key.json"];
        run(&mut self.command(&[&base[..], options, &["--"], words].concat()))
    }

    /// Folders of sessions that are there now.
    fn places(&self) -> usize {
        std::fs::read_dir(self.world.folder.join("hansard")).map_or(0, Iterator::count)
    }

    fn refused(&self) -> Vec<Value> {
        self.gateway.records(&["--outcome", "refused"])
    }
}

/// Starts one in the background; its first line of output.
fn start(command: &mut Command) -> (Child, String) {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().to_owned())
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap().success());
}

fn is_running(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One request by hand; the whole answer, empty if the connection was closed without one.
fn ask(address: &str, request: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let _ = socket.write_all(format!("{request}Connection: close\r\n\r\n").as_bytes());
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    answer
}

#[test]
fn a_failure_is_one_sentence_and_no_command() {
    block_on(async {
        let set = Set::new().await;
        let touched = set.world.folder.join("touched");
        let touch = ["touch", touched.to_str().unwrap()];
        let elsewhere = format!("http://127.0.0.1:{}", free_port());
        let gateway = set.gateway.url.clone();
        let cases: [(&[&str], &str); 6] = [
            (&["--gateway", &gateway], "hansard login"),
            (&["--gateway", &elsewhere, "--key", "key.json"], "can't be reached"),
            (&["--gateway", "http://example.com", "--key", "key.json"], "not https"),
            (&["--gateway", &gateway, "--key", "nokey.json"], "nokey.json"),
            (&["--gateway", &gateway, "--key", "key.json", "--connection", "other"], "'other'"),
            (&["--gateway", &gateway, "--token-file", "sa.json"], "does not accept"),
        ];
        for (options, said) in cases {
            let output = run(&mut set.command(&[&["exec"], options, &["--"], &touch[..]].concat()));
            assert_eq!(output.code, 125, "{options:?}: {}", output.stderr);
            assert!(output.stderr.contains(said), "{options:?}: {}", output.stderr);
            assert_eq!(output.stderr.trim().lines().count(), 1, "{}", output.stderr);
        }
        assert!(!touched.exists(), "the command ran");
        assert_eq!(set.exec(&[], &["no-such-command"]).code, 127);
        assert_eq!(set.exec(&[], &["./key.json"]).code, 126);
        assert_eq!(run(&mut set.command(&["exec"])).code, 125);
        assert_eq!(set.places(), 0);
    });
}

#[test]
fn a_gateway_whose_certificate_nobody_knows_is_not_spoken_to() {
    block_on(async {
        let set = Set::new().await;
        let folder = &set.world.folder;
        let made = run(Command::new("openssl").current_dir(folder).args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "tls.key",
            "-out",
            "tls.crt",
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]));
        assert_eq!(made.code, 0, "{}", made.stderr);
        let config = std::fs::read_to_string(folder.join("hansard.toml")).unwrap();
        let tls = "[server.tls]\ncert = \"tls.crt\"\nkey = { file = \"tls.key\" }\n\n[[identity.oidc]]";
        std::fs::write(folder.join("hansard.toml"), config.replacen("[[identity.oidc]]", tls, 1)).unwrap();
        let plain = set.gateway.url.clone();
        assert_eq!(set.gateway.stop(), 0);
        let mut serve =
            Command::new(binary()).arg("serve").current_dir(folder).stdout(Stdio::null()).spawn().unwrap();
        let secure = plain.replacen("http://127.0.0.1", "https://localhost", 1);
        let address = plain.trim_start_matches("http://").to_owned();
        eventually("the gateway does not listen", || TcpStream::connect(&address).is_ok());
        let exec = |env: &[(&str, &str)]| {
            let mut command = Command::new(binary());
            command.args(["exec", "--gateway", &secure, "--key", "key.json", "--", "curl", "-s"]);
            command.arg("https://bigquery.googleapis.com/bigquery/v2/projects/proj/datasets");
            command.current_dir(folder).env("HOME", folder).env("XDG_RUNTIME_DIR", folder);
            run(command.env_remove("XDG_CONFIG_HOME").envs(env.iter().copied()))
        };
        let stranger = exec(&[]);
        assert_eq!(stranger.code, 125);
        assert!(stranger.stderr.contains("does not trust the certificate"), "{}", stranger.stderr);
        let trusted = exec(&[("SSL_CERT_FILE", "tls.crt")]);
        signal(serve.id(), "TERM");
        serve.wait().unwrap();
        assert_eq!(trusted.code, 0, "{}", trusted.stderr);
        assert!(trusted.stdout.contains("datasetList"), "{}", trusted.stdout);
        drop(set.upstream);
    });
}

#[test]
fn the_command_is_run_as_if_by_itself() {
    block_on(async {
        let set = Set::new().await;
        assert_eq!(set.exec(&[], &["sh", "-c", "exit 7"]).code, 7);
        assert_eq!(set.exec(&[], &["sh", "-c", "kill -KILL $$"]).code, 137);
        let echoed = set.exec(&[], &["printf", "%s|", "a b", "", "$HOME", "-x"]);
        assert_eq!(echoed.stdout, "a b||$HOME|-x|");
        // What it left running ends with the session.
        let left = set.exec(&[], &["sh", "-c", "setsid sleep 300 >/dev/null 2>&1 & echo $!; sleep 0.3"]);
        assert!(!is_running(left.stdout.trim()), "{}", left.stdout);
        // A signal reaches it, and its answer to that is the answer.
        let script = "trap 'exit 42' TERM; echo up; while :; do sleep 0.05; done";
        let gateway = set.gateway.url.clone();
        let args = ["exec", "--gateway", &gateway, "--key", "key.json", "--", "sh", "-c", script];
        let (mut child, up) = start(&mut set.command(&args));
        assert_eq!(up, "up");
        signal(child.id(), "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(42));
        eventually("a session's folder stays", || set.places() == 0);
        let closed = set.gateway.records(&[]);
        let ends: Vec<_> = closed
            .iter()
            .filter(|record| record["event"]["action"] == "session.close")
            .map(|record| record["event"]["exit_code"].clone())
            .collect();
        assert_eq!(ends, [7, 137, 0, 0, 42]);
    });
}

#[test]
fn nothing_stays_after_a_crash() {
    block_on(async {
        let set = Set::new().await;
        let gateway = set.gateway.url.clone();
        let script = "echo $$ $HTTPS_PROXY; exec sleep 300";
        let args = ["exec", "--gateway", &gateway, "--key", "key.json", "--", "sh", "-c", script];
        let (mut child, line) = start(&mut set.command(&args));
        let (pid, proxy) = line.split_once(' ').unwrap();
        let address = proxy.trim_start_matches("http://").to_owned();
        assert!(is_running(pid) && TcpStream::connect(&address).is_ok());
        assert_eq!(set.places(), 1);
        signal(child.id(), "KILL");
        child.wait().unwrap();
        eventually("the command goes on", || !is_running(pid));
        eventually("its folder stays", || set.places() == 0);
        assert!(TcpStream::connect(&address).is_err());
    });
}

#[test]
fn other_credentials_stay_outside() {
    block_on(async {
        let set = Set::new().await;
        let planted = set.world.folder.join(".config/gcloud");
        std::fs::create_dir_all(&planted).unwrap();
        let stolen = r#"{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"planted-refresh"}"#;
        std::fs::write(planted.join("application_default_credentials.json"), stolen).unwrap();
        let script = "import google.auth, google.auth.transport.requests as t, os\n\
            credentials, project = google.auth.default(scopes=['https://www.googleapis.com/auth/bigquery'])\n\
            credentials.refresh(t.Request())\n\
            print(type(credentials).__name__, project, credentials.token)\n\
            print(dict(os.environ))";
        let python = tools().join("clients/bin/python").to_str().unwrap().to_owned();
        let gateway = set.gateway.url.clone();
        let args = ["exec", "--gateway", &gateway, "--key", "key.json", "--", &python, "-c", script];
        let mut command = set.command(&args);
        command.env("CLOUDSDK_AUTH_ACCESS_TOKEN", "planted-token").env("GOOGLE_API_KEY", "planted-key");
        command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("SSL_CERT_DIR", "/planted").env("NO_PROXY", "*");
        let output = run(&mut command);
        assert_eq!(output.code, 0, "{}", output.stderr);
        assert!(!output.stdout.contains("planted"), "{}", output.stdout);
        assert!(!output.stdout.contains(UPSTREAM_TOKEN));
        let mut words = output.stdout.split_whitespace();
        assert_eq!((words.next(), words.next()), (Some("Credentials"), Some("proj")));
        // The session's token is worth nothing upstream, and nothing here once the session is over.
        let token = words.next().unwrap();
        for base in [&set.upstream.url, &gateway] {
            let answer =
                testkit::ask("GET", &format!("{base}/bigquery/v2/projects/proj/datasets"), token, "").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{base}");
        }
        for asked in set.upstream.asked() {
            let header = asked.headers()["authorization"].to_str().unwrap();
            assert!(header == format!("Bearer {UPSTREAM_TOKEN}") || header == format!("Bearer {token}"));
        }
    });
}

#[test]
fn foreign_tokens_and_other_apis_are_refused_and_recorded() {
    block_on(async {
        let set = Set::new().await;
        let datasets = "https://bigquery.googleapis.com/bigquery/v2/projects/proj/datasets";
        let own = set.exec(&[], &["curl", "-s", datasets]);
        assert!(own.stdout.contains("datasetList"), "{own:?}");
        let foreign = set.exec(&[], &["curl", "-s", "-H", "Authorization: Bearer ya29.stolen", datasets]);
        assert!(foreign.stdout.contains("accessDenied"), "{}", foreign.stdout);
        let sister = "https://bigqueryreservation.googleapis.com/v1/projects/proj/locations/us/reservations";
        let sister = set.exec(&[], &["curl", "-s", sister]);
        assert!(sister.stdout.contains("bigqueryreservation.googleapis.com"), "{}", sister.stdout);
        let unknown = set.exec(&[], &["curl", "-s", "https://moon-bigquery.googleapis.com/"]);
        assert_ne!(unknown.code, 0);
        let only = set.exec(&["--only-bigquery"], &["curl", "-s", "https://example.com/"]);
        assert_ne!(only.code, 0);
        let regional = datasets.replacen("bigquery.", "bigquery.europe-west3.rep.", 1);
        assert!(set.exec(&[], &["curl", "-s", &regional]).stdout.contains("datasetList"));
        let shared = datasets.replacen("bigquery.", "www.", 1);
        assert!(set.exec(&[], &["curl", "-s", &shared]).stdout.contains("datasetList"));

        let refused = set.refused();
        let said: Vec<_> = refused.iter().filter_map(|record| record["status"]["reason"].as_str()).collect();
        assert_eq!(said, ["accessDenied"; 4], "{refused:#?}");
        let sha256 = "020a6f0456e95011d82fdeb5e9449d1cf7b3a77a7036016aebb3d4b8509532f3";
        let messages: Vec<String> = refused
            .iter()
            .map(|record| set.gateway.record(record["id"].as_str().unwrap())["status"]["message"].to_string())
            .collect();
        assert!(messages[0].contains(sha256), "{messages:?}");
        assert!(!messages.concat().contains("ya29"), "the token itself is nowhere");
        let asked = set.upstream.asked();
        assert!(asked.iter().all(|asked| !asked.uri().path().contains("reservations")), "never forwarded");
    });
}

#[test]
fn an_api_beside_bigquery_is_carried_where_the_connection_names_it() {
    block_on(async {
        let set = Set::new().await;
        let config = set.world.folder.join("hansard.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let apis = format!(
            "apis = [\"bigqueryreservation\"]\nupstream_apis = \"{}/{{api}}\"\nallow = ",
            set.upstream.url
        );
        std::fs::write(&config, text.replacen("allow = ", &apis, 1)).unwrap();
        assert_eq!(set.gateway.stop(), 0);
        let gateway = set.world.gateway();
        let exec = |url: &str, more: &[&str]| {
            let base = ["exec", "--gateway", &gateway.url, "--key", "key.json", "--", "curl", "-s", url];
            let mut command = Command::new(binary());
            command.args([&base[..], more].concat()).current_dir(&set.world.folder);
            command.env("HOME", &set.world.folder).env("XDG_RUNTIME_DIR", &set.world.folder);
            run(command.env_remove("XDG_CONFIG_HOME"))
        };
        let reservations = "https://bigqueryreservation.googleapis.com/v1/projects/proj/locations/us/reservations?reservationId=r";
        let body = r#"{"slotCapacity":"100"}"#;
        let made = exec(reservations, &["-H", "Content-Type: application/json", "-d", body]);
        assert!(made.stdout.contains("datasetList"), "the upstream's one answer: {made:?}");
        let refused =
            exec("https://bigquerydatatransfer.googleapis.com/v1/projects/proj/transferConfigs", &[]);
        assert!(refused.stdout.contains("accessDenied"), "{refused:?}");
        let elsewhere =
            exec("https://bigqueryreservation.googleapis.com/v1/projects/other/reservations", &[]);
        assert!(elsewhere.stdout.contains("no connection of yours serves project"), "{elsewhere:?}");

        let asked = set.upstream.asked();
        let sent: Vec<_> = asked.iter().filter(|asked| asked.uri().path().contains("/v1/projects")).collect();
        assert_eq!(sent.len(), 1, "what is not allowed is never forwarded");
        let path = "/bigqueryreservation/v1/projects/proj/locations/us/reservations?reservationId=r";
        assert_eq!(sent[0].uri().path_and_query().unwrap().as_str(), path);
        assert_eq!(sent[0].body(), body);
        assert!(!sent[0].headers().contains_key("x-hansard-api"), "our own header stays with us");
        let records = gateway.records(&[]);
        let carried: Vec<_> =
            records.iter().filter(|record| record["target"]["method"] == "bigqueryreservation").collect();
        let outcomes: Vec<_> = carried.iter().map(|record| record["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["ok", "refused"], "and the one of another project");
        let other = |record: &&Value| record["target"]["method"] == "bigquerydatatransfer";
        assert_eq!(records.iter().find(other).unwrap()["outcome"], "refused");
        assert_eq!(gateway.record(carried[0]["id"].as_str().unwrap())["request"]["body"], body);
        assert_eq!(gateway.stop(), 0);
    });
}

#[test]
fn the_port_is_for_its_own_programs() {
    block_on(async {
        let set = Set::new().await;
        let gateway = set.gateway.url.clone();
        let token = "GET /computeMetadata/v1/instance/service-accounts/default/token HTTP/1.1\r\n";
        let flavor = "Metadata-Flavor: Google\r\n";
        let script = "echo $HTTPS_PROXY; exec sleep 300";
        let args = ["exec", "--gateway", &gateway, "--key", "key.json", "--", "sh", "-c", script];
        let (mut child, proxy) = start(&mut set.command(&args));
        let address = proxy.trim_start_matches("http://");
        // We are no descendant of it.
        assert_eq!(ask(address, &format!("{token}Host: {address}\r\n{flavor}")), "");
        signal(child.id(), "TERM");
        child.wait().unwrap();

        let args = ["env", "--gateway", &gateway, "--key", "key.json", "--shell", "json"];
        let (mut env, printed) = start(&mut set.command(&args));
        let printed: Value = serde_json::from_str(&printed).unwrap();
        let address = printed["set"]["GCE_METADATA_HOST"].as_str().unwrap();
        let given = ask(address, &format!("{token}Host: {address}\r\n{flavor}"));
        assert!(given.contains("200 OK") && given.contains("hsd_"), "{given}");
        assert!(given.to_ascii_lowercase().contains("metadata-flavor: google"), "{given}");
        for (host, more) in [
            (address, ""),
            ("rebound.example.com", flavor),
            (address, "Metadata-Flavor: Google\r\nX-Forwarded-For: 10.0.0.1\r\n"),
            (address, "Metadata-Flavor: Google\r\nOrigin: https://example.com\r\n"),
        ] {
            let answer = ask(address, &format!("{token}Host: {host}\r\n{more}"));
            assert!(
                answer.starts_with("HTTP/1.1 403") && !answer.contains("hsd_"),
                "{host} {more}: {answer}"
            );
        }
        let api = "GET /bigquery/v2/projects/proj/datasets HTTP/1.1\r\n";
        assert!(ask(address, &format!("{api}Host: {address}\r\n")).contains("datasetList"));
        assert!(ask(address, &format!("{api}Host: rebound.example.com\r\n")).starts_with("HTTP/1.1 403"));
        if Path::new("/usr/bin/setpriv").exists() && uid() == 0 {
            let other = run(Command::new("setpriv").args([
                "--reuid",
                "65534",
                "--clear-groups",
                "curl",
                "-s",
                "-H",
                "Metadata-Flavor: Google",
                &format!("http://{address}/computeMetadata/v1/instance/service-accounts/default/token"),
            ]));
            assert_ne!(other.code, 0, "another user was served: {}", other.stdout);
            assert!(!other.stdout.contains("hsd_"));
        } else {
            println!("skipped: root: another user is tried by root with setpriv alone");
        }
        signal(env.id(), "TERM");
        assert_eq!(env.wait().unwrap().code(), Some(0));
        assert_eq!(set.places(), 0);
    });
}

fn uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").map_or(u32::MAX, |meta| meta.uid())
}

#[test]
fn doctor_says_what_is_open() {
    block_on(async {
        let set = Set::new().await;
        let closed = format!("127.0.0.1:{}", free_port());
        let gateway = set.gateway.url.clone();
        let base = ["doctor", "--gateway", &gateway, "--key", "key.json", "--json", "--egress"];
        let doctor = |egress: &str, env: &[(&str, &str)]| {
            let mut command = set.command(&[&base[..], &[egress], &["--", "curl"]].concat());
            let output = run(command.envs(env.iter().copied()));
            let open: Vec<String> = output
                .objects()
                .iter()
                .filter(|check| check["ok"] == false)
                .map(|check| check["check"].as_str().unwrap().to_owned())
                .collect();
            (output.code, open, output)
        };
        // The key lies in the folder where the command would run.
        std::fs::create_dir(set.world.folder.join("work")).unwrap();
        let (code, open, output) = doctor(&closed, &[]);
        assert_eq!((code, open), (1, vec!["key files here".to_owned()]), "{output:?}");
        let planted = set.world.folder.join(".config/gcloud");
        std::fs::create_dir_all(&planted).unwrap();
        std::fs::write(planted.join("application_default_credentials.json"), "{}").unwrap();
        let open_port = set.upstream.url.trim_start_matches("http://").to_owned();
        let (_, open, output) = doctor(&open_port, &[]);
        assert_eq!(open, ["your own Google login", "key files here", "direct egress"], "{output:?}");
        assert!(output.objects().len() >= 8);
    });
}

#[test]
fn a_detached_environment_outlives_its_shell() {
    block_on(async {
        let set = Set::new().await;
        let gateway = set.gateway.url.clone();
        let hansard = binary();
        let script = format!(
            "eval \"$({hansard} env --gateway {gateway} --key key.json --detach)\"; \
             curl -s https://bigquery.googleapis.com/bigquery/v2/projects/proj/datasets; echo; \
             echo $HANSARD_SIDECAR_PID"
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(&set.world.folder).env("HOME", &set.world.folder);
        let output = run(shell.env_remove("XDG_CONFIG_HOME").env("XDG_RUNTIME_DIR", &set.world.folder));
        assert!(output.stdout.contains("datasetList"), "{output:?}");
        let pid = output.stdout.trim().lines().last().unwrap().to_owned();
        assert!(is_running(&pid));
        signal(pid.parse().unwrap(), "TERM");
        eventually("it goes on", || !is_running(&pid));
        eventually("its folder stays", || set.places() == 0);
    });
}
