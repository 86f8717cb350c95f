//! From the listening socket to an upgraded or finished request: the accept loop and its limits.
//!
//! Must not live here: routes. Invariant: a peer that has not upgraded holds a socket for a bounded time, and no address
//! holds more than its share of them; whoever is refused is told so with 503 and when to come back, but for an address
//! that keeps sending what nobody can read.

mod addresses;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, HeaderValue, UPGRADE};
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::TokioTimer;
use ipnet::IpNet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

pub use self::addresses::{Addresses, Share};
use crate::app::{App, RequestCount};
use crate::config::ms;
use crate::connection::{Connection, Identity};
use crate::drain::Phase;
use crate::http::patience::Patient;

/// How long to wait before accepting again when the process has run out of descriptors.
const OUT_OF_DESCRIPTORS_WAIT: Duration = Duration::from_millis(100);
/// Refused sockets that are seen off at once; more are dropped without a word.
pub(crate) const FAREWELLS: usize = 64;
/// How long seeing off may take.
const FAREWELL_WAIT: Duration = Duration::from_secs(1);
/// What is read of somebody who is seen off, in bytes; more is a flood, and its sender may miss the words.
const FAREWELL_BYTES: usize = 32 * 1_024;

/// How many lives of a socket that does not upgrade its last answer may take: at 32 kbit/s the page comes in one.
const LIVES_OF_AN_ANSWER: u32 = 10;

/// Between two lines of the log about sockets there is no room for.
const TURNED_AWAY_TOLD_EVERY: Duration = Duration::from_secs(1);

const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Binds the listening socket. Its address can be taken again at once after a crash.
///
/// # Errors
/// As the system says.
pub fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// A socket counted as not upgraded, for as long as this lives.
struct Pending {
    app: Arc<App>,
    share: Option<Share>,
    since: Instant,
    /// Whether it has asked for anything.
    has_asked: AtomicBool,
    /// From the first request on that a drain waits for; not where that came after the drain had begun.
    counted: OnceLock<RequestCount>,
    _slot: OwnedSemaphorePermit,
}

impl Pending {
    /// Counts the socket as one that a drain waits for, if it asks for what changes something or is to be a connection. For
    /// what can be asked for again, a file of the page, nobody who reads it slowly shall hold up the end.
    fn ask(&self, request: &Request<Incoming>) {
        self.has_asked.store(true, Ordering::Relaxed);
        let is_fleeting =
            matches!(*request.method(), Method::GET | Method::HEAD) && !request.headers().contains_key(UPGRADE);
        if !is_fleeting && self.app.drain.phase() == Phase::Serving {
            self.counted.get_or_init(|| self.app.count_request());
        }
    }

    /// Waits until the drain has begun. A socket that has asked for nothing may still be told that the server stops.
    async fn must_end(&self) {
        self.app.drain.begun().await;
        if !self.has_asked.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }

    /// Waits until the socket has had its place for longer than any honest peer needs it.
    async fn is_too_long(&self) {
        tokio::time::sleep(ms(self.app.config.timing.pending_life_ms) * LIVES_OF_AN_ANSWER).await;
    }

    /// Tells whether what is answered now is the last. Whoever is to go on asking may come again: nobody holds a place for
    /// ever by it.
    fn is_last(&self) -> bool {
        let life = ms(self.app.config.timing.pending_life_ms);
        self.app.drain.phase() != Phase::Serving || self.app.ambient.now().duration_since(self.since) >= life
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(share) = self.share {
            self.app.addresses.leave(share, self.app.ambient.now());
        }
    }
}

/// What the upgrade route leaves for the task that owns the socket.
pub struct Handover {
    /// The socket, once hyper lets go of it.
    pub upgrade: hyper::upgrade::OnUpgrade,
    /// Whose it is, or with which code to close it.
    pub identity: Result<Identity, u16>,
}

/// Where the upgrade route leaves a [`Handover`].
#[derive(Clone, Default)]
pub struct HandoverSlot(Arc<Mutex<Option<Handover>>>);

impl HandoverSlot {
    /// Leaves the handover for the socket's task.
    pub fn put(&self, handover: Handover) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handover);
    }

    fn take(&self) -> Option<Handover> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Marks an answer that is not to be given, because nobody knows whether what was asked for is stored. The socket is
/// closed without a word instead, as one of a connection is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unanswered;

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("what became of the request is not known")
    }
}

impl std::error::Error for Unanswered {}

/// The address a request came from, as far as proxies are believed.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub IpAddr);

/// A socket that has left HTTP.
pub struct Upgraded {
    /// What every part of the server can reach.
    pub app: Arc<App>,
    /// The socket itself, without anything of hyper around it.
    pub socket: TcpStream,
    /// What came behind the request and was read with it.
    pub unread: Bytes,
    /// Whose it is, or with which code to close it.
    pub identity: Result<Identity, u16>,
}

