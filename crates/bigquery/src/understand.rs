//! What a request asks for, and what is to be sent upstream for it.

use bytes::Bytes;
use gateway::{Action, Awaited, Awaiting, Inspect, JobRef, Marks, Reason, Refusal, Request};
use http::HeaderMap;
use record::{Access, Footprint, Job, RequestFacts, Statement};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::time::Duration;

use crate::asked::{Asked, object};
use crate::configured::query_footprint;
use crate::doors;
use crate::json::{Edit, Mask, Members, Splice, check_plain, members};
use crate::methods::{Effect, Method, Shape};
use crate::reading::{Dialect, Reading};
use crate::route::{Route, RouteKind, parse_query, percent_encode};
use crate::sisters;
use crate::strict;
use crate::touches::{self, TOUCHES_MAX};

/// Labels that a job may have at all is 64: with so many of the client's own, ours have no place.
const CLIENT_LABELS_MAX: usize = 62;
/// The labels that mark a job.
pub(crate) const OUR_LABELS: &[&str; 2] = &["hansard_session", "hansard_record"];
/// Job ids that the gateway gives.
pub(crate) const JOB_ID_PREFIX: &str = "hsd_";
/// `timeoutMs` of `jobs.getQueryResults` where the client says none.
const RESULTS_WAITED: Duration = Duration::from_secs(10);

/// How to forward a request that was understood.
pub struct Plan {
    pub(crate) kind: RouteKind,
    /// Below the upstream's address.
    pub(crate) target: String,
    pub(crate) verb: http::Method,
    /// What takes the place of the inspected part of the body; `None` leaves it.
    pub(crate) body: Option<Bytes>,
    /// Applied to an answer of success, in order.
    pub(crate) edits: Vec<Edit>,
    pub(crate) shape: Shape,
    /// What the upstream's token is for.
    pub(crate) scope: &'static str,
    /// The billing project.
    pub(crate) project: String,
    /// The parent whose children are listed.
    pub(crate) parent: Option<String>,
    pub(crate) repeatable: bool,
    /// The upload that a part belongs to.
    pub(crate) upload_id: Option<String>,
    /// The schema may be missing in what is delivered, and is kept beside it.
    pub(crate) keeps_schema: bool,
    /// Where the JSON of a job stands in the body that is to be sent.
    pub(crate) job_json: Option<Range<usize>>,
    /// `jobs.query`, whose members stand in the outermost object.
    pub(crate) is_query_door: bool,
    /// The text, if it carries one.
    pub(crate) reading: Option<Box<Reading>>,
}

/// How much of a body must be there.
pub(crate) fn inspect(route: &Route, read: &[u8]) -> Inspect {
    match (&route.kind, &route.boundary) {
        (RouteKind::Plain(_) | RouteKind::UploadStart | RouteKind::Sister(_), _) => Inspect::More,
        (RouteKind::UploadAtOnce, Some(boundary)) => match first_part(read, boundary) {
            Some(_) => Inspect::Enough,
            None => Inspect::More,
        },
        (RouteKind::UploadAtOnce | RouteKind::UploadPart | RouteKind::Discovery, _) => Inspect::Enough,
    }
}

/// The span of the first part's content, once its end is in sight.
fn first_part(read: &[u8], boundary: &str) -> Option<Range<usize>> {
    let delimiter = format!("--{boundary}");
    let start = find(read, delimiter.as_bytes(), 0)?;
    let headers_end = [b"\r\n\r\n".as_slice(), b"\n\n"]
        .iter()
        .filter_map(|end| find(read, end, start).map(|at| at + end.len()))
        .min()?;
    let end = find(read, format!("\n{delimiter}").as_bytes(), headers_end)?;
    let end = if end > headers_end && read[end - 1] == b'\r' { end - 1 } else { end };
    Some(headers_end..end)
}

fn find(text: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    text.get(from..)?.windows(wanted.len()).position(|window| window == wanted).map(|at| at + from)
}

