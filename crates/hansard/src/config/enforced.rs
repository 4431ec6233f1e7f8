//! What this build understands of a file but does not enforce: such a file is refused, by line, rather than
//! half obeyed.

use std::ops::Range;

use super::load::{ConfigError, Loaded};
use super::shape::Action;

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
    if let Some(rule) = config.rule.first() {
        let action = rule.get_ref().action;
        let name = &rule.get_ref().name;
        return refuse(rule.span(), &format!("[[rule]] '{name}' with action \"{}\" is", action_word(action)));
    }
    for connection in &config.connection {
        if !connection.allow_egress.get_ref().is_empty() {
            return refuse(connection.allow_egress.span(), "allow_egress is");
        }
    }
    Ok(())
}

fn action_word(action: Action) -> &'static str {
    match action {
        Action::Deny => "deny",
        Action::Approve => "approve",
        Action::Mask => "mask",
        Action::Limit => "limit",
        Action::Record => "record",
        Action::Warn => "warn",
        Action::Label => "label",
        Action::Snapshot => "snapshot",
    }
}
