//! Speaks BigQuery's REST v2 both ways: route, understand, forward, learn from the answer, refuse in its shape.
//!
//! The only room that knows a BigQuery field. Knows nothing of identity, rules or the journal.

mod methods;
mod route;
mod understand;
mod forward;
mod answer;
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

use gateway::{Action, Answer, Cleared, Inspect, Marks, Refusal, Reply, Request, Upstream};
use http::Uri;
use hyper::body::Incoming;
use outbound::{Https, OutboundError};
use record::{Clock, RecordId};
use state::State;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

/// BigQuery's REST API as an upstream.
pub struct BigQuery {
    client: Https<gateway::RequestBody>,
    state: Arc<State>,
    clock: Arc<dyn Clock>,
    public_url: Uri,
    discovery: discovery::Discovery,
}

impl BigQuery {
    /// `discovery` is a discovery document to serve instead of the upstream's own.
    pub fn new(
        state: Arc<State>,
        clock: Arc<dyn Clock>,
        public_url: Uri,
        discovery: Option<PathBuf>,
    ) -> Result<Self, OutboundError> {
        let discovery = discovery::Discovery::new(discovery);
        Ok(Self { client: outbound::https()?, state, clock, public_url, discovery })
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

    fn refuse(&self, refusal: &Refusal, record: Option<RecordId>) -> Reply {
        refuse::refuse(refusal, record)
    }
}

/// What the client answers with.
type Upstreamed = http::Response<Incoming>;
