//! Columns of the catalogue's views, which no definition tells (Google's "Introduction to INFORMATION_SCHEMA").

use crate::types::Type;

/// A view, and its columns; one without a type is a STRING, one in brackets an ARRAY of them. A column that is missing here makes a statement that names it
/// unknown.
const VIEWS: &[(&str, &str)] = &[
    (
        "SCHEMATA",
        "catalog_name schema_name schema_owner creation_time:TIMESTAMP last_modified_time:TIMESTAMP location ddl \
         default_collation_name",
    ),
    ("SCHEMATA_OPTIONS", "catalog_name schema_name option_name option_type option_value"),
    (
        "TABLES",
        "table_catalog table_schema table_name table_type managed_table_type is_insertable_into \
         is_fine_grained_mutations_enabled is_typed is_change_history_enabled creation_time:TIMESTAMP base_table_catalog \
         base_table_schema base_table_name snapshot_time_ms:TIMESTAMP replica_source_catalog replica_source_schema \
         replica_source_name replication_status replication_error ddl default_collation_name \
         upsert_stream_apply_watermark:TIMESTAMP",
    ),
    ("TABLE_OPTIONS", "table_catalog table_schema table_name option_name option_type option_value"),
    (
        "COLUMNS",
        "table_catalog table_schema table_name column_name ordinal_position:INT64 is_nullable data_type is_generated \
         generation_expression is_stored is_hidden is_updatable is_system_defined is_partitioning_column \
         clustering_ordinal_position:INT64 collation_name column_default rounding_mode [policy_tags] [data_policies]",
    ),
    (
        "COLUMN_FIELD_PATHS",
        "table_catalog table_schema table_name column_name field_path data_type description collation_name rounding_mode \
         [policy_tags] [data_policies]",
    ),
    (
        "KEY_COLUMN_USAGE",
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name column_name \
         ordinal_position:INT64 position_in_unique_constraint:INT64",
    ),
    (
        "TABLE_CONSTRAINTS",
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name constraint_type \
         is_deferrable initially_deferred enforced",
    ),
    (
        "PARTITIONS",
        "table_catalog table_schema table_name partition_id total_rows:INT64 total_logical_bytes:INT64 \
         total_billable_bytes:INT64 last_modified_time:TIMESTAMP storage_tier",
    ),
    ("VIEWS", "table_catalog table_schema table_name view_definition check_option use_standard_sql"),
    (
        "ROUTINES",
        "specific_catalog specific_schema specific_name routine_catalog routine_schema routine_name routine_type data_type \
         routine_body routine_definition external_language is_deterministic security_type created:TIMESTAMP \
         last_altered:TIMESTAMP ddl",
    ),
    (
        "ROUTINE_OPTIONS",
        "specific_catalog specific_schema specific_name option_name option_type option_value",
    ),
    (
        "PARAMETERS",
        "specific_catalog specific_schema specific_name ordinal_position:INT64 parameter_mode is_result parameter_name \
         data_type parameter_default is_aggregate",
    ),
];

/// The columns of a view, by its full name; none of what is no such view.
pub(crate) fn columns(table: &str) -> Option<Vec<(String, Type)>> {
    let (_, view) = table.rsplit_once(".INFORMATION_SCHEMA.")?;
    let (_, columns) = VIEWS.iter().find(|(known, _)| *known == view)?;
    let column = |column: &str| {
        if let Some(name) = column.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            return Some((name.to_owned(), Type::Array(Box::new(Type::plain("STRING")?))));
        }
        let (name, kind) = column.split_once(':').unwrap_or((column, "STRING"));
        Some((name.to_owned(), Type::plain(kind)?))
    };
    columns.split_whitespace().map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_has_columns() {
        for (view, _) in VIEWS {
            let found = columns(&format!("proj.crm.INFORMATION_SCHEMA.{view}"));
            assert!(found.is_some_and(|columns| columns.len() >= 5), "{view}");
        }
        assert_eq!(columns("proj.crm.TABLES"), None);
        assert_eq!(columns("proj.crm.INFORMATION_SCHEMA.JOBS"), None);
    }
}
