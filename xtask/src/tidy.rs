//! Checks of structure that no compiler makes. Each names what it guards: an invariant of ARCHITECTURE.md or a
//! rule of CONTRIBUTING.md.

use std::fs;
use std::path::{Path, PathBuf};

use xtask::steps::{Step, cargo, output, root};

/// Rooms that each room may depend on.
const ROOMS: &[(&str, &[&str])] = &[
    ("record", &[]),
    ("googlesql", &[]),
    ("analyzer", &["googlesql"]),
    ("policy", &["record"]),
    ("outbound", &[]),
    ("registry", &["outbound", "record"]),
    ("state", &["record"]),
    ("ledger", &["record", "registry"]),
    ("identity", &["outbound", "record", "registry", "state"]),
    ("approvals", &["outbound", "record", "registry", "state"]),
    ("gateway", &["approvals", "identity", "ledger", "outbound", "policy", "record", "registry", "state"]),
    ("bigquery", &["gateway", "googlesql", "ledger", "outbound", "record", "registry", "state"]),
    ("sidecar", &["outbound", "record", "registry"]),
    ("console", &["approvals", "identity", "ledger", "record", "registry", "state"]),
];

/// Rooms without IO and without async.
const PURE: &[&str] = &["record", "policy", "googlesql"];
const IMPURE_CRATES: &[&str] = &["tokio", "hyper", "hyper-util", "rusqlite", "rustix"];
const IMPURE_WORDS: &[&str] = &["std::fs", "std::net", "std::process", "std::thread", "async fn", ".await"];

/// Words of BigQuery's JSON that no other room may know.
const BIGQUERY_WORDS: &[&str] =
    &["jobReference", "queryParameters", "totalRows", "jobComplete", "pageToken", "statementType"];
/// Libraries that hold private keys.
const KEY_CRATES: &[(&str, &[&str])] = &[
    ("jsonwebtoken", &["registry", "identity"]),
    ("aws-lc-rs", &["registry", "ledger", "analyzer"]),
    ("zeroize", &["registry"]),
    // The private CA's own key.
    ("rcgen", &["sidecar"]),
];
/// Words that hold key material in a library that others use for public keys alone.
const KEY_WORDS: &[&str] = &["EncodingKey", "aws_lc_rs::rsa", "aws_lc_rs::aead"];

const FUNCTION_LINES_MAX: usize = 120;
const EXCHANGE_LINES_MAX: usize = 50;
const FILE_LINES_MAX: usize = 800;

pub(crate) fn run() -> Step {
    let mut wrong = Vec::new();
    dependencies(&mut wrong)?;
    for file in sources()? {
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        check_file(&name, &text, &mut wrong);
    }
    documents(&mut wrong);
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("tidy found {}:\n  {}", wrong.len(), wrong.join("\n  ")))
}

/// The directions of ARCHITECTURE.md, by cargo's own word.
fn dependencies(wrong: &mut Vec<String>) -> Step {
    let text = output(
        "cargo metadata",
        cargo().args(["metadata", "--format-version", "1", "--no-deps", "--locked"]),
    )?;
    let metadata: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let used =
            package["dependencies"].as_array().into_iter().flatten().filter(|used| used["kind"].is_null());
        let used: Vec<&str> = used.filter_map(|used| used["name"].as_str()).collect();
        if let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == name) {
            let ours = used.iter().filter(|used| ROOMS.iter().any(|(room, _)| room == *used));
            wrong.extend(
                ours.filter(|used| !allowed.contains(used))
                    .map(|used| format!("{name} may not depend on {used}")),
            );
        }
        if PURE.contains(&name) {
            let impure = used.iter().filter(|used| IMPURE_CRATES.contains(used));
            wrong.extend(impure.map(|used| format!("{name} is pure and may not depend on {used}")));
        }
        for (library, rooms) in KEY_CRATES {
            if used.contains(library) && !rooms.contains(&name) {
                wrong.push(format!("{name} may not depend on {library}: key material lies in registry"));
            }
        }
    }
    Ok(())
}

