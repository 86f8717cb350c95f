//! An echo for conformance tests of the framing: every message goes back as it came.
//!
//! ```text
//! cargo run --release -p server --example echo -- [ADDRESS]
//! ```
//!
//! Lives here: sending back, and limits wide enough for a test suite. Must not live here: a line of framing, handshake
//! or HTTP. Invariant: from the accepted socket to the whole message, and back to the frame, everything is the code
//! that serves people; the server's own program contains none of this.
//!
//! The upgrade wants an `Origin` that is the printed address: a page's socket is upgraded without a session, to be
//! told in-band that it needs one, and here it is echoed instead.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser as _;
use server::accept::{self, Upgraded};
use server::config::Config;
use server::ws::{Decoder, DecoderLimits, Incoming, Violation, frame};
use server::{Server, Storage, http};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Wide enough for messages of 16 MiB, and for 4 MiB in pieces of 64 bytes.
const LIMITS: DecoderLimits = DecoderLimits { message_bytes: 32 * 1024 * 1024, fragments: 1 << 20, binary: true };
/// Bytes read at once, as a connection does.
const READ_BYTES: usize = 4 * 1024;
/// How long a peer that broke the protocol may take to read why.
const FAREWELL_WAIT: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:0").parse()?;
    let listener = accept::bind(address, 64)?;
    let origin = format!("http://{}", listener.local_addr()?);
    let config = Config::try_parse_from(["echo", "--allow-origin", &origin])?;
    config.validate()?;
    // Never run: it is opened for what the accept loop and the upgrade ask of it.
    let server = Server::open(TcpListener::bind("127.0.0.1:0").await?, config, Storage::Memory).await?;
    println!("listening on {origin}");
    let app = server.app();
    accept::serve_to(app.clone(), listener, http::router(app.clone()), echo).await;
    Ok(())
}

async fn echo(upgraded: Upgraded) {
    // A peer that goes away in the middle of something is one of the things that are tested.
    let _ = converse(upgraded.socket, upgraded.unread.to_vec()).await;
}

/// Sends back what comes until either side is done.
async fn converse(mut socket: TcpStream, unread: Vec<u8>) -> io::Result<()> {
    let mut decoder = Decoder::new(LIMITS);
    let mut bytes = unread;
    loop {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let answer = match decoder.next(&mut rest) {
                Ok(None) => continue,
                Ok(Some(Incoming::Text(text))) => frame::text(&text),
                Ok(Some(Incoming::Binary(payload))) => frame::binary(&payload),
                Ok(Some(Incoming::Ping(payload))) => frame::pong(&payload),
                Ok(Some(Incoming::Pong)) => continue,
                Ok(Some(Incoming::Close(close))) => {
                    let answer = close.map_or_else(frame::close_empty, |close| frame::close(close.code, ""));
                    return socket.write_all(&answer).await;
                }
                Err(violation) => return show_out(socket, violation).await,
            };
            socket.write_all(&answer).await?;
        }
        bytes.resize(READ_BYTES, 0);
        let count = socket.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        bytes.truncate(count);
    }
}

/// Says what was wrong, and reads on for a moment so that a reset does not swallow the words.
async fn show_out(mut socket: TcpStream, violation: Violation) -> io::Result<()> {
    socket.write_all(&frame::close(violation.close_code(), violation.words())).await?;
    socket.shutdown().await?;
    let mut rest = [0; READ_BYTES];
    let drained = async {
        while socket.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    tokio::time::timeout(FAREWELL_WAIT, drained).await.unwrap_or(Ok(()))
}