/// Understands a request whose body was inspected.
pub(crate) fn understand(route: Route, request: &Request, marks: &Marks) -> Result<Action<Plan>, Refusal> {
    let query = effective_query(&route, request)?;
    let (kept_query, fields) = checked_query(query)?;
    let method = method_of(&route);
    let read = request.body.read();
    let body = Body::of(&route, &request.head.headers, read)?;
    let asked = body.asked(method)?;
    same_project(&route, &asked)?;
    if let RouteKind::Sister(api) = route.kind {
        sisters::allowed(api, marks)?;
    }
    let spliced = splice(&route, method, &body, &asked, marks)?;
    let (mut footprint, reading) = footprint(&route, method, &body, &asked)?;
    let touches = touches::touches(&route, method, &asked.reached());
    if touches.len() >= TOUCHES_MAX {
        return Err(invalid("The request names too many jobs and anonymous tables."));
    }
    let makes_job = method.is_some_and(|method| matches!(method.name, "jobs.query" | "jobs.insert"));
    let retry = asked.request_id.as_ref().and_then(Value::as_str).map(|id| format!("requestId:{id}"));
    let (scope, only_reads) = match route.kind {
        RouteKind::Sister(_) => (sisters::scope(&route.verb), sisters::is_read(&route.verb)),
        _ => (crate::methods::scope(method), method.is_some_and(|method| method.effect == Effect::Read)),
    };
    // The answer to an upload's start is an address, not a job.
    let shape = match (route.kind, method) {
        (RouteKind::UploadStart, _) | (_, None) => Shape::Other,
        (_, Some(method)) => method.shape,
    };
    let edits = edits(shape, fields.as_deref(), marks.label_jobs)?;
    let awaits = awaited(&route, method, &kept_query);
    let configuration = asked.configuration.unwrap_or_default();
    let asked_query = configuration.query.unwrap_or_default();
    let labels = configuration.labels.or(asked.labels);
    let reference = asked.job_reference.unwrap_or_default();
    let is_dry = is_true(&asked.dry_run) || is_true(&configuration.dry_run);
    footprint.is_dry_run = is_dry;
    let job_id = reference.job_id.filter(|id| !id.is_empty()).or(spliced.job_id.clone());
    let location = asked.location.or(reference.location).unwrap_or_default();
    if job_id.as_ref().is_some_and(|id| id.len() > NAME_BYTES_MAX) || location.len() > NAME_BYTES_MAX {
        return Err(invalid(format!("A job's id or location is longer than {NAME_BYTES_MAX} bytes.")));
    }
    let starts = match (&job_id, method.map(|method| method.name)) {
        // A job with data begins when all of it has arrived: its last answer says so.
        (Some(job), Some("jobs.insert")) if !is_dry && matches!(route.kind, RouteKind::Plain(_)) => {
            Some(JobRef {
                project: route.project().unwrap_or_default().to_owned(),
                job: job.clone(),
                location: location.clone(),
            })
        }
        _ => None,
    };
    Ok(Action {
        request: RequestFacts {
            headers: recorded_headers(&request.head.headers),
            bytes: read.len() as u64,
            ..RequestFacts::default()
        },
        statement: Statement { tables: table_of(&route), ..Statement::default() },
        job: Job {
            id: job_id.or_else(|| route.params.get("job").cloned()).unwrap_or_default(),
            max_bytes_billed: asked
                .maximum_bytes_billed
                .or(asked_query.maximum_bytes_billed)
                .as_ref()
                .map(digits),
            ..Job::default()
        },
        location,
        touches,
        footprint,
        starts,
        awaits,
        retry,
        labels: client_labels(labels.as_ref()),
        text: ledger::StatementText {
            sql: asked.query.or(asked_query.query),
            params: asked.query_parameters.or(asked_query.query_parameters),
            body: body.recorded().to_vec(),
            ..ledger::StatementText::default()
        },
        plan: Plan {
            target: target(&route, &kept_query, fields.as_deref(), shape),
            verb: route.verb.clone(),
            body: spliced.body.or_else(|| body.replacement()),
            edits,
            shape,
            scope,
            project: route.project().unwrap_or_default().to_owned(),
            parent: route.query_value("parentJobId").map(str::to_owned),
            repeatable: is_dry || only_reads,
            upload_id: route.query_value("upload_id").map(str::to_owned),
            keeps_schema: fields.is_some(),
            job_json: spliced.json.or(body.json.clone()).filter(|_| makes_job),
            is_query_door: method.is_some_and(|method| method.name == "jobs.query"),
            reading: reading.map(Box::new),
            kind: route.kind,
        },
    })
}

