//! Tests of the harness itself: a harness that misses a complaint makes every page test worthless.

use std::net::SocketAddr;
use std::time::Duration;

use e2e::browser::{Chromium, Language};
use e2e::server::ServerOptions;
use e2e::{RawSocket, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const DEADLINE: Duration = Duration::from_secs(20);

/// Serves one document to everybody.
async fn serve(document: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let read = socket.read(&mut request).await;
            assert!(read.is_ok(), "{read:?}");
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
                document.len()
            );
            socket.write_all(head.as_bytes()).await.ok();
            socket.write_all(document.as_bytes()).await.ok();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_exceptions_and_policy_violations_of_a_page_are_noticed() {
    let address = serve(
        "<!doctype html><link rel=icon href='data:,'>\
         <meta http-equiv=Content-Security-Policy content=\"style-src 'none'\"><script>\
         console.log('harmless');console.error('complaint one');\
         setTimeout(() => { throw new Error('complaint two') });</script><style>b{color:red}</style>",
    )
    .await;
    let chromium = Chromium::launch().await;
    let tab = chromium.window(&chromium.profile().await, Language::English).await;
    tab.goto(&format!("http://{address}/")).await;
    let wanted = ["complaint one", "complaint two", "CSP violated: style-src-elem"];
    let complete =
        |complaints: &Vec<String>| wanted.iter().all(|words| complaints.iter().any(|line| line.contains(words)));
    let complaints = wait::see("all three complaints", DEADLINE, async || tab.complaints(), complete).await;
    assert!(!complaints.iter().any(|line| line.contains("harmless")), "{complaints:?}");
    chromium.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_speaks_the_language_asked_for_and_goes_offline_on_command() {
    let address = serve("<!doctype html><link rel=icon href='data:,'><textarea data-testid=composer></textarea>").await;
    let chromium = Chromium::launch().await;
    for (language, tag) in [(Language::English, "en-US"), (Language::Chinese, "zh-CN")] {
        let tab = chromium.window(&chromium.profile().await, language).await;
        tab.goto(&format!("http://{address}/")).await;
        assert_eq!(tab.evaluate::<String>("navigator.language").await.as_deref(), Some(tag));
        assert_eq!(tab.evaluate::<String>("document.visibilityState").await.as_deref(), Some("visible"));
        tab.write("héllo 你好").await;
        assert_eq!(tab.draft().await, "héllo 你好");
        tab.offline(true).await;
        assert_eq!(tab.evaluate::<bool>("navigator.onLine").await, Some(false));
        tab.offline(false).await;
        assert_eq!(tab.evaluate::<bool>("navigator.onLine").await, Some(true));
    }
    chromium.close().await;
}

#[test]
fn a_server_started_again_waits_for_whoever_took_its_port_and_says_so_if_it_never_gets_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let attempts = folder.path().join("attempts");
    let script = format!("echo >> {}; exec \"$@\"", attempts.display());
    let mut server = ServerOptions::new().under(&["sh", "-c", &script, "sh"]).start();
    server.kill();
    let taken = std::net::TcpListener::bind(server.address()).expect("the port of a dead server is free");
    let failed = server.try_restart(Duration::ZERO).expect_err("somebody else has the port");
    assert!(failed.contains("was somebody else's for"), "{failed}");

    let made = || std::fs::read_to_string(&attempts).map_or(0, |lines| lines.lines().count());
    let before = made();
    let starting = std::thread::spawn(move || {
        server.restart();
        server
    });
    // The next but one begins after the next has failed.
    wait::until("a second attempt", DEADLINE, || (made() >= before + 2).then_some(()));
    drop(taken);
    let server = starting.join().expect("it gets its port");
    drop(RawSocket::connect(server.address()));
}
