//! Only admission gives a permit.
fn forge<P>(plan: P) -> gateway::Permit<P> {
    gateway::Permit { plan }
}

fn main() {}
