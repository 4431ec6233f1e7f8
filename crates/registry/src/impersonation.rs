//! Which service account a principal acts as, so that Google's own audit log names the person too.

use record::{Principal, PrincipalKind};
use std::fmt;

/// Where Google makes tokens for other accounts.
pub const IAM_CREDENTIALS: &str = "https://iamcredentials.googleapis.com";
/// What a template may name.
const FIELDS: &[&str] =
    &["principal.id", "principal.email", "principal.name", "principal.agent", "principal.kind"];

/// A template such as `agent-{principal.name}@proj.iam.gserviceaccount.com`, checked.
pub struct Impersonation {
    parts: Vec<Part>,
    /// Google's IAM Credentials API, or what stands in for it.
    pub endpoint: String,
}

enum Part {
    Text(String),
    Field(&'static str),
}

/// The principal does not fit the template.
#[derive(Debug)]
pub struct NoAccount(String);

impl fmt::Display for NoAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAccount {}

impl Impersonation {
    /// Checks a template: known fields, and an e-mail address around them.
    pub fn parse(template: &str, endpoint: &str) -> Result<Self, NoAccount> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let (before, after) = rest.split_at(open);
            let (name, after) =
                after[1..].split_once('}').ok_or_else(|| NoAccount("'{' is not closed".to_owned()))?;
            let known = FIELDS.iter().find(|field| **field == name);
            let known = known
                .ok_or_else(|| NoAccount(format!("unknown '{{{name}}}'; known: {}", FIELDS.join(", "))))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Field(known));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let domain = template.rsplit_once('@').map_or("", |(_, domain)| domain);
        if domain.is_empty() || domain.contains(['{', '/', ' ']) {
            return Err(NoAccount("the template is no e-mail address of a service account".to_owned()));
        }
        Ok(Self { parts, endpoint: endpoint.trim_end_matches('/').to_owned() })
    }

    /// The account of a principal. What can't stand in an account's name is not bent until it can: two principals
    /// could become one.
    pub fn account(&self, principal: &Principal) -> Result<String, NoAccount> {
        let mut account = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => account.push_str(text),
                Part::Field(name) => account.push_str(&fitting(name, value(name, principal))?),
            }
        }
        Ok(account)
    }
}

fn value<'a>(name: &str, principal: &'a Principal) -> &'a str {
    match name {
        "principal.id" => &principal.id,
        // Before the at sign: the address itself has one.
        "principal.email" => principal.email.split('@').next().unwrap_or_default(),
        "principal.name" => &principal.name,
        "principal.agent" => &principal.agent,
        _ => match principal.kind {
            PrincipalKind::Person => "person",
            PrincipalKind::Service => "service",
            PrincipalKind::Agent => "agent",
        },
    }
}

/// Letters, digits and hyphens, as Google's account names have them; letters in lower case.
fn fitting(name: &str, value: &str) -> Result<String, NoAccount> {
    let lower = value.to_ascii_lowercase();
    let fits = !lower.is_empty()
        && lower.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    fits.then_some(lower).ok_or_else(|| {
        NoAccount(format!("{name} is '{value:.60}', which can't stand in the name of a service account"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(name: &str) -> Principal {
        Principal {
            id: "1".to_owned(),
            email: "alice@example.com".to_owned(),
            name: name.to_owned(),
            groups: Vec::new(),
            kind: PrincipalKind::Agent,
            agent: "devin".to_owned(),
            on_behalf_of: String::new(),
            idp: "okta".to_owned(),
            task: String::new(),
        }
    }

    #[test]
    fn a_template_names_the_principals_account() {
        let check = |template: &str, expected: &str| {
            let parsed = Impersonation::parse(template, IAM_CREDENTIALS).unwrap();
            assert_eq!(parsed.account(&principal("Alice")).unwrap(), expected);
        };
        check("agent-{principal.name}@p.iam.gserviceaccount.com", "agent-alice@p.iam.gserviceaccount.com");
        check(
            "{principal.email}-{principal.agent}@p.iam.gserviceaccount.com",
            "alice-devin@p.iam.gserviceaccount.com",
        );
        check("{principal.kind}@p.iam.gserviceaccount.com", "agent@p.iam.gserviceaccount.com");
        check("one@p.iam.gserviceaccount.com", "one@p.iam.gserviceaccount.com");
    }

    #[test]
    fn what_does_not_fit_is_not_bent() {
        let template =
            Impersonation::parse("a-{principal.name}@p.iam.gserviceaccount.com", IAM_CREDENTIALS).unwrap();
        for name in ["", "Alice Smith", "a.b", "x@evil.com", "a/../b", "é"] {
            assert!(template.account(&principal(name)).is_err(), "{name}");
        }
        for wrong in ["a-{principal.sub}@p.com", "a-{principal.name", "no-address", "a@{principal.name}", ""]
        {
            assert!(Impersonation::parse(wrong, IAM_CREDENTIALS).is_err(), "{wrong}");
        }
    }
}
