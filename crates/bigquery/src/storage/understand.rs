//! What a call of the Storage API asks for.

use gateway::{Access, Action, Inspect, Reason, Refusal, Request, Touch};
use prost::Message;
use record::{Deed, Footprint, Job, RequestFacts, Statement};
use serde_json::{Value, json};
use state::{Owned, OwnedKind};
use std::collections::BTreeMap;

use super::messages::{
    BatchCommitRequest, CreateReadSessionRequest, CreateWriteStreamRequest, ReadRowsRequest, Stream,
};
use super::route::{Method, Route};
use super::wire::{Messages, Want, Watch};
use crate::doors;
use crate::touches::anonymous;

/// The name of an append's stream stands at its message's beginning.
const APPEND_LOOK_BYTES: usize = 64 * 1024;
const COLUMNS_MAX: usize = 10_000;

/// How to forward a call that was understood.
pub struct Plan {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The stream that an append goes to.
    pub(crate) stream: String,
    /// The read session of a stream, or of none.
    pub(crate) session: String,
}

/// How much of a call must be there.
pub(crate) fn inspect(route: &Route, read: &[u8]) -> Inspect {
    let enough = match route.method {
        Method::AppendRows => read.len() >= APPEND_LOOK_BYTES || appended_to(read).is_some(),
        _ => message(read).is_some(),
    };
    if enough { Inspect::Enough } else { Inspect::More }
}

/// The billing project that a call names.
pub(crate) fn project(route: &Route, read: &[u8]) -> Option<String> {
    let asked = Asked::read(route.method, read).ok()?;
    asked.name.strip_prefix("projects/")?.split('/').next().map(str::to_owned)
}

/// A unary call's message, once it is whole.
fn message(read: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = read.split_first_chunk::<5>()?;
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    rest.get(..len)
}

/// The stream that the first message of an append names, as soon as it is read.
fn appended_to(read: &[u8]) -> Option<String> {
    #[derive(Default)]
    struct Name {
        name: Option<String>,
        is_over: bool,
    }
    impl Watch for Name {
        fn want(&mut self, path: &[u32]) -> Want {
            if path == [1] && !self.is_over { Want::Keep } else { Want::Skip }
        }
        fn number(&mut self, _: &[u32], _: u64) {}
        fn bytes(&mut self, _: &[u32], value: &[u8]) {
            self.name = String::from_utf8(value.to_vec()).ok();
        }
        fn message(&mut self) {
            self.is_over = true;
        }
    }
    let mut messages = Messages::new(Name::default());
    messages.push(read).ok()?;
    messages.into_watch().name
}

/// A call, as far as it matters.
#[derive(Default)]
struct Asked {
    /// What is named first: a parent, a table or a stream.
    name: String,
    table: String,
    columns: Vec<String>,
    /// Everything, for the record.
    said: Value,
    touches: Vec<Touch>,
}

impl Asked {
    fn read(method: Method, read: &[u8]) -> Result<Self, Refusal> {
        if method == Method::AppendRows {
            let name = appended_to(read).ok_or_else(|| invalid("its first message names no write stream"))?;
            return Ok(Self { said: json!({"writeStream": name}), ..Self::write(name) });
        }
        let whole = message(read).ok_or_else(|| invalid("its message is not whole"))?;
        if whole.len() + 5 != read.len() || read[0] != 0 {
            return Err(invalid("it is not one message, uncompressed"));
        }
        let damaged = |_: prost::DecodeError| invalid("its message can't be read");
        Ok(match method {
            Method::CreateReadSession => {
                let asked = CreateReadSessionRequest::decode(whole).map_err(damaged)?;
                Self::session(asked)?
            }
            Method::ReadRows => {
                let asked = ReadRowsRequest::decode(whole).map_err(damaged)?;
                let said = json!({"readStream": asked.read_stream, "offset": asked.offset.to_string()});
                Self { said, ..Self::stream(asked.read_stream) }
            }
            Method::SplitReadStream => {
                let asked = Stream::decode(whole).map_err(damaged)?;
                Self { said: json!({"name": asked.name}), ..Self::stream(asked.name) }
            }
            Method::CreateWriteStream => {
                let asked = CreateWriteStreamRequest::decode(whole).map_err(damaged)?;
                let kind = match asked.write_stream.map(|stream| stream.r#type) {
                    Some(1) => "COMMITTED",
                    Some(2) => "PENDING",
                    Some(3) => "BUFFERED",
                    _ => "",
                };
                Self { said: json!({"parent": asked.parent, "type": kind}), ..Self::write(asked.parent) }
            }
            Method::BatchCommitWriteStreams => {
                let asked = BatchCommitRequest::decode(whole).map_err(damaged)?;
                let touches = asked.write_streams.iter().map(|name| owned(name, Access::Change)).collect();
                let said = json!({"parent": asked.parent, "writeStreams": asked.write_streams});
                Self { said, touches, ..Self::write(asked.parent) }
            }
            Method::GetWriteStream | Method::FinalizeWriteStream | Method::FlushRows => {
                let asked = Stream::decode(whole).map_err(damaged)?;
                Self { said: json!({"name": asked.name}), ..Self::write(asked.name) }
            }
            Method::AppendRows => return Err(invalid("it is a stream")),
        })
    }

