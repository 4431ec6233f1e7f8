//! What this build understands of a file but does not enforce: such a file is refused, by line, rather than
//! half obeyed.

use std::ops::Range;

use super::load::{ConfigError, Loaded};

pub(super) fn check(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    let refuse = |span: Range<usize>, what: &str| {
        Err(loaded.error_at(
            &span,
            format!("{what} not enforced by this build, so the file is refused; take it out"),
        ))
    };
    if config.store.url.get_ref() != "sqlite" {
        return refuse(config.store.url.span(), "[store] url other than \"sqlite\" is");
    }
    if config.evidence.url.get_ref() != "local" {
        return refuse(config.evidence.url.span(), "[evidence] url other than \"local\" is");
    }
    if let Some(saml) = config.identity.saml.first() {
        return refuse(saml.span(), "[[identity.saml]] is");
    }
    Ok(())
}
