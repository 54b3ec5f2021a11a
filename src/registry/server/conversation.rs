//! The requests of one connection and their responses, one after the other.
//!
//! ureq-proto parses the requests and knows where each ends, and whether the connection can be used for another one. Here are
//! the limits: of the size and time of a head, and of the time that a client may take for a piece of a response.

use super::client_stream::ClientStream;
use super::connections::{ConnectionUse, OpenConnection};
use super::pulls::RegistryClient;
use super::refusal::{Code, Refusal};
use super::respond::{RegistryResponse, ResponseBody};
use super::{ServerEvent, ServerState};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::time::Duration;
use ureq_proto::Error as ProtocolError;
use ureq_proto::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use ureq_proto::server::state::ProvideResponse;
use ureq_proto::server::{RecvRequestResult, Reply, SendResponseResult};

/// The largest head of a request, in bytes.
const LARGEST_HEAD: usize = 16 << 10;

/// The largest body of a request that is read, and ignored: reading something takes none.
const LARGEST_BODY: usize = 64 << 10;

/// The longest time for the head of a request, and for the handshake of TLS before it.
const HEAD_TIME: Duration = Duration::from_secs(15);

/// The longest time between two requests.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// The longest time for a piece of a response: a client that takes less than 64 KiB in it counts as gone.
const PIECE_TIME: Duration = Duration::from_secs(30);

/// The longest part of the name of a client's program that is kept.
const LONGEST_AGENT: usize = 60;

/// The first byte of TLS. Clients try it before plain HTTP, and learn from the response that this port has none.
const TLS_RECORD: u8 = 22;

/// A request whose response begins with a head and the length of the body, and ends the connection.
const LAST_REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// A request, and what has to be done for its response.
struct Received {
    request: Request<()>,
    reply: Reply<ProvideResponse>,
}

/// The reason for which a connection has no further request.
enum NoRequest {
    /// It was closed, or nothing came.
    Ended,
    /// What came is no request.
    Refused(Refusal),
    /// The client tries whether this port speaks TLS.
    TriedTls,
}

impl From<io::Error> for NoRequest {
    fn from(_: io::Error) -> Self {
        NoRequest::Ended
    }
}

/// Answers the requests on `stream`, until the connection ends.
pub(super) fn converse(
    mut stream: ClientStream,
    address: IpAddr,
    server: &ServerState,
    connection: &OpenConnection<'_>,
) {
    let mut input = Vec::new();
    let mut time = HEAD_TIME;
    while connection.is(ConnectionUse::Waiting) {
        let received = receive(&mut stream, &mut input, time, connection);
        time = IDLE_TIME;
        let sent = match received {
            Err(NoRequest::Ended) => break,
            Err(NoRequest::Refused(refusal)) => last_reply().and_then(|reply| {
                let client = RegistryClient { address, user: None, agent: None };
                report_refusal(server, &client, None, &refusal);
                send(&mut stream, reply, None, refusal.into(), server)
            }),
            Err(NoRequest::TriedTls) => last_reply().and_then(|reply| {
                let refusal = Refusal::malformed(Code::Unsupported, "this port speaks plain HTTP");
                send(&mut stream, reply, None, refusal.into(), server)
            }),
            Ok(Received { request, reply }) => answer(&mut stream, reply, &request, address, server),
        };
        match sent {
            Ok(Next::Request) => {}
            Ok(Next::End) => break,
            // Without an orderly end, so that half a response is not taken for a whole one.
            Err(_) => return,
        }
    }
    stream.close();
}

/// What follows on a response.
enum Next {
    Request,
    End,
}

fn answer(
    stream: &mut ClientStream,
    reply: Reply<ProvideResponse>,
    request: &Request<()>,
    address: IpAddr,
    server: &ServerState,
) -> io::Result<Next> {
    let mut client = RegistryClient { address, user: None, agent: agent(request.headers()) };
    let response = user(request.headers(), server).and_then(|user| {
        client.user = user;
        match *request.method() {
            Method::GET | Method::HEAD => server.responder.respond(request, &client, &*server.report),
            _ => Err(Refusal::read_only()),
        }
    });
    let response = response.unwrap_or_else(|refusal| {
        report_refusal(server, &client, Some(request), &refusal);
        refusal.into()
    });
    send(stream, reply, Some(request), response, server)
}