    fn session(asked: CreateReadSessionRequest) -> Result<Self, Refusal> {
        let session = asked.read_session.unwrap_or_default();
        let options = session.read_options.unwrap_or_default();
        let [project, dataset, table] = table_of(&session.table)
            .ok_or_else(|| invalid("its table is not projects/P/datasets/D/tables/T"))?;
        if options.selected_fields.len() > COLUMNS_MAX {
            return Err(invalid("it selects too many fields"));
        }
        let touches = anonymous(dataset, table).map(|owned| Touch { owned, access: Access::Read });
        let format = match session.data_format {
            1 => "AVRO",
            2 => "ARROW",
            _ => "",
        };
        Ok(Self {
            table: format!("{project}.{dataset}.{table}"),
            said: json!({
                "parent": asked.parent, "table": session.table, "dataFormat": format,
                "selectedFields": options.selected_fields, "rowRestriction": options.row_restriction,
                "maxStreamCount": asked.max_stream_count,
            }),
            columns: options.selected_fields,
            name: asked.parent,
            touches: touches.into_iter().collect(),
        })
    }

    /// A stream is its read session's, which is whoever's made it.
    fn stream(name: String) -> Self {
        let touches = vec![owned(session_of(&name), Access::Read)];
        Self { name, touches, ..Self::default() }
    }

    /// A table, or a write stream of it. A table's default stream is nobody's.
    fn write(name: String) -> Self {
        let table = table_of(&name).map(|parts| parts.join(".")).unwrap_or_default();
        let is_own = matches!(name.split_once("/streams/"), Some((_, stream)) if stream != "_default");
        let touches = if is_own { vec![owned(&name, Access::Change)] } else { Vec::new() };
        Self { name, table, touches, ..Self::default() }
    }
}

/// Understands a call whose beginning was inspected.
pub(crate) fn understand(route: Route, request: &Request) -> Result<Action<Plan>, Refusal> {
    let method = route.method;
    let read = request.body.read();
    if let Some(encoding) = request.head.headers.get("grpc-encoding")
        && encoding != "identity"
    {
        return Err(invalid("its messages are compressed, which hansard does not carry"));
    }
    let asked = Asked::read(method, read)?;
    let is_write_of_nothing =
        asked.table.is_empty() && !asked.touches.iter().any(|touch| is_session(&touch.owned));
    if is_write_of_nothing {
        return Err(invalid("it names no table, and no stream of one"));
    }
    let session = match method {
        Method::ReadRows | Method::SplitReadStream => session_of(&asked.name).to_owned(),
        _ => String::new(),
    };
    let footprint = footprint(method, &asked);
    Ok(Action {
        footprint,
        request: RequestFacts {
            headers: crate::understand::recorded_headers(&request.head.headers),
            bytes: read.len() as u64,
            ..RequestFacts::default()
        },
        statement: Statement {
            tables: Some(asked.table).filter(|table| !table.is_empty()).into_iter().collect(),
            columns: asked.columns,
            ..Statement::default()
        },
        job: Job::default(),
        location: location_of(&asked.name).to_owned(),
        labels: BTreeMap::new(),
        text: ledger::StatementText {
            body: asked.said.to_string().into_bytes(),
            ..ledger::StatementText::default()
        },
        touches: asked.touches,
        starts: None,
        awaits: None,
        retry: None,
        plan: Plan { method, path: route.path, stream: asked.name, session },
    })
}

fn footprint(method: Method, asked: &Asked) -> Footprint {
    let access = if method.only_reads() { record::Access::Read } else { record::Access::Write };
    let Some(door) = doors::door(&method.name()) else { return Footprint { access, ..Footprint::default() } };
    let mut deed = Deed::of(door.kinds[0]);
    let table = Some(asked.table.clone()).filter(|table| !table.is_empty());
    let restriction = asked.said["rowRestriction"].as_str().unwrap_or_default();
    if !restriction.is_empty() {
        deed.columns_unsure = "its row restriction may ask about any column".to_owned();
    }
    if !asked.columns.is_empty() && asked.said["rowRestriction"].as_str() == Some("") {
        let columns = asked.columns.iter().map(|column| format!("{}.{column}", asked.table));
        deed.columns = Some(columns.collect());
    }
    door.place(&mut deed, table);
    Footprint { kind: deed.kind.clone(), statements: vec![deed], access, ..Footprint::default() }
}

fn owned(name: &str, access: Access) -> Touch {
    Touch { owned: stream(name), access }
}

/// A read session or a write stream, by its whole name.
pub(crate) fn stream(name: &str) -> Owned {
    Owned { kind: OwnedKind::Stream, name: name.to_owned() }
}

fn is_session(owned: &Owned) -> bool {
    owned.kind == OwnedKind::Stream && owned.name.contains("/sessions/")
}

/// `projects/P/locations/L/sessions/S` of `.../streams/T`.
pub(crate) fn session_of(stream: &str) -> &str {
    stream.split_once("/streams/").map_or(stream, |(session, _)| session)
}

fn location_of(name: &str) -> &str {
    name.split_once("/locations/").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default()
}

/// Project, dataset and table at a name's beginning.
pub(crate) fn table_of(name: &str) -> Option<[&str; 3]> {
    let mut parts = name.split('/');
    let mut next = |word: &str| {
        (parts.next()? == word).then_some(())?;
        parts.next().filter(|part| !part.is_empty())
    };
    Some([next("projects")?, next("datasets")?, next("tables")?])
}

fn invalid(why: &str) -> Refusal {
    Refusal::new(Reason::Invalid, format!("The call can't be understood: {why}."))
}
