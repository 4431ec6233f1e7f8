//! Only the ledger opens a record.
fn forge(id: record::RecordId) -> ledger::OpenRecord {
    ledger::OpenRecord { id }
}

fn main() {}
