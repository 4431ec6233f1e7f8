//! An answer to what is held, from the API's words to the gateway's and back.

use console::{Answer, Answered};
use gateway::{Answering, Gateway, NotAnswered, Says, Sent};
use http::StatusCode;
use record::{Actor, RecordId};
use serde_json::json;

/// Answers, and says what that came to.
pub(crate) async fn answer(
    gateway: &Gateway<bigquery::BigQuery>,
    id: RecordId,
    actor: Actor,
    answer: Answer,
) -> Answered {
    let says = match answer {
        Answer::Approve { scope, secs } => Says::Yes { scope, secs },
        Answer::Deny { reason } => Says::No { reason },
    };
    let answered = gateway.answer_held_request(Answering { id, actor, says }).await.map_err(why_not)?;
    let held = &answered.held;
    let (record, said) = match &answered.sent {
        None => (None, None),
        Some(Sent::Released(record)) => (Some(record), None),
        Some(Sent::Failed(why) | Sent::AskedAgain { why, .. } | Sent::Later(why)) => (None, Some(why)),
    };
    let asked_again = match &answered.sent {
        Some(Sent::AskedAgain { id, .. }) => Some(id),
        _ => None,
    };
    let waits_for: u32 = held
        .demands
        .iter()
        .map(|demand| demand.needed.saturating_sub(held.said_yes(&demand.rule)))
        .max()
        .unwrap_or(0);
    Ok(json!({
        "id": id, "asked_again": asked_again, "stand": held.stand, "record": record, "said": said, "grant": held.grant,
        "job": held.job.as_ref().map(|job| format!("{}:{}", job.project, job.job)),
        "needs_more": if held.is_pending() { waits_for } else { 0 },
    }))
}

fn why_not(why: NotAnswered) -> (StatusCode, String) {
    match why {
        NotAnswered::Unknown => (StatusCode::NOT_FOUND, String::new()),
        NotAnswered::NotTheirs(why) => (StatusCode::FORBIDDEN, format!("you can't answer it: {why}.")),
        NotAnswered::Over(why) => (StatusCode::CONFLICT, format!("nothing was done: {why}.")),
        NotAnswered::Invalid(why) => (StatusCode::BAD_REQUEST, format!("{why}.")),
        NotAnswered::Unrecorded(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("it could not be recorded, so nothing was done: {why}."),
        ),
    }
}
