//! How long a decision takes with 200 rules: `cargo run --release -p policy --example decide`.

use policy::{Estimate, Expression, History, Place, Policy, Question, Rule, RuleAction};
use record::{Deed, Footprint, Principal, PrincipalKind, Timestamp};
use std::collections::BTreeMap;
use std::time::Instant;

const RULES: usize = 200;
const ROUNDS: u32 = 2_000;

fn main() {
    let conditions = [
        "statement.kind.startsWith('DROP_') && connection.name == 'analytics'",
        "principal.is_agent && statement.kind in ['UPDATE', 'DELETE', 'MERGE'] && !statement.has_where",
        "'proj.crm.customers' in statement.tables && !('pii' in principal.groups)",
        "statement.kinds.exists(k, k.startsWith('ALTER_') || k == 'GRANT')",
        "!request.is_read && time.hour >= 22",
    ];
    let rules = (0..RULES).map(|number| Rule {
        name: format!("rule-{number}"),
        when: Expression::compile_for(conditions[number % conditions.len()], Place::Rule)
            .expect("it compiles"),
        action: RuleAction::Deny,
        message: String::new(),
        instead: String::new(),
        observe: false,
    });
    let policy = Policy::new(rules.collect());
    let mut deed = Deed::of("SELECT");
    deed.read.extend(["proj.crm.orders".to_owned(), "proj.web.hits".to_owned()]);
    let footprint = Footprint { kind: "SELECT".to_owned(), statements: vec![deed], ..Footprint::default() };
    let principal = Principal {
        id: "00u1".to_owned(),
        email: "devin@agents.example.com".to_owned(),
        name: "Devin".to_owned(),
        groups: vec!["data".to_owned(), "eng".to_owned()],
        agent: "devin".to_owned(),
        idp: "okta".to_owned(),
        ..Principal::of(PrincipalKind::Agent)
    };
    let labels = BTreeMap::new();
    let projects = ["proj".to_owned()];
    let question = Question {
        principal: &principal,
        connection: ("analytics", &projects),
        allow_egress: &[],
        reads_history: false,
        method: "jobs.query",
        client_ip: "10.0.0.1",
        user_agent: "bq",
        sql: "SELECT * FROM crm.orders JOIN web.hits USING (id)",
        labels: &labels,
        footprint: &footprint,
        estimate: Estimate::default(),
        now: Timestamp::from_secs(1_790_000_000),
        history: History::default(),
    };
    let start = Instant::now();
    for _ in 0..ROUNDS {
        assert!(policy.decide(&question).denial.is_none());
    }
    let each = start.elapsed() / ROUNDS;
    println!("{RULES} rules: {each:?} a decision, {:.0} decisions/s on one core", 1.0 / each.as_secs_f64());
}
