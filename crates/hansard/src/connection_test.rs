//! What a connection's credential does, may do, and may do beyond what it is for.

use gateway::Gateway;
use serde_json::{Value, json};

/// Permissions that a gateway to BigQuery has no use for: whoever got hold of its credential could do more than
/// read and write tables.
const TOO_MUCH: &[&str] = &[
    "bigquery.capacityCommitments.create",
    "bigquery.connections.delegate",
    "bigquery.datasets.setIamPolicy",
    "bigquery.reservations.create",
    "bigquery.tables.setIamPolicy",
    "compute.instances.create",
    "iam.serviceAccountKeys.create",
    "iam.serviceAccounts.actAs",
    "resourcemanager.projects.setIamPolicy",
    "storage.buckets.create",
    "storage.objects.create",
];

/// Tries the connection; none if there is no such one.
pub(crate) async fn test(gateway: &Gateway<bigquery::BigQuery>, name: &str) -> Option<Value> {
    let checks = gateway.check_connection(name).await?;
    let rulebook = gateway.rulebook();
    let connection = rulebook.registry.named(name)?;
    let needed: Vec<&str> = checks.iter().map(|check| check.permission).collect();
    let asked: Vec<&str> = needed.iter().chain(TOO_MUCH).copied().collect();
    let project = connection.projects.first()?;
    let (beyond, unknown) = match connection.granted(project, &asked).await {
        Ok(granted) => {
            let beyond: Vec<String> =
                granted.into_iter().filter(|permission| TOO_MUCH.contains(&permission.as_str())).collect();
            (json!(beyond), Value::Null)
        }
        Err(error) => (Value::Null, error.to_string().into()),
    };
    let works = checks.iter().all(|check| check.status.is_some_and(|status| status < 300));
    let checks: Vec<Value> = checks
        .iter()
        .map(|check| {
            json!({
                "what": check.what, "permission": check.permission, "status": check.status, "why": check.why,
                "ok": check.status.is_some_and(|status| status < 300),
            })
        })
        .collect();
    Some(json!({
        "connection": name, "project": project, "credential": connection.credential.principal(), "works": works,
        "checks": checks, "beyond": beyond, "beyond_unknown": unknown,
    }))
}