/// Returns the user of a request, if this server has users.
fn user(headers: &HeaderMap, server: &ServerState) -> Result<Option<String>, Refusal> {
    let Some(passwords) = &server.passwords else { return Ok(None) };
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    authorization.and_then(|value| passwords.user_of(value)).map(Some).ok_or_else(Refusal::unauthorized)
}

/// Returns the name of the client's program.
fn agent(headers: &HeaderMap) -> Option<String> {
    let agent = headers.get(header::USER_AGENT)?.to_str().ok()?;
    let first = agent.split_ascii_whitespace().next()?;
    Some(first.chars().take(LONGEST_AGENT).collect())
}

/// Reports a refused request, except for questions that clients ask of every registry: whether it wants a password, and whether
/// it has something.
fn report_refusal(server: &ServerState, client: &RegistryClient, request: Option<&Request<()>>, refusal: &Refusal) {
    let is_question = request.is_some_and(|request| match refusal.status() {
        401 => !request.headers().contains_key(header::AUTHORIZATION),
        404 => request.method() == Method::HEAD,
        _ => false,
    });
    if !is_question {
        let named = request.map(|request| format!("{} {}", request.method(), request.uri().path()));
        let request = named.as_deref().unwrap_or("malformed request");
        (server.report)(ServerEvent::Refused { client, request, status: refusal.status(), reason: refusal.message() });
    }
}

/// Reads the next request. Its first byte may take `time`.
fn receive(
    stream: &mut ClientStream,
    input: &mut Vec<u8>,
    time: Duration,
    connection: &OpenConnection<'_>,
) -> Result<Received, NoRequest> {
    let malformed = |_| NoRequest::Refused(Refusal::malformed(Code::Unsupported, "malformed request"));
    if input.is_empty() {
        stream.allow(time);
        read_more(stream, input)?;
    }
    connection.is(ConnectionUse::Responding);
    if input.first() == Some(&TLS_RECORD) {
        return Err(NoRequest::TriedTls);
    }
    stream.allow(HEAD_TIME);
    let mut reply = Reply::new().map_err(malformed)?;
    let mut may_be_complete = true;
    let request = loop {
        // Every head ends with a line break, so nothing is parsed before one has come.
        if may_be_complete {
            match reply.try_request(input) {
                Ok((used, Some(request))) => {
                    input.drain(..used);
                    break request;
                }
                Ok((_, None)) => {}
                Err(ProtocolError::HttpParseTooManyHeaders) => return Err(too_large()),
                Err(error) => return Err(malformed(error)),
            }
        }
        if input.len() >= LARGEST_HEAD {
            return Err(too_large());
        }
        let known = input.len();
        read_more(stream, input).map_err(late)?;
        may_be_complete = input[known..].contains(&b'\n');
    };
    check_head(&request).map_err(|reason| NoRequest::Refused(Refusal::malformed(Code::Unsupported, reason)))?;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let reply = match reply.proceed() {
        Some(RecvRequestResult::ProvideResponse(reply)) => reply,
        // The body of a request that is refused anyway is not read.
        _ if !reads => last_reply()?,
        Some(RecvRequestResult::RecvBody(reply)) => ignore_body(stream, input, reply)?,
        _ => {
            let reason = "a request to read has no body";
            return Err(NoRequest::Refused(Refusal::new(StatusCode::EXPECTATION_FAILED, Code::Unsupported, reason)));
        }
    };
    Ok(Received { request, reply })
}

/// Refuses what other programs on the way may read differently (RFC 9112, sections 3.2 and 6.1).
fn check_head(request: &Request<()>) -> Result<(), &'static str> {
    let headers = request.headers();
    if request.version() == Version::HTTP_11 && !headers.contains_key(header::HOST) {
        return Err("a request without the header Host");
    }
    let encodings: Vec<_> = headers.get_all(header::TRANSFER_ENCODING).iter().collect();
    let is_plain_chunked = |value: &&HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !encodings.iter().all(is_plain_chunked) || encodings.len() > 1 {
        return Err("an unsupported transfer encoding");
    }
    if !encodings.is_empty() && headers.contains_key(header::CONTENT_LENGTH) {
        return Err("both Transfer-Encoding and Content-Length");
    }
    Ok(())
}