/// The job that a request asks for. BigQuery waits ten seconds for results where the client does not say how long.
fn awaited(route: &Route, method: Option<&'static Method>, query: &Query) -> Option<Awaited> {
    let how = match method?.name {
        "jobs.get" => Awaiting::Stand,
        "jobs.cancel" => Awaiting::Cancel,
        "jobs.getQueryResults" => {
            let said = query.iter().find(|(name, _)| name == "timeoutMs");
            let said = said.and_then(|(_, value)| value.parse().ok()).map(Duration::from_millis);
            Awaiting::Results(said.unwrap_or(RESULTS_WAITED))
        }
        _ => return None,
    };
    let job = JobRef {
        project: route.project()?.to_owned(),
        job: route.params.get("job")?.clone(),
        location: String::new(),
    };
    Some(Awaited { job, how })
}

/// What the request does besides what its text does, and the text.
fn footprint(
    route: &Route,
    method: Option<&'static Method>,
    body: &Body,
    asked: &Asked,
) -> Result<(Footprint, Option<Reading>), Refusal> {
    let writes = Footprint { access: Access::Write, ..Footprint::default() };
    let Some(method) = method else {
        let is_read = !matches!(route.kind, RouteKind::Sister(_)) || sisters::is_read(&route.verb);
        let access = if is_read { Access::Read } else { Access::Admin };
        return Ok((Footprint { access, ..Footprint::default() }, None));
    };
    let project = route.project().unwrap_or_default();
    if matches!(method.name, "jobs.query" | "jobs.insert") {
        let configuration = asked.configuration.as_ref();
        let query = configuration.and_then(|configuration| configuration.query.as_ref());
        let sql = asked.query.as_deref().or(query.and_then(|query| query.query.as_deref()));
        let value = body.value()?;
        value.as_ref().map_or(Ok(()), strict::check)?;
        if let Some(sql) = sql {
            return Ok(query_footprint(sql, project, asked));
        }
        let configuration = value.map(|mut body| body["configuration"].take());
        let job = configuration.and_then(|configuration| doors::job(&configuration, project));
        return Ok((job.unwrap_or(writes), None));
    }
    let is_definition =
        ["tables.", "datasets.", "routines."].iter().any(|begin| method.name.starts_with(begin));
    let value = match is_definition && method.effect == Effect::Write {
        true => body.value()?,
        false => None,
    };
    if let Some(value) = &value {
        strict::check(value)?;
        let param = |name: &str| route.params.get(name).map(String::as_str);
        let path =
            [("projectId", param("project")), ("datasetId", param("dataset")), ("tableId", param("table"))];
        strict::same(&value["tableReference"], &path)?;
        strict::same(&value["datasetReference"], &path[..2])?;
        strict::same(&value["routineReference"], &path[..2])?;
    }
    let footprint = doors::footprint(route, method, value.as_ref());
    let dataset = route.params.get("dataset").cloned().unwrap_or_default();
    let reading = value.and_then(|value| doors::text(method.name, &value)).map(|(sql, is_legacy)| Reading {
        sql,
        project: project.to_owned(),
        dataset,
        dataset_project: String::new(),
        is_moved: false,
        dialect: if is_legacy { Dialect::Legacy } else { Dialect::GoogleSql },
        in_session: false,
    });
    Ok((footprint, reading))
}