fn check_file(name: &str, text: &str, wrong: &mut Vec<String>) {
    let production = text.split("#[cfg(test)]").next().unwrap_or(text);
    let room = name.strip_prefix("crates/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    if !text.starts_with("//!") {
        wrong.push(format!("{name}: begins without a sentence on what it is for"));
    }
    if production.lines().count() > FILE_LINES_MAX {
        wrong.push(format!("{name}: longer than {FILE_LINES_MAX} lines"));
    }
    if PURE.contains(&room) {
        forbidden(name, production, IMPURE_WORDS, "this room is pure", wrong);
    }
    if ROOMS.iter().any(|(known, _)| *known == room) && room != "bigquery" {
        forbidden(name, production, BIGQUERY_WORDS, "only bigquery knows BigQuery's fields", wrong);
    }
    if !room.is_empty() && room != "registry" {
        forbidden(name, production, KEY_WORDS, "only registry holds key material", wrong);
    }
    if name != "crates/gateway/src/exchange.rs" {
        forbidden(name, production, &["upstream.forward("], "only exchange.rs forwards", wrong);
    }
    functions(name, production, wrong);
    const STUBS: &[&str] = &["todo!(", "unimplemented!(", "FIXME", "XXX", "#[ignore"];
    if name != "xtask/src/tidy.rs" {
        forbidden(name, text, STUBS, "no stub stays", wrong);
        let why = "builds are shared between clones: find the project at run time (testkit::root)";
        forbidden(name, text, &["env!(\"CARGO_MANIFEST_DIR\")"], why, wrong);
    }
}

fn forbidden(name: &str, text: &str, words: &[&str], why: &str, wrong: &mut Vec<String>) {
    for (number, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        for word in words.iter().filter(|word| code.contains(**word)) {
            wrong.push(format!("{name}:{}: '{word}': {why}", number + 1));
        }
    }
}

/// Lengths of functions, from `fn` to the closing brace at its own indent.
fn functions(name: &str, text: &str, wrong: &mut Vec<String>) {
    let mut open: Option<(usize, String, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if let Some((start, function, closing)) = &open {
            // A trait's method has no body.
            let signature_ends = closing.replace('}', ")");
            if line.starts_with(&signature_ends) && line.trim_end().ends_with(';') {
                open = None;
                continue;
            }
            if line.starts_with(closing.as_str()) && line.trim_end() == closing.as_str() {
                let lines = number - start + 1;
                let central = name == "crates/gateway/src/exchange.rs" && function == "exchange";
                let most = if central { EXCHANGE_LINES_MAX } else { FUNCTION_LINES_MAX };
                if lines > most {
                    wrong.push(format!(
                        "{name}:{}: fn {function} has {lines} lines, at most {most}",
                        start + 1
                    ));
                }
                open = None;
            }
            continue;
        }
        let code = line.trim_start();
        let words = ["pub(crate) ", "pub ", "async ", "const "];
        let bare = words.iter().fold(code, |code, word| code.strip_prefix(word).unwrap_or(code));
        if let Some(rest) = bare.strip_prefix("fn ") {
            let function = rest.split(['(', '<']).next().unwrap_or_default().to_owned();
            open = (!line.trim_end().ends_with('}') && !line.trim_end().ends_with(';'))
                .then(|| (number, function, format!("{indent}}}")));
        }
    }
}

/// Documents that a reader from outside looks for.
fn documents(wrong: &mut Vec<String>) {
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    for command in ["cargo demo", "cargo xtask test"] {
        if !readme.contains(command) {
            wrong.push(format!("README.md does not name `{command}`"));
        }
    }
    for file in ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "deny.toml"] {
        if !root().join(file).exists() {
            wrong.push(format!("{file} is missing"));
        }
    }
}

fn sources() -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for folder in ["crates", "fuzz", "xtask"] {
        collect(&root().join(folder), &mut found)?;
    }
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Step {
    for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry.map_err(|error| error.to_string())?.path();
        // Texts that must not compile have no docs of their own.
        if path.is_dir() && !path.ends_with("compile_fail") {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}
