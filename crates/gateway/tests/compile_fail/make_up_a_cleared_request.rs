//! Only a permit and an open record make a cleared request.
fn forge<P>(plan: P, request: gateway::Request) -> gateway::Cleared<P> {
    gateway::Cleared { plan, request }
}

fn main() {}
