//! A TCP proxy whose weather can be changed while connections are open.
//!
//! Must not live here: knowledge of what flows through. Invariant: in [`Weather::Fair`] bytes pass unchanged and in
//! order; a connection that ever lost a byte never delivers a later one.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::campaign::Dice;

/// What the link is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Everything passes.
    Fair,
    /// Bytes vanish in the directions told; nobody is informed, and new connections get no answer either. Once the
    /// weather changes, a connection that lost bytes is reset.
    BlackHole {
        /// From the client to the server.
        up: bool,
        /// From the server to the client.
        down: bool,
    },
    /// Nothing moves, nothing is lost: what was written arrives late, when the weather changes.
    Frozen,
    /// Every connection is reset, new ones at once.
    Reset,
    /// Everything arrives this much later.
    Delayed {
        /// Milliseconds in each direction.
        ms: u64,
    },
    /// Everything arrives in small pieces, each after a wait of its own.
    Rough {
        /// Longest wait before a piece, in milliseconds; 0 for none.
        jitter_ms: u64,
        /// Bytes of a piece at most.
        piece_bytes: usize,
    },
    /// Few bytes a second in each direction, per connection.
    Thin {
        /// Bytes per second.
        bytes_per_s: u64,
    },
}

impl Weather {
    /// A link that swallows everything both ways.
    pub const BLACK_HOLE: Self = Self::BlackHole { up: true, down: true };

    fn swallows(self, way: Way) -> bool {
        match self {
            Self::BlackHole { up, down } => match way {
                Way::Up => up,
                Way::Down => down,
            },
            Self::Fair | Self::Frozen | Self::Reset | Self::Delayed { .. } | Self::Rough { .. } | Self::Thin { .. } => {
                false
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// How much is read at once; small, so that a thin pipe is smooth.
const CHUNK_BYTES: usize = 4 * 1024;
/// A thin pipe gives out its bytes this often.
const THIN_TICK: Duration = Duration::from_millis(100);

/// The sizes and waits of rough weather are the same in every run.
const ROUGH_SEED: u64 = 7;

/// The proxy. Its connections end with it.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    acceptor: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and passes everything to `target`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let (weather, seen) = watch::channel(Weather::Fair);
        let acceptor = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Ends with its weather channel, which the proxy owns.
                tokio::spawn(carry(client, target, seen.clone()));
            }
        });
        Self { address, weather, acceptor }
    }

    /// Returns where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the origin of the page as a browser sees it through this proxy.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the weather, for open connections too.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// Carries one connection until either side ends it or the weather does.
async fn carry(mut client: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>) {
    loop {
        let now = *weather.borrow_and_update();
        match now {
            Weather::Reset => return reset(&client),
            Weather::Fair | Weather::Delayed { .. } | Weather::Rough { .. } | Weather::Thin { .. } => break,
            Weather::BlackHole { up: false, down: _ } => break,
            Weather::BlackHole { .. } | Weather::Frozen => {
                if weather.changed().await.is_err() {
                    return;
                }
            }
        }
    }
    let Ok(mut server) = TcpStream::connect(target).await else {
        return reset(&client);
    };
    for side in [&client, &server] {
        // Matters for timing alone.
        side.set_nodelay(true).ok();
    }
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = pump(Way::Up, &mut from_client, &mut to_server, weather.clone());
    let down = pump(Way::Down, &mut from_server, &mut to_client, weather);
    if tokio::try_join!(up, down).is_err() {
        reset(&client);
        reset(&server);
    }
}

/// Makes the coming drop a reset instead of a goodbye.
fn reset(socket: &TcpStream) {
    // Fails only on a socket that is gone, which is what is wanted.
    socket.set_zero_linger().ok();
}

/// A connection that must not go on: it was reset, or lost bytes.
struct Broken;

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

/// Moves bytes one way until the end, or until the weather breaks the connection.
async fn pump(
    way: Way,
    read: &mut ReadHalf<'_>,
    write: &mut WriteHalf<'_>,
    mut weather: watch::Receiver<Weather>,
) -> Result<(), Broken> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut lost_bytes = false;
    let mut dice = Dice::from_seed(ROUGH_SEED);
    loop {
        let now = *weather.borrow_and_update();
        let most = match now {
            Weather::Reset => return Err(Broken),
            Weather::Frozen => {
                weather.changed().await.map_err(|_| Broken)?;
                continue;
            }
            Weather::BlackHole { .. } if now.swallows(way) => CHUNK_BYTES,
            _ if lost_bytes => return Err(Broken),
            Weather::Thin { bytes_per_s } => thin_share(bytes_per_s),
            Weather::Rough { piece_bytes, .. } => 1 + chance(&mut dice, piece_bytes as u64),
            Weather::Fair | Weather::Delayed { .. } | Weather::BlackHole { .. } => CHUNK_BYTES,
        };
        let got = tokio::select! {
            got = read.read(&mut chunk[..most]) => got?,
            changed = weather.changed() => {
                changed.map_err(|_| Broken)?;
                continue;
            }
        };
        if got == 0 {
            // A half-close is passed on; the other way may still have something to say.
            write.shutdown().await?;
            return Ok(());
        }
        if now.swallows(way) {
            lost_bytes = true;
            continue;
        }
        match now {
            Weather::Delayed { ms } => sleep(Duration::from_millis(ms)).await,
            Weather::Rough { jitter_ms: 0, .. } => tokio::task::yield_now().await,
            Weather::Rough { jitter_ms, .. } => {
                sleep(Duration::from_millis(chance(&mut dice, jitter_ms + 1) as u64)).await;
            }
            Weather::Thin { .. } => sleep(THIN_TICK).await,
            Weather::Fair | Weather::BlackHole { .. } | Weather::Frozen | Weather::Reset => {}
        }
        write.write_all(&chunk[..got]).await?;
    }
}

