//! Only the ledger opens a record.
fn forge() -> ledger::OpenRecord {
    ledger::OpenRecord {}
}

fn main() {}