/// Accepts sockets until dropped. Dropping it cuts every socket off.
pub async fn serve(app: Arc<App>, listener: TcpListener, router: Router) {
    let connection = |upgraded: Upgraded| {
        let Upgraded { app, socket, unread, identity } = upgraded;
        Box::new(Connection::new(app, socket, unread, identity)).run()
    };
    serve_to(app, listener, router, connection).await;
}

/// Accepts sockets as [`serve`] does and gives those that upgrade to `takeover`, whose future owns its socket. A
/// conformance test of the framing puts its echo here.
pub async fn serve_to<T, F>(app: Arc<App>, listener: TcpListener, router: Router, takeover: T)
where
    T: Fn(Upgraded) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(app.config.sockets.connections));
    let pending = Arc::new(Semaphore::new(app.config.sockets.pending_in_all()));
    let farewells = Arc::new(Semaphore::new(FAREWELLS));
    let (mut tasks, mut turned_away) = (JoinSet::new(), TurnedAway::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = tasks.join_next() => {
                log_panic(ended);
                continue;
            }
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                rest_after(&error).await;
                continue;
            }
        };
        let is_proxy = app.config.trusted_proxy.iter().any(|network| network.contains(&address.ip().to_canonical()));
        let share = (!is_proxy).then(|| Share::of(address.ip()));
        let now = app.ambient.now();
        if share.is_some_and(|share| app.addresses.is_babbling(share, now)) {
            // Even a goodbye would cost those who are connected more than it costs its sender.
            drop(socket);
            continue;
        }
        let (slot, waiting) = (Arc::clone(&slots).try_acquire_owned(), Arc::clone(&pending).try_acquire_owned());
        let (Ok(slot), Ok(waiting)) = (slot, waiting) else {
            turned_away.count(now);
            see_off(&mut tasks, &farewells, socket);
            continue;
        };
        if share.is_some_and(|share| !app.addresses.enter(share)) {
            tracing::debug!("an address has too many sockets that are not upgraded");
            drop((slot, waiting));
            see_off(&mut tasks, &farewells, socket);
            continue;
        }
        let pending = Pending {
            app: Arc::clone(&app),
            share,
            since: now,
            has_asked: AtomicBool::new(false),
            counted: OnceLock::new(),
            _slot: waiting,
        };
        let (app, router, takeover) = (Arc::clone(&app), router.clone(), takeover.clone());
        // Both boxed, and neither made inside: a task keeps the space of all that it ever held for as long as it lives, and
        // a connection outlives the request that it began as.
        let begun = Box::pin(until_upgrade(app, socket, address, router, pending));
        let takeover = move |upgraded| Box::pin(takeover(upgraded));
        tasks.spawn(async move {
            // Not by a pattern: what is taken apart by one is kept as long as the block runs.
            let connection = begun.await.map(|(upgraded, pending)| {
                let connection = takeover(upgraded);
                // Only now, when the connection is counted: a drain waits for the one or for the other.
                drop(pending);
                connection
            });
            if let Some(connection) = connection {
                connection.await;
            }
            drop(slot);
        });
    }
}

/// Sockets there was no room for, and when that was last told.
#[derive(Default)]
struct TurnedAway {
    untold: u64,
    told: Option<Instant>,
}

impl TurnedAway {
    /// Counts one more. Told seldom: the line is written while everybody else waits at the door.
    fn count(&mut self, now: Instant) {
        self.untold += 1;
        if self.told.is_none_or(|told| now.duration_since(told) >= TURNED_AWAY_TOLD_EVERY) {
            tracing::warn!(sockets = self.untold, "no room for another socket");
            *self = Self { untold: 0, told: Some(now) };
        }
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection's task panicked; only that connection is affected");
    }
}

/// Waits after a failed accept where trying again at once would spin.
async fn rest_after(error: &io::Error) {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {}
        _other => {
            tracing::error!(%error, "cannot accept; trying again shortly");
            tokio::time::sleep(OUT_OF_DESCRIPTORS_WAIT).await;
        }
    }
}