/// Throws a number below `end`, and below the size of a chunk.
fn chance(dice: &mut Dice, end: u64) -> usize {
    usize::try_from(dice.below(end)).map_or(0, |thrown| thrown.min(CHUNK_BYTES - 1))
}

/// Returns how many bytes one tick of a thin pipe lets through.
fn thin_share(bytes_per_s: u64) -> usize {
    let ticks_per_s = 1_000 / u64::try_from(THIN_TICK.as_millis()).expect("a short tick");
    usize::try_from(bytes_per_s / ticks_per_s).expect("a thin pipe is thin").clamp(1, CHUNK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    const DEADLINE: Duration = Duration::from_secs(5);

    /// A proxy before a server that sends back what it gets.
    async fn echo() -> (FaultProxy, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let target = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        let proxy = FaultProxy::start(target).await;
        let client = TcpStream::connect(proxy.address()).await.unwrap();
        (proxy, client)
    }

    async fn round_trip(client: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        client.write_all(text).await?;
        let mut back = vec![0; text.len()];
        timeout(DEADLINE, client.read_exact(&mut back)).await.expect("an answer in time")?;
        Ok(back)
    }

    async fn is_silent(client: &mut TcpStream) -> bool {
        timeout(Duration::from_millis(200), client.read_u8()).await.is_err()
    }

    #[tokio::test]
    async fn fair_weather_passes_bytes_unchanged() {
        let (_proxy, mut client) = echo().await;
        assert_eq!(round_trip(&mut client, b"hello").await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn a_frozen_link_delivers_late_and_loses_nothing() {
        let (proxy, mut client) = echo().await;
        assert_eq!(round_trip(&mut client, b"a").await.unwrap(), b"a");
        proxy.set(Weather::Frozen);
        client.write_all(b"late").await.unwrap();
        assert!(is_silent(&mut client).await);
        proxy.set(Weather::Fair);
        let mut back = [0; 4];
        timeout(DEADLINE, client.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(&back, b"late");
    }

    #[tokio::test]
    async fn a_connection_that_lost_bytes_in_a_black_hole_is_reset_when_it_heals() {
        let (proxy, mut client) = echo().await;
        assert_eq!(round_trip(&mut client, b"a").await.unwrap(), b"a");
        proxy.set(Weather::BLACK_HOLE);
        client.write_all(b"gone").await.unwrap();
        assert!(is_silent(&mut client).await);
        proxy.set(Weather::Fair);
        let end = timeout(DEADLINE, client.read_u8()).await.expect("the end comes in time");
        assert!(end.is_err(), "a byte came after others were lost");
        let mut fresh = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(round_trip(&mut fresh, b"new").await.unwrap(), b"new");
    }

    #[tokio::test]
    async fn a_reset_is_seen_as_one() {
        let (proxy, mut client) = echo().await;
        assert_eq!(round_trip(&mut client, b"a").await.unwrap(), b"a");
        proxy.set(Weather::Reset);
        let end = timeout(DEADLINE, client.read_u8()).await.expect("the end comes in time");
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn rough_weather_delivers_in_pieces_and_whole() {
        let (proxy, mut client) = echo().await;
        proxy.set(Weather::Rough { jitter_ms: 2, piece_bytes: 3 });
        let text: Vec<u8> = (0..200).collect();
        client.write_all(&text).await.unwrap();
        let first = client.read_u8().await.unwrap();
        let mut piece = [0; 200];
        let got = timeout(DEADLINE, client.read(&mut piece)).await.unwrap().unwrap();
        assert!(got < 150, "{got} bytes came at once");
        let mut rest = vec![0; text.len() - 1 - got];
        timeout(DEADLINE, client.read_exact(&mut rest)).await.unwrap().unwrap();
        assert_eq!([&[first], &piece[..got], &rest].concat(), text);
    }

    #[tokio::test]
    async fn a_thin_pipe_is_thin_and_intact() {
        let (proxy, mut client) = echo().await;
        proxy.set(Weather::Thin { bytes_per_s: 1_000 });
        let began = Instant::now();
        let text = vec![7; 500];
        assert_eq!(round_trip(&mut client, &text).await.unwrap(), text);
        assert!(began.elapsed() > Duration::from_millis(400), "500 bytes at 1,000 a second took {:?}", began.elapsed());
    }
}
