//! `hansard init`: writes a commented `hansard.toml`, by flags or by asking on a terminal.

use clap::Args;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::config;
use crate::wiring::{Settings, write_private};

#[derive(Args)]
pub(crate) struct InitArgs {
    /// Where to write it.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// The billing project that agents use.
    #[arg(long)]
    project: Option<String>,
    /// A service-account key file, or `adc` for the machine's own credentials.
    #[arg(long)]
    credentials: Option<String>,
    /// The identity provider's issuer URL; `none` for virtual keys alone.
    #[arg(long)]
    issuer: Option<String>,
    /// This gateway's client id at the provider.
    #[arg(long)]
    client_id: Option<String>,
    /// The connection's name.
    #[arg(long, default_value = "analytics")]
    connection: String,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:8484")]
    listen: String,
}

struct Answers {
    project: String,
    credentials: String,
    issuer: String,
    client_id: String,
}

/// Asks for what no flag says, writes the file and the evidence key, says what to type next.
pub(crate) fn run(args: &InitArgs) -> Result<(), Failure> {
    let path = args.dir.join("hansard.toml");
    if path.exists() {
        return Err(Failure::no(format!("{} exists; edit it, or give another --dir", path.display())));
    }
    let answers = ask(args)?;
    let folder = std::path::absolute(&args.dir).map_err(|error| Failure::other_side(error.to_string()))?;
    let key = key_path(&folder);
    let text = text(args, &answers, &key);
    // What is written passes `serve --check`, or is not written.
    let loaded = config::parse(&text, &path, &args.dir)?;
    Settings::check(loaded, None)?;
    let cannot = |path: &Path, error: std::io::Error| {
        Failure::other_side(format!("can't write {}: {error}", path.display()))
    };
    if !key.exists() {
        write_private(&key, registry::Vault::new_key_text().reveal()).map_err(|error| cannot(&key, error))?;
    }
    std::fs::create_dir_all(&args.dir).map_err(|error| cannot(&args.dir, error))?;
    std::fs::write(&path, text).map_err(|error| cannot(&path, error))?;
    println!("wrote {}", path.display());
    println!(
        "wrote {} (readable by you alone; back it up: without it the evidence can't be read)",
        key.display()
    );
    println!("next: hansard serve --config {}", path.display());
    Ok(())
}

fn ask(args: &InitArgs) -> Result<Answers, Failure> {
    let project = answer(args.project.as_ref(), "Billing project that agents use", None, "--project")?;
    let credentials = answer(
        args.credentials.as_ref(),
        "Service-account key file, or 'adc' for the machine's own",
        Some("adc"),
        "--credentials",
    )?;
    let issuer = answer(
        args.issuer.as_ref(),
        "Issuer URL of your identity provider, or 'none'",
        Some("none"),
        "--issuer",
    )?;
    let client_id = match issuer.as_str() {
        "none" => String::new(),
        _ => answer(
            args.client_id.as_ref(),
            "Client id of this gateway at the provider",
            Some("hansard"),
            "--client-id",
        )?,
    };
    Ok(Answers { project, credentials, issuer, client_id })
}

fn answer(
    given: Option<&String>,
    question: &str,
    default: Option<&str>,
    flag: &str,
) -> Result<String, Failure> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    if !std::io::stdin().is_terminal() {
        return default
            .map(str::to_owned)
            .ok_or_else(|| Failure::usage(format!("{flag} is missing, and there is no terminal to ask on")));
    }
    loop {
        match default {
            Some(default) => print!("{question} [{default}]: "),
            None => print!("{question}: "),
        }
        let _ = std::io::stdout().flush();
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        if read.map_err(|error| Failure::other_side(error.to_string()))? == 0 {
            return Err(Failure::usage("the terminal was closed before all questions were answered"));
        }
        let line = line.trim();
        match (line.is_empty(), default) {
            (false, _) => return Ok(line.to_owned()),
            (true, Some(default)) => return Ok(default.to_owned()),
            (true, None) => println!("This one has no default."),
        }
    }
}

/// Beside the configuration's folder, so that neither a copy of the data nor of the repository carries it.
fn key_path(folder: &Path) -> PathBuf {
    let name = folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_else(|| "hansard".to_owned());
    folder.parent().unwrap_or(folder).join(format!("{name}-evidence.key"))
}

fn text(args: &InitArgs, answers: &Answers, key: &Path) -> String {
    let quote = |text: &str| serde_json::to_string(text).expect("a string is JSON, and so a TOML string");
    let credentials = match answers.credentials.as_str() {
        "adc" => "{ adc = true }                 # the machine's application-default credentials".to_owned(),
        file => format!("{{ file = {} }}", quote(file)),
    };
    let key_name = key.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let identity = match answers.issuer.as_str() {
        "none" => "# No identity provider yet: only keys from `hansard key issue` get in.\n\
# [[identity.oidc]]\n# name = \"okta\"\n# issuer = \"https://example.okta.com\"\n# client_id = \"hansard\"\n# audiences = [\"hansard\"]\n"
            .to_owned(),
        issuer => format!(
            "[[identity.oidc]]\nname = \"idp\"                           # what records call it\nissuer = {}\nclient_id = {id}\naudiences = [{id}]                     # a token must be for one of these\ngroups_claim = \"groups\"\n",
            quote(issuer),
            id = quote(&answers.client_id),
        ),
    };
    format!(
        "# hansard: the flight recorder between agents and BigQuery. Every key: docs/configuration.md
# Check it with `hansard serve --check`.

[server]
listen = {listen}             # REST, tokens, API: one port
data_dir = \"hansard-data\"               # state, journal, evidence, index; back it up

[evidence]
key = {{ file = {key} }}   # opens statements and rows; keep it out of the repository and the data

[recording]
results = \"rows\"                        # rows | hash | none
uploads = \"hash\"                        # bytes | hash | none
[recording.retention]
rows = \"30d\"
statements = \"400d\"
records = \"7y\"

[policy]
include = [\"agents-default\"]          # `hansard policy preset agents-default` prints it; docs/policy.md

{identity}
[roles]                                 # CEL: who may use /api/v1; absent = nobody
# auditor = \"'security' in principal.groups\"
# admin = \"'platform' in principal.groups\"

[[connection]]
name = {name}
projects = [{project}]                 # billing projects that mean this connection
credentials = {credentials}
allow = \"true\"                          # CEL: who may use it, such as \"'data' in principal.groups\"
",
        listen = quote(&args.listen),
        key = quote(&format!("../{key_name}")),
        name = quote(&args.connection),
        project = quote(&answers.project),
    )
}
