//! One connection attempt: opens a WebSocket, carries text both ways, says once how it ended.
//!
//! Must not live here: when to connect, or what a message means. Invariant: exactly one [`SocketEvent::Closed`] an
//! attempt, whatever happens, and nothing after it.

use std::future::pending;
use std::io;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use shared::close;
use shared::ids::AttemptId;
use shared::limits::OUTBOUND_MESSAGE_BYTES;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, http};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::server_url::ServerUrl;

/// Name look-up, TCP, TLS and the upgrade together. The session gives up earlier; this is the last word.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long an address has for itself before the next one of the name is tried beside it (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried, at most.
const ADDRESSES: usize = 32;
/// How long the peer has to answer our close frame.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Messages waiting to be written. More than a session ever has under way: a socket this far behind is dropped.
pub(crate) const WRITE_QUEUE: usize = 256;
/// Read buffer, in bytes.
const READ_BUFFER: usize = 16 * 1024;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What happens to an attempt.
#[derive(Debug)]
pub(crate) enum SocketEvent {
    /// It is open.
    Opened,
    /// A text message came.
    Text(String),
    /// It is gone, or never opened.
    Closed {
        /// The code; 1006 where it broke off, 1005 where the peer gave none.
        code: u16,
        /// The peer's words, or the system's.
        reason: String,
    },
}

/// What an attempt is asked to do.
#[derive(Debug)]
pub(crate) enum SocketOrder {
    /// Write a text message.
    Send(String),
    /// Say goodbye.
    Close {
        /// With which code.
        code: u16,
        /// With which words.
        reason: &'static str,
    },
}

/// Runs one attempt from the first packet to the last.
pub(crate) async fn run(
    attempt: AttemptId,
    server: ServerUrl,
    token: String,
    mut orders: mpsc::Receiver<SocketOrder>,
    events: mpsc::Sender<(AttemptId, SocketEvent)>,
) {
    let (code, reason) = match connect(&server, &token, &mut orders).await {
        Ok(socket) => match events.send((attempt, SocketEvent::Opened)).await {
            Ok(()) => carry(attempt, socket, orders, &events).await,
            Err(_) => return,
        },
        Err(refused) => refused,
    };
    // Without a driver there is nobody left to tell.
    let _ = events.send((attempt, SocketEvent::Closed { code, reason })).await;
}

async fn connect(
    server: &ServerUrl,
    token: &str,
    orders: &mut mpsc::Receiver<SocketOrder>,
) -> Result<Socket, (u16, String)> {
    let abnormal = |why: String| (close::ABNORMAL, why);
    let mut request = server.socket().into_client_request().map_err(|error| abnormal(error.to_string()))?;
    let bearer = format!("Bearer {token}").parse().map_err(|_| abnormal("the stored token is damaged".into()))?;
    request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * OUTBOUND_MESSAGE_BYTES)
        .max_message_size(Some(4 * OUTBOUND_MESSAGE_BYTES))
        .max_frame_size(Some(4 * OUTBOUND_MESSAGE_BYTES));
    let opening = async {
        let stream = reach(server).await?;
        client_async_tls_with_config(request, stream, Some(config), None).await
    };
    tokio::select! {
        opened = timeout(CONNECT_LIMIT, opening) => match opened {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(error)) => Err(refusal(&error)),
            Err(_) => Err((close::CONNECT_TIMEOUT, "the server did not answer in time".into())),
        },
        // Before the socket is open, every order but a close is a mistake, and ends the attempt as well.
        _ = orders.recv() => Err(abnormal("given up".into())),
    }
}

