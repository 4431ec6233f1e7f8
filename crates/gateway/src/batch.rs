//! Google's batch requests, unpacked: each part is an exchange of its own, decided and recorded by itself.
//!
//! Source: "Batching requests" of Google's API documentation; multipart/mixed of RFC 2046 section 5.1.3, parts of
//! type `application/http`.

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::sync::Arc;
use tokio::sync::mpsc;

use crate::exchange::Gateway;
use crate::limits::{BATCH_PARTS_MAX, HEADERS_MAX, REPLY_PARTS_MAX};
use crate::refusal::{Reason, Refusal};
use crate::reply::{CutOff, Reply, ReplyBody};
use crate::request::{Inspect, Presence, Request, RequestBody};
use crate::upstream::Upstream;

/// Header fields as they stand, and what follows them.
type Fields<'a> = (Vec<(String, String)>, &'a [u8]);

/// One request of a batch.
struct Part {
    /// `Content-ID`, which the answer repeats.
    id: Option<String>,
    head: http::request::Parts,
    body: Bytes,
}

impl<U: Upstream> Gateway<U> {
    /// Answers a batch: its parts one after the other, each as if it had come alone.
    pub async fn batch(self: Arc<Self>, mut request: Request) -> Reply {
        // Whoever is nobody gets no parts unpacked.
        if let Err(stranger) = self.rulebook().identity.identify(&request.head.headers).await {
            return self.turn_away(stranger, &request);
        }
        let parts = match request.body.inspect(|_| Inspect::More).await {
            Ok(()) => unpack(&request),
            Err(error) => Err(error.to_string()),
        };
        match parts {
            Ok(parts) => self.answer_parts(parts, request),
            Err(why) => {
                let refusal = Refusal::new(Reason::Invalid, format!("The batch can't be read: {why}."));
                self.refuse_request(request, refusal).await
            }
        }
    }

    fn answer_parts(self: Arc<Self>, parts: Vec<Part>, request: Request) -> Reply {
        let boundary = format!("batch_{}", record::RecordId::new(request.received));
        let content_type = format!("multipart/mixed; boundary={boundary}");
        let (release, released) = mpsc::channel(REPLY_PARTS_MAX);
        tokio::spawn(async move {
            for part in parts {
                let (present, presence) = Presence::pair();
                let inner = Request {
                    head: part.head,
                    body: RequestBody::whole(part.body),
                    client: request.client,
                    received: self.clock.now(),
                    presence,
                };
                let reply = tokio::select! {
                    reply = self.exchange(inner) => reply,
                    () = release.closed() => return drop(present),
                };
                if pass(&release, &boundary, part.id.as_deref(), reply).await.is_err() {
                    let _ = release.send(Err(CutOff)).await;
                    return;
                }
            }
            let _ = release.send(Ok(Frame::data(format!("--{boundary}--\r\n").into()))).await;
        });
        let mut reply = Reply::new(ReplyBody::Released(released));
        let content_type = HeaderValue::from_str(&content_type).expect("a UUID is a header value");
        reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
        reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        reply
    }
}

/// Writes one part's reply. A reply that is cut off cuts off the batch.
async fn pass(
    release: &mpsc::Sender<Result<Frame<Bytes>, CutOff>>,
    boundary: &str,
    id: Option<&str>,
    reply: Reply,
) -> Result<(), CutOff> {
    let (head, mut body) = reply.into_parts();
    let mut text = BytesMut::new();
    let mut line = |line: &[u8]| {
        text.extend_from_slice(line);
        text.extend_from_slice(b"\r\n");
    };
    line(format!("--{boundary}").as_bytes());
    line(b"Content-Type: application/http");
    if let Some(id) = id {
        line(format!("Content-ID: {id}").as_bytes());
    }
    line(b"");
    line(
        format!("HTTP/1.1 {} {}", head.status.as_u16(), head.status.canonical_reason().unwrap_or(""))
            .as_bytes(),
    );
    for (name, value) in &head.headers {
        // The part's length is the boundary's to say.
        if name != header::CONTENT_LENGTH && name != header::TRANSFER_ENCODING {
            line(&[name.as_str().as_bytes(), b": ", value.as_bytes()].concat());
        }
    }
    line(b"");
    release.send(Ok(Frame::data(text.freeze()))).await.map_err(|_| CutOff)?;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            release.send(Ok(Frame::data(data))).await.map_err(|_| CutOff)?;
        }
    }
    release.send(Ok(Frame::data(Bytes::from_static(b"\r\n")))).await.map_err(|_| CutOff)
}

