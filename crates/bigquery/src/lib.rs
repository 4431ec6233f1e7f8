//! Speaks BigQuery's REST v2 both ways: route, understand, forward, learn from the answer, refuse in its shape.
//!
//! The only room that knows a BigQuery field. Knows nothing of identity, rules or the journal.

mod methods;
mod route;
mod understand;
mod touches;
mod forward;
mod answer;
mod jobs_list;
mod learn;
mod refuse;
mod uploads;
mod discovery;
mod json;
pub mod rows;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

pub use json::RowColumns;
pub use methods::{Effect, METHODS, Method, Shape, named};
pub use refuse::{error_body, token_error};

use bytes::Bytes;
use gateway::{
    Action, Answer, Cleared, Inspect, JobRef, JobsSeen, Marks, Need, Question, Refusal, Reply, Request,
    Upstream,
};
use http::{Method as Verb, Uri};
use hyper::body::Incoming;
use outbound::{Https, OutboundError};
use record::{Clock, RecordId};
use state::{Owners, State};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use crate::route::percent_encode;

/// BigQuery's REST API as an upstream.
pub struct BigQuery {
    client: Https<gateway::RequestBody>,
    state: Arc<State>,
    owners: Arc<Owners>,
    clock: Arc<dyn Clock>,
    public_url: Uri,
    discovery: discovery::Discovery,
}

impl BigQuery {
    /// `discovery` is a discovery document to serve instead of the upstream's own.
    pub fn new(
        state: Arc<State>,
        owners: Arc<Owners>,
        clock: Arc<dyn Clock>,
        public_url: Uri,
        discovery: Option<PathBuf>,
    ) -> Result<Self, OutboundError> {
        let discovery = discovery::Discovery::new(discovery);
        Ok(Self { client: outbound::https()?, state, owners, clock, public_url, discovery })
    }
}

impl Upstream for BigQuery {
    type Route = route::Route;
    type Plan = understand::Plan;

    fn route(&self, request: &Request) -> Result<route::Route, Refusal> {
        route::route(&request.head)
    }

    fn project<'a>(&self, route: &'a route::Route) -> Option<&'a str> {
        route.project()
    }

    fn serves_any(&self, route: &route::Route) -> bool {
        route.kind == route::RouteKind::Discovery
    }

    fn inspect(&self, route: &route::Route, read: &[u8]) -> Inspect {
        understand::inspect(route, read)
    }

    fn understand(
        &self,
        route: route::Route,
        request: &Request,
        marks: &Marks,
    ) -> Result<Action<understand::Plan>, Refusal> {
        understand::understand(route, request, marks)
    }

    fn forward(&self, cleared: Cleared<understand::Plan>) -> impl Future<Output = Answer> + Send {
        forward::forward(self, cleared)
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

    fn refuse(&self, refusal: &Refusal, record: Option<RecordId>) -> Reply {
        refuse::refuse(refusal, record)
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
