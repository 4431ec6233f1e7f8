//! A record is closed once.
async fn twice(open: ledger::OpenRecord, one: ledger::Closing, two: ledger::Closing) {
    let _ = open.close(one, Default::default()).await;
    let _ = open.close(two, Default::default()).await;
}

fn main() {}
