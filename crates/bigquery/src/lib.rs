//! Speaks BigQuery's REST v2 and its Storage API both ways: route, understand, forward, learn from the answer, refuse in its shape.
//!
//! The only room that knows a BigQuery field. Knows nothing of identity, rules or the journal.

mod methods;
mod route;
mod understand;
mod touches;
mod doors;
mod strict;
mod asked;
mod configured;
mod reading;
mod definitions;
mod schemas;
mod clamp;
mod dry_run;
mod later;
mod own_statement;
mod held;
mod trial;
mod forward;
mod answer;
mod jobs_list;
mod learn;
mod refuse;
mod sisters;
mod uploads;
mod discovery;
mod storage;
mod json;
pub mod rows;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

pub use doors::{DOORS, Door, Named};
pub use json::RowColumns;
pub use methods::{Effect, METHODS, Method, Shape, named};
pub use reading::Reader;
pub use refuse::{error_body, token_error};
pub use trial::{Trial, trial};

use bytes::Bytes;
use gateway::{
    Action, Answer, Bounds, Cleared, Definition, Definitions, DryRun, Estimating, HeldJob, Inspect, JobRef,
    JobsSeen, Kept, LaterJob, Marks, Need, Needs, Object, ObjectKind, Question, Refusal, Reply, Request,
    Speaks, Touch, Upstream,
};
use http::{Method as Verb, Uri};
use hyper::body::Incoming;
use outbound::{Https, OutboundError};
use record::{Clock, Footprint, RecordId};
use state::{Owners, State};
use std::path::PathBuf;
use std::sync::Arc;

use crate::route::percent_encode;

/// BigQuery's REST API as an upstream.
pub struct BigQuery {
    client: Https<gateway::RequestBody>,
    grpc: Https<gateway::RequestBody>,
    schemas: Arc<storage::Schemas>,
    state: Arc<State>,
    owners: Arc<Owners>,
    clock: Arc<dyn Clock>,
    public_url: Uri,
    discovery: discovery::Discovery,
    reader: Arc<Reader>,
}

impl BigQuery {
    /// `discovery` is a discovery document to serve instead of the upstream's own; `reader` reads SQL.
    pub fn new(
        state: Arc<State>,
        owners: Arc<Owners>,
        clock: Arc<dyn Clock>,
        public_url: Uri,
        discovery: Option<PathBuf>,
        reader: Arc<Reader>,
    ) -> Result<Self, OutboundError> {
        let discovery = discovery::Discovery::new(discovery);
        let schemas = Arc::default();
        let (client, grpc) = (outbound::https()?, outbound::h2()?);
        Ok(Self { client, grpc, schemas, state, owners, clock, public_url, discovery, reader })
    }
}

/// A request that found its method.
pub enum Route {
    Rest(route::Route),
    Storage(storage::Route),
}

/// How to forward a request that was understood.
pub enum Plan {
    Rest(understand::Plan),
    Storage(storage::Plan),
}

impl Upstream for BigQuery {
    type Route = Route;
    type Plan = Plan;

    fn route(&self, request: &Request) -> Result<Route, Refusal> {
        match storage::is_storage(&request.head) {
            true => storage::route(&request.head).map(Route::Storage),
            false => route::route(&request.head).map(Route::Rest),
        }
    }

    fn method(&self, route: &Route) -> String {
        match route {
            Route::Rest(route) => route.method_name().to_owned(),
            Route::Storage(route) => route.method.name(),
        }
    }

    fn project(&self, route: &Route, read: &[u8]) -> Option<String> {
        match route {
            Route::Rest(route) => route.project().map(str::to_owned),
            Route::Storage(route) => storage::project(route, read),
        }
    }

    fn serves_any(&self, route: &Route) -> bool {
        matches!(route, Route::Rest(route) if route.kind == route::RouteKind::Discovery)
    }

    fn inspect(&self, route: &Route, read: &[u8]) -> Inspect {
        match route {
            Route::Rest(route) => understand::inspect(route, read),
            Route::Storage(route) => storage::inspect(route, read),
        }
    }

    fn understand(&self, route: Route, request: &Request, marks: &Marks) -> Result<Action<Plan>, Refusal> {
        Ok(match route {
            Route::Rest(route) => understand::understand(route, request, marks)?.map_plan(Plan::Rest),
            Route::Storage(route) => storage::understand(route, request)?.map_plan(Plan::Storage),
        })
    }

    async fn describe(&self, action: &Action<Plan>, known: Option<&Definitions>) -> Footprint {
        let reading = match &action.plan {
            Plan::Rest(plan) => plan.reading.as_deref(),
            Plan::Storage(_) => None,
        };
        let schemas = known.map(schemas::schemas);
        match (reading, schemas) {
            (Some(reading), schemas) => self.reader.read(reading, schemas, action.footprint.clone()).await,
            (None, Some(schemas)) => {
                let mut footprint = action.footprint.clone();
                schemas::take(&mut footprint, &schemas);
                footprint
            }
            (None, None) => action.footprint.clone(),
        }
    }

    fn ask_dry_run(&self, action: &Action<Plan>, request: &Request) -> Estimating {
        match &action.plan {
            Plan::Rest(plan) => dry_run::estimating(plan, &action.footprint, request.body.read()),
            Plan::Storage(_) => dry_run::estimating_stream(&action.footprint),
        }
    }