fn method_of(route: &Route) -> Option<&'static Method> {
    match route.kind {
        RouteKind::Plain(method) => Some(method),
        RouteKind::UploadAtOnce | RouteKind::UploadStart | RouteKind::UploadPart => {
            crate::methods::named("jobs.insert")
        }
        RouteKind::Discovery | RouteKind::Sister(_) => None,
    }
}

/// The inspected part of a body: JSON, the JSON part of a multipart upload, or nothing to look at.
struct Body {
    whole: Bytes,
    /// Where its JSON stands.
    json: Option<Range<usize>>,
    decoded: bool,
    /// A query string that an override moved here.
    is_form: bool,
}

impl Body {
    fn of(route: &Route, headers: &HeaderMap, read: &Bytes) -> Result<Self, Refusal> {
        let is_json =
            matches!(route.kind, RouteKind::Plain(_) | RouteKind::UploadStart | RouteKind::Sister(_))
                && !route.query_in_body;
        if is_json {
            let (whole, decoded) = decoded(headers, read)?;
            let json = (!whole.is_empty()).then_some(0..whole.len());
            return Ok(Self { whole, json, decoded, is_form: false });
        }
        let json = route.boundary.as_ref().and_then(|boundary| first_part(read, boundary));
        if route.boundary.is_some() && json.is_none() {
            return Err(invalid("The multipart upload has no whole first part."));
        }
        Ok(Self { whole: read.clone(), json, decoded: false, is_form: route.query_in_body })
    }

    fn text(&self) -> Option<&[u8]> {
        self.json.clone().map(|span| &self.whole[span])
    }

    /// What the record keeps of it: never data that is uploaded.
    fn recorded(&self) -> &[u8] {
        if self.is_form { &self.whole } else { self.text().unwrap_or_default() }
    }

    /// All of its JSON.
    fn value(&self) -> Result<Option<Value>, Refusal> {
        let Some(text) = self.text() else { return Ok(None) };
        let value = serde_json::from_slice(text);
        value.map(Some).map_err(|error| invalid(format!("The request's body is not JSON: {error}.")))
    }

    fn asked(&self, method: Option<&'static Method>) -> Result<Asked, Refusal> {
        let Some(text) = self.text() else { return Ok(Asked::default()) };
        check_plain(text).map_err(|error| {
            invalid(format!(
                "The request's body is not JSON that every parser reads in one way: {}.",
                error.0
            ))
        })?;
        let read = || {
            object(&mut serde_json::Deserializer::from_slice(text))
                .map(|asked: Option<Asked>| asked.unwrap_or_default())
                .map_err(|error| {
                    invalid(format!("The request's body does not fit BigQuery's schema: {error}."))
                })
        };
        match method.map(|method| method.name) {
            Some("jobs.query") => Ok(read()?.into_query()),
            Some("jobs.insert") => Ok(read()?.into_job()),
            _ => Ok(Asked::default()),
        }
    }

    /// The body to send if nothing is spliced in: only a decoded one differs from what came, and a form went
    /// back into the query string.
    fn replacement(&self) -> Option<Bytes> {
        if self.is_form {
            return Some(Bytes::new());
        }
        self.decoded.then(|| self.whole.clone())
    }
}

fn decoded(headers: &HeaderMap, read: &Bytes) -> Result<(Bytes, bool), Refusal> {
    let Some(encoding) = headers.get("content-encoding") else { return Ok((read.clone(), false)) };
    match encoding.to_str().unwrap_or_default() {
        "identity" => Ok((read.clone(), false)),
        "gzip" => {
            let mut out = Vec::new();
            let limit = gateway::INSPECTED_BYTES_MAX as u64 + 1;
            let unpacked = flate2::read::GzDecoder::new(&read[..]).take(limit).read_to_end(&mut out);
            unpacked.map_err(|_| invalid("The request's body is not whole gzip."))?;
            if out.len() as u64 == limit {
                return Err(Refusal::new(Reason::TooLarge, "The request's body is too long once unpacked."));
            }
            Ok((out.into(), true))
        }
        _ => Err(invalid("The request's Content-Encoding is not gzip.")),
    }
}

