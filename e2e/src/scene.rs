//! What every bad-input test starts from: a server, somebody who may speak, and a bystander who must not notice; and the
//! words of such tests.

use std::net::SocketAddr;
use std::time::Duration;

use crate::client::new_id;
use crate::raw::{Ending, Head, RawSocket};
use crate::server::{ServerOptions, ServerProcess};
use crate::{Http, SignedIn};
use serde_json::{Value, json};

/// For answers that come at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);
/// The name of the one who only listens.
const BYSTANDER: &str = "Bystander";

/// A server, an actor's token and a bystander's open socket.
pub struct Scene {
    /// The server.
    pub server: ServerProcess,
    /// Speaks plain HTTP with it.
    pub http: Http,
    /// The actor's bearer token.
    pub token: String,
    /// The id of `general`.
    pub room: String,
    /// Follows `general` and is to blame for nothing.
    pub bystander: RawSocket,
}

impl Scene {
    /// Starts it all.
    ///
    /// # Panics
    /// If the server does not come up or lets nobody in.
    #[must_use]
    pub fn open(options: ServerOptions) -> Self {
        let server = options.start();
        let http = Http::new(server.address());
        let SignedIn { token: listens, .. } = http.sign_in(BYSTANDER);
        let SignedIn { token, .. } = http.sign_in("Actor");
        let (mut bystander, welcome) = RawSocket::open_and_greet(server.address(), &listens);
        let rooms = welcome["rooms"].as_array().expect("a list of rooms");
        let general = rooms.iter().find(|room| room["name"] == "general").expect("everybody is in general");
        let room = general["room"].as_str().expect("an id").to_owned();
        let opened = bystander.ask(2, "open", &json!({ "room": room }));
        assert_eq!(opened["success"], true, "{opened}");
        Self { server, http, token, room, bystander }
    }

    /// Returns where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns the bystander's name.
    #[must_use]
    pub fn bystander_name(&self) -> &'static str {
        BYSTANDER
    }

    /// Signs in as a browser does and returns the cookie.
    ///
    /// # Panics
    /// If the server gives none.
    #[must_use]
    pub fn cookie_of(&self, name: &str) -> String {
        let origin = self.server.origin();
        let answer = self.http.post("/api/session", &json!({ "name": name }), &[("Origin", &origin)]);
        let cookie =
            answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {} {}", answer.status, answer.body));
        cookie.split(';').next().expect("a cookie has a value").to_owned()
    }

    /// Opens a socket, does something to it and returns how the server ended it, while the others live.
    ///
    /// # Panics
    /// If the server does not end it.
    pub fn ends(&mut self, provoke: impl FnOnce(&mut RawSocket)) -> Ending {
        let (mut socket, _) = RawSocket::open_and_greet(self.address(), &self.token);
        provoke(&mut socket);
        let ending = socket.ending(SOON);
        self.assert_the_others_live();
        ending
    }

    /// Asks for an upgrade on a connection of its own.
    ///
    /// # Panics
    /// If there is no HTTP answer.
    #[must_use]
    pub fn upgrade(&self, headers: &[(&str, &str)]) -> Head {
        RawSocket::connect(self.address()).upgrade(self.address(), headers)
    }

    /// Shows that the bystander's socket lives, that the server answers, and that a post still gets from one to the other.
    ///
    /// # Panics
    /// If any of it fails.
    pub fn assert_the_others_live(&mut self) {
        self.bystander.assert_alive();
        let body = format!("are you there? {}", crate::client::new_id());
        let (mut socket, _) = RawSocket::open_and_greet(self.address(), &self.http.sign_in(&self.fresh_name()).token);
        let post = json!({ "client_id": crate::client::new_id(), "room": self.room, "body": body });
        let ack = socket.ask(2, "post", &post);
        assert_eq!(ack["success"], true, "{ack}");
        self.bystander.expect_json("the post", |message| {
            message.pointer("/payload/detail/body") == Some(&Value::from(body.clone()))
        });
    }

    fn fresh_name(&self) -> String {
        let id = crate::client::new_id().to_string();
        format!("Witness {}", &id[id.len() - 12..])
    }
}

/// Tells the code of a refusal.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn refusal(answer: &Value) -> &str {
    assert_eq!(answer["success"], false, "this should have been refused: {answer}");
    answer["error"]["code"].as_str().expect("a refusal has a code")
}

/// Makes the payload of a post under a key of its own.
#[must_use]
pub fn post(room: &str, body: &str) -> Value {
    json!({ "client_id": new_id(), "room": room, "body": body })
}

/// Makes the largest text a post may have: 4,000 characters of four bytes each.
#[must_use]
pub fn long_body() -> String {
    "\u{1d4b3}".repeat(shared::limits::POST_GRAPHEMES)
}
