//! The command line: configuration errors, `init` by flags and on a terminal, exit codes.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use testkit::{Output, Scripted, ScriptedReply, World, ask, free_port, root, run, send};

use crate::{binary, block_on};

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("hansard-commands-{}-{name}/repo", std::process::id()));
    let _ = std::fs::remove_dir_all(folder.parent().unwrap());
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn hansard(folder: &PathBuf, args: &[&str]) -> Output {
    run(Command::new(binary()).args(args).current_dir(folder))
}

fn check(text: &str) -> Output {
    let folder = folder("check");
    std::fs::write(folder.join("hansard.toml"), text).unwrap();
    hansard(&folder, &["serve", "--check"])
}

const CONNECTION: &str =
    "[[connection]]\nname = \"a\"\nprojects = [\"p\"]\ncredentials = { adc = true }\nallow = \"true\"\n";

#[test]
fn configuration_errors_name_file_line_and_the_nearest_key() {
    assert_eq!(check(CONNECTION).code, 0);
    for (text, says) in [
        (
            "[server]\nlisten = \"127.0.0.1:1\"\ncolour = 1\n",
            "hansard.toml:3: unknown key 'colour'; the nearest valid one is",
        ),
        (
            "[server]\nlistn = \"x\"\n",
            "hansard.toml:2: unknown key 'listn'; the nearest valid one is 'listen'",
        ),
        ("[server]\nlisten = \"here\"\n", "hansard.toml:2: listen = \"here\" is no address"),
        ("[server]\nlisten = \"0.0.0.0:8484\"\n", "hansard.toml:2: listen is not on loopback"),
        ("[server]\nlisten = 3\n", "hansard.toml:2:"),
        ("[recording]\nmode = \"later\"\n", "hansard.toml:2:"),
        ("[recording]\ndisk_floor = \"some\"\n", "hansard.toml:2: 'some' is no number of bytes"),
        ("[recording.retention]\nrows = \"soon\"\n", "hansard.toml:2: 'soon' is no span of time"),
        ("[store]\nurl = \"postgres://x\"\n", "hansard.toml:2: [store] url"),
        (
            "[[identity.oidc]]\nname = \"o\"\nissuer = \"http://example.com\"\nclient_id = \"c\"\n",
            "hansard.toml:3: issuer",
        ),
        (
            "[[identity.saml]]\nname = \"s\"\nmetadata = \"m.xml\"\n",
            "hansard.toml:1: [[identity.saml]] is not enforced",
        ),
        ("[roles]\n\nadmin = \"principal.gruops\"\n", "hansard.toml:3: the expression can't be used"),
        (
            "[[rule]]\nname = \"r\"\nwhen = \"true\"\naction = \"approve\"\n",
            "hansard.toml:1: an approve rule says who may answer",
        ),
        (
            "[[rule]]\nname = \"r\"\nwhen = \"statement.knd == 'x'\"\naction = \"deny\"\n",
            "hansard.toml:3: rule 'r': the expression can't be used: 'statement' has no field 'knd'",
        ),
        (
            "[[rule]]\nname = \"r\"\nwhen = \"nonsense(1)\"\naction = \"deny\"\n",
            "hansard.toml:3: rule 'r': the expression can't be used: unknown function 'nonsense'",
        ),
        (
            "[[rule]]\nname = \"r\"\nwhen = \"true\"\naction = \"deny\"\nexclude = true\n",
            "hansard.toml:5: 'exclude' belongs to action \"record\", not \"deny\"",
        ),
        ("[policy]\ninclude = [\"nothing\"]\n", "hansard.toml:2: include 'nothing' is neither a preset"),
    ] {
        let output = check(&format!("{text}{CONNECTION}"));
        assert_eq!(output.code, 2, "{text}: {output:?}");
        assert!(output.stderr.contains(says), "{text}: {}", output.stderr);
    }
    assert!(check("").stderr.contains("at least one is required"));
}

#[test]
fn the_contracts_example_parses_and_is_refused_by_the_line_it_may_not_have() {
    let example = include_str!("../../../../docs/hansard.example.toml");
    let output = check(example);
    let line = example.lines().position(|line| line.starts_with("[[identity.saml]]")).unwrap() + 1;
    assert!(output.stderr.contains(&format!("hansard.toml:{line}: [[identity.saml]]")), "{}", output.stderr);
}

#[test]
fn without_a_configuration_it_says_how_to_get_one() {
    let output = hansard(&folder("none"), &["serve"]);
    assert_eq!(output.code, 2);
    assert!(
        output.stderr.contains("hansard init") && output.stderr.contains("hansard demo"),
        "{}",
        output.stderr
    );
    assert_eq!(hansard(&folder("none2"), &["nonsense"]).code, 2);
    assert_eq!(hansard(&folder("none3"), &["--help"]).code, 0);
}

#[test]
fn init_by_flags_writes_what_passes_the_check() {
    for (name, args) in [
        ("adc", &["--project", "acme", "--credentials", "adc", "--issuer", "none"][..]),
        (
            "file",
            &[
                "--project",
                "acme",
                "--credentials",
                "sa.json",
                "--issuer",
                "https://example.okta.com",
                "--client-id",
                "hansard",
            ],
        ),
    ] {
        let folder = folder(&format!("init-{name}"));
        let output = hansard(&folder, &[&["init"], args].concat());
        assert_eq!(output.code, 0, "{}", output.stderr);
        assert!(output.stdout.contains("next: hansard serve --config"));
        assert_eq!(hansard(&folder, &["serve", "--check"]).code, 0);
        let key = folder.parent().unwrap().join("repo-evidence.key");
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&key).unwrap()) & 0o777, 0o600);
        assert_eq!(hansard(&folder, &[&["init"], args].concat()).code, 1, "an existing file is kept");
        assert!(hansard(&folder, &["connection", "list"]).stdout.contains("acme"));
    }
    let missing = hansard(&folder("init-missing"), &["init"]);
    assert!(missing.code == 2 && missing.stderr.contains("--project"), "{missing:?}");
}

