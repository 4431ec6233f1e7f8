//! A request that was not cleared can't be forwarded.
async fn skip<U: gateway::Upstream>(upstream: &U, request: gateway::Request) {
    upstream.forward(request).await;
}

fn main() {}