/// A body that names another billing project than the path would go around the connection's bounds.
fn same_project(route: &Route, asked: &Asked) -> Result<(), Refusal> {
    let named = asked.job_reference.as_ref().and_then(|reference| reference.project_id.as_deref());
    match (named, route.project()) {
        (Some(named), Some(path)) if named != path => {
            Err(invalid(format!("jobReference names project '{named}', but the path names '{path}'.")))
        }
        _ => Ok(()),
    }
}

struct Spliced {
    body: Option<Bytes>,
    /// Where its JSON stands.
    json: Option<Range<usize>>,
    job_id: Option<String>,
}

/// Adds what the record needs: a job id or request id, and the labels.
fn splice(
    route: &Route,
    method: Option<&'static Method>,
    body: &Body,
    asked: &Asked,
    marks: &Marks,
) -> Result<Spliced, Refusal> {
    let nothing = Spliced { body: None, json: None, job_id: None };
    let (Some(text), Some(method)) = (body.text(), method) else { return Ok(nothing) };
    let Some(outer) = members(text, 0) else { return Ok(nothing) };
    let object = span_of_outer(text);
    let mut splice = Splice::default();
    let mut job_id = None;
    match method.name {
        "jobs.query" => {
            match (&asked.request_id, outer.iter().find(|(key, _)| key == "requestId")) {
                (Some(Value::String(id)), Some((_, span))) if !id.is_empty() => {
                    splice.replace(span, format!("\"{}\"", own_request_id(&marks.principal, id)));
                }
                // One that is no text is BigQuery's to judge.
                (Some(_), _) => {}
                (None, Some(_)) => {}
                (None, None) => {
                    let id = format!("\"{}\"", marks.record);
                    splice.add_member(&object, outer.len(), "requestId", &id);
                }
            }
            if marks.label_jobs && !is_true(&asked.dry_run) {
                label(&mut splice, text, &object, &outer, marks)?;
            }
        }
        "jobs.insert" => {
            job_id = splice_job_id(&mut splice, text, &outer, route, marks);
            let configuration = outer.iter().find(|(key, _)| key == "configuration");
            let is_dry =
                asked.configuration.as_ref().is_some_and(|configuration| is_true(&configuration.dry_run));
            if let (Some((_, span)), true, false) = (configuration, marks.label_jobs, is_dry)
                && let Some(inner) = members(text, span.start)
            {
                label(&mut splice, text, span, &inner, marks)?;
            }
        }
        _ => {}
    }
    if splice.is_empty() {
        return Ok(nothing);
    }
    let json = body.json.clone().unwrap_or_default();
    let edited = splice.apply(text);
    let whole = [&body.whole[..json.start], &edited, &body.whole[json.end..]].concat();
    Ok(Spliced { body: Some(whole.into()), json: Some(json.start..json.start + edited.len()), job_id })
}

/// BigQuery answers a `requestId` that it has seen with the job it started then. All principals share one
/// credential there, so each gets ids of its own: nobody is answered with somebody else's rows.
fn own_request_id(principal: &str, id: &str) -> String {
    let mut hash = ledger::sha256(format!("{principal}\0{id}").as_bytes()).to_string();
    // BigQuery takes 36 characters.
    hash.truncate(36);
    hash
}

fn span_of_outer(text: &[u8]) -> Range<usize> {
    let start = text.iter().position(|byte| *byte == b'{').unwrap_or(0);
    start..text.len()
}

