//! Every method of BigQuery's REST v2: one pinned table of our own.
//!
//! Source: Google's discovery document of the BigQuery API v2, revision 20261009 (47 methods). A test walks the
//! document and this table side by side.

use Effect::{Read, Write};
use Shape::{Inserted, Job, JobWrapped, Jobs, Other, Query, Rows};

/// One method.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// Google's id without its product.
    pub name: &'static str,
    pub http: &'static str,
    /// Below `/bigquery/v2/`, with named parameters.
    pub path: &'static str,
    pub effect: Effect,
    pub shape: Shape,
}

/// Whether a method only reads, and so may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Read,
    Write,
}

/// What its answer looks like, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `QueryResponse` or `GetQueryResultsResponse`: a job, a schema and rows.
    Query,
    /// `TableDataList`: rows.
    Rows,
    /// `Job`
    Job,
    /// `JobCancelResponse`: a job inside.
    JobWrapped,
    /// `JobList`
    Jobs,
    /// `TableDataInsertAllResponse`
    Inserted,
    Other,
}

/// Reads and writes, in BigQuery alone.
const SCOPE: &str = "https://www.googleapis.com/auth/bigquery";
/// Reads only. Google has no scope that reads in BigQuery alone for these methods.
const READ_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform.read-only";
/// Streams rows in, and nothing else.
const INSERT_SCOPE: &str = "https://www.googleapis.com/auth/bigquery.insertdata";

/// The narrowest of the scopes that Google's document allows for a method: what only reads gets a token that
/// can't write.
pub(crate) fn scope(method: Option<&Method>) -> &'static str {
    match method {
        Some(method) if method.name == "tabledata.insertAll" => INSERT_SCOPE,
        Some(Method { effect: Effect::Read, .. }) | None => READ_SCOPE,
        Some(Method { effect: Effect::Write, .. }) => SCOPE,
    }
}

