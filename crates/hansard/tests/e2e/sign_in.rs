//! People sign in with a browser or a device, act by commands from anywhere, and are gone when they sign out.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use testkit::{Gateway, Output, Scripted, ScriptedReply, World, ask, run, send};

use crate::{binary, block_on};

const ROLES: &str =
    "[roles]\nauditor = \"'auditors' in principal.groups\"\nadmin = \"'admins' in principal.groups\"\n";

async fn world() -> (World, Scripted) {
    let upstream = Scripted::start(Arc::new(|_, _| ScriptedReply::json("{}"))).await;
    (World::new(binary(), &upstream.url, ROLES).await, upstream)
}

/// A person's own machine: a folder for sign-ins, and a browser that follows where it is sent, with its cookies.
struct Desk {
    folder: PathBuf,
}

impl Desk {
    fn new(world: &World, name: &str) -> Self {
        let folder = world.folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let jar = folder.join("cookies");
        let browser = folder.join("browser");
        let script = format!("#!/bin/sh\nexec curl -sL -b {0} -c {0} \"$1\"\n", jar.display());
        std::fs::write(&browser, script).unwrap();
        std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).current_dir(&self.folder).env("XDG_CONFIG_HOME", &self.folder);
        command.env("BROWSER", self.folder.join("browser"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    fn browse(&self, url: &str) -> String {
        run(Command::new(self.folder.join("browser")).arg(url)).stdout
    }

    fn kept(&self, gateway: &Gateway) -> Value {
        let path = self.folder.join("hansard/login.json");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        all[&gateway.url].clone()
    }
}

async fn datasets(gateway: &Gateway, token: &str) -> u16 {
    ask("GET", &format!("{}/bigquery/v2/projects/p/datasets", gateway.url), token, "").await.status
}

#[test]
fn a_person_signs_in_with_a_browser_and_acts_from_anywhere() {
    block_on(async {
        let (world, _upstream) = world().await;
        let gateway = world.gateway();
        let desk = Desk::new(&world, "desk");
        let not_yet = desk.run(&["records", "--gateway", &gateway.url]);
        assert_eq!(not_yet.code, 1);
        assert!(not_yet.stderr.contains("hansard login"), "{}", not_yet.stderr);

        world.issuer.person("alice@example.com", &["data"]);
        let signed_in = desk.run(&["login", "--gateway", &gateway.url]);
        assert_eq!(signed_in.code, 0, "{}", signed_in.stderr);
        let token = desk.kept(&gateway)["access_token"].as_str().unwrap().to_owned();
        assert!(token.starts_with("hsd_"));
        assert_eq!(datasets(&gateway, &token).await, 200);
        let no_role = desk.run(&["records", "--gateway", &gateway.url]);
        assert_eq!(no_role.code, 1, "data is no role: {}", no_role.stdout);

        world.issuer.person("carol@example.com", &["auditors"]);
        assert_eq!(desk.run(&["login", "--gateway", &gateway.url]).code, 0);
        let records = desk.run(&["records", "--gateway", &gateway.url, "--json"]);
        assert_eq!(records.code, 0, "{}", records.stderr);
        let told: Vec<_> =
            records.objects().into_iter().filter(|record| record["event"]["action"] == "sign_in").collect();
        assert_eq!(told.len(), 2);
        assert_eq!(told[0]["actor"]["email"]["value"], "carol@example.com");
        for reads in [
            &["sessions"][..],
            &["query", "SELECT count(*) FROM records"],
            &["connection", "list"],
            &["verify"],
        ] {
            let output = desk.run(&[reads, &["--gateway", &gateway.url]].concat());
            assert_eq!(output.code, 0, "{reads:?}: {}", output.stderr);
        }
        for changes in [&["key", "list"][..], &["retention", "run", "--dry-run"]] {
            let output = desk.run(&[changes, &["--gateway", &gateway.url]].concat());
            assert_eq!(output.code, 1, "an auditor is no admin: {changes:?}");
        }
        world.issuer.person("root@example.com", &["admins"]);
        assert_eq!(desk.run(&["login", "--gateway", &gateway.url]).code, 0);
        assert_eq!(desk.run(&["key", "list", "--gateway", &gateway.url]).code, 0);

        let token = desk.kept(&gateway)["access_token"].as_str().unwrap().to_owned();
        let record = format!("{}/api/v1/records", gateway.url);
        assert_eq!(ask("GET", &record, &token, "").await.status, 200);
        let out = desk.run(&["logout", "--gateway", &gateway.url]);
        assert_eq!(out.code, 0, "{}", out.stderr);
        assert_eq!(ask("GET", &record, &token, "").await.status, 401, "gone at once");
        assert_eq!(desk.run(&["logout", "--gateway", &gateway.url]).code, 1);
    });
}

#[test]
fn a_token_is_renewed_and_a_refresh_token_is_good_once() {
    block_on(async {
        let (world, _upstream) = world().await;
        let gateway = world.gateway();
        let desk = Desk::new(&world, "desk");
        world.issuer.person("carol@example.com", &["auditors"]);
        assert_eq!(desk.run(&["login", "--gateway", &gateway.url]).code, 0);
        let first = desk.kept(&gateway);
        // As if an hour had passed.
        let path = desk.folder.join("hansard/login.json");
        let old = std::fs::read_to_string(&path).unwrap().replace(&first["expires_at"].to_string(), "1");
        std::fs::write(&path, &old).unwrap();
        assert_eq!(desk.run(&["sessions", "--gateway", &gateway.url]).code, 0);
        let second = desk.kept(&gateway);
        assert_ne!(first["refresh_token"], second["refresh_token"]);
        std::fs::write(&path, &old).unwrap();
        let again = desk.run(&["sessions", "--gateway", &gateway.url]);
        assert_eq!(again.code, 1, "it was good once: {}", again.stdout);
        // A sign-in survives a restart of the gateway.
        assert_eq!(gateway.stop(), 0);
        let gateway = world.gateway();
        let api = format!("{}/api/v1/sessions", gateway.url);
        assert_eq!(ask("GET", &api, second["access_token"].as_str().unwrap(), "").await.status, 200);
    });
}

/// `hansard login --device`, and the code that it shows.
fn device(desk: &Desk, gateway: &Gateway) -> (Child, String, impl BufRead) {
    let mut child = desk
        .command(&["login", "--device", "--gateway", &gateway.url])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let lines = stderr.by_ref().lines().map_while(Result::ok);
    let mut lines = lines.map(|line| line.trim().to_owned());
    let code = lines.find(|line| line.len() == 9 && line.as_bytes()[4] == b'-').expect("it shows a code");
    drop(lines);
    (child, code, stderr)
}

fn confirm_of(page: &str) -> String {
    let rest = page.split("name=\"confirm\" value=\"").nth(1).unwrap_or_else(|| panic!("{page}"));
    rest.split('"').next().unwrap().to_owned()
}

async fn answer(gateway: &Gateway, confirm: &str, answer: &str) -> u16 {
    let body = format!("confirm={confirm}&answer={answer}");
    let request = http::Request::post(format!("{}/auth/device", gateway.url));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    send(request.body(body.into()).unwrap()).await.status
}

#[test]
fn a_device_is_signed_in_from_another_machine_and_only_by_hand() {
    block_on(async {
        let (world, _upstream) = world().await;
        let gateway = world.gateway();
        let (desk, server) = (Desk::new(&world, "desk"), Desk::new(&world, "server"));
        world.issuer.person("alice@example.com", &["data"]);
        let (mut child, code, _stderr) = device(&server, &gateway);
        let page = desk.browse(&format!("{}/auth/device?user_code={}", gateway.url, code.to_lowercase()));
        assert!(page.contains(&code) || page.contains(&code.to_lowercase()), "{page}");
        assert!(page.contains("alice@example.com"), "one sees as whom: {page}");
        assert_eq!(answer(&gateway, "made-up", "approve").await, 404);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(child.try_wait().unwrap().is_none(), "signing in at the provider is not enough");
        assert_eq!(answer(&gateway, &confirm_of(&page), "approve").await, 200);
        assert!(child.wait().unwrap().success());
        let token = server.kept(&gateway)["access_token"].as_str().unwrap().to_owned();
        assert_eq!(datasets(&gateway, &token).await, 200);

        let (mut child, code, _stderr) = device(&server, &gateway);
        let page = desk.browse(&format!("{}/auth/device?user_code={code}", gateway.url));
        assert_eq!(answer(&gateway, &confirm_of(&page), "refuse").await, 200);
        assert_eq!(child.wait().unwrap().code(), Some(1), "refused");
        let page = desk.browse(&format!("{}/auth/device?user_code=BBBB-BBBB", gateway.url));
        assert!(page.contains("No device waits"), "{page}");
    });
}

#[test]
fn a_sign_in_that_somebody_else_began_ends_nowhere() {
    block_on(async {
        let (world, _upstream) = world().await;
        let gateway = world.gateway();
        let desk = Desk::new(&world, "desk");
        let challenge = "a".repeat(43);
        let begin = |redirect: &str| {
            format!(
                "{}/auth/login?redirect_uri={redirect}&state=s&code_challenge={challenge}&code_challenge_method=S256",
                gateway.url
            )
        };
        for elsewhere in [
            "https://evil.example.com/",
            "http://127.0.0.1@evil.example.com/",
            "http://evil.example.com/",
            "javascript:1",
        ] {
            let page = desk.browse(&begin(elsewhere));
            assert!(page.contains("another machine"), "{elsewhere}: {page}");
        }
        // The browser that comes back is not the one that was sent.
        let get = |url: String| async move {
            send(http::Request::get(url).body(Default::default()).unwrap()).await
        };
        let asked = get(begin("http://127.0.0.1:1/x")).await;
        assert_eq!(asked.status, 302);
        let back = get(asked.header("location")).await.header("location");
        let refused = get(back.clone()).await;
        assert_eq!(refused.status, 403, "no cookie");
        assert_eq!(get(back).await.status, 403, "and the flow is over");
        // A code is nothing without its verifier, and with it good once.
        let cookies = desk.folder.join("cookies");
        let _ = std::fs::remove_file(&cookies);
        let verifier = "v".repeat(43);
        use base64::Engine;
        let challenge =
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(registry::fingerprint(&verifier));
        let url = format!(
            "{}/auth/login?redirect_uri=http://127.0.0.1:1/x&state=s&code_challenge={challenge}&code_challenge_method=S256",
            gateway.url
        );
        let log = run(Command::new("curl")
            .args(["-sL", "-o", "/dev/null", "-w", "%{url_effective}", "-b"])
            .arg(&cookies)
            .arg("-c")
            .arg(&cookies)
            .arg(&url));
        let code = log
            .stdout
            .split("code=")
            .nth(1)
            .unwrap_or_else(|| panic!("{log:?}"))
            .split('&')
            .next()
            .unwrap()
            .to_owned();
        let redeem = |verifier: String| {
            let (url, code) = (format!("{}/token", gateway.url), code.clone());
            async move {
                let form = format!(
                    "grant_type=authorization_code&code={code}&code_verifier={verifier}&redirect_uri=http://127.0.0.1:1/x"
                );
                let request =
                    http::Request::post(url).header("content-type", "application/x-www-form-urlencoded");
                send(request.body(form.into()).unwrap()).await
            }
        };
        let wrong = redeem("w".repeat(43)).await;
        assert_eq!((wrong.status, &wrong.json()["error"]), (400, &json!("invalid_grant")));
        let burnt = redeem(verifier).await;
        assert_eq!(burnt.status, 400, "whoever tries with a wrong one burns it");
    });
}