/// Gives the job an id where the client gives none.
fn splice_job_id(
    splice: &mut Splice,
    text: &[u8],
    outer: &Members,
    route: &Route,
    marks: &Marks,
) -> Option<String> {
    let id = format!("{JOB_ID_PREFIX}{}", marks.record);
    let value = format!("\"{id}\"");
    match outer.iter().find(|(key, _)| key == "jobReference") {
        Some((_, span)) => {
            let inner = members(text, span.start)?;
            // One that is null or empty is BigQuery's to judge.
            if inner.iter().any(|(key, _)| key == "jobId") {
                return None;
            }
            splice.add_member(span, inner.len(), "jobId", &value);
        }
        None => {
            let project =
                serde_json::to_string(route.project().unwrap_or_default()).expect("a string is JSON");
            let reference = format!("{{\"projectId\":{project},\"jobId\":{value}}}");
            splice.add_member(&span_of_outer(text), outer.len(), "jobReference", &reference);
        }
    }
    Some(id)
}

fn label(
    splice: &mut Splice,
    text: &[u8],
    object: &Range<usize>,
    found: &Members,
    marks: &Marks,
) -> Result<(), Refusal> {
    let [session, record] = OUR_LABELS;
    match found.iter().find(|(key, _)| key == "labels") {
        None => {
            let labels = format!("{{\"{session}\":\"{}\",\"{record}\":\"{}\"}}", marks.session, marks.record);
            splice.add_member(object, found.len(), "labels", &labels);
        }
        Some((_, span)) => {
            let Some(labels) = members(text, span.start) else { return Ok(()) };
            if let Some((key, _)) = labels.iter().find(|(key, _)| OUR_LABELS.contains(&key.as_str())) {
                return Err(invalid(format!("The label '{key}' is the gateway's own; take it out.")));
            }
            if labels.len() <= CLIENT_LABELS_MAX {
                splice.add_member(span, labels.len(), session, &format!("\"{}\"", marks.session));
                splice.add_member(span, labels.len(), record, &format!("\"{}\"", marks.record));
            }
        }
    }
    Ok(())
}

/// Names and values of a query string.
type Query = Vec<(String, String)>;

/// The query of the line, or of the body where an override moved it there.
fn effective_query(route: &Route, request: &Request) -> Result<Query, Refusal> {
    let mut query = route.query.clone();
    if route.query_in_body {
        let form = std::str::from_utf8(request.body.read()).map_err(|_| invalid("The form is not UTF-8."))?;
        query.extend(parse_query(form)?);
    }
    Ok(query)
}

/// Parameters that could change who asks, who pays or how results leave are each handled on purpose.
fn checked_query(query: Query) -> Result<(Query, Option<String>), Refusal> {
    let mut kept = Vec::new();
    let mut fields = None;
    for (name, value) in query {
        match name.as_str() {
            "access_token" | "oauth_token" => {
                return Err(invalid(
                    "A token in the query string is refused; send it as Authorization: Bearer.",
                ));
            }
            "callback" => return Err(invalid("JSONP ('callback') is refused; ask for plain JSON.")),
            "alt" if value != "json" => {
                return Err(invalid(
                    "Only 'alt=json' is carried; other forms of an answer can't be recorded.",
                ));
            }
            // They name whose quota or project is used, which is the gateway's to say.
            "key" | "quotaUser" | "userIp" | "upload_id" => {}
            "fields" if fields.is_some() => return Err(invalid("'fields' stands twice.")),
            "fields" => fields = Some(value),
            name if name.starts_with('$') && name != "$.xgafv" => {
                return Err(invalid(format!("The parameter '{name}' is not carried.")));
            }
            _ => kept.push((name, value)),
        }
    }
    Ok((kept, fields.filter(|fields| !fields.is_empty())))
}

/// What recording needs of an answer, whatever the client asks for.
fn needed_fields(shape: Shape) -> &'static str {
    match shape {
        Shape::Query => {
            "jobReference,schema,jobComplete,totalRows,cacheHit,totalBytesProcessed,numDmlAffectedRows,errors"
        }
        Shape::Rows => "totalRows",
        Shape::Job => "jobReference,status,statistics,configuration/jobType",
        Shape::JobWrapped => "job(jobReference,status,statistics)",
        Shape::Jobs => "jobs(jobReference,statistics/parentJobId)",
        Shape::Inserted => "insertErrors",
        Shape::Other => "",
    }
}

