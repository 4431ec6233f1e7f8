//! APIs beside BigQuery's that move, share or schedule what lies in it.

/// Says which of them a request is for.
pub const API_HEADER: &str = "x-hansard-api";
/// What a connection may allow: the first label of their host names.
pub const SISTERS: &[&str] = &[
    "analyticshub",
    "biglake",
    "bigqueryconnection",
    "bigquerydatapolicy",
    "bigquerydatatransfer",
    "bigquerymigration",
    "bigqueryreservation",
    "dataform",
];
