//! The doors of the fuzz targets `configuration` and `rules` in `fuzz/`.

use std::path::Path;

/// Reads a configuration: any text is a configuration, or an error that names a line of it.
pub fn configuration(text: &str) {
    match crate::config::parse(text, Path::new("hansard.toml"), Path::new(".")) {
        Ok(loaded) => {
            let _ = loaded.check_enforced();
            let _ = crate::config::policy(&loaded);
        }
        Err(error) => assert!(error.line <= text.matches('\n').count() + 1, "{error}"),
    }
    let _ = crate::config::duration_secs(text);
    let _ = crate::config::bytes(text);
}

/// Compiles one rule over any condition, and asks it about a statement: it answers, or says why not.
pub fn rule(when: &str) {
    let Ok(when) = policy::Expression::compile_for(when, policy::Place::Rule) else { return };
    let rule = policy::Rule {
        name: "r".to_owned(),
        when,
        action: policy::RuleAction::Deny,
        message: String::new(),
        instead: String::new(),
        observe: false,
    };
    let mut deed = record::Deed::of("SELECT");
    deed.read.insert("p.d.t*".to_owned());
    deed.unknown.insert(record::Knowledge::Wildcards, "fuzzed".to_owned());
    let footprint = record::Footprint { statements: vec![deed], ..record::Footprint::default() };
    let principal = record::Principal {
        id: "p".to_owned(),
        groups: vec!["g".to_owned()],
        ..record::Principal::of(record::PrincipalKind::Agent)
    };
    let ruling = policy::Policy::new(vec![rule]).decide(&policy::Question {
        principal: &principal,
        connection: ("c", &["p".to_owned()]),
        allow_egress: &[],
        reads_history: true,
        method: "jobs.query",
        client_ip: "",
        user_agent: "",
        sql: "SELECT 1",
        labels: &std::collections::BTreeMap::new(),
        footprint: &footprint,
        estimate: policy::Estimate::default(),
        now: record::Timestamp::from_secs(0),
        history: policy::History::default(),
    });
    assert!(ruling.rules.len() <= 1);
}