/// All of them, by name.
pub const METHODS: &[Method] = &[
    m("datasets.delete", "DELETE", "projects/{project}/datasets/{dataset}", Write, Other),
    m("datasets.get", "GET", "projects/{project}/datasets/{dataset}", Read, Other),
    m("datasets.insert", "POST", "projects/{project}/datasets", Write, Other),
    m("datasets.list", "GET", "projects/{project}/datasets", Read, Other),
    m("datasets.patch", "PATCH", "projects/{project}/datasets/{dataset}", Write, Other),
    m("datasets.undelete", "POST", "projects/{project}/datasets/{dataset}:undelete", Write, Other),
    m("datasets.update", "PUT", "projects/{project}/datasets/{dataset}", Write, Other),
    m("jobs.cancel", "POST", "projects/{project}/jobs/{job}/cancel", Write, JobWrapped),
    m("jobs.delete", "DELETE", "projects/{project}/jobs/{job}/delete", Write, Other),
    m("jobs.get", "GET", "projects/{project}/jobs/{job}", Read, Job),
    m("jobs.getQueryResults", "GET", "projects/{project}/queries/{job}", Read, Query),
    m("jobs.insert", "POST", "projects/{project}/jobs", Write, Job),
    m("jobs.list", "GET", "projects/{project}/jobs", Read, Jobs),
    m("jobs.query", "POST", "projects/{project}/queries", Write, Query),
    m("models.delete", "DELETE", "projects/{project}/datasets/{dataset}/models/{model}", Write, Other),
    m("models.get", "GET", "projects/{project}/datasets/{dataset}/models/{model}", Read, Other),
    m("models.list", "GET", "projects/{project}/datasets/{dataset}/models", Read, Other),
    m("models.patch", "PATCH", "projects/{project}/datasets/{dataset}/models/{model}", Write, Other),
    m("projects.getServiceAccount", "GET", "projects/{project}/serviceAccount", Read, Other),
    m("projects.list", "GET", "projects", Read, Other),
    m("routines.delete", "DELETE", "projects/{project}/datasets/{dataset}/routines/{routine}", Write, Other),
    m("routines.get", "GET", "projects/{project}/datasets/{dataset}/routines/{routine}", Read, Other),
    m(
        "routines.getIamPolicy",
        "POST",
        "projects/{project}/datasets/{dataset}/routines/{routine}:getIamPolicy",
        Read,
        Other,
    ),
    m("routines.insert", "POST", "projects/{project}/datasets/{dataset}/routines", Write, Other),
    m("routines.list", "GET", "projects/{project}/datasets/{dataset}/routines", Read, Other),
    m(
        "routines.setIamPolicy",
        "POST",
        "projects/{project}/datasets/{dataset}/routines/{routine}:setIamPolicy",
        Write,
        Other,
    ),
    m(
        "routines.testIamPermissions",
        "POST",
        "projects/{project}/datasets/{dataset}/routines/{routine}:testIamPermissions",
        Read,
        Other,
    ),
    m("routines.update", "PUT", "projects/{project}/datasets/{dataset}/routines/{routine}", Write, Other),
    m(
        "rowAccessPolicies.batchDelete",
        "POST",
        "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies:batchDelete",
        Write,
        Other,
    ),
    m(
        "rowAccessPolicies.delete",
        "DELETE",
        "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies/{policy}",
        Write,
        Other,
    ),
    m(
        "rowAccessPolicies.get",
        "GET",
        "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies/{policy}",
        Read,
        Other,
    ),
    m(
        "rowAccessPolicies.getIamPolicy",
        "POST",
        "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies/{policy}:getIamPolicy",
        Read,
        Other,
    ),
    m(
        "rowAccessPolicies.insert",
        "POST",
        "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies",
        Write,
        Other,
    ),
    m(
        "rowAccessPolicies.list",
        "GET",
        "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies",
        Read,
        Other,
    ),
    m(
        "rowAccessPolicies.testIamPermissions",
        "POST",
        "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies/{policy}:testIamPermissions",
        Read,
        Other,
    ),
    m(
        "rowAccessPolicies.update",
        "PUT",
        "projects/{project}/datasets/{dataset}/tables/{table}/rowAccessPolicies/{policy}",
        Write,
        Other,
    ),
    m(
        "tabledata.insertAll",
        "POST",
        "projects/{project}/datasets/{dataset}/tables/{table}/insertAll",
        Write,
        Inserted,
    ),
    m("tabledata.list", "GET", "projects/{project}/datasets/{dataset}/tables/{table}/data", Read, Rows),
    m("tables.delete", "DELETE", "projects/{project}/datasets/{dataset}/tables/{table}", Write, Other),
    m("tables.get", "GET", "projects/{project}/datasets/{dataset}/tables/{table}", Read, Other),
    m(
        "tables.getIamPolicy",
        "POST",
        "projects/{project}/datasets/{dataset}/tables/{table}:getIamPolicy",
        Read,
        Other,
    ),
    m("tables.insert", "POST", "projects/{project}/datasets/{dataset}/tables", Write, Other),
    m("tables.list", "GET", "projects/{project}/datasets/{dataset}/tables", Read, Other),
    m("tables.patch", "PATCH", "projects/{project}/datasets/{dataset}/tables/{table}", Write, Other),
    m(
        "tables.setIamPolicy",
        "POST",
        "projects/{project}/datasets/{dataset}/tables/{table}:setIamPolicy",
        Write,
        Other,
    ),
    m(
        "tables.testIamPermissions",
        "POST",
        "projects/{project}/datasets/{dataset}/tables/{table}:testIamPermissions",
        Read,
        Other,
    ),
    m("tables.update", "PUT", "projects/{project}/datasets/{dataset}/tables/{table}", Write, Other),
];

const fn m(
    name: &'static str,
    http: &'static str,
    path: &'static str,
    effect: Effect,
    shape: Shape,
) -> Method {
    Method { name, http, path, effect, shape }
}

