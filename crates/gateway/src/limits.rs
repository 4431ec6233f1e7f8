//! Every bound of the data path, in one place.

use std::time::Duration;

/// The part of a request's body that is read before it is decided on, in bytes.
pub const INSPECTED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Reading that part takes at most so long.
pub const INSPECT_MAX: Duration = Duration::from_secs(120);
/// The next bytes of that part arrive within so long.
pub const INSPECT_IDLE_MAX: Duration = Duration::from_secs(15);
/// A body that is longer than this while it is inspected needs one of the places below.
pub const SMALL_BODY_BYTES: usize = 256 * 1024;
/// Places for long bodies: together they hold half a GiB at most.
pub const LONG_BODIES_MAX: usize = 32;
/// All header lines of a request, in bytes.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Header lines of a request.
pub const HEADERS_MAX: usize = 100;
/// A client's request line and headers arrive within so long.
pub const HEAD_MAX: Duration = Duration::from_secs(30);
/// A window leaves in pieces of so many bytes: what waits behind one of them is held back when a session ends.
pub const REPLY_PIECE_BYTES: usize = 256 * 1024;
/// Pieces that wait for a slow client, beside the one that is on its way; the upstream waits behind them.
pub const REPLY_PIECES_MAX: usize = 1;
/// Parts of a batch's reply that wait likewise.
pub const REPLY_PARTS_MAX: usize = 4;
/// Messages of a stream are gathered for so long before they are made durable together.
pub const MESSAGES_GATHERED_MAX: Duration = Duration::from_millis(2);
/// An upload that was answered before its end goes on as long as a part of it comes within this.
pub const UPLOAD_IDLE_MAX: Duration = Duration::from_secs(10);
/// Longest time that such an upload goes on.
pub const UPLOAD_REST_MAX: Duration = Duration::from_secs(600);
/// Streams of one HTTP/2 connection at a time.
pub const STREAMS_MAX: u32 = 256;
/// Connections at a time.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Connections of one address at a time; loopback, where sidecars and proxies are, has no such bound.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 2_500;
/// Streams that a client reset before they were answered, and streams that we had to reset: more of either end
/// the connection (CVE-2023-44487 and its kin).
pub const RESET_STREAMS_MAX: usize = 64;
/// What an HTTP/2 stream may have waiting for its client.
pub const STREAM_SEND_BYTES: usize = 512 * 1024;
/// A session ends when it was idle for so long, in seconds.
pub const SESSION_IDLE_SECS: i64 = 30 * 60;
/// Sessions in memory; the idlest go first.
pub const SESSIONS_MAX: usize = 200_000;
/// Principals whose standing is remembered.
pub const STANDINGS_MAX: usize = 1_000;
/// Refusals of strangers recorded in full, per second and address.
pub const STRANGERS_IN_FULL: u64 = 20;
/// Addresses of strangers that are told apart within a second.
pub const STRANGER_ADDRESSES_MAX: usize = 1_000;
/// Open exchanges have so long to end when the gateway is told to stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(25);
/// Longest path or query string that is looked at, in bytes.
pub const URI_BYTES_MAX: usize = 16 * 1024;
/// An answer to a question of the gateway's own, in bytes.
pub const PROBE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A job is asked for first after so long, in seconds; then after twice as long each time.
pub const FIRST_ASKED_AFTER_SECS: i64 = 1;
/// A job is asked for at least so often, in seconds.
pub const ASKED_EVERY_MAX_SECS: i64 = 60;
/// A job that BigQuery does not know is given up after so long, in seconds: its start may still be on the way.
pub const MISSED_SECS_MAX: i64 = 300;
/// A job is followed for so long at most, in seconds.
pub const FOLLOWED_SECS_MAX: i64 = 7 * 86_400;
/// Jobs that are asked for at a time.
pub const FOLLOWED_AT_A_TIME: usize = 16;
/// Pages of a script's children.
pub const CHILD_PAGES_MAX: usize = 100;
/// A request that is sent again within so long is the same one, in seconds.
pub const RETRY_SECS: i64 = 15 * 60;
/// Requests that are remembered for it.
pub const RETRIES_MAX: usize = 100_000;
/// Requests in a batch, as Google bounds it.
pub const BATCH_PARTS_MAX: usize = 100;
/// Results of a held job are waited for at most so long; then the client asks again, as it does of a job that runs.
pub const HELD_POLL_MAX: Duration = Duration::from_secs(10);
/// What is kept of a held request that is no job, for whoever answers, in bytes.
pub const HELD_TEXT_BYTES_MAX: usize = 16 * 1024;
/// A job that waits is no longer than this, in bytes: BigQuery's own bound on a statement is 1 MiB.
pub const HELD_JOB_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A question on behalf of whoever is to say yes takes at most so long.
pub const ASKED_MAX: Duration = Duration::from_secs(10);
/// Sending what was allowed takes at most so long; then it is tried again.
pub const SEND_HELD_MAX: Duration = Duration::from_secs(120);
/// A job that was allowed and could not be sent is tried again for so long, in seconds.
pub const UNSENT_SECS_MAX: i64 = 900;
/// Messages to people that are on their way at a time; more are not sent, and that is logged.
pub const ANNOUNCED_AT_A_TIME: usize = 32;
