//! A reader of a file so large that the server is not done with it.
//!
//! Must not live here: what becomes of it. Invariant: it has read the beginning of the answer, and reads nothing more.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A page with a file so large that a peer which does not read it is still being answered.
pub fn large_page() -> tempfile::TempDir {
    let page = tempfile::tempdir().unwrap();
    std::fs::write(page.path().join("large.bin"), vec![b'x'; 64 * 1024 * 1024]).unwrap();
    page
}

/// Asks for that file, and reads no more than the beginning.
pub async fn begin(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut begin = [0; 1_024];
    socket.read_exact(&mut begin).await.unwrap();
    assert!(begin.starts_with(b"HTTP/1.1 200") && begin.ends_with(b"xxx"), "{}", String::from_utf8_lossy(&begin));
    socket
}