async fn reach(server: &ServerUrl) -> io::Result<TcpStream> {
    let host = server.host().trim_start_matches('[').trim_end_matches(']');
    let addresses = lookup_host((host, server.port())).await?;
    let stream = first_of(addresses.take(ADDRESSES).map(TcpStream::connect)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Begins one attempt after the other, each when the one before it has failed or has had its time, and takes the first
/// that succeeds: an address that swallows every packet must not keep us from the next one.
async fn first_of<T>(attempts: impl IntoIterator<Item = impl Future<Output = io::Result<T>>>) -> io::Result<T> {
    let mut attempts = attempts.into_iter().peekable();
    let mut under_way = FuturesUnordered::new();
    let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    loop {
        under_way.extend(attempts.next());
        tokio::select! {
            ended = under_way.next() => match ended {
                Some(Ok(reached)) => return Ok(reached),
                Some(failed) => outcome = failed,
                None => return outcome,
            },
            () = sleep(NEXT_ADDRESS), if attempts.peek().is_some() => {}
        }
    }
}

/// Reads the code that stands for a failed upgrade.
fn refusal(error: &Error) -> (u16, String) {
    let Error::Http(response) = error else { return (close::ABNORMAL, error.to_string()) };
    let code = match response.status().as_u16() {
        401 => close::SESSION_EXPIRED,
        403 => close::POLICY,
        429 | 503 => close::TRY_LATER,
        _ => close::ABNORMAL,
    };
    (code, format!("HTTP {}", response.status()))
}

async fn carry(
    attempt: AttemptId,
    socket: Socket,
    orders: mpsc::Receiver<SocketOrder>,
    events: &mpsc::Sender<(AttemptId, SocketEvent)>,
) -> (u16, String) {
    let (sink, stream) = socket.split();
    // Reading goes on while a write waits: a peer that reads nothing must not keep us from hearing its close.
    tokio::select! {
        ended = read(attempt, stream, events) => ended,
        ended = write(sink, orders) => ended,
    }
}

async fn read(
    attempt: AttemptId,
    mut stream: SplitStream<Socket>,
    events: &mpsc::Sender<(AttemptId, SocketEvent)>,
) -> (u16, String) {
    loop {
        let text = match stream.next().await {
            Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
            Some(Ok(Message::Close(frame))) => {
                // The next poll writes our answer to the close frame.
                let _ = timeout(CLOSE_LIMIT, stream.next()).await;
                return frame.map_or((close::NO_STATUS, String::new()), |frame| {
                    (u16::from(frame.code), frame.reason.as_str().to_owned())
                });
            }
            Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
            Some(Err(error)) => return (close::ABNORMAL, error.to_string()),
            None => return (close::ABNORMAL, "the connection ended".into()),
        };
        if events.send((attempt, SocketEvent::Text(text))).await.is_err() {
            return (close::GOING_AWAY, String::new());
        }
    }
}

async fn write(mut sink: SplitSink<Socket, Message>, mut orders: mpsc::Receiver<SocketOrder>) -> (u16, String) {
    while let Some(order) = orders.recv().await {
        match order {
            SocketOrder::Send(text) => {
                if sink.send(Message::text(text)).await.is_err() {
                    // The reading side learns why, and may still hold messages that came before.
                    return pending().await;
                }
            }
            SocketOrder::Close { code, reason } => {
                let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
                // Either the peer answers, which the reading side sees, or the time is up.
                let goodbye = async { (sink.send(Message::Close(Some(frame))).await, pending::<()>().await) };
                let _ = timeout(CLOSE_LIMIT, goodbye).await;
                return (code, reason.to_owned());
            }
        }
    }
    (close::GOING_AWAY, String::new())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::{Either, ready};

    use super::*;

    fn failed(why: &str) -> io::Result<u8> {
        Err(io::Error::other(why.to_owned()))
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(CONNECT_LIMIT, work).await.expect("it ends") })
    }

    #[test]
    fn an_address_that_never_answers_is_passed_by_and_one_that_refuses_at_once() {
        let silent = || Either::Left(pending());
        let said = |outcome| Either::Right(ready(outcome));
        assert_eq!(run(first_of([silent(), said(failed("no")), silent(), said(Ok(3))])).unwrap(), 3);
        assert_eq!(run(first_of([said(failed("one")), said(failed("two"))])).unwrap_err().to_string(), "two");
        assert!(run(first_of(std::iter::empty::<std::future::Ready<io::Result<u8>>>())).is_err());
    }

    #[test]
    fn the_next_address_is_left_alone_where_the_one_before_it_answers() {
        let begun = Cell::new(0);
        let attempts = (0..4).map(|n| {
            let begun = &begun;
            async move {
                begun.set(n);
                if n == 0 { Err(io::Error::other("no")) } else { Ok(n) }
            }
        });
        assert_eq!((run(first_of(attempts)).unwrap(), begun.get()), (1, 1));
    }
}
