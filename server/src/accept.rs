//! From the listening socket to an upgraded or finished request: the accept loop and its limits.
//!
//! Must not live here: routes. Invariant: a peer that has not upgraded holds a socket for a bounded time, and no address
//! holds more than its share of them; whoever is refused is told so with 503 and when to come back, but for an address
//! that keeps sending what nobody can read.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::TokioTimer;
use ipnet::IpNet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::app::App;
use crate::config::{SocketLimits, ms};
use crate::connection::bucket::Window;
use crate::connection::{Connection, Identity};
use crate::http::patience::Patient;

/// How long to wait before accepting again when the process has run out of descriptors.
const OUT_OF_DESCRIPTORS_WAIT: Duration = Duration::from_millis(100);
/// Refused sockets that are seen off at once; more are dropped without a word.
const FAREWELLS: usize = 64;
/// How long seeing off may take.
const FAREWELL_WAIT: Duration = Duration::from_secs(1);
/// What is read of somebody who is seen off, in bytes; more is a flood, and its sender may miss the words.
const FAREWELL_BYTES: usize = 32 * 1_024;
/// In which failed handshakes and sign-ins of an address are counted.
const ADDRESS_WINDOW: Duration = Duration::from_secs(10);
/// Addresses remembered at most. Beyond, the idle are forgotten first.
const ADDRESSES: usize = 100_000;

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

/// Whose share a socket is counted against: an IPv4 address, or the /64 an IPv6 address lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share(IpAddr);

impl Share {
    /// Returns whose share an address is part of.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IpAddr::V4(address)),
            IpAddr::V6(address) => {
                let mut segments = address.segments();
                segments[4..].fill(0);
                Self(IpAddr::V6(segments.into()))
            }
        }
    }
}

/// What addresses have done lately.
pub struct Addresses {
    pending_limit: usize,
    failed_limit: u32,
    sign_in_limit: u32,
    inner: Mutex<HashMap<Share, Address>>,
}

struct Address {
    pending: usize,
    failed: Window,
    broken: Window,
    sign_ins: Window,
}

impl Addresses {
    /// Nothing has been done yet.
    #[must_use]
    pub fn new(limits: &SocketLimits) -> Self {
        Self {
            pending_limit: limits.pending_per_address,
            failed_limit: limits.failed_handshakes,
            sign_in_limit: limits.sign_ins,
            inner: Mutex::default(),
        }
    }

    fn with<T>(&self, share: Share, f: impl FnOnce(&mut Address) -> T) -> T {
        let mut inner = self.lock();
        if inner.len() >= ADDRESSES && !inner.contains_key(&share) {
            let now = Instant::now();
            inner.retain(|_, address| !address.is_idle(now));
        }
        f(inner.entry(share).or_insert_with(|| Address {
            pending: 0,
            failed: Window::new(self.failed_limit.into(), ADDRESS_WINDOW),
            broken: Window::new(self.failed_limit.into(), ADDRESS_WINDOW),
            sign_ins: Window::new(self.sign_in_limit.into(), ADDRESS_WINDOW),
        }))
    }

    /// Counts a socket that has not upgraded, unless its address has too many.
    fn enter(&self, share: Share) -> bool {
        self.with(share, |address| {
            let fits = address.pending < self.pending_limit;
            address.pending += usize::from(fits);
            fits
        })
    }

    fn leave(&self, share: Share, now: Instant) {
        let mut inner = self.lock();
        if let Some(address) = inner.get_mut(&share) {
            address.pending = address.pending.saturating_sub(1);
            if address.is_idle(now) {
                inner.remove(&share);
            }
        }
    }

    /// Tells whether an address has failed at too many upgrades lately.
    #[must_use]
    pub fn is_failing(&self, address: IpAddr, now: Instant) -> bool {
        self.lock().get(&Share::of(address)).is_some_and(|address| address.failed.is_exhausted(now))
    }

    /// Counts a failed upgrade.
    pub fn failed(&self, address: IpAddr, now: Instant) {
        self.with(Share::of(address), |address| address.failed.is_over(now));
    }

    /// Tells whether an address has sent too many heads lately that nobody could read.
    fn is_babbling(&self, share: Share, now: Instant) -> bool {
        self.lock().get(&share).is_some_and(|address| address.broken.is_exhausted(now))
    }

