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
    "OFFSET",
    "ORDINAL",
    "SAFE_OFFSET",
    "SAFE_ORDINAL",
    "WEEK",
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
/// Functions and table functions of the namespaces that grow (Google's "BigQuery ML", "AI functions" and "ObjectRef").
const NAMESPACED: &[(&str, &str)] = &[
    (
        "AI",
        "AGG CLASSIFY DETECT_ANOMALIES EMBED EVALUATE FORECAST GENERATE GENERATE_BOOL GENERATE_DOUBLE GENERATE_EMBEDDING \
         GENERATE_INT GENERATE_TABLE GENERATE_TEXT IF SCORE SEARCH SIMILARITY",
    ),
    (
        "ML",
        "ADVANCED_WEIGHTS ANNOTATE_IMAGE ARIMA_COEFFICIENTS ARIMA_EVALUATE BAG_OF_WORDS BUCKETIZE CENTROIDS \
         CONFUSION_MATRIX CONVERT_COLOR_SPACE CONVERT_IMAGE_TYPE DECODE_IMAGE DESCRIBE_DATA DETECT_ANOMALIES DISTANCE \
         EVALUATE EXPLAIN_FORECAST EXPLAIN_PREDICT FEATURE_CROSS FEATURE_IMPORTANCE FEATURE_INFO FORECAST \
         GENERATE_EMBEDDING GENERATE_TABLE GENERATE_TEXT GENERATE_TEXT_EMBEDDING GLOBAL_EXPLAIN HASH_BUCKETIZE \
         HOLIDAY_INFO IMPUTER LABEL_ENCODER LP_NORM MAX_ABS_SCALER MIN_MAX_SCALER MULTI_HOT_ENCODER NGRAMS NORMALIZER \
         ONE_HOT_ENCODER POLYNOMIAL_EXPAND PREDICT PRINCIPAL_COMPONENTS PRINCIPAL_COMPONENT_INFO PROCESS_DOCUMENT \
         QUANTILE_BUCKETIZE RECOMMEND RECONSTRUCTION_LOSS RESIZE_IMAGE ROBUST_SCALER ROC_CURVE STANDARD_SCALER TF_IDF \
         TFDV_DESCRIBE TFDV_VALIDATE TRAINING_INFO TRANSCRIBE TRANSFORM TRANSLATE TRIAL_INFO UNDERSTAND_TEXT \
         VALIDATE_DATA_DRIFT VALIDATE_DATA_SKEW WEIGHTS",
    ),
    ("OBJ", "FETCH_METADATA GET_ACCESS_URL GET_READ_URL MAKE_REF"),
    ("VECTOR_INDEX", "STATISTICS"),
];
/// Families that are BigQuery's, and grow.
const FAMILIES: &[&str] = &["ST_", "S2_", "JSON_", "HLL_", "APPROX_"];

/// Whose a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    BuiltIn,
    /// Built in since, or a dataset's: it is looked up.
    Either,
    Dataset,
}

/// Whose function a path names.
pub(crate) fn origin(path: &[String]) -> Origin {
    let upper: Vec<String> = path.iter().map(|part| part.to_ascii_uppercase()).collect();
    if LISTED.contains(upper.join(".").as_str()) {
        return Origin::BuiltIn;
    }
    match &upper[..] {
        [] => Origin::BuiltIn,
        // SAFE.NAME is the same function.
        [safe, rest @ ..] if safe == "SAFE" && !rest.is_empty() => origin(rest),
        [name] if FAMILIES.iter().any(|family| name.starts_with(family)) => Origin::Either,
        [namespace, name] => match NAMESPACED.iter().find(|(known, _)| known == namespace) {
            Some((_, names)) if names.split_whitespace().any(|known| known == name) => Origin::BuiltIn,
            Some(_) => Origin::Either,
            None => Origin::Dataset,
        },
        _ => Origin::Dataset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_does_not_make_a_function_built_in() {
        for (name, expected) in [
            ("sum", Origin::BuiltIn),
            ("net.host", Origin::BuiltIn),
            ("net.exfil", Origin::Dataset),
            ("SAFE.NET.HOST", Origin::BuiltIn),
            ("safe.crm.f", Origin::Dataset),
            ("ml.predict", Origin::BuiltIn),
            ("ml.get_ssn", Origin::Either),
            ("crm.f", Origin::Dataset),
            ("my_function", Origin::Dataset),
            ("st_area", Origin::BuiltIn),
            ("json_ssn", Origin::Either),
        ] {
            let path: Vec<String> = name.split('.').map(str::to_owned).collect();
            assert_eq!(origin(&path), expected, "{name}");
        }
    }
}