fn unpack(request: &Request) -> Result<Vec<Part>, String> {
    if request.head.method != http::Method::POST {
        return Err("it is no POST".to_owned());
    }
    let boundary =
        boundary(&request.head.headers).ok_or("its Content-Type is not multipart/mixed with a boundary")?;
    let whole = request.body.read();
    let mut parts = Vec::new();
    for text in split(whole, &boundary)? {
        if parts.len() == BATCH_PARTS_MAX {
            return Err(format!("it has more than {BATCH_PARTS_MAX} parts"));
        }
        let number = parts.len() + 1;
        parts.push(part(&text, &request.head.headers).map_err(|why| format!("part {number}: {why}"))?);
    }
    if parts.is_empty() { Err("it has no parts".to_owned()) } else { Ok(parts) }
}

fn boundary(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let mut fields = text.split(';').map(str::trim);
    if !fields.next()?.eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let value = fields.find_map(|field| {
        let (name, value) = field.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
    })?;
    // RFC 2046: 1 to 70 characters.
    (1..=70).contains(&value.len()).then_some(value)
}

/// The parts between delimiter lines. The closing delimiter must be there: a batch that was cut is not half run.
fn split(whole: &Bytes, boundary: &str) -> Result<Vec<Bytes>, String> {
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut begins: Option<usize> = None;
    let mut at = 0;
    while at < whole.len() {
        let end = whole[at..].iter().position(|byte| *byte == b'\n').map_or(whole.len(), |end| at + end + 1);
        let line = whole[at..end].trim_ascii_end();
        if let Some(rest) = line.strip_prefix(delimiter.as_bytes())
            && (rest.is_empty() || rest == b"--")
        {
            if let Some(begins) = begins {
                // The line end before a delimiter belongs to the delimiter.
                let text = &whole[begins..at];
                let text = text.strip_suffix(b"\n").unwrap_or(text);
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                parts.push(whole.slice_ref(text));
            }
            if rest == b"--" {
                return Ok(parts);
            }
            begins = Some(end);
        }
        at = end;
    }
    Err("its closing delimiter is missing".to_owned())
}

fn part(text: &Bytes, outer: &HeaderMap) -> Result<Part, String> {
    let (fields, inner) = fields(text)?;
    let field = |name: &str| {
        fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    };
    if !field("content-type").is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/http")) {
        return Err("its Content-Type is not application/http".to_owned());
    }
    let id = field("content-id").map(answer_id);
    let (line, rest) = split_line(inner).ok_or("it has no request line")?;
    let line = std::str::from_utf8(line).map_err(|_| "its request line is not UTF-8")?;
    let mut words = line.split(' ');
    let (Some(verb), Some(target), version, None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("its request line is not 'METHOD path'".to_owned());
    };
    if !matches!(version, None | Some("HTTP/1.1" | "HTTP/1.0")) || !target.starts_with('/') {
        return Err("its request line is not 'METHOD path'".to_owned());
    }
    let (own, body) = self::fields(rest)?;
    let mut head = http::Request::new(()).into_parts().0;
    head.method = verb.parse().map_err(|_| "its method is none")?;
    head.uri = target.parse().map_err(|_| "its path is none")?;
    head.headers = headers(&own, outer)?;
    let body = text.slice_ref(body);
    if let Some(length) = head.headers.get(header::CONTENT_LENGTH)
        && length.to_str().ok().and_then(|length| length.parse().ok()) != Some(body.len())
    {
        return Err("its Content-Length is not its body's".to_owned());
    }
    Ok(Part { id, head, body })
}

/// `<a + b>` becomes `<response-a + b>`.
fn answer_id(id: &str) -> String {
    let plain: String = id.chars().filter(|c| !c.is_control()).take(512).collect();
    match plain.strip_prefix('<') {
        Some(rest) => format!("<response-{rest}"),
        None => format!("response-{plain}"),
    }
}