    /// Counts a head that nobody could read. No browser and no client of ours ever sends one.
    fn babbled(&self, share: Share, now: Instant) {
        self.with(share, |address| address.broken.is_over(now));
    }

    /// Counts a new session. Returns whether there were too many.
    pub fn is_signing_in_too_often(&self, address: IpAddr, now: Instant) -> bool {
        self.with(Share::of(address), |address| address.sign_ins.is_over(now))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Share, Address>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Address {
    fn is_idle(&self, now: Instant) -> bool {
        self.pending == 0 && self.failed.is_empty(now) && self.broken.is_empty(now) && self.sign_ins.is_empty(now)
    }
}

/// A socket counted as not upgraded, for as long as this lives.
struct Pending {
    app: Arc<App>,
    share: Option<Share>,
    _slot: OwnedSemaphorePermit,
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
    let mut tasks = JoinSet::new();
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
        if share.is_some_and(|share| app.addresses.is_babbling(share, app.ambient.now())) {
            // Even a goodbye would cost those who are connected more than it costs its sender.
            drop(socket);
            continue;
        }
        let (slot, waiting) = (Arc::clone(&slots).try_acquire_owned(), Arc::clone(&pending).try_acquire_owned());
        let (Ok(slot), Ok(waiting)) = (slot, waiting) else {
            tracing::warn!("no room for another socket");
            see_off(&mut tasks, &farewells, socket);
            continue;
        };
        if share.is_some_and(|share| !app.addresses.enter(share)) {
            tracing::debug!("an address has too many sockets that are not upgraded");
            drop((slot, waiting));
            see_off(&mut tasks, &farewells, socket);
            continue;
        }
        let pending = Pending { app: Arc::clone(&app), share, _slot: waiting };
        let (app, router, takeover) = (Arc::clone(&app), router.clone(), takeover.clone());
        // Both boxed, and neither made inside: a task keeps the space of all that it ever held for as long as it lives, and
        // a connection outlives the request that it began as.
        let begun = Box::pin(until_upgrade(app, socket, address, router, pending));
        let takeover = move |upgraded| Box::pin(takeover(upgraded));
        tasks.spawn(async move {
            if let Some(connection) = begun.await.map(takeover) {
                connection.await;
            }
            drop(slot);
        });
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
) -> Option<Upgraded> {
    prepare(&app, &socket);
    let slot = HandoverSlot::default();
    let served = serve_requests(&app, socket, address, router, &slot).await;
    if let (Err(error), Some(share)) = (&served, pending.share)
        && error.is_parse()
    {
        app.addresses.babbled(share, app.ambient.now());
    }
    let handover = slot.take()?;
    let upgraded = handover.upgrade.await.ok()?;
    // This is the type that was put in.
    let parts = upgraded.downcast::<Patient>().ok()?;
    drop(pending);
    // Copied, mostly nothing: even an empty piece would keep the buffer for requests in memory as long as the connection.
    let unread = Bytes::copy_from_slice(&parts.read_buf);
    Some(Upgraded { app, socket: parts.io.into_inner(), unread, identity: handover.identity })
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
) -> hyper::Result<()> {
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        let peer = client_address(&app.config.trusted_proxy, address.ip(), request.headers());
        request.extensions_mut().insert(PeerAddress(peer));
        request.extensions_mut().insert(slot.clone());
        router.clone().oneshot(request)
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ms(app.config.timing.header_read_timeout_ms))
        .max_buf_size(app.config.sizes.head_bytes)
        .max_headers(app.config.sizes.head_fields)
        .serve_connection(Patient::new(socket, ms(app.config.timing.slow_timeout_ms)), service)
        .with_upgrades();
    // Boxed, so that an upgraded connection does not carry the space for requests along.
    Box::pin(serving).await.inspect_err(|error| tracing::debug!(%error, "a request was not served"))
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
    fn an_ipv6_network_is_one_share() {
        let share = |text: &str| Share::of(text.parse().unwrap());
        assert_eq!(share("2001:db8:1:2:3:4:5:6"), share("2001:db8:1:2::1"));
        assert_ne!(share("2001:db8:1:2::1"), share("2001:db8:1:3::1"));
        assert_eq!(share("::ffff:192.0.2.1"), share("192.0.2.1"));
        assert_ne!(share("192.0.2.1"), share("192.0.2.2"));
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
