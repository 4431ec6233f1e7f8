//! The door of the fuzz target `configuration` in `fuzz/`.

use std::path::Path;

/// Reads a configuration: any text is a configuration, or an error that names a line of it.
pub fn configuration(text: &str) {
    match crate::config::parse(text, Path::new("hansard.toml"), Path::new(".")) {
        Ok(loaded) => drop(loaded.check_enforced()),
        Err(error) => assert!(error.line <= text.matches('\n').count() + 1, "{error}"),
    }
    let _ = crate::config::duration_secs(text);
    let _ = crate::config::bytes(text);
}
