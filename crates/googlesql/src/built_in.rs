//! Which functions are GoogleSQL's own. Any other name is a dataset's.

use std::collections::HashSet;
use std::sync::LazyLock;

/// The names that the pinned module lists (its method GetBuiltinFunctions), and, below, what only BigQuery has.
static LISTED: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("functions.txt").lines().chain(BIGQUERYS.iter().copied()).collect());

/// Functions and table functions of BigQuery that the module does not list (Google's "GoogleSQL function reference").
const BIGQUERYS: &[&str] = &[
    "APPENDS",
    "BAG_OF_WORDS",
    "CHANGES",
    "COLLATE",
    "CONTAINS_SUBSTR",
    "DLP_DETERMINISTIC_DECRYPT",
    "DLP_DETERMINISTIC_ENCRYPT",
    "DLP_KEY_CHAIN",
    "EXTERNAL_OBJECT_TRANSFORM",
    "EXTERNAL_QUERY",
    "GAP_FILL",
    "GRAPH_EXPAND",
    "LAX_BOOL",
    "LAX_FLOAT64",
    "LAX_INT64",
    "LAX_STRING",
    "RANGE_SESSIONIZE",
    "SEARCH",
    "SESSION_USER",
    "CURRENT_USER",
    "TEXT_ANALYZE",
    "TF_IDF",
    "VECTOR_SEARCH",
    "HOP",
    "TUMBLE",
    "UNNEST",
    "IF",
    "IFNULL",
    "COALESCE",
    "NULLIF",
    "EXTRACT",
    "GROUPING",
    "FLATTEN",
    "PARSE_BIGNUMERIC",
    "PARSE_NUMERIC",
    "STRING",
    "BOOL",
    "INT64",
    "FLOAT64",
    "DATE",
    "DATETIME",
    "TIME",
    "TIMESTAMP",
];
/// Families that are whole BigQuery's.
const FAMILIES: &[&str] = &["ST_", "S2_", "JSON_", "HLL_", "APPROX_"];
/// Namespaces that grow from month to month.
const OPEN_NAMESPACES: &[&str] = &["AI", "ML", "OBJ", "VECTOR_INDEX"];

/// Whether a path names one of them.
pub(crate) fn is_built_in(path: &[String]) -> bool {
    let upper: Vec<String> = path.iter().map(|part| part.to_ascii_uppercase()).collect();
    match &upper[..] {
        [] => true,
        // SAFE.NAME is the same function.
        [safe, rest @ ..] if safe == "SAFE" && !rest.is_empty() => is_built_in(rest),
        [name] => LISTED.contains(name.as_str()) || FAMILIES.iter().any(|family| name.starts_with(family)),
        [namespace, _] if OPEN_NAMESPACES.contains(&namespace.as_str()) => true,
        _ => LISTED.contains(upper.join(".").as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_does_not_make_a_function_built_in() {
        for (name, expected) in [
            ("sum", true),
            ("net.host", true),
            ("net.exfil", false),
            ("SAFE.NET.HOST", true),
            ("safe.crm.f", false),
            ("ml.predict", true),
            ("crm.f", false),
            ("my_function", false),
            ("st_area", true),
        ] {
            let path: Vec<String> = name.split('.').map(str::to_owned).collect();
            assert_eq!(is_built_in(&path), expected, "{name}");
        }
    }
}
