//! What a statement is resolved against, as ZetaSQL's local_service.proto wants it asked.

use googlesql::{ARRAY, Catalog, CatalogTable, PSEUDO_COLUMNS, RANGE, STRUCT, Type};
use prost::Message;

use crate::guest::LanguageOptions;

/// `AnalyzeRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnalyzeRequest {
    #[prost(message, optional, tag = "1")]
    options: Option<AnalyzerOptions>,
    #[prost(message, optional, tag = "2")]
    catalog: Option<SimpleCatalog>,
    #[prost(message, optional, tag = "9")]
    descriptor_pools: Option<DescriptorPools>,
    #[prost(string, optional, tag = "5")]
    sql: Option<String>,
}

/// `AnalyzerOptionsProto` of options.proto. No rewrites: the tree as it is resolved.
#[derive(Clone, PartialEq, Message)]
struct AnalyzerOptions {
    #[prost(message, optional, tag = "1")]
    language: Option<LanguageOptions>,
    #[prost(int32, optional, tag = "6")]
    error_message_mode: Option<i32>,
    #[prost(string, optional, tag = "7")]
    default_timezone: Option<String>,
    #[prost(bool, optional, tag = "9")]
    prune_unused_columns: Option<bool>,
    #[prost(bool, optional, tag = "10")]
    allow_undeclared_parameters: Option<bool>,
    #[prost(int32, optional, tag = "13")]
    parameter_mode: Option<i32>,
    #[prost(message, repeated, tag = "18")]
    system_variables: Vec<SystemVariable>,
}

/// `AnalyzerOptionsProto.SystemVariableProto`
#[derive(Clone, PartialEq, Message)]
struct SystemVariable {
    #[prost(string, repeated, tag = "1")]
    name_path: Vec<String>,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeProto>,
}

/// `DescriptorPoolListProto`: the module wants one, its own.
#[derive(Clone, PartialEq, Message)]
struct DescriptorPools {
    #[prost(message, repeated, tag = "1")]
    definitions: Vec<DescriptorPool>,
}

#[derive(Clone, PartialEq, Message)]
struct DescriptorPool {
    #[prost(message, optional, tag = "3")]
    built_in: Option<Empty>,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

/// `SimpleCatalogProto` of simple_catalog.proto
#[derive(Clone, PartialEq, Message)]
struct SimpleCatalog {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(message, repeated, tag = "2")]
    tables: Vec<SimpleTable>,
    #[prost(message, repeated, tag = "4")]
    catalogs: Vec<SimpleCatalog>,
    #[prost(message, optional, tag = "5")]
    built_in: Option<BuiltInFunctions>,
    #[prost(message, repeated, tag = "6")]
    functions: Vec<Function>,
    #[prost(message, repeated, tag = "10")]
    constants: Vec<SimpleConstant>,
}

#[derive(Clone, PartialEq, Message)]
struct BuiltInFunctions {
    #[prost(message, optional, tag = "1")]
    language: Option<LanguageOptions>,
}

/// `SimpleTableProto`
#[derive(Clone, PartialEq, Message)]
struct SimpleTable {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(int64, optional, tag = "2")]
    serialization_id: Option<i64>,
    #[prost(message, repeated, tag = "4")]
    columns: Vec<SimpleColumn>,
    #[prost(string, optional, tag = "5")]
    name_in_catalog: Option<String>,
    #[prost(string, optional, tag = "10")]
    full_name: Option<String>,
}

/// `SimpleColumnProto`
#[derive(Clone, PartialEq, Message)]
struct SimpleColumn {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeProto>,
    #[prost(bool, optional, tag = "3")]
    is_pseudo_column: Option<bool>,
}

/// `SimpleConstantProto`; its value is null.
#[derive(Clone, PartialEq, Message)]
struct SimpleConstant {
    #[prost(string, repeated, tag = "1")]
    name_path: Vec<String>,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeProto>,
    #[prost(message, optional, tag = "3")]
    value: Option<Empty>,
}

/// `FunctionProto` of function.proto
#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(string, repeated, tag = "1")]
    name_path: Vec<String>,
    #[prost(string, optional, tag = "2")]
    group: Option<String>,
    #[prost(int32, optional, tag = "3")]
    mode: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    signatures: Vec<Signature>,
}