/// What only `jobs.query` has.
const NEEDED_OF_QUERY: &str =
    "queryId,statementType,totalBytesBilled,totalSlotMs,dmlStats,location,pageRowCount,sessionInfo";

fn target(route: &Route, query: &[(String, String)], fields: Option<&str>, shape: Shape) -> String {
    let mut pairs: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value)))
        .collect();
    if let Some(fields) = fields {
        let mut wider = fields.to_owned();
        for needed in
            [needed_fields(shape), if route.method_name() == "jobs.query" { NEEDED_OF_QUERY } else { "" }]
        {
            if !needed.is_empty() {
                wider = format!("{wider},{needed}");
            }
        }
        pairs.push(format!("fields={}", percent_encode(&wider)));
    }
    let root = match route.kind {
        RouteKind::Plain(_) | RouteKind::Discovery => "/bigquery/v2/",
        RouteKind::Sister(_) => "/",
        RouteKind::UploadAtOnce | RouteKind::UploadStart | RouteKind::UploadPart => "/upload/bigquery/v2/",
    };
    let mark = if pairs.is_empty() { "" } else { "?" };
    format!("{root}{}{mark}{}", route.path, pairs.join("&"))
}

fn edits(shape: Shape, fields: Option<&str>, label_jobs: bool) -> Result<Vec<Edit>, Refusal> {
    let mut edits = Vec::new();
    if let Some(fields) = fields {
        let mask =
            Mask::parse(fields).ok_or_else(|| invalid(format!("Invalid field selection '{fields}'.")))?;
        edits.push(Edit::Narrow(mask));
    }
    let paths: &'static [&'static [&'static str]] = match shape {
        Shape::Job => &[&["configuration"]],
        Shape::JobWrapped => &[&["job", "configuration"]],
        Shape::Jobs => &[&["jobs", "*", "configuration"]],
        Shape::Query | Shape::Rows | Shape::Inserted | Shape::Other => &[],
    };
    // A job may have been labelled before `label_jobs` was turned off, but then its labels are the user's choice
    // to see.
    if label_jobs && !paths.is_empty() {
        edits.push(Edit::Unlabel { paths, keys: OUR_LABELS });
    }
    Ok(edits)
}

/// A job's id, or a location, is no longer: BigQuery's own bound.
pub(crate) const NAME_BYTES_MAX: usize = 1024;

/// Headers that say how a request is meant; none that carries a secret.
const RECORDED_HEADERS: &[&str] = &[
    "content-type",
    "content-encoding",
    "content-range",
    "if-match",
    "if-none-match",
    "x-goog-api-client",
    "x-goog-user-project",
    "x-http-method-override",
    "x-upload-content-length",
    "x-upload-content-type",
];

pub(crate) fn recorded_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let said = headers.keys().filter(|name| RECORDED_HEADERS.contains(&name.as_str())).filter_map(|name| {
        let value = headers.get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    said.collect()
}

fn table_of(route: &Route) -> Vec<String> {
    match (route.params.get("project"), route.params.get("dataset"), route.params.get("table")) {
        (Some(project), Some(dataset), Some(table)) => vec![format!("{project}.{dataset}.{table}")],
        _ => Vec::new(),
    }
}

fn client_labels(labels: Option<&Value>) -> BTreeMap<String, String> {
    let members = labels.and_then(Value::as_object).into_iter().flatten();
    members.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn is_true(value: &Option<Value>) -> bool {
    value.as_ref().is_some_and(|value| value.as_bool() == Some(true) || value.as_str() == Some("true"))
}

/// An int64, which BigQuery's JSON writes as a string.
fn digits(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(Reason::Invalid, message)
}
