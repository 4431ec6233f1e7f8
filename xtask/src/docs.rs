//! The documents that are made from the code.

use std::fs;

use crate::{Step, cargo, output, root};

const DOCUMENTS: &[(&str, &str)] = &[
    ("configuration", "docs/configuration.md"),
    ("record-schema", "docs/record.schema.json"),
    ("metrics", "docs/metrics.md"),
    ("policy", "docs/policy.md"),
];

/// Writes them, or checks that what is there is what the code makes.
pub(crate) fn run(check: bool) -> Step {
    for (name, file) in DOCUMENTS {
        let mut command = cargo();
        command.args(["run", "--quiet", "--locked", "--package", "hansard", "--", "docs", name]);
        let made = output(name, &mut command)?;
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