/// `FunctionSignatureProto`
#[derive(Clone, PartialEq, Message)]
struct Signature {
    #[prost(message, repeated, tag = "1")]
    arguments: Vec<Argument>,
    #[prost(message, optional, tag = "2")]
    returned: Option<Argument>,
}

/// `FunctionArgumentTypeProto`
#[derive(Clone, PartialEq, Message)]
struct Argument {
    #[prost(int32, optional, tag = "1")]
    kind: Option<i32>,
    #[prost(message, optional, tag = "2")]
    fixed: Option<TypeProto>,
    #[prost(message, optional, tag = "3")]
    options: Option<ArgumentOptions>,
    #[prost(int32, optional, tag = "4")]
    num_occurrences: Option<i32>,
}

/// `FunctionArgumentTypeOptionsProto`
#[derive(Clone, PartialEq, Message)]
struct ArgumentOptions {
    #[prost(int32, optional, tag = "1")]
    cardinality: Option<i32>,
}

/// `TypeProto` of type.proto
#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(int32, optional, tag = "1")]
    kind: Option<i32>,
    #[prost(message, optional, boxed, tag = "2")]
    array: Option<Box<Element>>,
    #[prost(message, optional, tag = "3")]
    fields: Option<Fields>,
    #[prost(message, optional, boxed, tag = "8")]
    range: Option<Box<Element>>,
}

/// `ArrayTypeProto`, `RangeTypeProto`
#[derive(Clone, PartialEq, Message)]
struct Element {
    #[prost(message, optional, boxed, tag = "1")]
    kind: Option<Box<TypeProto>>,
}

/// `StructTypeProto`
#[derive(Clone, PartialEq, Message)]
struct Fields {
    #[prost(message, repeated, tag = "1")]
    fields: Vec<Field>,
}

#[derive(Clone, PartialEq, Message)]
struct Field {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeProto>,
}

/// `ERROR_MESSAGE_ONE_LINE`
const ONE_LINE: i32 = 1;
/// `ParameterMode`: named, positional.
const POSITIONAL: i32 = 1;
/// `FunctionEnums.Mode`: a scalar function.
const SCALAR: i32 = 1;
/// `SignatureArgumentKind`
const FIXED: i32 = 0;
const ARBITRARY: i32 = 8;
/// `FunctionEnums.ArgumentCardinality`: as often as one likes.
const REPEATED: i32 = 1;
/// How often a result occurs.
const NOT_COUNTED: i32 = -1;
/// Time zones say nothing about columns.
const TIMEZONE: &str = "UTC";

/// BigQuery's "System variables reference".
const SYSTEM_VARIABLES: &[(&str, &str)] = &[
    ("current_job_id", "STRING"),
    ("dataset_id", "STRING"),
    ("dataset_project_id", "STRING"),
    ("error.formatted_stack_trace", "STRING"),
    ("error.message", "STRING"),
    ("error.statement_text", "STRING"),
    ("last_job_id", "STRING"),
    ("location", "STRING"),
    ("project_id", "STRING"),
    ("query_label", "STRING"),
    ("reservation", "STRING"),
    ("row_count", "INT64"),
    ("script.bytes_billed", "INT64"),
    ("script.bytes_processed", "INT64"),
    ("script.creation_time", "TIMESTAMP"),
    ("script.job_id", "STRING"),
    ("script.num_child_jobs", "INT64"),
    ("script.slot_ms", "INT64"),
    ("session_id", "STRING"),
    ("time_zone", "STRING"),
    ("transaction_id", "STRING"),
];

impl AnalyzeRequest {
    pub(crate) fn new(sql: &str, catalog: &Catalog, language: &LanguageOptions) -> Self {
        let options = AnalyzerOptions {
            language: Some(language.clone()),
            error_message_mode: Some(ONE_LINE),
            default_timezone: Some(TIMEZONE.to_owned()),
            prune_unused_columns: Some(true),
            allow_undeclared_parameters: Some(true),
            parameter_mode: catalog.is_positional.then_some(POSITIONAL),
            system_variables: SYSTEM_VARIABLES.iter().filter_map(system_variable).collect(),
        };
        let pools = DescriptorPools { definitions: vec![DescriptorPool { built_in: Some(Empty {}) }] };
        Self {
            options: Some(options),
            catalog: Some(SimpleCatalog::new(catalog, language)),
            descriptor_pools: Some(pools),
            sql: Some(sql.to_owned()),
        }
    }
}