/// Tells a socket that there is no room, and waits a moment so that the words are not lost to a reset.
fn see_off(tasks: &mut JoinSet<()>, farewells: &Arc<Semaphore>, mut socket: TcpStream) {
    let Ok(permit) = Arc::clone(farewells).try_acquire_owned() else { return };
    tasks.spawn(async move {
        let farewell = async {
            socket.write_all(REFUSAL).await?;
            socket.shutdown().await?;
            let (mut rest, mut left) = ([0; 1_024], FAREWELL_BYTES);
            while left > 0 {
                match socket.read(&mut rest).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            io::Result::Ok(())
        };
        // Whoever does not listen to a refusal has been refused all the same.
        let _ = tokio::time::timeout(FAREWELL_WAIT, farewell).await;
        drop(permit);
    });
}

/// One socket from accept to its last request, or until it upgrades. The same task all along.
async fn until_upgrade(
    app: Arc<App>,
    socket: TcpStream,
    address: SocketAddr,
    router: Router,
    pending: Pending,
) -> Option<(Upgraded, Pending)> {
    prepare(&app, &socket);
    let slot = HandoverSlot::default();
    let served = serve_requests(&app, socket, address, router, &slot, &pending).await;
    if let (Err(error), Some(share)) = (&served, pending.share)
        && error.is_parse()
    {
        app.addresses.babbled(share, app.ambient.now());
    }
    let handover = slot.take()?;
    let upgraded = handover.upgrade.await.ok()?;
    // This is the type that was put in.
    let parts = upgraded.downcast::<Patient>().ok()?;
    // Copied, mostly nothing: even an empty piece would keep the buffer for requests in memory as long as the connection.
    let unread = Bytes::copy_from_slice(&parts.read_buf);
    Some((Upgraded { app, socket: parts.io.into_inner(), unread, identity: handover.identity }, pending))
}

fn prepare(app: &App, socket: &TcpStream) {
    // Neither is needed for correctness, and a socket that refuses them is about to fail anyway.
    let _ = socket.set_nodelay(true);
    let buffer = app.config.sockets.send_buffer_bytes;
    if buffer > 0 {
        let _ = socket2::SockRef::from(socket).set_send_buffer_size(buffer);
    }
}

async fn serve_requests(
    app: &Arc<App>,
    socket: TcpStream,
    address: SocketAddr,
    router: Router,
    slot: &HandoverSlot,
    pending: &Pending,
) -> hyper::Result<()> {
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        pending.ask(&request);
        let mut request = request.map(Body::new);
        let peer = client_address(&app.config.trusted_proxy, address.ip(), request.headers());
        request.extensions_mut().insert(PeerAddress(peer));
        request.extensions_mut().insert(slot.clone());
        let answered = router.clone().oneshot(request);
        async move {
            let mut response = answered.await.unwrap_or_else(|never| match never {});
            if response.status() != StatusCode::SWITCHING_PROTOCOLS && pending.is_last() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if response.extensions().get::<Unanswered>().is_some() { Err(Unanswered) } else { Ok(response) }
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ms(app.config.timing.header_read_timeout_ms))
        .max_buf_size(app.config.sizes.head_bytes)
        .max_headers(app.config.sizes.head_fields)
        .serve_connection(Patient::new(socket, ms(app.config.timing.slow_timeout_ms)), service)
        .with_upgrades();
    // Boxed, so that an upgraded connection does not carry the space for requests along.
    let mut serving = Box::pin(serving);
    let served = tokio::select! {
        biased;
        served = &mut serving => served,
        // Closes at once whoever asks for nothing now, and after its answer whoever does.
        () = pending.must_end() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                served = serving => served,
                () = pending.is_too_long() => Ok(()),
            }
        }
        () = pending.is_too_long() => Ok(()),
    };
    served.inspect_err(|error| tracing::debug!(%error, "a request was not served"))
}

/// Returns who a request came from: the rightmost hop that is not one of our proxies.
#[must_use]
pub fn client_address(proxies: &[IpNet], socket: IpAddr, headers: &axum::http::HeaderMap) -> IpAddr {
    let is_ours = |address: &IpAddr| proxies.iter().any(|network| network.contains(address));
    let socket = socket.to_canonical();
    if !is_ours(&socket) {
        return socket;
    }
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    for hop in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
        let hop = std::str::from_utf8(hop).ok().and_then(|hop| hop.trim().parse::<IpAddr>().ok());
        match hop.map(|address| address.to_canonical()) {
            Some(address) if is_ours(&address) => {}
            Some(address) => return address,
            // What a client wrote itself is not believed, and nothing left of it either.
            None => return socket,
        }
    }
    socket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_there_is_no_room_for_are_told_of_once_a_second_with_their_number() {
        let (mut turned_away, begun) = (TurnedAway::default(), Instant::now());
        let mut untold = |ms| {
            turned_away.count(begun + Duration::from_millis(ms));
            turned_away.untold
        };
        assert_eq!([0, 1, 999, 1_000, 1_001].map(&mut untold), [0, 1, 2, 0, 1]);
    }

    #[test]
    fn only_our_own_proxies_are_believed_and_only_about_the_last_hop() {
        let proxies: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let client = |socket: &str, forwarded: &[&str]| {
            let mut headers = axum::http::HeaderMap::new();
            for value in forwarded {
                // As the bytes that came: not every one needs to be ASCII.
                headers.append("x-forwarded-for", axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            client_address(&proxies, socket.parse().unwrap(), &headers).to_string()
        };
        assert_eq!(client("192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["198.51.100.7, 203.0.113.9", "10.0.0.2"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["203.0.113.9, forged"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.9", "forgéd"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.7", "forgéd, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("::ffff:10.0.0.1", &["2001:db8::1"]), "2001:db8::1");
    }
}