/// The part's own headers, and the batch's where the part says nothing. What speaks of the batch's body or of
/// its connection stays with the batch.
fn headers(own: &[(String, String)], outer: &HeaderMap) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in own {
        let name: HeaderName = name.parse().map_err(|_| "a header's name is none")?;
        if name == header::TRANSFER_ENCODING {
            return Err("a part has no Transfer-Encoding".to_owned());
        }
        headers.append(name, value.parse().map_err(|_| "a header's value is none")?);
    }
    for name in outer.keys() {
        let stays = name.as_str().starts_with("content-")
            || [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::EXPECT, header::TE]
                .contains(name);
        if !stays && !headers.contains_key(name) {
            headers.extend(outer.get_all(name).iter().map(|value| (name.clone(), value.clone())));
        }
    }
    Ok(headers)
}

/// Header fields up to an empty line, and what follows it.
fn fields(text: &[u8]) -> Result<Fields<'_>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some((line, after)) = split_line(rest) else {
            // Headers may end with the part: a GET has no body.
            return if rest.is_empty() {
                Ok((fields, rest))
            } else {
                Err("its headers do not end".to_owned())
            };
        };
        rest = after;
        if line.is_empty() {
            return Ok((fields, rest));
        }
        let line = std::str::from_utf8(line).map_err(|_| "a header is not UTF-8")?;
        if line.starts_with([' ', '\t']) || fields.len() == HEADERS_MAX {
            return Err("a header goes over several lines, or there are too many".to_owned());
        }
        let (name, value) = line.split_once(':').ok_or("a header has no colon")?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.is_empty() {
        return None;
    }
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let line = text[..end].strip_suffix(b"\r").unwrap_or(&text[..end]);
    Some((line, text.get(end + 1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(body: &str) -> Result<Vec<Part>, String> {
        let mut head = http::Request::post("/batch").body(()).unwrap().into_parts().0;
        head.headers.insert("content-type", "multipart/mixed; boundary=\"b 1\"".parse().unwrap());
        head.headers.insert("authorization", "Bearer outer".parse().unwrap());
        let (_, presence) = Presence::pair();
        let client = crate::ClientAddress { ip: [127, 0, 0, 1].into(), tls: false };
        let received = record::Timestamp::from_secs(0);
        unpack(&Request {
            head,
            body: RequestBody::whole(body.to_owned().into()),
            client,
            received,
            presence,
        })
    }

    #[test]
    fn parts_are_requests_with_the_batchs_headers() {
        let body = "preamble\r\n--b 1\r\nContent-Type: application/http\r\nContent-ID: <x + 1>\r\n\r\n\
            POST /bigquery/v2/projects/p/queries?a=b HTTP/1.1\r\nContent-Type: application/json\r\n\
            Content-Length: 20\r\n\r\n{\"query\":\"SELECT 1\"}\r\n--b 1\nContent-Type: application/http\n\n\
            GET /bigquery/v2/projects\nAuthorization: Bearer inner\n\n\n--b 1--\n";
        let parts = parts(body).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].head.uri, "/bigquery/v2/projects/p/queries?a=b");
        assert_eq!(parts[0].body, "{\"query\":\"SELECT 1\"}");
        assert_eq!(parts[0].id.as_deref(), Some("<response-x + 1>"));
        assert_eq!(parts[0].head.headers["authorization"], "Bearer outer");
        assert_eq!(parts[1].head.headers["authorization"], "Bearer inner");
        assert_eq!((parts[1].head.method.as_str(), parts[1].body.len()), ("GET", 0));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_read() {
        let inner = "Content-Type: application/http\r\n\r\n";
        for (part, why) in [
            ("GET /x HTTP/1.1 more", "request line"),
            ("GET http://elsewhere/x", "request line"),
            ("GET /x\r\nContent-Length: 5\r\n\r\nab", "Content-Length"),
            ("POST /x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding"),
            ("GET /x\r\nA: b\r\n c\r\n\r\n", "several lines"),
        ] {
            let error = parts(&format!("--b 1\r\n{inner}{part}\r\n--b 1--")).err().unwrap_or_default();
            assert!(error.contains(why), "{part}: {error}");
        }
        assert!(parts(&format!("--b 1\r\n{inner}GET /x\r\n")).is_err(), "it was cut");
        assert!(parts("--b 1--").is_err(), "it is empty");
    }
}