impl SimpleCatalog {
    fn new(catalog: &Catalog, language: &LanguageOptions) -> Self {
        let mut root = Self {
            name: Some("root".to_owned()),
            built_in: Some(BuiltInFunctions { language: Some(language.clone()) }),
            constants: catalog.constants.iter().map(constant).collect(),
            ..Self::default()
        };
        for (id, one) in (1..).zip(&catalog.tables) {
            if let Some((last, before)) = one.path.split_last() {
                root.within(before).tables.push(table(one, last, id));
            }
        }
        for (path, kind) in &catalog.functions {
            if let Some((last, before)) = path.split_last() {
                root.within(before).functions.push(function(last, kind));
            }
        }
        root
    }

    /// The catalog at a path; made where there is none.
    fn within(&mut self, path: &[String]) -> &mut Self {
        let mut at = self;
        for name in path {
            let is_it = |one: &Self| one.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name));
            let place = at.catalogs.iter().position(is_it).unwrap_or_else(|| {
                at.catalogs.push(Self { name: Some(name.clone()), ..Self::default() });
                at.catalogs.len() - 1
            });
            at = &mut at.catalogs[place];
        }
        at
    }
}

fn table(table: &CatalogTable, name: &str, id: i64) -> SimpleTable {
    let own = table.columns.iter().map(|(name, kind)| column(name, kind, false));
    let has = |pseudo: &str| table.columns.iter().any(|(name, _)| name.eq_ignore_ascii_case(pseudo));
    let pseudo = PSEUDO_COLUMNS.iter().filter(|(name, _)| !has(name)).filter_map(|(name, kind)| {
        let kind = Type::plain(kind)?;
        Some(column(name, &kind, true))
    });
    SimpleTable {
        name: Some(table.name.clone()),
        serialization_id: Some(id),
        columns: own.chain(pseudo).collect(),
        name_in_catalog: Some(name.to_owned()),
        full_name: Some(table.name.clone()),
    }
}

fn column(name: &str, kind: &Type, is_pseudo: bool) -> SimpleColumn {
    SimpleColumn {
        name: Some(name.to_owned()),
        kind: Some(type_proto(kind)),
        is_pseudo_column: Some(is_pseudo),
    }
}

fn system_variable((name, kind): &(&str, &str)) -> Option<SystemVariable> {
    let kind = type_proto(&Type::plain(kind)?);
    Some(SystemVariable { name_path: name.split('.').map(str::to_owned).collect(), kind: Some(kind) })
}

fn constant((name, kind): &(String, Type)) -> SimpleConstant {
    SimpleConstant { name_path: vec![name.clone()], kind: Some(type_proto(kind)), value: Some(Empty {}) }
}

/// A function of any arguments.
fn function(name: &str, kind: &Type) -> Function {
    let any = Argument {
        kind: Some(ARBITRARY),
        options: Some(ArgumentOptions { cardinality: Some(REPEATED) }),
        num_occurrences: Some(1),
        fixed: None,
    };
    let returned = Argument {
        kind: Some(FIXED),
        fixed: Some(type_proto(kind)),
        num_occurrences: Some(NOT_COUNTED),
        options: None,
    };
    Function {
        name_path: vec![name.to_owned()],
        group: Some("hansard".to_owned()),
        mode: Some(SCALAR),
        signatures: vec![Signature { arguments: vec![any], returned: Some(returned) }],
    }
}

fn type_proto(kind: &Type) -> TypeProto {
    let element = |kind: &Type| Some(Box::new(Element { kind: Some(Box::new(type_proto(kind))) }));
    let number = |kind: u32| Some(kind as i32);
    match kind {
        Type::Plain(kind) => TypeProto { kind: number(*kind), ..TypeProto::default() },
        Type::Array(kind) => TypeProto { kind: number(ARRAY), array: element(kind), ..TypeProto::default() },
        Type::Range(kind) => TypeProto { kind: number(RANGE), range: element(kind), ..TypeProto::default() },
        Type::Struct(fields) => {
            let field = |(name, kind): &(String, Type)| Field {
                name: Some(name.clone()),
                kind: Some(type_proto(kind)),
            };
            let fields = Fields { fields: fields.iter().map(field).collect() };
            TypeProto { kind: number(STRUCT), fields: Some(fields), ..TypeProto::default() }
        }
    }
}