    fn later(&self, action: &Action<Plan>, request: &Request, named: (&str, &str)) -> Option<LaterJob> {
        match &action.plan {
            Plan::Rest(plan) => later::job(plan, request.body.read(), named),
            Plan::Storage(_) => None,
        }
    }

    fn answer_held(&self, plan: &Plan, held: &HeldJob<'_>) -> Reply {
        match plan {
            Plan::Rest(plan) => held::answer(plan, held),
            Plan::Storage(_) => unreachable!("no call of the Storage API starts a job or asks for one"),
        }
    }

    fn ask_snapshot(&self, kept: &Kept<'_>) -> Question {
        own_statement::snapshot(kept)
    }

    fn read_done(&self, body: &[u8]) -> Result<(), String> {
        own_statement::done(body)
    }

    fn read_columns(&self, definition: &Definition) -> Result<Vec<String>, String> {
        schemas::paths(definition)
    }

    fn ask_rows(&self, table: &str) -> Option<Question> {
        definitions::question(&Object { kind: ObjectKind::Table, name: table.to_owned() })
    }

    fn read_rows(&self, body: &[u8]) -> Option<u64> {
        definitions::rows(body)
    }

    fn read_dry_run(&self, answer: &Definition) -> DryRun {
        dry_run::read(answer)
    }

    fn bound(&self, action: &mut Action<Plan>, request: &Request, bounds: &Bounds) {
        if let Plan::Rest(plan) = &mut action.plan {
            clamp::clamp(plan, request.body.read(), bounds);
        }
        let own = action.job.max_bytes_billed.as_ref().and_then(|own| own.parse().ok());
        if let Some(bound) = bounds.bytes_billed.filter(|bound| own.is_none_or(|own: u64| own > *bound)) {
            action.job.max_bytes_billed = Some(bound.to_string());
        }
    }

    fn touches(&self, footprint: &Footprint) -> Vec<Touch> {
        definitions::touches(footprint)
    }

    fn objects(&self, footprint: &Footprint, needs: Needs) -> Vec<Object> {
        definitions::objects(footprint, needs)
    }

    fn ask_object(&self, object: &Object) -> Option<Question> {
        definitions::question(object)
    }

    async fn define(
        &self,
        footprint: Footprint,
        object: &Object,
        definition: &Definition,
        known: Option<&Definitions>,
    ) -> Footprint {
        definitions::define((&*self.reader, known), footprint, object, definition).await
    }

    fn versions(&self, known: &Definitions) -> String {
        definitions::versions(known)
    }

    async fn forward(&self, cleared: Cleared<Plan>) -> Answer {
        let (plan, parts) = cleared.into_parts().replace_plan(());
        match plan {
            Plan::Rest(plan) => forward::forward(self, parts.replace_plan(plan).1).await,
            Plan::Storage(plan) => storage::forward(self, parts.replace_plan(plan).1).await,
        }
    }

    fn ask_job(&self, job: &JobRef) -> Question {
        get(job_uri(job, ""))
    }

    fn cancel_job(&self, job: &JobRef) -> Question {
        Question { verb: Verb::POST, uri: job_uri(job, "/cancel"), body: Bytes::new() }
    }

    fn ask_children(&self, parent: &JobRef, page: Option<&str>) -> Question {
        let page = page.map(|page| format!("&pageToken={}", percent_encode(page))).unwrap_or_default();
        let (project, job) = (percent_encode(&parent.project), percent_encode(&parent.job));
        let uri = own_uri(&format!(
            "/bigquery/v2/projects/{project}/jobs?parentJobId={job}&projection=full&maxResults=1000{page}"
        ));
        get(uri)
    }

    fn needs(&self, project: &str) -> Vec<Need> {
        let uri = |path: &str| own_uri(&format!("/bigquery/v2/projects/{}/{path}", percent_encode(project)));
        let dry_run = Bytes::from_static(br#"{"query":"SELECT 1","useLegacySql":false,"dryRun":true}"#);
        vec![
            Need {
                what: "list datasets",
                permission: "bigquery.datasets.get",
                question: get(uri("datasets?maxResults=1")),
            },
            Need {
                what: "run queries (a dry run)",
                permission: "bigquery.jobs.create",
                question: Question { verb: Verb::POST, uri: uri("queries"), body: dry_run },
            },
            Need {
                what: "follow jobs",
                permission: "bigquery.jobs.list",
                question: get(uri("jobs?maxResults=1")),
            },
        ]
    }

    fn read_jobs(&self, body: &[u8]) -> Option<JobsSeen> {
        learn::jobs(body)
    }

    fn refuse(&self, speaks: Speaks, refusal: &Refusal, record: Option<RecordId>) -> Reply {
        match speaks {
            Speaks::Json => refuse::refuse(refusal, record, &self.public_url),
            Speaks::Grpc => storage::refuse(refusal, record, &self.public_url),
        }
    }
}

fn get(uri: Uri) -> Question {
    Question { verb: Verb::GET, uri, body: Bytes::new() }
}

fn job_uri(job: &JobRef, verb: &str) -> Uri {
    let location = match job.location.as_str() {
        "" => String::new(),
        location => format!("?location={}", percent_encode(location)),
    };
    let (project, job) = (percent_encode(&job.project), percent_encode(&job.job));
    own_uri(&format!("/bigquery/v2/projects/{project}/jobs/{job}{verb}{location}"))
}

fn own_uri(text: &str) -> Uri {
    text.parse().expect("its parts are encoded")
}

/// What the client answers with.
type Upstreamed = http::Response<Incoming>;
