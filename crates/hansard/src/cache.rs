//! Where hansard keeps what it installs for itself.

use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::wiring::env_var;

/// hansard's cache folder: `HANSARD_CACHE`, else XDG's.
pub(crate) fn cache() -> Result<PathBuf, Failure> {
    let xdg = || env_var("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("hansard"));
    let home = || env_var("HOME").map(|home| Path::new(&home).join(".cache/hansard"));
    env_var("HANSARD_CACHE").map(PathBuf::from).or_else(xdg).or_else(home).ok_or_else(|| {
        Failure::usage(
            "neither HANSARD_CACHE nor HOME is set, so there is no place to install what hansard needs",
        )
    })
}
