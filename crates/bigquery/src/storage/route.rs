//! Which method of the Storage API a request is.

use gateway::{Reason, Refusal};
use http::Method as Verb;
use http::request::Parts;

/// What is carried, and nothing else of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    CreateReadSession,
    ReadRows,
    SplitReadStream,
    CreateWriteStream,
    AppendRows,
    GetWriteStream,
    FinalizeWriteStream,
    BatchCommitWriteStreams,
    FlushRows,
}

/// Paths by method.
const METHODS: &[(&str, &str, Method)] = &[
    ("BigQueryRead", "CreateReadSession", Method::CreateReadSession),
    ("BigQueryRead", "ReadRows", Method::ReadRows),
    ("BigQueryRead", "SplitReadStream", Method::SplitReadStream),
    ("BigQueryWrite", "AppendRows", Method::AppendRows),
    ("BigQueryWrite", "BatchCommitWriteStreams", Method::BatchCommitWriteStreams),
    ("BigQueryWrite", "CreateWriteStream", Method::CreateWriteStream),
    ("BigQueryWrite", "FinalizeWriteStream", Method::FinalizeWriteStream),
    ("BigQueryWrite", "FlushRows", Method::FlushRows),
    ("BigQueryWrite", "GetWriteStream", Method::GetWriteStream),
];
const PACKAGE: &str = "/google.cloud.bigquery.storage.v1.";

impl Method {
    /// As the record names it.
    pub(crate) fn name(self) -> String {
        let (service, name, _) =
            METHODS.iter().find(|(_, _, method)| *method == self).expect("all are listed");
        format!("{service}.{name}")
    }

    /// Whether its answer can be asked for again.
    pub(crate) fn only_reads(self) -> bool {
        matches!(
            self,
            Self::CreateReadSession | Self::ReadRows | Self::SplitReadStream | Self::GetWriteStream
        )
    }
}

/// A request that found its method.
pub struct Route {
    pub(crate) method: Method,
    pub(crate) path: String,
}

/// Whether a request is gRPC at all.
pub(crate) fn is_storage(head: &Parts) -> bool {
    gateway::Speaks::of(&head.headers) == gateway::Speaks::Grpc
}

/// Names the method, or refuses.
pub(crate) fn route(head: &Parts) -> Result<Route, Refusal> {
    let path = head.uri.path();
    let named = path.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('/'));
    let found = named.and_then(|(service, name)| {
        METHODS.iter().find(|(known, method, _)| *known == service && *method == name)
    });
    match found {
        Some((_, _, method)) if head.method == Verb::POST && head.uri.query().is_none() => {
            Ok(Route { method: *method, path: path.to_owned() })
        }
        _ => {
            let path: String = path.chars().take(200).collect();
            Err(Refusal::new(
                Reason::UnknownMethod,
                format!(
                    "{path} is no method of BigQuery's Storage API v1 that hansard carries; nothing was forwarded."
                ),
            ))
        }
    }
}