#[test]
fn init_asks_on_a_terminal() {
    let folder = folder("init-pty");
    let script = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.chdir(sys.argv[2]); os.execv(sys.argv[1], [sys.argv[1], "init"])
answers = [b"acme-prod\n", b"\n", b"https://id.example.com\n", b"my-client\n"]
said = b""
while True:
    try: part = os.read(terminal, 4096)
    except OSError: break
    if not part: break
    said += part
    if said.rstrip().endswith(b":") and answers: os.write(terminal, answers.pop(0)); said += b" "
print(said.decode()); sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;
    let output = run(Command::new("python3").args(["-c", script, binary(), folder.to_str().unwrap()]));
    assert_eq!(output.code, 0, "{output:?}");
    let text = std::fs::read_to_string(folder.join("hansard.toml")).unwrap();
    assert!(
        text.contains("acme-prod")
            && text.contains("https://id.example.com")
            && text.contains("my-client")
            && text.contains("adc = true")
    );
    assert_eq!(hansard(&folder, &["serve", "--check"]).code, 0);
}

#[test]
fn a_taken_port_and_a_locked_folder_are_one_sentence_each() {
    block_on(async {
        let upstream = Scripted::start(Arc::new(|_, _| ScriptedReply::json("{}"))).await;
        let world = World::new(binary(), &upstream.url, "").await;
        let gateway = world.gateway();
        let taken = run(Command::new(binary()).arg("serve").current_dir(&world.folder));
        assert_eq!(taken.code, 3);
        assert!(taken.stderr.contains("is in use by another program"), "{}", taken.stderr);
        let config = std::fs::read_to_string(world.folder.join("hansard.toml")).unwrap();
        let other = config.replace(&format!(":{}", world.port), &format!(":{}", free_port()));
        std::fs::write(world.folder.join("other.toml"), other).unwrap();
        let locked =
            run(Command::new(binary()).args(["serve", "--config", "other.toml"]).current_dir(&world.folder));
        assert_eq!(locked.code, 3);
        assert!(locked.stderr.contains(&format!("in use by process {}", gateway.pid())), "{}", locked.stderr);

        let health =
            send(http::Request::get(format!("{}/healthz", gateway.url)).body(Default::default()).unwrap())
                .await;
        assert_eq!((health.status, health.body.as_ref()), (200, b"alive\n".as_ref()));
        let token = world.issuer.token("alice@example.com", &["data"]);
        ask("GET", &format!("{}/bigquery/v2/projects/p/datasets", gateway.url), &token, "").await;
        let metrics =
            send(http::Request::get(format!("{}/metrics", gateway.url)).body(Default::default()).unwrap())
                .await;
        let page = String::from_utf8(metrics.body.to_vec()).unwrap();
        assert!(page.contains("hansard_exchanges_total{outcome=\"ok\"} 1"), "{page}");
        let names: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let documented = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
        for name in names {
            assert!(
                documented.contains(&format!("`{}`", name.split(' ').next().unwrap())),
                "{name} is not documented"
            );
        }
        let unknown = gateway.hansard(&["record", "show", "0193f2a4-0000-7000-8000-000000000000"]);
        assert_eq!(unknown.code, 1);
        assert_eq!(gateway.stop(), 0, "SIGTERM drains and ends well");
        assert!(!world.folder.join("hansard-data/control.sock").exists());
    });
}

#[test]
fn http2_is_spoken_with_prior_knowledge_and_over_tls() {
    block_on(async {
        let upstream = Scripted::start(Arc::new(|_, _| ScriptedReply::json("{}"))).await;
        let world = World::new(binary(), &upstream.url, "").await;
        let token = world.issuer.token("alice@example.com", &["data"]);
        let gateway = world.gateway();
        let bearer = format!("Authorization: Bearer {token}");
        let url = format!("{}/bigquery/v2/projects/p/datasets", gateway.url);
        let asked = run(Command::new("curl").args([
            "-s",
            "--http2-prior-knowledge",
            "-H",
            &bearer,
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}",
            &url,
        ]));
        assert_eq!(asked.stdout, "2 200");
        assert_eq!(gateway.stop(), 0);

        let made = run(Command::new("openssl").current_dir(&world.folder).args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
            "tls.key",
            "-out",
            "tls.crt",
        ]));
        assert_eq!(made.code, 0, "{}", made.stderr);
        let config = std::fs::read_to_string(world.folder.join("hansard.toml")).unwrap();
        let with_tls = config.replacen(
            "\n[[identity.oidc]]",
            "\n[server.tls]\ncert = \"tls.crt\"\nkey = { file = \"tls.key\" }\n[[identity.oidc]]",
            1,
        );
        std::fs::write(world.folder.join("hansard.toml"), with_tls).unwrap();
        let mut serving = Command::new(binary())
            .arg("serve")
            .current_dir(&world.folder)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let url = url.replace("http://", "https://");
        let mut said = String::new();
        for _ in 0..100 {
            let asked = run(Command::new("curl").current_dir(&world.folder).args([
                "-s",
                "--cacert",
                "tls.crt",
                "-H",
                &bearer,
                "-o",
                "/dev/null",
                "-w",
                "%{http_version} %{http_code}",
                &url,
            ]));
            said = asked.stdout;
            if asked.code == 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let _ = serving.kill();
        let _ = serving.wait();
        assert_eq!(said, "2 200", "ALPN agrees on h2");
    });
}
