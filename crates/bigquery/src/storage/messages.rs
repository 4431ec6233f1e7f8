//! The messages of the Storage API, as far as something in them matters here.
//!
//! Source: `google/cloud/bigquery/storage/v1/storage.proto` and `stream.proto` in googleapis; what is not named
//! here is carried unread.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateReadSessionRequest {
    /// `projects/{project}`, which is billed.
    #[prost(string, tag = "1")]
    pub(crate) parent: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) read_session: Option<ReadSession>,
    #[prost(int32, tag = "3")]
    pub(crate) max_stream_count: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadSession {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// 1 Avro, 2 Arrow.
    #[prost(int32, tag = "3")]
    pub(crate) data_format: i32,
    #[prost(message, optional, tag = "4")]
    pub(crate) avro_schema: Option<AvroSchema>,
    #[prost(message, optional, tag = "5")]
    pub(crate) arrow_schema: Option<ArrowSchema>,
    /// `projects/{project}/datasets/{dataset}/tables/{table}`
    #[prost(string, tag = "6")]
    pub(crate) table: String,
    #[prost(message, optional, tag = "8")]
    pub(crate) read_options: Option<TableReadOptions>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) streams: Vec<Stream>,
    #[prost(int64, tag = "12")]
    pub(crate) estimated_total_bytes_scanned: i64,
    #[prost(int64, tag = "14")]
    pub(crate) estimated_row_count: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TableReadOptions {
    #[prost(string, repeated, tag = "1")]
    pub(crate) selected_fields: Vec<String>,
    #[prost(string, tag = "2")]
    pub(crate) row_restriction: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AvroSchema {
    #[prost(string, tag = "1")]
    pub(crate) schema: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArrowSchema {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) serialized_schema: bytes::Bytes,
}

/// Anything that begins with its name: a stream, and the requests that name one.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Stream {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadRowsRequest {
    #[prost(string, tag = "1")]
    pub(crate) read_stream: String,
    #[prost(int64, tag = "2")]
    pub(crate) offset: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadRowsResponse {
    #[prost(message, optional, tag = "3")]
    pub(crate) avro_rows: Option<Serialized>,
    #[prost(message, optional, tag = "4")]
    pub(crate) arrow_record_batch: Option<Serialized>,
    #[prost(message, optional, tag = "7")]
    pub(crate) avro_schema: Option<AvroSchema>,
    #[prost(message, optional, tag = "8")]
    pub(crate) arrow_schema: Option<ArrowSchema>,
}

/// `AvroRows` and `ArrowRecordBatch`: bytes of their own format.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Serialized {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) bytes: bytes::Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateWriteStreamRequest {
    /// The table.
    #[prost(string, tag = "1")]
    pub(crate) parent: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) write_stream: Option<WriteStream>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteStream {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// 1 committed, 2 pending, 3 buffered.
    #[prost(int32, tag = "2")]
    pub(crate) r#type: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BatchCommitRequest {
    /// The table.
    #[prost(string, tag = "1")]
    pub(crate) parent: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) write_streams: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BatchCommitResponse {
    /// Where there is one, nothing was committed.
    #[prost(message, repeated, tag = "2")]
    pub(crate) stream_errors: Vec<StorageError>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StorageError {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "3")]
    pub(crate) error_message: String,
}

impl StorageError {
    /// The name of its code (`StorageErrorCode`).
    pub(crate) fn reason(&self) -> &'static str {
        const NAMES: &[&str] = &[
            "STORAGE_ERROR_CODE_UNSPECIFIED",
            "TABLE_NOT_FOUND",
            "STREAM_ALREADY_COMMITTED",
            "STREAM_NOT_FOUND",
            "INVALID_STREAM_TYPE",
            "INVALID_STREAM_STATE",
            "STREAM_FINALIZED",
            "SCHEMA_MISMATCH_EXTRA_FIELDS",
            "OFFSET_ALREADY_EXISTS",
            "OFFSET_OUT_OF_RANGE",
            "CMEK_NOT_PROVIDED",
            "INVALID_CMEK_PROVIDED",
            "CMEK_ENCRYPTION_ERROR",
            "KMS_SERVICE_ERROR",
            "KMS_PERMISSION_DENIED",
        ];
        usize::try_from(self.code).ok().and_then(|code| NAMES.get(code).copied()).unwrap_or(NAMES[0])
    }
}

/// `google.rpc.Status`, for `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ErrorInfo {
    #[prost(string, tag = "1")]
    pub(crate) reason: String,
    #[prost(string, tag = "2")]
    pub(crate) domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(crate) metadata: std::collections::BTreeMap<String, String>,
}