fn ignore_body(
    stream: &mut ClientStream,
    input: &mut Vec<u8>,
    mut reply: Reply<ureq_proto::server::state::RecvBody>,
) -> Result<Reply<ProvideResponse>, NoRequest> {
    let malformed = |_| NoRequest::Refused(Refusal::malformed(Code::Unsupported, "malformed body"));
    let (mut ignored, mut read) = (vec![0; 4096], 0);
    while !reply.is_ended() {
        let (used, _) = reply.read(input, &mut ignored).map_err(malformed)?;
        input.drain(..used);
        read += used;
        if read > LARGEST_BODY {
            let reason = "a request to read has no body";
            return Err(NoRequest::Refused(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Code::Unsupported, reason)));
        }
        if used == 0 && !reply.is_ended() {
            read_more(stream, input).map_err(late)?;
        }
    }
    reply.proceed().map_err(malformed)
}

/// Reads some bytes. The end of the connection is an error.
fn read_more(stream: &mut ClientStream, input: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 4096];
    match stream.read(&mut piece)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            input.extend_from_slice(&piece[..read]);
            Ok(())
        }
    }
}

fn too_large() -> NoRequest {
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    NoRequest::Refused(Refusal::new(status, Code::Unsupported, "the head of the request is too large"))
}

/// Distinguishes a client that is too slow from one that is gone.
fn late(error: io::Error) -> NoRequest {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            let reason = "the request did not come in time";
            NoRequest::Refused(Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::Unsupported, reason))
        }
        _ => NoRequest::Ended,
    }
}

/// Returns what a response needs that is the last one of its connection, whatever the client has sent.
fn last_reply() -> io::Result<Reply<ProvideResponse>> {
    let mut reply = Reply::new().map_err(io::Error::other)?;
    reply.try_request(LAST_REQUEST).map_err(io::Error::other)?;
    match reply.proceed() {
        Some(RecvRequestResult::ProvideResponse(reply)) => Ok(reply),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Sends a response to `request`, or to something that was no request.
fn send(
    stream: &mut ClientStream,
    reply: Reply<ProvideResponse>,
    request: Option<&Request<()>>,
    response: RegistryResponse<'_>,
    server: &ServerState,
) -> io::Result<Next> {
    let RegistryResponse { status, headers, body, pull } = response;
    let mut head = Response::new(());
    *head.status_mut() = status;
    head.headers_mut().extend(headers);
    if let Some(length) = body.length() {
        head.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    if server.connections.is_stopping() {
        head.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    } else if request.is_some_and(|request| request.version() == Version::HTTP_10) {
        head.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
    }
    let mut reply = reply.provide(head).map_err(io::Error::other)?;
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while !reply.is_finished() {
        let written = reply.write(&mut piece).map_err(io::Error::other)?;
        text.extend_from_slice(&piece[..written]);
    }
    stream.allow(PIECE_TIME);
    stream.write_all(&text)?;
    let done = match reply.proceed() {
        SendResponseResult::Cleanup(done) => done,
        SendResponseResult::SendBody(mut reply) => {
            let mut sent = 0;
            let mut write = |bytes: &[u8]| {
                reply.consume_direct_write(bytes.len()).map_err(io::Error::other)?;
                stream.allow(PIECE_TIME);
                stream.write_all(bytes)?;
                sent += bytes.len() as u64;
                Ok(())
            };
            let result = match body {
                ResponseBody::None => Ok(()),
                ResponseBody::Bytes(bytes) => write(&bytes),
                ResponseBody::Blob(blob) => server.send_blob(blob, &mut write),
            };
            if let Some((request, what)) = &pull {
                request.sent(*what, sent, &result);
            }
            result?;
            // This is how ureq-proto learns that an empty body has ended.
            reply.write(&[], &mut []).map_err(io::Error::other)?;
            if !reply.is_finished() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            reply.proceed()
        }
    };
    stream.flush()?;
    Ok(if done.must_close_connection() { Next::End } else { Next::Request })
}