/// The method of that name.
pub fn named(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    /// Google's own document, as Google's API client for Python ships it; `cargo xtask tools` installs it.
    pub(crate) fn document() -> Value {
        let lib = PathBuf::from("../../target/tools/emulator/lib");
        let python = std::fs::read_dir(&lib)
            .expect("run `cargo xtask tools` once")
            .flatten()
            .next()
            .expect("a python");
        let file = "site-packages/googleapiclient/discovery_cache/documents/bigquery.v2.json";
        let text = std::fs::read_to_string(python.path().join(file)).expect("the document");
        serde_json::from_str(&text).expect("JSON")
    }

    fn walk(resource: &Value, found: &mut BTreeMap<String, (String, String)>) {
        for below in resource["resources"].as_object().into_iter().flat_map(|below| below.values()) {
            walk(below, found);
        }
        for method in resource["methods"].as_object().into_iter().flat_map(|methods| methods.values()) {
            let text = |name: &str| method[name].as_str().unwrap_or_default().to_owned();
            let name = text("id").trim_start_matches("bigquery.").to_owned();
            found.insert(name, (text("httpMethod"), text("flatPath")));
        }
    }

    #[test]
    fn every_scope_is_one_that_google_allows_for_its_method() {
        let document = document();
        let mut checked = 0;
        for method in METHODS {
            let (resource, name) = method.name.split_once('.').expect("resource.method");
            let allowed = document["resources"][resource]["methods"][name]["scopes"].as_array();
            let allowed = allowed.unwrap_or_else(|| panic!("{} has no scopes", method.name));
            assert!(allowed.iter().any(|one| one == scope(Some(method))), "{}: {allowed:?}", method.name);
            checked += 1;
        }
        assert_eq!(checked, 47);
    }

    #[test]
    fn every_method_of_googles_document_is_in_the_table() {
        let document = document();
        assert_eq!(document["revision"], "20261009", "another revision: read what changed, then pin it here");
        let mut google = BTreeMap::new();
        walk(&document, &mut google);
        let ours: BTreeMap<String, (String, String)> = METHODS
            .iter()
            .map(|method| {
                let mut path = method.path.to_owned();
                let names = [
                    ("project", "projectsId"),
                    ("dataset", "datasetsId"),
                    ("table", "tablesId"),
                    ("model", "modelsId"),
                    ("routine", "routinesId"),
                    ("policy", "rowAccessPoliciesId"),
                ];
                for (short, long) in names {
                    path = path.replace(&format!("{{{short}}}"), &format!("{{{long}}}"));
                }
                let job = if path.contains("queries/") { "queriesId" } else { "jobsId" };
                (
                    method.name.to_owned(),
                    (method.http.to_owned(), path.replace("{job}", &format!("{{{job}}}"))),
                )
            })
            .collect();
        assert_eq!(google, ours);
        assert_eq!(ours.len(), 47);
    }

    #[test]
    fn the_fields_that_matter_are_still_in_googles_schemas() {
        let document = document();
        for (schema, fields) in [
            (
                "QueryRequest",
                &[
                    "query",
                    "queryParameters",
                    "labels",
                    "dryRun",
                    "location",
                    "maximumBytesBilled",
                    "requestId",
                    "queryResultsFormat",
                ][..],
            ),
            (
                "QueryResponse",
                &[
                    "jobReference",
                    "queryId",
                    "jobComplete",
                    "rows",
                    "schema",
                    "statementType",
                    "totalBytesBilled",
                    "pageRowCount",
                    "arrowRecordBatch",
                    "errors",
                ],
            ),
            (
                "GetQueryResultsResponse",
                &["jobReference", "jobComplete", "rows", "schema", "totalRows", "errors"],
            ),
            ("TableDataList", &["rows", "totalRows"]),
            ("Job", &["jobReference", "configuration", "status", "statistics"]),
            ("JobConfiguration", &["labels", "dryRun", "query"]),
            ("JobConfigurationQuery", &["query", "queryParameters", "maximumBytesBilled"]),
            ("JobStatistics", &["parentJobId", "totalBytesProcessed", "totalSlotMs", "query"]),
            (
                "JobStatistics2",
                &[
                    "statementType",
                    "totalBytesBilled",
                    "cacheHit",
                    "referencedTables",
                    "dmlStats",
                    "estimatedBytesProcessed",
                ],
            ),
            ("JobCancelResponse", &["job"]),
            ("JobList", &["jobs"]),
        ] {
            for field in fields {
                assert!(document["schemas"][schema]["properties"].get(field).is_some(), "{schema}.{field}");
            }
        }
    }
}
