//! The documents that are made from the code.

use std::fs;
use std::path::Path;
use std::process::Command;

use xtask::steps::{Step, output, root};

const DOCUMENTS: &[(&str, &str)] = &[
    ("configuration", "docs/configuration.md"),
    ("record-schema", "docs/record.schema.json"),
    ("metrics", "docs/metrics.md"),
    ("policy", "docs/policy.md"),
];

/// Writes them, or checks that what is there is what the code makes.
pub(crate) fn run(hansard: &Path, check: bool) -> Step {
    for (name, file) in DOCUMENTS {
        let made = output(name, Command::new(hansard).args(["docs", name]))?;
        let path = root().join(file);
        if !check {
            fs::write(&path, made).map_err(|error| format!("{file}: {error}"))?;
            println!("wrote {file}");
        } else if fs::read_to_string(&path).unwrap_or_default() != made {
            return Err(format!("{file} is not what the code makes; run `cargo xtask docs`"));
        }
    }
    Ok(())
}
